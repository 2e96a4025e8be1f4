"""Whose bill it is where two layers see one call: answers from caches, failures below, events in any order."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

import litellm
import pytest
from crewai import LLM, Agent, Crew, Task
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_litellm import ChatLiteLLM
from litellm.caching.caching import Cache
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import farthing
from farthing import runs, setup
from farthing.runs import Finish
from farthing.testing import Captured, capture
from farthing.testing.provider import FakeProvider, Fault, Reply
from farthing_crewai import FarthingListener
from farthing_langchain import FarthingHandler
from farthing_litellm import FarthingLogger

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
Lite: Final[Any] = litellm
SECRET: Final = "what-was-asked"


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """Leave no cache in LangChain."""
    yield
    set_llm_cache(None)


def settled(provider: FakeProvider, captured: Captured) -> list[farthing.Call]:
    """Give the calls, after checking that their sum is the invoice and that nothing is left open."""
    assert provider.settle()
    gc.collect()
    calls = captured.calls
    assert sum((call.cost.amount_usd or Decimal(0) for call in calls), Decimal(0)) == provider.invoice.total_usd
    assert all(call.cost.amount_usd is not None for call in calls), [call.cost for call in calls]
    health = captured.health
    assert (health.open_runs, health.faults, health.dropped) == (0, {}, {})
    return calls


def assert_hit(calls: list[farthing.Call], *, framework: str = "litellm") -> None:
    """The second of two calls cost nothing, saved what the first one cost, and has the tags of the layer above."""
    paid, hit = calls
    assert (hit.framework, hit.cost.status, hit.cost.amount_usd) == (framework, "cache_hit", Decimal(0))
    assert hit.cost.saved_usd == paid.cost.amount_usd
    assert hit.cost.saved_usd
    assert [(call.attribution.feature, call.attribution.tenant) for call in calls] == [("chatbot", "acme")] * 2
    assert (hit.provider, hit.request_model) == (paid.provider, paid.request_model)


def lite_model(provider: FakeProvider, **more: Any) -> ChatLiteLLM:
    """Make a model of LangChain's that goes through LiteLLM."""
    return ChatLiteLLM(model="openai/gpt-4o-mini", api_base=provider.openai_url, api_key="sk", max_retries=0, **more)


@pytest.mark.parametrize("mode", ["sync", "async", "stream", "async stream"])
def test_hit_of_litellms_cache_below_langchain(provider: FakeProvider, captured: Captured, mode: str) -> None:
    """The outer layer sees the tokens of the first answer, and would bill an answer that nobody sold."""
    Lite.callbacks = [FarthingLogger(feature="gateway")]
    Lite.cache = Cache(type="local")  # pyright: ignore[reportArgumentType] - a literal in LiteLLM's enum
    model, config = lite_model(provider), {"callbacks": [FarthingHandler(feature="chatbot")]}

    async def once() -> None:
        if mode == "async":
            await model.ainvoke(SECRET, config=config)  # pyright: ignore[reportArgumentType]
        else:
            async for _ in model.astream(SECRET, config=config):  # pyright: ignore[reportArgumentType]
                pass
        await farthing.aflush()

    for _ in range(2):
        with farthing.attribute(tenant="acme"):
            if mode == "sync":
                model.invoke(SECRET, config=config)  # pyright: ignore[reportArgumentType]
            elif mode == "stream":
                list(model.stream(SECRET, config=config))  # pyright: ignore[reportArgumentType]
            else:
                asyncio.run(once())
        farthing.flush()
    assert len(provider.requests) == 1
    assert_hit(settled(provider, captured))
    assert captured.health.duplicates >= 2


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_hit_of_litellms_cache_below_crewai(provider: FakeProvider, captured: Captured, mode: str) -> None:
    """CrewAI reports a hit with the usage of the first answer, in events that come at any time."""
    listener = FarthingListener(feature="chatbot")
    Lite.callbacks = [FarthingLogger(feature="gateway")]
    Lite.cache = Cache(type="local")  # pyright: ignore[reportArgumentType] - as above

    def crew() -> Any:
        llm = LLM(model="openai/gpt-4o-mini", is_litellm=True, base_url=provider.openai_url, api_key="sk")
        worker = Agent(role="Analyst", goal="g", backstory="b", llm=llm, verbose=False)
        task = Task(name="look", description=SECRET, expected_output="text", agent=worker)
        return Crew(name="research", agents=[worker], tasks=[task], verbose=False)

    try:
        for _ in range(2):
            with farthing.attribute(tenant="acme"):
                if mode == "sync":
                    crew().kickoff()
                else:
                    asyncio.run(crew().akickoff())
            farthing.flush()
        assert len(provider.requests) == 1
        calls = settled(provider, captured)
    finally:
        listener.close()
    assert_hit(calls)
    assert [scope.name for scope in calls[1].scopes] == ["research", "look", "Analyst"]


