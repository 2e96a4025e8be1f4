"""Not a byte of a prompt, an answer, a key or an error text: in every file that is written, whatever state it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from world import end

if TYPE_CHECKING:
    from pathlib import Path

    from world import World

CANARY = "canary-7f3a9"

SPEND = f"""
import logging
logging.getLogger("farthing").addHandler(logging.StreamHandler(sys.stdout))
logging.getLogger("farthing").setLevel(logging.DEBUG)
from langchain_openai import ChatOpenAI
from farthing.testing.provider import FakeProvider, Fault, Reply
from farthing_langchain import FarthingHandler

secrets = dict(
    feature="mail & chat / weekly digest",
    team="sk-proj-{CANARY}0123456789abcdef", tenant="{CANARY}@example.com", task_type="Please tell {CANARY}. And then?"
)
with FakeProvider(usage=Reply(text="{CANARY} answers")) as provider, farthing.attribute(**secrets):
    farthing.provider_tags("vertex_ai")
    model = ChatOpenAI(model="gpt-4o", base_url=provider.openai_url, api_key="sk-{CANARY}", max_retries=0)
    handler = FarthingHandler(feature="chatbot")
    model.invoke("{CANARY} asks", config={{"callbacks": [handler], "metadata": {{"note": "{CANARY}"}}}})
    list(model.stream("{CANARY} asks", config={{"callbacks": [handler]}}))
    provider.script(Fault(status=400, message="{CANARY} is not allowed"))
    try:
        model.invoke("{CANARY} asks", config={{"callbacks": [handler]}})
    except Exception as error:
        assert "{CANARY}" in str(error)
    else:
        sys.exit("the provider was to refuse")
farthing.flush(10)
health = farthing.health()
assert health.calls == 3, health
print(health)
"""


def test_no_secret_is_written_anywhere(world: World, tmp_path: Path) -> None:
    """Ledger, spool, quarantine, the map of provider tags, log lines at debug level; backends dead and refusing."""
    policy = tmp_path / "farthing.toml"
    policy.write_text(
        "[policy.guards]\nemail = true\nsecret = true\nfree_text = true\n"
        '[policy.corroboration]\nproviders = ["vertex_ai"]\ndimensions = ["feature", "team", "tenant"]\n'
    )
    facts = {
        "FARTHING_CONFIG": str(policy),
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Basic%20{CANARY}",
    }

    def unreadable(body: bytes) -> bool:
        return b"error.type" in body

    with world.backend(refuses=unreadable):  # what it refuses beside what it takes is quarantined
        told = end(world.start_script(SPEND, **facts), 120)
    told += end(world.start_script(SPEND, **facts), 120)
    files = [path for path in world.ledger.rglob("*") if path.is_file()]
    assert {".spool", ".jsonl", ".otlp"} <= {path.suffix for path in files}
    assert "provider-tags.jsonl" in {path.name for path in files}
    for path in files:
        assert CANARY.encode() not in path.read_bytes(), path.name
        assert path.stat().st_mode & 0o077 == 0, path.name
    assert CANARY not in told
    assert world.recorded.total() == 6
