"""The real LiteLLM proxy, configured as in examples/proxy: who pays, who is refused, what reaches the provider."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not

from farthing.testing import read_calls
from farthing.testing.provider import FakeProvider, Fault, Reply
from proxy_bench import ROOT, running_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from farthing.envelope import Call

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "canary-prompt"}]}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Proxy:
    """A running proxy, its provider and its ledger."""

    def __init__(self, url: str, provider: FakeProvider, folder: Path) -> None:
        self.url = url
        self.provider = provider
        self.folder = folder

    def post(self, path: str, body: Mapping[str, Any], *, key: str = "sk-growth", **headers: str) -> httpx.Response:
        """Ask."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        authorised = {"authorization": f"Bearer {key}", **named}
        return httpx.post(f"{self.url}{path}", json=dict(body), headers=authorised, timeout=60)

    def next_call(self, before: int) -> Call:
        """Wait for the ledger to have one more Call."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = read_calls(self.folder) if self.folder.exists() else []
            if len(found) > before:
                assert len(found) == before + 1
                return found[-1]
            time.sleep(0.1)
        raise AssertionError("the proxy recorded nothing")

    @property
    def recorded(self) -> int:
        """Count the Calls so far."""
        return len(read_calls(self.folder)) if self.folder.exists() else 0


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Start the proxy as its README says."""
    folder = tmp_path_factory.mktemp("proxy")
    with (
        FakeProvider() as provider,
        running_proxy(folder, configuration=ROOT / "examples" / "proxy", provider=provider) as url,
    ):
        yield Proxy(url, provider, folder / "ledger")


def test_key_team_headers_and_body_become_dimensions(proxy: Proxy) -> None:
    """One line of configuration must be enough to see who spends; a caller cannot put the bill on another team."""
    before = proxy.recorded
    answer = proxy.post(
        "/v1/chat/completions",
        CHAT | {"metadata": {"feature": "Search V2", "team": "ceo"}, "user": "u-1"},
        x_ai_tenant="acme",
        x_litellm_spend_logs_metadata='{"task_type": "ranking"}',
        traceparent=f"00-{TRACE}-00f067aa0ba902b7-01",
    )
    assert answer.status_code == 200, answer.text
    call = proxy.next_call(before)
    assert dict(call.attribution.items()) == {
        "feature": "search",
        "team": "growth",
        "tenant": "acme",
        "task_type": "ranking",
        "user_id": "u-1",
        "plan": "internal",
    }
    assert call.details["forged"] == "team"
    assert call.details["key_alias"] == "growth-app"
    assert (call.trace_id, call.parent_span_id) == (TRACE, "00f067aa0ba902b7")
    assert call.cost.amount_usd == proxy.provider.invoice.lines[-1].amount_usd


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", CHAT | {"stream": True}),
        ("/v1/chat/completions", CHAT | {"no-log": True}),
        ("/v1/responses", {"model": "gpt-4o-mini", "input": "canary-prompt"}),
        ("/v1/messages", CHAT | {"max_tokens": 10}),
        ("/v1/completions", {"model": "gpt-4o-mini", "prompt": "canary-prompt"}),
    ],
)
def test_a_request_without_tags_gets_a_400_that_says_how(proxy: Proxy, path: str, body: dict[str, Any]) -> None:
    """The developer on the other side has only this text."""
    before, asked = proxy.recorded, len(proxy.provider.requests)
    answer = proxy.post(path, body, key="sk-nobody")
    assert answer.status_code == 400, answer.text
    for part in (
        "feature is missing",
        "team is missing",
        '\\"feature\\": \\"...\\"}',
        "x-ai-feature",
        "your key or team",
        "Only your key or its team can say team here",
    ):
        assert part in answer.text
    assert "x-ai-team" not in answer.text
    assert len(proxy.provider.requests) == asked
    time.sleep(1.5)
    assert proxy.recorded == before


def test_a_value_that_was_refused_is_not_called_missing(proxy: Proxy) -> None:
    """Who sent one would look for it on the way, and not at it."""
    answer = proxy.post("/v1/chat/completions", CHAT, x_ai_feature="sk-proj-0123456789abcdefghij")
    assert answer.status_code == 400, answer.text
    assert "feature was sent, but its value looks like a key" in answer.text
    assert "0123456789" not in answer.text