def test_hit_of_langchains_cache_above_litellm(provider: FakeProvider, captured: Captured) -> None:
    """A hit above never reaches the layer below: it is the upper one's, at no cost."""
    Lite.callbacks = [FarthingLogger(feature="gateway")]
    set_llm_cache(InMemoryCache())
    model, config = lite_model(provider), {"callbacks": [FarthingHandler(feature="chatbot")]}
    for _ in range(2):
        with farthing.attribute(tenant="acme"):
            model.invoke(SECRET, config=config)  # pyright: ignore[reportArgumentType]
        farthing.flush()
    assert_hit(settled(provider, captured), framework="langchain")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_conversations_begun_together_above_litellm(provider: FakeProvider, captured: Captured, mode: str) -> None:
    """LangChain begins all conversations of generate() before LiteLLM sees one: each is billed once, by LiteLLM."""
    Lite.callbacks = [FarthingLogger(feature="gateway")]
    asked = [[HumanMessage(word)] for word in ("one", "two", "three")]
    model, handlers = lite_model(provider), [FarthingHandler(feature="chatbot")]

    async def together() -> None:
        await model.agenerate(asked, callbacks=handlers)  # pyright: ignore[reportArgumentType]
        await farthing.aflush()

    if mode == "sync":
        model.generate(asked, callbacks=handlers)  # pyright: ignore[reportArgumentType]
    else:
        asyncio.run(together())
    calls = settled(provider, captured)
    assert [(call.framework, call.attribution.feature, call.attempt) for call in calls] == [
        ("litellm", "chatbot", 1)
    ] * 3
    assert len({call.operation_id for call in calls}) == 3


def test_calls_after_one_that_timed_out(provider: FakeProvider, captured: Captured) -> None:
    """A call that asyncio.timeout() ended has no event: those that follow in its task are no attempts of it."""
    Lite.callbacks = [FarthingLogger(feature="gateway")]
    provider.script(Reply(delay_seconds=0.8), when=lambda request: b"slow" in request.body)
    model, config = lite_model(provider), {"callbacks": [FarthingHandler(feature="chatbot")]}
    given: Any = {"api_base": provider.openai_url, "api_key": "sk"}

    async def one_after_the_other() -> None:
        with farthing.attribute(tenant="slow"), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):
                await model.ainvoke("slow", config=config)  # pyright: ignore[reportArgumentType]
        with farthing.attribute(tenant="direct"):
            await Lite.acompletion("openai/gpt-4o-mini", [{"role": "user", "content": "hi"}], **given)
        with farthing.attribute(tenant="next"):
            await model.ainvoke("hi", config=config)  # pyright: ignore[reportArgumentType]
        await farthing.aflush()

    model.invoke("warm up", config=config)  # pyright: ignore[reportArgumentType]
    asyncio.run(one_after_the_other())
    gc.collect()
    assert provider.settle()
    calls = captured.calls
    assert sorted((call.attribution.tenant or "", call.attempt, call.cost.status) for call in calls) == [
        ("", 1, "priced"),
        ("direct", 1, "priced"),
        ("next", 1, "priced"),
        ("slow", 1, "unreported"),
    ]
    assert len({call.operation_id for call in calls}) == 4
    by_tenant = {call.attribution.tenant: call for call in calls}
    assert by_tenant["direct"].attribution.feature == "gateway"


