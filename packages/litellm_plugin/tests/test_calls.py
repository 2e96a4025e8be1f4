"""Every way to call a model: the ledger equals what the provider billed, to the last digit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from litellm_bench import lite

import farthing
from farthing.testing.provider import Reply

if TYPE_CHECKING:
    from litellm_bench import Bench

pytestmark = pytest.mark.usefixtures("logger")

TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"what": {"type": "string"}}}},
}


def test_sync(bench: Bench) -> None:
    """The plainest call of all would not be billed, or without its tags, names and ids."""
    answer = lite.completion(**bench.openai(metadata={"tags": {"tenant": "acme"}}))
    (call,) = bench.settled()
    assert (call.framework, call.operation, call.provider) == ("litellm", "chat", "openai")
    assert (call.request_model, call.response_model) == ("gpt-4o-mini", "gpt-4o-mini-2024-07-18")
    assert (call.response_id, call.finish_reason, call.outcome) == (answer.id, "stop", "success")
    assert (call.attribution.feature, call.attribution.team, call.attribution.tenant) == (
        "email-generator",
        "growth",
        "acme",
    )
    assert call.attribution_source == {"tenant": "call", "feature": "handler", "team": "handler"}
    assert (call.attempt, call.operation_id) == (1, call.call_id)
    assert not call.streaming


async def test_async(bench: Bench) -> None:
    """An awaited call would not be billed."""
    await lite.acompletion(**bench.openai())
    await farthing.aflush()
    (call,) = bench.settled()
    assert (call.operation, call.provider, call.finish_reason) == ("chat", "openai", "stop")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_cached_and_reasoning_tokens(bench: Bench, mode: str) -> None:
    """Cached input would be billed at the full price."""
    bench.provider.script(Reply(input_tokens=1000, cache_read_tokens=600, output_tokens=500, reasoning_tokens=400))
    if mode == "sync":
        lite.completion(**bench.openai("gpt-5-mini"))
    else:
        asyncio.run(lite.acompletion(**bench.openai("gpt-5-mini")))
    (call,) = bench.settled()
    assert call.usage is not None
    assert (call.usage.cache_read_tokens, call.usage.output_reasoning_tokens) == (600, 400)


CACHE_WRITE = Reply(
    input_tokens=1000, cache_read_tokens=700, cache_write_5m_tokens=150, cache_write_1h_tokens=50, output_tokens=40
)


@pytest.mark.parametrize("mode", ["sync", "async", "messages"])
def test_anthropic_cache_writes(bench: Bench, mode: str) -> None:
    """Anthropic's cache writes would be billed as fresh input, or twice."""
    bench.provider.script(CACHE_WRITE)
    if mode == "sync":
        lite.completion(**bench.anthropic())
    elif mode == "async":
        asyncio.run(lite.acompletion(**bench.anthropic()))
    else:
        asyncio.run(lite.anthropic.messages.acreate(**bench.anthropic(max_tokens=50)))
    (call,) = bench.settled()
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.cache_write_5m_tokens) == (1000, 150)
    assert (call.operation, call.provider) == ("chat", "anthropic")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_text_completion(bench: Bench, mode: str) -> None:
    """The old completions endpoint would be missed."""
    arguments: dict[str, Any] = bench.openai("gpt-3.5-turbo-instruct", prompt="say it")
    del arguments["messages"]
    arguments["model"] = "text-completion-openai/gpt-3.5-turbo-instruct"
    if mode == "sync":
        lite.text_completion(**arguments)
    else:
        asyncio.run(lite.atext_completion(**arguments))
    (call,) = bench.settled()
    assert (call.operation, call.provider) == ("text_completion", "openai")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_embeddings(bench: Bench, mode: str) -> None:
    """Embeddings would be missed, or billed for output they have not."""
    arguments: dict[str, Any] = bench.openai("text-embedding-3-small", input=["one", "two"])
    del arguments["messages"]
    if mode == "sync":
        lite.embedding(**arguments)
    else:
        asyncio.run(lite.aembedding(**arguments))
    (call,) = bench.settled()
    assert (call.operation, call.request_model) == ("embeddings", "text-embedding-3-small")


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_responses(bench: Bench, mode: str, provider: str) -> None:
    """The Responses API, or LiteLLM's bridge from it to a chat, would be missed or counted twice."""
    arguments: dict[str, Any] = (
        bench.openai(input="say it") if provider == "openai" else bench.anthropic(input="say it")
    )
    del arguments["messages"], arguments["max_retries"]
    if mode == "sync":
        lite.responses(**arguments)
    else:
        asyncio.run(lite.aresponses(**arguments))
    (call,) = bench.settled()
    assert (call.operation, call.provider) == ("chat", provider)


