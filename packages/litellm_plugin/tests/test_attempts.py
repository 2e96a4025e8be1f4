"""Retries and fallbacks: a Call for each request that went out, under one operation."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING, Any

import pytest
from litellm_bench import ASK, lite

import farthing
from farthing.testing.provider import Fault

if TYPE_CHECKING:
    from litellm_bench import Bench

    from farthing import Call

pytestmark = pytest.mark.usefixtures("logger")

TOO_LONG = Fault(status=400, code="context_length_exceeded", message="This model's maximum context length is 10 tokens")


def run(mode: str, arguments: dict[str, Any]) -> None:
    """Call in one of the two ways."""
    if mode == "sync":
        lite.completion(**arguments)
    else:
        asyncio.run(lite.acompletion(**arguments))


def assert_one_operation(calls: list[Call]) -> None:
    """The attempts of one operation count up under one id."""
    assert len({call.operation_id for call in calls}) == 1
    assert [call.attempt for call in calls] == list(range(1, len(calls) + 1))
    assert calls[0].operation_id == calls[0].call_id


def outcomes(calls: list[Call]) -> list[tuple[str, str]]:
    """Say how each ended and what is known of its cost."""
    return [(call.outcome, call.cost.status) for call in calls]


REFUSED = ("error", "not_billed")
PAID = ("success", "priced")
UNKNOWN = ("error", "unreported")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_retries_of_the_client_are_one_attempt(bench: Bench, mode: str) -> None:
    """The client's own retries are below every callback: the one that answered is billed."""
    bench.provider.script(Fault(status=500, retry_after_seconds=0))
    run(mode, bench.openai(max_retries=1))
    assert outcomes(bench.settled()) == [PAID]
    assert len(bench.provider.requests) == 2


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_retries_of_litellm(bench: Bench, mode: str) -> None:
    """LiteLLM's retries reuse call id and dict, and an async one has no event: the paid attempt would be nowhere."""
    bench.provider.script(Fault(status=500), times=2)
    run(mode, bench.anthropic(num_retries=2))
    calls = bench.settled()
    assert outcomes(calls) == [REFUSED, REFUSED, PAID]
    assert_one_operation(calls)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_retries_of_litellm_that_all_fail(bench: Bench, mode: str) -> None:
    """LiteLLM reports one failure of all: the others would stay open. What it hides from everybody is unknown."""
    bench.provider.script(Fault(status=500), times=None)
    with pytest.raises(lite.InternalServerError):
        run(mode, bench.anthropic(num_retries=3))
    gc.collect()  # the exception held the call
    calls = bench.captured.calls
    assert len(calls) == len(bench.provider.requests) == 4
    known = [call for call in calls if call.cost.status == "not_billed"]
    assert len(known) == (4 if mode == "async" else 2)
    bench.settled(unknown=4 - len(known))
    assert_one_operation(calls)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_fallbacks_of_a_call(bench: Bench, mode: str) -> None:
    """A fallback reuses call id and dict: the failed model would be billed for the one that answered."""
    bench.provider.script(Fault(status=500), model="gpt-4o-mini")
    run(mode, bench.openai(fallbacks=["openai/gpt-4o"], metadata={"feature": "fallback"}))
    calls = bench.settled()
    assert outcomes(calls) == [REFUSED, PAID]
    assert [call.request_model for call in calls] == ["gpt-4o-mini", "gpt-4o"]
    assert {call.attribution.feature for call in calls} == {"fallback"}
    assert_one_operation(calls)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_context_window_fallback(bench: Bench, mode: str) -> None:
    """LiteLLM fires no event for the answer of this fallback: what it cost would be nowhere."""
    bench.provider.script(TOO_LONG, model="gpt-4o-mini")
    run(mode, bench.openai(context_window_fallback_dict={"openai/gpt-4o-mini": "openai/gpt-4o"}))
    calls = bench.settled()
    assert outcomes(calls) == [REFUSED, PAID]
    assert [call.request_model for call in calls] == ["gpt-4o-mini", "gpt-4o"]
    assert_one_operation(calls)