def test_embedding_inside_a_model_of_ones_own(provider: FakeProvider, captured: Captured) -> None:
    """A chat model that asks LiteLLM for an embedding first still has a bill of its own."""
    Lite.callbacks = [FarthingLogger(feature="gateway")]

    class House(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "openai"

        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
            given: Any = {"api_base": provider.openai_url, "api_key": "sk"}
            Lite.embedding("openai/text-embedding-3-small", input=["x"], **given)
            usage: Any = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
            message = AIMessage("hi", usage_metadata=usage, response_metadata={"model_name": "gpt-4o"})
            return ChatResult(generations=[ChatGeneration(message=message)])

    House().invoke("hi", config={"callbacks": [FarthingHandler(feature="chatbot")]})
    calls = captured.calls
    assert sorted((call.framework, call.operation, call.attempt) for call in calls) == [
        ("langchain", "chat", 1),
        ("litellm", "embeddings", 1),
    ]
    assert len({call.operation_id for call in calls}) == 2


def test_cache_in_use_changes_nothing_else(provider: FakeProvider, captured: Captured) -> None:
    """Misses, failures and calls that are never sent would be lost or billed twice for being foreseen."""
    Lite.callbacks = [FarthingLogger(feature="gateway")]
    Lite.cache = Cache(type="local")  # pyright: ignore[reportArgumentType] - as above
    model, config = lite_model(provider), {"callbacks": [FarthingHandler(feature="chatbot")]}
    model.invoke("one", config=config)  # pyright: ignore[reportArgumentType]
    provider.script(Fault(status=400, message="told to fail"))
    with pytest.raises(Exception, match="told to fail"):
        model.invoke("two", config=config)  # pyright: ignore[reportArgumentType]
    unknown = ChatLiteLLM(model="nosuchprovider/nosuchmodel", max_retries=0)
    with pytest.raises(Exception, match=r"(?i)provider"):
        unknown.invoke("three", config=config)  # pyright: ignore[reportArgumentType]
    assert provider.settle()
    gc.collect()
    calls = captured.calls
    assert [(call.framework, call.cost.status) for call in calls[:2]] == [
        ("litellm", "priced"),
        ("litellm", "not_billed"),
    ]
    assert [(call.framework, call.outcome) for call in calls[2:]] == [("langchain", "error")]
    assert captured.health.open_runs == 0
    assert captured.health.faults == {}


# Any order of events in two layers, over the real meter and the real billing.

USAGE: Final = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}
COST: Final = Decimal("0.0045")
_names: Final = itertools.count()
Event = tuple[Literal["begin", "end", "hit", "take back"], int]


class Layers:
    """One call of an outer layer, and what the layer below makes of it."""

    def __init__(self, late: bool) -> None:
        self.name = next(_names)
        self.late = late
        self.begun: list[int] = []
        self.ended: dict[int, str] = {}

    def outer_begins(self) -> None:
        """Begin above."""
        meter().start_call(
            ("outer", self.name), framework="langchain", operation="chat", provider="openai", model="gpt-4o",
            handler_tags={"feature": "above"}, unordered=self.late,
        )  # fmt: skip

    def outer_ends(self) -> None:
        """End above, with a usage that must never be billed where the layer below tells its own."""
        usage = {"prompt_tokens": 7_000_000, "completion_tokens": 7_000_000}
        meter().finish_call(("outer", self.name), Finish(time.time_ns(), usage=usage, usage_shape="openai_chat"))

    def inner(self, event: Event) -> None:
        """Have something happen below."""
        kind, number = event
        key = ("inner", self.name, number)
        if kind == "begin" and number not in self.begun:
            self.begun.append(number)
            meter().start_call(
                key, framework="litellm", operation="chat", provider="openai", model="gpt-4o", inner=True,
                handler_tags={"plan": "below"},
            )  # fmt: skip
        elif kind != "begin" and number in self.begun and number not in self.ended:
            self.ended[number] = kind
            if kind == "take back":
                meter().withdraw_call(key)
            else:
                meter().finish_call(
                    key, Finish(time.time_ns(), usage=USAGE, usage_shape="openai_chat", cache_hit=kind == "hit")
                )


