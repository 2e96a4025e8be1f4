"""Among neighbours: what others do to the callbacks of the frameworks, and who else writes spans, doubles nothing."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from decimal import Decimal
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import litellm
import pytest
from crewai import LLM
from crewai.events.event_bus import crewai_event_bus
from crewai.events.types.llm_events import LLMCallCompletedEvent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_openai import ChatOpenAI
from litellm.integrations.custom_logger import CustomLogger
from opentelemetry.sdk.trace import TracerProvider

import farthing
from farthing import neighbours
from farthing.testing import Captured, capture
from farthing_crewai import FarthingListener
from farthing_langchain import FarthingHandler
from farthing_litellm import FarthingLogger

if TYPE_CHECKING:
    from collections.abc import Callable

    from farthing.testing.provider import FakeProvider

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
Lite: Final[Any] = litellm
ASK: Final = [{"role": "user", "content": "hi"}]


def settled(provider: FakeProvider, captured: Captured) -> list[farthing.Call]:
    """Give the calls, after checking that their sum is the invoice."""
    assert provider.settle()
    calls = captured.calls
    assert sum((call.cost.amount_usd or Decimal(0) for call in calls), Decimal(0)) == provider.invoice.total_usd
    assert all(call.cost.amount_usd is not None for call in calls)
    assert (captured.health.open_runs, captured.health.faults) == (0, {})
    return calls


def lite_call(provider: FakeProvider, **more: Any) -> dict[str, Any]:
    """Give the arguments of a call of LiteLLM's."""
    return {
        "model": "openai/gpt-4o-mini",
        "api_base": provider.openai_url,
        "api_key": "sk",
        "messages": ASK,
        "max_retries": 0,
        **more,
    }


def at_once(step: Callable[[], object], threads: int = 6) -> None:
    """Take one step on several threads."""
    running = [threading.Thread(target=step) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


@pytest.mark.parametrize("way", ["sync", "async", "stream", "async stream"])
def test_no_log_hides_no_bill(provider: FakeProvider, captured: Captured, way: str) -> None:
    """LiteLLM's option keeps its callbacks from the end of a call: what was bought would have no cost."""
    Lite.callbacks = [FarthingLogger(feature="mail")]
    arguments = lite_call(provider, **{"no-log": True})
    if "stream" in way:
        arguments |= {"stream": True, "stream_options": {"include_usage": True}}

    async def main() -> None:
        answer = await Lite.acompletion(**arguments)
        if way == "async stream":
            assert [piece async for piece in answer]
        await farthing.aflush()

    if way.startswith("async"):
        asyncio.run(main())
    elif way == "stream":
        assert list(Lite.completion(**arguments))
    else:
        Lite.completion(**arguments)
    assert len(settled(provider, captured)) == 1


class _Spy(CustomLogger):
    """Keeps what LiteLLM gives to a callback's end."""

    def __init__(self) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] - LiteLLM's **kwargs have no type
        self.seen: list[dict[str, Any]] = []

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Keep it."""
        self.seen.append(
            {"kwargs": kwargs, "response_obj": response_obj, "start_time": start_time, "end_time": end_time}
        )


def test_litellms_events_twice_from_several_threads(provider: FakeProvider, captured: Captured) -> None:
    """Other callbacks make LiteLLM report a call's end twice, on whatever threads, and after its failure."""
    logger, spy = FarthingLogger(feature="mail"), _Spy()
    Lite.callbacks = [logger, spy]
    Lite.completion(**lite_call(provider))
    captured.calls  # noqa: B018 - flushes, so that the event has come
    until = time.monotonic() + 20
    while not spy.seen and time.monotonic() < until:
        time.sleep(0.01)
    (event,) = spy.seen
    at_once(lambda: logger.log_success_event(**event))
    at_once(lambda: asyncio.run(logger.async_log_success_event(**event)))
    at_once(lambda: logger.log_failure_event(**event))
    assert len(settled(provider, captured)) == 1
    assert captured.health.duplicates == 18


