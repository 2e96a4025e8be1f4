"""Failures: what the provider refused costs nothing, what nobody knows is unknown."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from litellm_bench import lite

from farthing.testing.provider import Fault, Reply

if TYPE_CHECKING:
    from litellm_bench import Bench

pytestmark = pytest.mark.usefixtures("logger")


def attempt(mode: str, arguments: dict[str, Any]) -> None:
    """Call, expecting an exception."""
    with pytest.raises(Exception):  # noqa: B017 - which one is the test's own question
        lite.completion(**arguments) if mode == "sync" else asyncio.run(lite.acompletion(**arguments))


@pytest.mark.parametrize("maker", ["openai", "anthropic"])
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(("status", "error_type"), [(400, "400"), (429, "429"), (500, "500")])
def test_refused_by_the_provider(bench: Bench, mode: str, maker: str, status: int, error_type: str) -> None:
    """A refused request would stand as unknown, or its text in the ledger."""
    bench.provider.script(Fault(status=status))
    attempt(mode, bench.openai() if maker == "openai" else bench.anthropic())
    (call,) = bench.settled()
    assert (call.outcome, call.error_type, call.cost.status) == ("error", error_type, "not_billed")


@pytest.mark.parametrize("maker", ["openai", "anthropic"])
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(
    "fault", [Fault(drop_connection=True, billed=True), Fault(malformed_json=True), Fault(hang_seconds=1, billed=True)]
)
def test_what_nobody_knows(bench: Bench, mode: str, maker: str, fault: Fault) -> None:
    """LiteLLM gives a broken connection 500 and a timeout 408: what was billed would be taken for refused."""
    bench.provider.script(fault)
    attempt(mode, (bench.openai if maker == "openai" else bench.anthropic)(timeout=0.4))
    (call,) = bench.settled(unknown=1)
    assert (call.outcome, call.cost.status) == ("error", "unreported")


@pytest.mark.parametrize("operation", ["rerank", "image_generation", "embedding", "speech", "responses"])
def test_two_failure_events_are_one_failure(bench: Bench, operation: str) -> None:
    """Some async calls fire both failure events: two attempts would be counted where there was one."""
    bench.provider.script(Fault(status=500), times=None)  # some paths keep the client's own retries
    one: dict[str, Any] = {"api_base": bench.provider.openai_url, "api_key": "sk-secret"}
    calls: dict[str, Any] = {
        "rerank": lambda: lite.arerank(
            **one | {"api_base": bench.provider.url}, model="cohere/rerank-v3.5", query="a", documents=["b"]
        ),
        "image_generation": lambda: lite.aimage_generation(**one, model="openai/dall-e-3", prompt="a", max_retries=0),
        "embedding": lambda: lite.aembedding(**one, model="openai/text-embedding-3-small", input=["a"], max_retries=0),
        "speech": lambda: lite.aspeech(**one, model="openai/tts-1", input="a", voice="alloy", max_retries=0),
        "responses": lambda: lite.aresponses(**one, model="openai/gpt-4o-mini", input="a"),
    }
    with pytest.raises(Exception):  # noqa: B017 - as above
        asyncio.run(calls[operation]())
    bench.captured.calls  # noqa: B018 - flushes, so that every event has come
    (call,) = bench.settled(duplicates=None)
    assert (call.outcome, call.cost.status) == ("error", "not_billed")
    assert bench.captured.health.duplicates <= 1


def test_never_sent_is_no_call(bench: Bench) -> None:
    """A call that LiteLLM itself refuses reached nobody: it is no attempt."""
    for arguments in ({"model": "nowhere/at-all"}, {"model": "just-a-name"}):
        attempt("sync", {**bench.openai(), **arguments})
        attempt("async", {**bench.openai(), **arguments})
    assert bench.settled() == []


def test_timeout_of_the_client(bench: Bench) -> None:
    """A request that is timed out goes on at the provider, and onto its bill."""
    bench.provider.script(Reply(delay_seconds=0.8))
    attempt("sync", bench.openai(timeout=0.3))
    (call,) = bench.settled(unknown=1)
    assert call.error_type == "Timeout"