def meter() -> Any:
    """Give the entrance of plugins."""
    return setup.get_meter()


EVENTS = st.lists(
    st.tuples(st.sampled_from(["begin", "begin", "end", "hit", "take back"]), st.integers(0, 2)), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), EVENTS, st.integers(0, 12)), min_size=1, max_size=3), st.booleans())
def test_any_interleaving_of_two_layers_is_one_bill_a_call(
    scripts: list[tuple[bool, list[Event], int]], flushed_midway: bool
) -> None:
    """Whatever comes first, each provider call has one bill, made by the layer that knows best, and nothing stays."""
    probe_key: list[object] = [None]
    runs.outer_probes.append(lambda: probe_key[0])
    try:
        with capture() as found:
            whole = [play(script, probe_key, flushed_midway) for script in scripts]
            calls = found.calls
            assert found.health.open_runs == 0
            assert found.health.faults == {}
            assert found.health.dropped == {}
            standing = meter()
            assert not standing._waiting or all(not below for below in standing._waiting.values())
            expected: list[tuple[str, str, Decimal]] = []
            suppressed = 0
            for layers in whole:
                kept = [kind for kind in layers.ended.values() if kind != "take back"]
                kept += ["unended"] * (len(layers.begun) - len(layers.ended))
                suppressed += bool(kept)
                expected += [("litellm", "cache_hit", Decimal(0)) for kind in kept if kind == "hit"]
                expected += [("litellm", "priced", COST) for kind in kept if kind == "end"]
                expected += [("litellm", "priced", Decimal("87.5")) for kind in kept if kind == "unended"]
                expected += [("langchain", "priced", Decimal("87.5"))] if not kept else []
            assert sorted((c.framework, c.cost.status, c.cost.amount_usd or Decimal(0)) for c in calls) == sorted(
                expected
            )
            assert found.health.duplicates == suppressed
            assert all(call.attribution.feature == "above" for call in calls)
            assert len({call.operation_id for call in calls}) >= len(whole)
    finally:
        runs.outer_probes.pop()


def play(script: tuple[bool, list[Event], int], probe_key: list[object], flushed_midway: bool) -> Layers:
    """Let one outer call and its inner ones happen, the outer one's start early or late, its end somewhere."""
    late, events, end_at = script
    layers = Layers(late)
    probe_key[0] = ("outer", layers.name)
    if not late:
        layers.outer_begins()
    for number, event in enumerate(events):
        begins = event[0] == "begin"
        if number == end_at and not late and not any(each[0] == "begin" for each in events[number:]):
            layers.outer_ends()
            if flushed_midway and all(each in layers.ended for each in layers.begun):
                farthing.flush()
        if not begins or number <= end_at:
            layers.inner(event)
    if late:
        layers.outer_begins()
    layers.outer_ends() if meter().runs.get(("outer", layers.name)) is not None else None
    return layers


def test_suppressed_layers_are_visible() -> None:
    """What was not billed because another layer did must be in health() and in a metric, or nobody can check it."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    with capture(meter_provider=provider) as found:
        layers = Layers(late=False)
        layers.outer_begins()
        token = runs.CURRENT_CALL.set(("outer", layers.name))
        layers.inner(("begin", 0))
        runs.CURRENT_CALL.reset(token)
        layers.inner(("end", 0))
        layers.outer_ends()
        assert len(found.calls) == 1
        assert found.health.duplicates == 1
        data = reader.get_metrics_data()
        assert data is not None
        points = [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == "farthing.events"
            for point in metric.data.data_points
        ]
        wanted = {"farthing.event": "duplicates", "farthing.reason": "layer"}
        assert [getattr(point, "value", None) for point in points if point.attributes == wanted] == [1]
    provider.shutdown()
