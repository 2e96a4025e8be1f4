"""Calls whose usage never arrives: an estimate beside the bill where one is wanted, or the usage asked for in time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from decimal import Decimal
from typing import Any, Final

import litellm
import pytest
from crewai import LLM
from langchain_openai import ChatOpenAI
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import farthing
from farthing.estimating import prompt_bytes, text_bytes
from farthing.testing import Captured, capture
from farthing.testing.provider import FakeProvider, Fault, Reply
from farthing_crewai import FarthingListener
from farthing_langchain import FarthingHandler
from farthing_litellm import FarthingLogger

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
Lite: Final[Any] = litellm
SECRET: Final = "secret-of-the-prompt " * 40
ASK: Final = [{"role": "user", "content": SECRET}]
ASKED_TOKENS: Final = (16 + len(SECRET)) / 4
"""What the method makes of ASK: a message, and a token for four bytes."""
WORDS: Final = "answer " * 100


def lite_call(provider: FakeProvider, **more: Any) -> dict[str, Any]:
    """Give the arguments of a call of LiteLLM's."""
    return {
        "model": "openai/gpt-4o",
        "api_base": provider.openai_url,
        "api_key": "sk",
        "messages": ASK,
        "max_retries": 0,
        **more,
    }


def chat(provider: FakeProvider, **more: Any) -> Any:
    """Make a model of LangChain's with a handler."""
    given: dict[str, Any] = {"base_url": provider.openai_url, "api_key": "sk", "max_retries": 0, **more}
    return ChatOpenAI(model="gpt-4o", callbacks=[FarthingHandler(feature="chatbot")], **given)


def leave(stream: Any, pieces: int) -> None:
    """Take some pieces of a stream and go."""
    for _ in range(pieces):
        next(stream)
    if hasattr(stream, "close"):
        stream.close()


async def aleave(stream: Any, pieces: int) -> None:
    """Do so asynchronously."""
    for _ in range(pieces):
        await anext(stream)
    if hasattr(stream, "aclose"):
        await stream.aclose()


def only(captured: Captured, provider: FakeProvider) -> farthing.Call:
    """Give the one call, with nothing of its prompt anywhere."""
    provider.settle()
    until = time.monotonic() + 20
    while time.monotonic() < until and (gc.collect(), farthing.flush(), captured.health.open_runs)[-1]:
        time.sleep(0.02)  # LiteLLM's pools may still hold what was left
    (call,) = captured.calls
    for path in captured.folder.rglob("calls-*"):
        assert "secret-of" not in path.read_text()
    assert captured.health.open_runs == 0
    assert captured.health.faults == {}
    return call


def assert_estimated(call: farthing.Call, *, received: int | None) -> None:
    """The cost is unknown, the estimate stands beside it, and says how it was made; tokens of it are in no usage."""
    assert (call.cost.amount_usd, call.cost.status, call.usage) == (None, "estimated", None)
    assert "estimated:utf8-bytes" in call.cost.flags
    assert call.estimated_usage is not None
    inputs, outputs = call.estimated_usage.input_tokens or 0, call.estimated_usage.output_tokens or 0
    assert abs(inputs - ASKED_TOKENS) < 20
    if received is not None:
        assert abs(outputs - received / 4) <= received * 0.2
    assert call.cost.estimated_usd == Decimal(inputs) * Decimal("0.0000025") + Decimal(outputs) * Decimal("0.00001")


@pytest.mark.parametrize("way", ["litellm", "litellm async", "langchain", "langchain async"])
def test_stream_that_is_left(provider: FakeProvider, way: str) -> None:
    """What somebody left behind costs something: the estimate is of the prompt and of what was received."""
    provider.script(Reply(text=WORDS, chunks=10))
    with capture(estimate_unreported=True) as captured:
        Lite.callbacks = [FarthingLogger(feature="mail")]

        async def main() -> None:
            if way == "litellm async":
                await aleave(await Lite.acompletion(**lite_call(provider, stream=True)), 6)
            else:
                await aleave(chat(provider).astream(SECRET), 6)
            gc.collect()
            await farthing.aflush()

        if way == "litellm":
            leave(Lite.completion(**lite_call(provider, stream=True)), 6)
        elif way == "langchain":
            leave(chat(provider).stream(SECRET), 6)
        else:
            asyncio.run(main())
        call = only(captured, provider)
        assert_estimated(call, received=None)
        assert call.outcome == "abandoned"
        assert call.estimated_usage is not None
        assert 0 < (call.estimated_usage.output_tokens or 0) * 4 < len(WORDS) * 0.9