@pytest.mark.parametrize("tool", ["web_search", "web_search_preview"])
@pytest.mark.parametrize("stream", [False, True])
def test_responses_with_web_search(bench: Bench, stream: bool, tool: str) -> None:
    """The searches of the provider's own tool stand on its bill, and would not on ours; pages that it reads do not.

    Those of the tool's preview have a price of their own.
    """
    bench.provider.script(Reply(web_searches=2, pages_read=3))
    answer: Any = lite.responses(
        model="openai/gpt-4o-mini",
        api_base=bench.provider.openai_url,
        api_key="sk-secret",
        input="say it",
        tools=[{"type": tool}],
        stream=stream,
    )
    assert not stream or list(answer)
    (call,) = bench.settled(duplicates=None if stream else 0)
    assert call.usage is not None
    assert call.usage.web_searches == 2
    assert call.price_context == ({} if tool == "web_search" else {"web_search": "preview"})


@pytest.mark.parametrize("stream", [False, True])
def test_code_that_the_provider_ran_is_flagged(bench: Bench, stream: bool) -> None:
    """Its container is on the bill and in no amount: the cost says so."""
    bench.provider.script(Reply(code_runs=2))
    arguments = bench.openai("gpt-4o", input="say it", tools=[{"type": "code_interpreter"}], stream=stream)
    del arguments["messages"], arguments["max_retries"]
    answer: Any = lite.responses(**arguments)
    assert not stream or list(answer)
    (call,) = bench.captured.calls
    assert call.cost.amount_usd is not None
    assert bench.provider.invoice.total_usd - call.cost.amount_usd == Decimal("0.03")
    assert "code-executions-not-priced" in call.cost.flags


