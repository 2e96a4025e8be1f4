"""Streams: read to the end, left, never read, broken and cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from typing import TYPE_CHECKING, Any

import pytest
from litellm_bench import lite

import farthing
from farthing.testing.provider import Fault, Reply

if TYPE_CHECKING:
    from litellm_bench import Bench

pytestmark = pytest.mark.usefixtures("logger")

WITH_USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


async def drain(stream: Any) -> None:
    """Read an async stream to its end."""
    async for _ in stream:
        pass


async def read(arguments: dict[str, Any]) -> None:
    """Stream to the end, then let LiteLLM report."""
    await drain(await lite.acompletion(**arguments))
    await farthing.aflush()


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("maker", ["openai", "anthropic"])
def test_read_to_the_end(bench: Bench, mode: str, maker: str) -> None:
    """A stream would not be billed, or without the tags of where it began."""
    arguments = bench.openai(**WITH_USAGE) if maker == "openai" else bench.anthropic(stream=True)
    with farthing.attribute(route="api/stream"):
        stream = lite.completion(**arguments) if mode == "sync" else None
    if stream is not None:
        list(stream)
    else:
        with farthing.attribute(route="api/stream"):
            asyncio.run(read(arguments))
    (call,) = bench.settled()
    assert (call.streaming, call.attribution.route, call.attribution_source["route"]) == (
        True,
        "api/stream",
        "attribute",
    )
    assert call.time_to_first_chunk_seconds is not None
    assert 0 <= call.time_to_first_chunk_seconds <= (call.ended_at - call.started_at).total_seconds()


def test_consumer_elsewhere_does_not_change_who_pays(bench: Bench) -> None:
    """An async stream's event runs in the context of whoever reads it: that one would be billed."""

    async def main() -> None:
        with farthing.attribute(tenant="asked"):
            stream = await lite.acompletion(**bench.openai(**WITH_USAGE))
        with farthing.attribute(tenant="reads"):
            await drain(stream)
            await farthing.aflush()

    asyncio.run(main())
    (call,) = bench.settled()
    assert call.attribution.tenant == "asked"


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_text_completion_stream(bench: Bench, mode: str) -> None:
    """The old endpoint's stream would be missed; with include_usage litellm 1.100 to 1.110 cannot read it at all."""
    arguments = bench.openai("gpt-3.5-turbo-instruct", prompt="say it", stream=True)
    del arguments["messages"]
    arguments["model"] = "text-completion-openai/gpt-3.5-turbo-instruct"
    if mode == "sync":
        list(lite.text_completion(**arguments))
    else:

        async def main() -> None:
            await drain(await lite.atext_completion(**arguments))
            await farthing.aflush()

        asyncio.run(main())
    (call,) = bench.settled(unknown=1)
    assert (call.operation, call.streaming) == ("text_completion", True)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("maker", ["openai", "anthropic"])
def test_responses_stream(bench: Bench, mode: str, maker: str) -> None:
    """LiteLLM fires both success events for one sync stream: the call would be billed twice."""
    arguments = bench.openai(input="x", stream=True) if maker == "openai" else bench.anthropic(input="x", stream=True)
    del arguments["messages"], arguments["max_retries"]
    if mode == "sync":
        list(lite.responses(**arguments))
    else:

        async def main() -> None:
            await drain(await lite.aresponses(**arguments))
            await farthing.aflush()

        asyncio.run(main())
    assert bench.provider.settle()
    bench.captured.calls  # noqa: B018 - flushes, so that the second event has come
    (call,) = bench.settled(duplicates=None)
    assert call.streaming
    assert bench.captured.health.duplicates <= 1


async def test_stream_without_usage_is_unknown_and_says_how_to_fix_it(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """LiteLLM counts such a stream's tokens itself: its guess would be billed as if the provider had said it."""
    with caplog.at_level(logging.WARNING, logger="farthing"):
        for _ in range(2):
            list(lite.completion(**bench.openai(stream=True)))
            await read(bench.openai(stream=True))
    calls = bench.settled(unknown=4)
    assert {call.cost.flags for call in calls} <= {("usage-missing",), ("usage-zero",)}
    told = [record.getMessage() for record in caplog.records if record.name == "farthing"]
    assert len(told) == 1
    assert 'stream_options={"include_usage": True}' in told[0]


def run(bench: Bench, mode: str, arguments: dict[str, Any]) -> None:
    """Stream to the end in either way."""
    if mode == "sync":
        list(lite.completion(**arguments))
    else:
        asyncio.run(read(arguments))


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("answer", ["short", "long", "tool"])
def test_a_count_of_litellms_own_is_no_bill(bench: Bench, mode: str, answer: str) -> None:
    """A provider that was asked for usage and tells none: LiteLLM's guess would stand as what it billed."""
    text = "word " * 8_000 if answer == "long" else "hello"
    bench.provider.script(
        Reply(omit_usage=True, text=text, input_tokens=1000, output_tokens=9000, tool_rounds=int(answer == "tool"))
    )
    tool: dict[str, Any] = {
        "type": "function",
        "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
    }
    more: dict[str, Any] = {"tools": [tool]} if answer == "tool" else {}
    run(bench, mode, bench.openai(**WITH_USAGE, **more))
    (call,) = bench.settled(unknown=1)
    assert (call.usage, call.cost.status) == (None, "unreported")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_count_of_litellms_own_is_none_where_no_chunk_names_a_model(bench: Bench, mode: str) -> None:
    """LiteLLM then puts its guess where the provider's word is kept, and it would stand as what was billed."""
    bench.provider.script(Reply(response_model=""))
    run(bench, mode, bench.openai(stream=True))
    (call,) = bench.settled(unknown=1)
    assert (call.usage, call.cost.status) == (None, "unreported")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_three_bare_numbers_are_the_providers_word(bench: Bench, mode: str) -> None:
    """Many gateways tell no details, as a guess has none: their streams would be taken for unknown."""
    bare = {"prompt_tokens_details": None, "completion_tokens_details": None}
    bench.provider.script(Reply(input_tokens=1000, output_tokens=200, usage_extra=bare))
    run(bench, mode, bench.openai(**WITH_USAGE))
    (call,) = bench.settled()
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.output_tokens) == (1000, 200)