@pytest.mark.parametrize("way", ["litellm", "litellm async", "langchain", "crewai"])
def test_answer_without_usage(provider: FakeProvider, way: str) -> None:
    """The whole answer is known there, and so is its size."""
    provider.script(Reply(text=WORDS, chunks=10, omit_usage=True))
    with capture(estimate_unreported=True) as captured:
        if way == "crewai":
            listener = FarthingListener(feature="research")
            LLM(model="gpt-4o", base_url=provider.openai_url, api_key="sk").call(SECRET)
            farthing.flush()
            listener.close()
        elif way == "langchain":
            chat(provider).invoke(SECRET)
        else:
            Lite.callbacks = [FarthingLogger(feature="mail")]
            if way == "litellm":
                Lite.completion(**lite_call(provider))
            else:
                asyncio.run(Lite.acompletion(**lite_call(provider)))
        assert_estimated(only(captured, provider), received=len(WORDS))


@pytest.mark.parametrize("way", ["litellm", "langchain"])
async def test_cancelled_and_timed_out(provider: FakeProvider, way: str) -> None:
    """Of a call that was given up nothing was received: the estimate is of the prompt alone."""
    provider.script(Reply(text=WORDS, delay_seconds=0.8))
    with capture(estimate_unreported=True) as captured:
        Lite.callbacks = [FarthingLogger(feature="mail")]
        asked = Lite.acompletion(**lite_call(provider)) if way == "litellm" else chat(provider).ainvoke(SECRET)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked, 0.2)
        del asked
        gc.collect()
        call = await asyncio.to_thread(only, captured, provider)
        assert_estimated(call, received=0)


def test_process_that_ends_early(provider: FakeProvider) -> None:
    """An open stream is closed at the end of the process, with what was received until then."""
    provider.script(Reply(text=WORDS, chunks=10))
    with capture(estimate_unreported=True) as captured:
        stream = chat(provider).stream(SECRET)
        for _ in range(4):
            next(stream)
        farthing.shutdown()
        (call,) = captured.calls
        assert call.error_type == "process-ended"
        assert_estimated(call, received=None)
        stream.close()


def test_without_the_setting_nothing_is_counted(provider: FakeProvider) -> None:
    """An estimate that nobody asked for would be taken for knowledge."""
    provider.script(Reply(omit_usage=True), times=2)
    with capture() as captured:
        Lite.callbacks = [FarthingLogger(feature="mail")]
        Lite.completion(**lite_call(provider))
        chat(provider).invoke(SECRET)
        for call in captured.calls:
            assert (call.cost.status, call.cost.estimated_usd, call.estimated_usage) == ("unreported", None, None)


def test_what_is_known_is_never_estimated(provider: FakeProvider) -> None:
    """A refusal cost nothing, a reported usage is exact, and a model without a price has no estimate either."""
    for answer in (Fault(status=400), Reply(), Reply(omit_usage=True)):
        provider.script(answer)
    with capture(estimate_unreported=True) as captured:
        Lite.callbacks = [FarthingLogger(feature="mail")]
        with pytest.raises(Lite.BadRequestError):
            Lite.completion(**lite_call(provider))
        Lite.completion(**lite_call(provider))
        Lite.completion(**lite_call(provider, model="openai/no-such-model-9"))
        calls = captured.calls
        assert [call.cost.status for call in calls] == ["not_billed", "priced", "unreported"]
        assert all(call.cost.estimated_usd is None for call in calls)