def test_a_request_that_is_passed_through_is_judged_by_its_key(proxy: Proxy) -> None:
    """LiteLLM shows no headers of it: nothing that its caller could send would let it go out."""
    before, asked = proxy.recorded, len(proxy.provider.requests)
    refused = proxy.post("/openai/chat/completions", CHAT, key="sk-nobody", x_ai_feature="a")
    assert refused.status_code == 400, refused.text
    assert "Only your key or its team can say feature and team here" in refused.text
    assert "x-ai-feature" not in refused.text
    assert len(proxy.provider.requests) == asked
    assert proxy.post("/openai/chat/completions", CHAT, key="sk-tagged").status_code == 200
    assert len(proxy.provider.requests) == asked + 1
    owner = proxy.next_call(before).attribution
    assert (owner.feature, owner.team) == ("email-generator", "growth")


@pytest.mark.parametrize("more", [{"no-log": True}, {"stream": True, "no-log": True}])
def test_no_log_cannot_switch_it_off(proxy: Proxy, more: dict[str, Any]) -> None:
    """A request that hides from the bill is the one to see."""
    before = proxy.recorded
    answer = proxy.post("/v1/chat/completions", CHAT | more, x_ai_feature="hidden")
    assert answer.status_code == 200, answer.text
    call = proxy.next_call(before)
    assert (call.attribution.feature, call.attribution.team) == ("hidden", "growth")
    assert call.cost.amount_usd


def test_responses_and_request_tags(proxy: Proxy) -> None:
    """LiteLLM keeps the metadata of this endpoint elsewhere, and lists of tags are its own habit."""
    before = proxy.recorded
    body = {"model": "gpt-4o-mini", "input": "canary-prompt", "litellm_metadata": {"feature": "answers"}}
    answer = proxy.post("/v1/responses", body)
    assert answer.status_code == 200, answer.text
    assert proxy.next_call(before).attribution.feature == "answers"
    assert proxy.post("/v1/chat/completions", CHAT, x_litellm_tags="feature:tagged,route:api/x").status_code == 200
    owner = proxy.next_call(before + 1).attribution
    assert (owner.feature, owner.route) == ("tagged", "api/x")


def test_a_farthing_context_is_one_bill_with_the_application(proxy: Proxy) -> None:
    """What export_context() gives is all that an application behind the gateway has to send."""
    before = proxy.recorded
    answer = proxy.post("/v1/chat/completions", CHAT, x_farthing_context="feature=chat,route=api/chat,team=ceo")
    assert answer.status_code == 200
    call = proxy.next_call(before)
    assert (call.attribution.feature, call.attribution.route, call.attribution.team) == ("chat", "api/chat", "growth")


def test_nothing_but_the_request_reaches_the_provider_and_no_content_the_ledger(proxy: Proxy) -> None:
    """Tags are not the provider's, prompts and keys are not ours."""
    before = proxy.recorded
    marked = {"x_ai_tenant": "canary-tenant", "x_ai_feature": "canary-feature"}
    assert proxy.post("/v1/chat/completions", CHAT, **marked).status_code == 200
    proxy.next_call(before)
    sent = proxy.provider.requests[-1]
    bytes_sent = f"{dict(sent.headers)!r}{sent.body!r}"
    assert not re.search("canary-tenant|canary-feature|growth", bytes_sent)
    written = b"".join(path.read_bytes() for path in proxy.folder.glob("*.jsonl"))
    for secret in (b"canary-prompt", b"sk-growth", b"sk-provider", b"sk-nobody"):
        assert secret not in written


def test_a_message_that_was_cut_is_no_bill(tmp_path: Path) -> None:
    """LiteLLM gives a `/v1/messages` stream that was cut a count of its own, or of the first tokens."""
    reply = Reply(text="very many words " * 40, input_tokens=1000, output_tokens=400, first_output_tokens=3)
    body = {"model": "claude-sonnet-4-5", "max_tokens": 500, "stream": True, "messages": CHAT["messages"]}
    with (
        FakeProvider() as provider,
        running_proxy(tmp_path, configuration=ROOT / "tests" / "matrix" / "proxy", provider=provider) as url,
    ):
        gateway = Proxy(url, provider, tmp_path / "ledger")
        for before, cut_with in enumerate(("end", "error")):
            provider.script(Fault(cut_stream_after=2, cut_with=cut_with, reply=reply))
            assert "message_delta" not in gateway.post("/v1/messages", body, key="sk-matrix").text
            call = gateway.next_call(before)
            assert (call.usage, call.cost.status) == (None, "unreported")
        provider.script(reply)
        assert "message_delta" in gateway.post("/v1/messages", body, key="sk-matrix").text
        assert gateway.next_call(2).cost.amount_usd == provider.invoice.lines[-1].amount_usd
