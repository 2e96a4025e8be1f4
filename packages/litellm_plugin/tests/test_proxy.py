"""The callback in LiteLLM's proxy, which needs an environment of its own: run it there, skipped elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from litellm_bench import ASK, SECRET

from farthing.testing.provider import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from litellm_bench import Bench

pytest.importorskip("fastapi", reason="litellm[proxy] is not installed here")
pytest.importorskip("litellm_proxy_extras", reason="litellm[proxy] is not installed here")

AUTH = """
from litellm.proxy._types import UserAPIKeyAuth

async def user_api_key_auth(request, api_key):
    if api_key == "sk-bad":
        raise ValueError("no")
    return UserAPIKeyAuth(
        api_key="sk-secret", key_alias="alice", team_id="team-42", team_alias="Growth", user_id="usr-1",
        metadata={"feature": "of-key"}, team_metadata={"tags": ["tenant:of-team"]},
    )
"""

CONFIG = """
model_list:
  - model_name: mini
    litellm_params: {{model: openai/gpt-4o-mini, api_base: {openai}, api_key: sk-up, max_retries: 0}}
    model_info: {{id: dep-1}}
  - model_name: claude
    litellm_params: {{model: anthropic/claude-sonnet-4-5, api_base: {anthropic}, api_key: sk-up}}
litellm_settings:
  callbacks: farthing_litellm.proxy.logger
  extra_spend_tag_headers: ["x-feature"]
  num_retries: 0
general_settings:
  master_key: sk-master-1234
  custom_auth: my_auth.user_api_key_auth
"""


@pytest.fixture
def post(bench: Bench, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Run a proxy whose ledger is the test's; give what sends a request to it, and ends it when called with None."""
    (tmp_path / "my_auth.py").write_text(AUTH)
    config = CONFIG.format(openai=bench.provider.openai_url, anthropic=bench.provider.anthropic_url)
    (tmp_path / "config.yaml").write_text(config)
    port = 18_000 + os.getpid() % 2_000
    command = [str(Path(sys.executable).parent / "litellm"), "--config", "config.yaml", "--host", "127.0.0.1"]
    environment = {**os.environ, "FARTHING_LEDGER": str(bench.captured.folder)}
    with (tmp_path / "log").open("w") as log:
        proxy = subprocess.Popen(  # noqa: S603 - our own command
            [*command, "--port", str(port)], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{url}/health/liveliness", timeout=1).close()  # noqa: S310 - loopback
            break
        except OSError:
            time.sleep(0.5)

    def send(path: str | None, body: dict[str, Any] | None = None, *, key: str = "sk-user", **headers: str) -> int:
        if path is None:
            time.sleep(2)  # LiteLLM reports from a worker
            proxy.terminate()
            return proxy.wait(30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"content-type": "application/json", "authorization": f"Bearer {key}", **named}
        request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), sent)  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - as above
                answer.read()
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    yield send
    if proxy.poll() is None:
        proxy.kill()
        proxy.wait(10)


def test_proxy(bench: Bench, post: Callable[..., int]) -> None:
    """A gateway's requests would be billed twice, not at all, or to nobody; and `no-log` would switch the bill off."""
    chat = "/v1/chat/completions"
    ask: dict[str, Any] = {"model": "mini", "messages": ASK}
    message: dict[str, Any] = {"model": "claude", "messages": ASK, "max_tokens": 20}
    assert post(chat, ask) == 200
    assert post(chat, {**ask, "metadata": {"tags": {"feature": "of-body"}}, "user": "end-user"}) == 200
    assert post(chat, ask, x_litellm_tags="feature:of-tags,route:api/x") == 200
    assert post(chat, ask, x_feature="of-header") == 200
    assert post(chat, {**ask, "stream": True}) == 200
    assert post(chat, {**ask, "no-log": True}) == 200
    assert post("/v1/messages", message) == 200
    assert post("/v1/messages", {**message, "stream": True}) == 200
    assert post("/v1/responses", {"model": "mini", "input": SECRET}) == 200
    assert post(chat, {**ask, "model": "unknown"}) == 400
    assert post(chat, ask, key="sk-bad") >= 400
    bench.provider.script(Fault(status=429))
    assert post(chat, ask) == 429
    post(None)
    calls = bench.settled()
    assert len(calls) == len(bench.provider.requests) == 10
    assert [call.attribution.feature for call in calls[:4]] == ["of-key", "of-body", "of-tags", "of-header"]
    assert {(call.attribution.team, call.attribution.tenant) for call in calls} == {("growth", "of-team")}
    assert calls[1].attribution.user_id == "end-user"
    assert calls[0].details["deployment"] == "dep-1"
    assert [call.cost.status for call in calls] == ["priced"] * 9 + ["not_billed"]