def test_attempt_that_broke_before_a_retry_is_unknown(bench: Bench) -> None:
    """A connection that broke would be taken for a refusal, since the retry's exception hangs below."""
    bench.provider.script(Fault(drop_connection=True, billed=True))
    run("sync", bench.anthropic(num_retries=1))
    calls = bench.settled(unknown=1)
    assert outcomes(calls) == [UNKNOWN, PAID]
    assert_one_operation(calls)


def router(bench: Bench, **settings: Any) -> Any:
    """Make a Router of a bad and a good deployment."""
    made = {
        name: {
            "model": f"openai/{model}",
            "api_base": bench.provider.openai_url,
            "api_key": "sk-secret",
            "max_retries": 0,
        }
        for name, model in (("bad", "gpt-4o-mini"), ("good", "gpt-4o"))
    }
    models = [
        {"model_name": name, "litellm_params": one, "model_info": {"id": f"dep-{name}"}} for name, one in made.items()
    ]
    return lite.Router(model_list=models, retry_after=0, **settings)


async def drained(stream: Any) -> None:
    """Read to the end."""
    async for _ in stream:
        pass


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_router_retry_and_fallback(bench: Bench, mode: str) -> None:
    """The Router gives each attempt a call id of its own: their operation would fall apart."""
    bench.provider.script(Fault(status=500), model="gpt-4o-mini", times=None)
    routed = router(bench, num_retries=1, fallbacks=[{"bad": ["good"]}])
    with farthing.attribute(tenant="acme"):
        if mode == "sync":
            routed.completion(model="bad", messages=ASK)
        else:
            asyncio.run(routed.acompletion(model="bad", messages=ASK))
    calls = bench.settled()
    assert outcomes(calls) == [REFUSED, REFUSED, PAID]
    assert [call.details["deployment"] for call in calls] == ["dep-bad", "dep-bad", "dep-good"]
    assert {call.attribution.tenant for call in calls} == {"acme"}
    assert_one_operation(calls)


def test_two_requests_of_one_session_are_two_operations(bench: Bench) -> None:
    """With a session, all its requests share LiteLLM's trace id: they would be one operation."""
    routed = router(bench, num_retries=0)
    for model in ("bad", "good", "good"):
        if model == "bad":
            bench.provider.script(Fault(status=500), model="gpt-4o-mini")
            with pytest.raises(lite.InternalServerError):
                routed.completion(model=model, messages=ASK, litellm_session_id="one")
        else:
            routed.completion(model=model, messages=ASK, litellm_session_id="one")
    assert len({call.operation_id for call in bench.settled()}) == 3


def test_router_context_window_fallback(bench: Bench) -> None:
    """As for a call's own."""
    bench.provider.script(TOO_LONG, model="gpt-4o-mini")
    routed = router(bench, num_retries=0, context_window_fallbacks=[{"bad": ["good"]}])
    asyncio.run(routed.acompletion(model="bad", messages=ASK))
    calls = bench.settled()
    assert outcomes(calls) == [REFUSED, PAID]
    assert_one_operation(calls)


def test_router_stream_that_breaks(bench: Bench) -> None:
    """A stream that breaks is paid for: LiteLLM's estimate of it would be taken for the bill."""
    bench.provider.script(Fault(cut_stream_after=2), model="gpt-4o-mini")
    routed = router(bench, num_retries=0)

    async def main() -> None:
        options = {"include_usage": True}
        with contextlib.suppress(lite.APIConnectionError):
            await drained(await routed.acompletion(model="bad", messages=ASK, stream=True, stream_options=options))
        await farthing.aflush()

    asyncio.run(main())
    assert outcomes(bench.settled(unknown=1)) == [UNKNOWN]