def test_estimates_leave_under_names_of_their_own(provider: FakeProvider) -> None:
    """A backend that sums tokens and cost over spans would take an estimate for a bill."""
    provider.script(Reply(omit_usage=True))
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    reader = InMemoryMetricReader()
    meters = MeterProvider(metric_readers=[reader])
    with capture(tracer_provider=tracers, meter_provider=meters, estimate_unreported=True) as captured:
        chat(provider).invoke(SECRET)
        only(captured, provider)
        data = reader.get_metrics_data()
        assert data is not None
        metrics = {m.name: m for each in data.resource_metrics for scope in each.scope_metrics for m in scope.metrics}
        assert not {"farthing.cost", "gen_ai.usage.cost", "gen_ai.client.token.usage"} & set(metrics)
        (point,) = metrics["farthing.cost.estimated"].data.data_points
        assert getattr(point, "value", 0) > 0
        assert (captured.health.estimated, captured.health.unreported) == (1, 0)
        spans = [span for span in exporter.get_finished_spans() if span.name.startswith("chat")]
    (attributes,) = [dict(span.attributes or {}) for span in spans]
    assert not any(name.startswith(("gen_ai.usage", "attribution.cost.usd")) for name in attributes)
    assert attributes["attribution.cost.status"] == "estimated"
    assert Decimal(str(attributes["attribution.cost.estimated_usd"])) > 0
    assert attributes["farthing.estimated.input_tokens"]
    tracers.shutdown()
    meters.shutdown()


def test_sizes_are_of_text_alone() -> None:
    """Pictures in base64 would be priced as millions of tokens, and the names of fields as prose."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    parts = [{"type": "text", "text": "four"}, picture]
    assert text_bytes([{"role": "user", "content": parts}]) == 4
    assert text_bytes("žluťoučký") == len("žluťoučký".encode())
    assert prompt_bytes([{"role": "user", "content": "four"}]) == 16 + 4
    tools = [{"type": "function", "function": {"name": "look", "description": "Look it up"}}]
    assert prompt_bytes("four", tools) == 16 + 4 + 14
    assert text_bytes(None) == text_bytes(7) == 0


# Asking for the usage.


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize(
    "way", ["litellm", "litellm positional", "litellm async", "litellm text", "langchain", "langchain async"]
)
def test_streams_ask_where_they_are_told_to(provider: FakeProvider, way: str, wanted: bool) -> None:
    """Only a user's own switch may change a request; then every stream is exact."""
    with capture(ask_for_usage=wanted) as captured:
        Lite.callbacks = [FarthingLogger(feature="mail")]

        async def main() -> None:
            if way == "litellm async":
                stream: Any = await Lite.acompletion(**lite_call(provider, stream=True))
            else:
                stream = chat(provider).astream(SECRET)
            said = [piece async for piece in stream]
            assert said
            await farthing.aflush()

        if way == "litellm":
            pieces = list(Lite.completion(**lite_call(provider, stream=True)))
            assert all(piece.choices for piece in pieces)
        elif way == "litellm positional":
            arguments = lite_call(provider, stream=True)
            list(Lite.completion(arguments.pop("model"), arguments.pop("messages"), **arguments))
        elif way == "litellm text":
            arguments = lite_call(provider, stream=True, model="text-completion-openai/gpt-3.5-turbo-instruct")
            del arguments["messages"]
            list(Lite.text_completion(prompt=SECRET, **arguments))
        elif way == "langchain":
            assert list(chat(provider).stream(SECRET))
        else:
            asyncio.run(main())
        call = only(captured, provider)
        (request,) = provider.requests
        assert ("stream_options" in request.document) is wanted
        assert (call.cost.status == "priced") is wanted
        if wanted:
            assert call.cost.amount_usd == provider.invoice.total_usd


def test_whoever_said_otherwise_is_not_overruled(provider: FakeProvider) -> None:
    """A server that refuses the option would fail calls that its user had set up rightly."""
    with capture(ask_for_usage=True) as captured:
        Lite.callbacks = [FarthingLogger(feature="mail")]
        list(Lite.completion(**lite_call(provider, stream=True, stream_options={"include_usage": False})))
        list(chat(provider, stream_usage=False).stream(SECRET))
        list(chat(provider).stream(SECRET, stream_options={"include_usage": False}))
        Lite.completion(**lite_call(provider))
        first, second, third, last = provider.requests
        assert all("true" not in str(each.document.get("stream_options")).lower() for each in (first, second, third))
        assert "stream_options" not in last.document
        assert [call.cost.status for call in captured.calls] == ["unreported"] * 3 + ["priced"]
        assert captured.health.faults == {}