def test_usage_that_came_unasked_beats_a_count(bench: Bench) -> None:
    """LiteLLM 1.100 keeps what each chunk told beside the count that it puts into the response."""
    bench.provider.script(Reply(input_tokens=1000, output_tokens=200, usage_on_every_chunk=True))
    run(bench, "sync", bench.openai(stream=True))
    bench.settled()


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("chunks", [2, 4])
def test_an_answer_cut_before_it_was_counted_is_unknown(bench: Bench, mode: str, chunks: int) -> None:
    """Anthropic tells the answer's tokens last: a stream that just ends was billed with a count of LiteLLM's own."""
    bench.provider.script(Fault(cut_stream_after=chunks, cut_with="end"))
    with contextlib.suppress(lite.exceptions.MidStreamFallbackError):  # newer versions notice
        run(bench, mode, bench.anthropic(stream=True))
    (call,) = bench.settled(unknown=1)
    assert call.usage is None


def _leave(stream: Any) -> None:
    for _ in stream:
        break


def test_left_and_never_read_sync(bench: Bench) -> None:
    """LiteLLM says nothing of a stream that is left: it would stay open, and its cost vanish."""
    _leave(lite.completion(**bench.openai(**WITH_USAGE)))
    lite.completion(**bench.openai(**WITH_USAGE))
    lite.completion(**bench.openai(**WITH_USAGE)).completion_stream.close()
    calls = bench.settled(unknown=3)
    assert {(call.outcome, call.error_type) for call in calls} == {("abandoned", "left")}


async def test_left_and_never_read_async(bench: Bench) -> None:
    """As for a sync stream."""

    async def leave() -> None:
        async for _ in await lite.acompletion(**bench.openai(**WITH_USAGE)):
            break

    await leave()
    await lite.acompletion(**bench.openai(**WITH_USAGE))
    gc.collect()
    await farthing.aflush()
    calls = bench.settled(unknown=2)
    assert {(call.outcome, call.error_type) for call in calls} == {("abandoned", "left")}


def test_what_is_still_held_is_closed_at_the_end(bench: Bench) -> None:
    """A process that ends with a stream in its hands would leave no trace of it."""
    held = lite.completion(**bench.openai(**WITH_USAGE))
    folder = bench.captured.folder
    farthing.shutdown()
    assert held is not None
    (line,) = [line for path in folder.glob("calls-*.jsonl") for line in path.read_text().splitlines()]
    call = farthing.Call.model_validate_json(line)
    assert (call.outcome, call.error_type, call.cost.status) == ("abandoned", "process-ended", "unreported")


@pytest.mark.parametrize("maker", ["openai", "anthropic"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_broken_mid_flight_is_unknown(bench: Bench, mode: str, maker: str) -> None:
    """What was generated is on the bill: zero would be wrong, and so would LiteLLM's estimate."""
    bench.provider.script(Fault(cut_stream_after=2))
    arguments = bench.openai(**WITH_USAGE) if maker == "openai" else bench.anthropic(stream=True)
    with pytest.raises(Exception):  # noqa: B017 - LiteLLM's class for it has changed more than once
        list(lite.completion(**arguments)) if mode == "sync" else asyncio.run(read(arguments))
    (call,) = bench.settled(unknown=1)
    assert call.outcome == "error"
    assert call.usage is None


async def test_refused_stream_costs_nothing(bench: Bench) -> None:
    """A stream that the provider refuses to begin would stand as unknown."""
    bench.provider.script(Fault(status=429))
    with pytest.raises(lite.RateLimitError):
        await lite.acompletion(**bench.openai(**WITH_USAGE))
    bench.provider.script(Fault(status=429))
    with pytest.raises(lite.RateLimitError):
        lite.completion(**bench.anthropic(stream=True))
    calls = bench.settled()
    assert [call.cost.status for call in calls] == ["not_billed", "not_billed"]


async def test_cancelled(bench: Bench) -> None:
    """LiteLLM says nothing of a cancelled call: it would stay open, and its cost vanish."""
    for stream in (False, True):
        bench.provider.script(Reply(delay_seconds=0.4))
        task = asyncio.create_task(lite.acompletion(**bench.openai(**(WITH_USAGE if stream else {}))))
        await asyncio.sleep(0.15)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        del task
    bench.provider.script(Reply(delay_seconds=0.4))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(lite.acompletion(**bench.openai()), 0.15)
    await farthing.aflush()
    calls = bench.settled(unknown=3)
    assert {call.outcome for call in calls} == {"abandoned"}


def test_collector_never_waits_for_a_lock_of_ours(bench: Bench) -> None:
    """The garbage collector may run anywhere, also under our own lock: ending a call there would hang the process."""
    from farthing.setup import get_meter  # noqa: PLC0415 - the meter of this test

    meter = get_meter()
    assert meter is not None
    held = [lite.completion(**bench.openai(**WITH_USAGE))]
    with meter.runs._lock:  # pyright: ignore[reportPrivateUsage] - the very lock that could hang
        held.clear()
        gc.collect()
    bench.settled(unknown=1)