class _Ends(BaseCallbackHandler):
    """Keeps what LangChain gives to a handler's end."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        """Keep it."""
        self.seen.append({"response": response, **kwargs})


def test_langchains_events_twice_from_several_threads(provider: FakeProvider, captured: Captured) -> None:
    """A tracer that repeats events, or a pool that brings them late, would bill a call again."""
    handler, ends = FarthingHandler(feature="chatbot"), _Ends()
    given: dict[str, Any] = {"base_url": provider.openai_url, "api_key": "sk", "max_retries": 0}
    ChatOpenAI(model="gpt-4o", **given).invoke("hi", config={"callbacks": [handler, ends]})
    (event,) = ends.seen
    at_once(lambda: handler.on_llm_end(**event))
    at_once(lambda: handler.on_llm_error(error=ValueError("late"), run_id=event["run_id"]))
    assert len(settled(provider, captured)) == 1
    assert captured.health.duplicates == 12


def test_crewais_events_twice_from_several_threads(provider: FakeProvider, captured: Captured) -> None:
    """CrewAI reports some ends twice, and its handlers run on a pool."""
    listener, seen = FarthingListener(feature="research"), list[tuple[Any, Any]]()

    def keep(source: Any, event: Any) -> None:
        seen.append((source, event))

    crewai_event_bus.register_handler(LLMCallCompletedEvent, keep)
    try:
        LLM(model="gpt-4o-mini", base_url=provider.openai_url, api_key="sk").call("hi")
        farthing.flush()
        ((source, event),) = seen
        at_once(lambda: crewai_event_bus.emit(source, event=event))
        crewai_event_bus.flush(timeout=10)
        assert len(settled(provider, captured)) == 1
        assert captured.health.duplicates == 6
    finally:
        crewai_event_bus.off(LLMCallCompletedEvent, keep)
        listener.close()


@pytest.mark.parametrize("order", ["logger first", "crew first"])
def test_crewai_that_empties_litellms_callbacks(provider: FakeProvider, captured: Captured, order: str) -> None:
    """CrewAI sets `litellm.callbacks = []` whenever an LLM is built: calls of both would go unseen from then on."""
    listener = FarthingListener(feature="research")

    def crew_call() -> None:
        LLM(model="openai/gpt-4o-mini", is_litellm=True, base_url=provider.openai_url, api_key="sk").call("hi")

    try:
        if order == "crew first":
            crew_call()
            farthing.flush()
        Lite.callbacks = [FarthingLogger(feature="mail")]
        crew_call()
        Lite.completion(**lite_call(provider))
        asyncio.run(Lite.acompletion(**lite_call(provider)))
        crew_call()
        calls = settled(provider, captured)
    finally:
        listener.close()
    assert len(calls) == len(provider.requests)
    assert {call.attribution.feature for call in calls} == {"research", "mail"}


# Others that write spans with the same token counts.


def test_litellms_own_tracing_is_noticed(provider: FakeProvider, caplog: pytest.LogCaptureFixture) -> None:
    """Both would count the tokens of one call into the same backend, and nobody would know."""
    tracers = TracerProvider()
    with capture(tracer_provider=tracers) as captured, caplog.at_level(logging.WARNING, "farthing"):
        Lite.callbacks = [FarthingLogger(feature="mail")]
        Lite.success_callback.append("langfuse_otel")
        try:
            assert neighbours.at_work() == ["litellm's callback langfuse_otel"]
            farthing.flush()
            ChatOpenAI(
                model="gpt-4o",
                base_url=provider.openai_url,
                api_key="sk",  # pyright: ignore[reportArgumentType] - pydantic makes it a secret
                callbacks=[FarthingHandler()],
            ).invoke("hi")
            until = time.monotonic() + 20
            while not captured.health.neighbours and time.monotonic() < until:
                time.sleep(0.05)
            assert captured.health.neighbours == {"litellm's callback langfuse_otel": 1}
        finally:
            Lite.success_callback.remove("langfuse_otel")
        assert neighbours.at_work() == []
    assert caplog.text.count("langfuse_otel writes spans with the same token counts") == 1
    tracers.shutdown()


class _Instrumentor:
    """Stands in for OpenTelemetry's BaseInstrumentor, which no test needs: each kind has one instance that knows."""

    _instance: Any = None
    is_instrumented_by_opentelemetry = False


@pytest.mark.parametrize(
    ("module", "active", "named"),
    [
        ("opentelemetry.instrumentation.openai_v2", True, ["opentelemetry-instrumentation-openai-v2"]),
        ("openinference.instrumentation.langchain", True, ["openinference-instrumentation-langchain"]),
        ("opentelemetry.instrumentation.openai_v2", False, []),
        ("opentelemetry.instrumentation.requests", True, []),
        ("somebody.elses", True, []),
    ],
)
def test_instrumentations_are_noticed_when_they_are_switched_on(
    monkeypatch: pytest.MonkeyPatch, module: str, active: bool, named: list[str]
) -> None:
    """What is only installed doubles nothing, and a warning about it would be noise."""
    facts = {"__module__": module, "is_instrumented_by_opentelemetry": active}
    kind: Any = type("Instrumentor", (_Instrumentor,), facts)
    kind._instance = kind()
    base = ModuleType("opentelemetry.instrumentation.instrumentor")
    vars(base)["BaseInstrumentor"] = _Instrumentor
    monkeypatch.setitem(sys.modules, base.__name__, base)
    found = neighbours.at_work()
    kind._instance = None
    assert found == named


@pytest.mark.parametrize(
    ("version", "variable", "named"),
    [("2.12.0", "", ["anthropic 2.12.0"]), ("2.12.0", "false", []), ("0.73.0", "", [])],
)
def test_anthropics_own_spans_are_noticed(
    monkeypatch: pytest.MonkeyPatch, version: str, variable: str, named: list[str]
) -> None:
    """Anthropic 2 writes a span for every call wherever there is a global provider."""
    monkeypatch.setitem(sys.modules, "anthropic", ModuleType("anthropic"))
    vars(sys.modules["anthropic"])["__version__"] = version
    monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY", variable)
    assert neighbours.at_work() == named
