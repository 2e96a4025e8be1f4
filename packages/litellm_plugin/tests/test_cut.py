"""Streams that end without the provider's last word: what they had told up to there is no bill."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING, Any

import pytest
from litellm_bench import ASK, lite
from test_streams import WITH_USAGE, drain, run

import farthing
from farthing.testing.provider import Fault, Reply

if TYPE_CHECKING:
    from litellm_bench import Bench

pytestmark = pytest.mark.usefixtures("logger")

MODES = pytest.mark.parametrize("mode", ["sync", "async"])
LONG = Reply(
    text="a long answer of very many words, " * 40, input_tokens=1000, output_tokens=400, first_output_tokens=3
)
RUNNING = Reply(input_tokens=1000, output_tokens=200, usage_on_every_chunk=True)


def gemini(bench: Bench) -> dict[str, Any]:
    """Give the arguments of a chat with Gemini."""
    base = bench.provider.gemini_url
    return {"model": "gemini/gemini-2.5-flash", "messages": ASK, "api_base": base, "api_key": "sk-secret"}


@MODES
@pytest.mark.parametrize("maker", ["openai", "anthropic", "gemini"])
def test_a_stream_that_ends_too_early(bench: Bench, mode: str, maker: str) -> None:
    """A body that just ends is no error to LiteLLM, and the count up to there, or of the first tokens, was billed."""
    reply = LONG if maker == "anthropic" else RUNNING
    bench.provider.script(Fault(cut_stream_after=2, cut_with="end", reply=reply))
    asked = {
        "openai": lambda: bench.openai(**WITH_USAGE),
        "anthropic": lambda: bench.anthropic(stream=True),
        "gemini": lambda: gemini(bench) | {"stream": True},
    }
    with contextlib.suppress(lite.exceptions.MidStreamFallbackError):  # newer versions notice
        run(bench, mode, asked[maker]())
    (call,) = bench.settled(unknown=1)
    assert (call.usage, call.cost.flags) == (None, ("usage-missing",))


@MODES
@pytest.mark.parametrize("reply", [RUNNING, Reply(input_tokens=1000, output_tokens=200)])
def test_gemini_to_the_end(bench: Bench, mode: str, reply: Reply) -> None:
    """One that told its end would be unknown for the others' sake."""
    bench.provider.script(reply)
    run(bench, mode, gemini(bench) | {"stream": True})
    (call,) = bench.settled()
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.output_tokens) == (1000, 200)


@MODES
@pytest.mark.parametrize("on_finish", [False, True])
def test_a_last_usage_without_a_finish_reason(bench: Bench, mode: str, on_finish: bool) -> None:
    """Some servers never say why they are done; what they tell once, and last, is the whole."""
    bench.provider.script(Reply(input_tokens=1000, output_tokens=200, finish_reason="", usage_on_finish=on_finish))
    try:
        run(bench, mode, bench.openai(**WITH_USAGE))
    except lite.exceptions.MidStreamFallbackError:  # newer versions take it for broken, and fail
        bench.settled(unknown=1)
    else:
        bench.settled()


async def read_messages(bench: Bench) -> None:
    """Read a stream of Anthropic's own protocol."""
    await drain(await lite.anthropic.messages.acreate(**bench.anthropic(stream=True, max_tokens=500)))


async def report() -> None:
    """Let LiteLLM report."""
    gc.collect()
    await asyncio.sleep(0.5)
    await farthing.aflush()


@pytest.mark.parametrize("cut_with", ["end", "error"])
async def test_a_message_that_was_cut(bench: Bench, cut_with: Any) -> None:
    """LiteLLM gives it a count of its own, or of the first tokens, and calls it a success."""
    bench.provider.script(Fault(cut_stream_after=2, cut_with=cut_with, reply=LONG))
    await read_messages(bench)
    await report()
    (call,) = bench.settled(unknown=1)
    assert (call.usage, call.cost.flags) == (None, ("usage-missing",))


async def test_a_message_that_was_cancelled(bench: Bench) -> None:
    """LiteLLM counts what had come."""
    slow = Reply(text=LONG.text, input_tokens=1000, output_tokens=400, chunk_delay_seconds=0.3)
    bench.provider.script(slow)
    task = asyncio.create_task(read_messages(bench))
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.wait([task])
    await report()
    (call,) = bench.settled(unknown=1)
    assert call.usage is None


async def test_a_message_to_the_end(bench: Bench) -> None:
    """One that told its end would be unknown for the others' sake."""
    for reply in (LONG, Reply(input_tokens=1000, output_tokens=400, cache_read_tokens=1000, bare_message_delta=True)):
        bench.provider.script(reply)
        await read_messages(bench)
    await report()
    assert [call.usage and call.usage.output_tokens for call in bench.settled()] == [400, 400]


async def test_what_google_hands_on(bench: Bench) -> None:
    """Gemini's own protocol through LiteLLM: cut and whole."""
    base = f"{bench.provider.gemini_url}/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    asked = {"model": "gemini/gemini-2.5-flash", "contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    for answer in (Fault(cut_stream_after=2, cut_with="end", reply=RUNNING), RUNNING):
        bench.provider.script(answer)
        await drain(await lite.google_genai.agenerate_content_stream(**asked, api_base=base, api_key="sk-secret"))
    await report()
    calls = bench.settled(unknown=1)
    assert [call.cost.status for call in calls] == ["unreported", "priced"]