@pytest.mark.parametrize("model", ["openai/gpt-4o", "house/unknown-model"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_what_openrouter_charged_is_billed(bench: Bench, mode: str, model: str) -> None:
    """It routes to many houses at many prices: the catalogue's would be billed in place of what was charged."""
    bench.provider.script(Reply(usage_extra={"cost": 0.0099}))
    arguments = bench.openai() | {"model": f"openrouter/{model}"}
    if mode == "sync":
        lite.completion(**arguments)
    else:
        asyncio.run(lite.acompletion(**arguments))
    (call,) = bench.captured.calls
    assert (call.cost.amount_usd, call.cost.source) == (Decimal("0.0099"), "provider")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_rerank(bench: Bench, mode: str) -> None:
    """A rerank has no tokens: its search units would be lost."""
    arguments: dict[str, Any] = {
        "model": "cohere/rerank-v3.5",
        "api_base": bench.provider.url,
        "api_key": "sk-secret",
        "query": "which",
        "documents": ["this", "that"],
    }
    if mode == "sync":
        lite.rerank(**arguments)
    else:
        asyncio.run(lite.arerank(**arguments))
    (call,) = bench.settled()
    assert (call.operation, call.provider) == ("rerank", "cohere")
    assert call.usage is not None
    assert call.usage.rerank_searches == 1


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_transcription(bench: Bench, mode: str) -> None:
    """A transcription is billed by the second: its duration would be lost."""
    arguments: dict[str, Any] = bench.openai("whisper-1", file=("a.wav", b"123"))
    del arguments["messages"]
    if mode == "sync":
        lite.transcription(**arguments)
    else:
        asyncio.run(lite.atranscription(**arguments))
    (call,) = bench.settled()
    assert (call.operation, call.request_model) == ("transcription", "whisper-1")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_pictures_and_speech_are_counted_in_their_own_units(bench: Bench, mode: str) -> None:
    """What is billed by the piece or the letter would be taken for nothing."""
    picture: dict[str, Any] = bench.openai("dall-e-3", prompt="a cat", n=2)
    speech: dict[str, Any] = bench.openai("tts-1", input="hello", voice="alloy")
    del picture["messages"], speech["messages"]
    if mode == "sync":
        lite.image_generation(**picture)
        lite.speech(**speech)
    else:
        asyncio.run(lite.aimage_generation(**picture))
        asyncio.run(lite.aspeech(**speech))
    drawn, spoken = bench.captured.calls
    assert (drawn.operation, spoken.operation) == ("image_generation", "speech")
    assert drawn.usage is not None
    assert spoken.usage is not None
    assert (drawn.usage.output_images, spoken.usage.input_characters) == (2, 5)


def test_moderation_is_free(bench: Bench) -> None:
    """OpenAI's moderations cost nothing and report nothing: each would stand as an unknown."""
    arguments: dict[str, Any] = bench.openai("omni-moderation-latest", input="hello")
    del arguments["messages"], arguments["max_retries"]
    asyncio.run(lite.amoderation(**arguments))
    (call,) = bench.settled()
    assert (call.operation, call.cost.amount_usd) == ("moderation", 0)


@pytest.mark.parametrize("model", ["openai", "anthropic"])
def test_several_choices_and_tools(bench: Bench, model: str) -> None:
    """Choices and tool calls would be billed per piece, or not at all."""
    if model == "openai":
        lite.completion(**bench.openai(n=2))
    bench.provider.script(Reply(tool_rounds=1))
    lite.completion(**(bench.openai(tools=[TOOL]) if model == "openai" else bench.anthropic(tools=[TOOL])))
    calls = bench.settled()
    assert calls[-1].finish_reason == "tool_calls"


@pytest.mark.parametrize("mode", ["sync", "async", "async, callbacks emptied", "async, emptied meanwhile"])
def test_tier_of_a_stream_is_the_one_served(bench: Bench, mode: str) -> None:
    """LiteLLM loses the tier of a stream: one that was refused flex would be billed at half of what it costs."""
    if mode.endswith("callbacks emptied"):
        lite.callbacks = []
    bench.provider.script(Reply(service_tier="default"))
    asked = bench.openai("gpt-5-mini", service_tier="flex", stream=True, stream_options={"include_usage": True})

    async def read() -> None:
        answer = await lite.acompletion(**asked)
        if mode.endswith("meanwhile"):
            lite.callbacks = []
        async for _ in answer:
            pass
        await farthing.aflush()

    if mode.startswith("async"):
        asyncio.run(read())
    else:
        list(lite.completion(**asked))
    (call,) = bench.settled()
    assert (call.service_tier, call.cost.flags) == ("default", ())


@pytest.mark.parametrize("served", ["flex", "default"])
def test_service_tier_is_the_one_served(bench: Bench, served: str) -> None:
    """A flex price would be taken for a request that was served as standard."""
    bench.provider.script(Reply(service_tier=served))
    lite.completion(**bench.openai("gpt-5-mini", service_tier="flex"))
    (call,) = bench.settled()
    assert call.service_tier == served


def test_unknown_model_is_unpriced(bench: Bench) -> None:
    """A model that no price book knows would cost zero, or fail."""
    bench.provider.set_price("house-model", input="1.00", output="2.00")
    lite.completion(**bench.openai("house-model"))
    (call,) = bench.captured.calls
    assert (call.cost.status, call.cost.amount_usd) == ("unpriced", None)
    assert call.usage is not None


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_missing_usage_is_unknown(bench: Bench, mode: str) -> None:
    """A reply without usage would cost zero."""
    bench.provider.script(Reply(omit_usage=True))
    if mode == "sync":
        lite.completion(**bench.openai())
    else:

        async def call_and_wait() -> None:
            await lite.acompletion(**bench.openai())
            await farthing.aflush()

        asyncio.run(call_and_wait())
    (call,) = bench.settled(unknown=1)
    assert call.cost.flags == ("usage-zero",)


def test_threads_and_concurrent_requests_keep_their_tags(bench: Bench) -> None:
    """The cost of one tenant would land on another."""

    def in_thread(tenant: str) -> None:
        with farthing.attribute(tenant=tenant):
            lite.completion(**bench.openai(user=tenant))

    async def in_task(tenant: str) -> None:
        with farthing.attribute(tenant=tenant):
            await lite.acompletion(**bench.openai(user=tenant))

    async def in_tasks() -> None:
        await asyncio.gather(*(in_task(f"task-{number}") for number in range(10)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(in_thread, [f"thread-{number}" for number in range(10)]))
    asyncio.run(in_tasks())
    calls = bench.settled()
    assert len(calls) == 20
    assert all(call.attribution.tenant == call.attribution.user_id for call in calls)
    assert len({call.attribution.tenant for call in calls}) == 20


def test_loop_that_ends_at_once_loses_nothing(bench: Bench) -> None:
    """LiteLLM's own event dies with the loop: of twenty calls under gather, none to one would be billed."""

    async def gathered() -> None:
        await asyncio.gather(*(lite.acompletion(**bench.openai()) for _ in range(20)))

    asyncio.run(gathered())
    assert len(bench.settled()) == 20


def test_script_that_ends_at_once_loses_nothing(bench: Bench) -> None:
    """A short script that never flushes would leave an empty ledger."""
    script = f"""
        import asyncio, litellm, farthing, farthing_litellm
        farthing.configure(ledger={str(bench.captured.folder)!r})
        litellm.callbacks = [farthing_litellm.FarthingLogger(feature="script")]
        ask = dict(model="openai/gpt-4o-mini", api_base={bench.provider.openai_url!r}, api_key="k", messages=[])
        litellm.completion(**ask)
        async def main():
            await asyncio.gather(*(litellm.acompletion(**ask) for _ in range(5)))
        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)  # noqa: S603 - our own text
    assert len(bench.settled()) == 6


def test_same_call_id_for_two_requests(bench: Bench) -> None:
    """On a proxy the client names the call id: two requests with one id would be one bill."""
    for _ in range(2):
        lite.completion(**bench.openai(litellm_call_id="chosen-by-a-client"))
    first, second = bench.settled()
    assert first.operation_id != second.operation_id


def test_mock_response_is_no_call(bench: Bench) -> None:
    """A mocked answer reaches no provider: its invented usage would be billed."""
    lite.completion(**bench.openai(mock_response="hi"))
    assert bench.settled() == []


def test_callers_metadata_stays_as_it_is(bench: Bench) -> None:
    """The caller's dict would carry something of ours into the next call."""
    metadata: dict[str, Any] = {"tags": {"feature": "x"}, "feature": "y"}
    lite.completion(**bench.openai(metadata=metadata))
    bench.settled()
    assert metadata["tags"] == {"feature": "x"}
    assert metadata["feature"] == "y"
    assert not [name for name in metadata if "farthing" in name]
