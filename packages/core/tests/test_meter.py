"""From start and finish to one Call: ends counted once, layers billed once, unknowns kept unknown."""

from __future__ import annotations

import sys
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import farthing
from farthing import runs, setup
from farthing.counting import counters
from farthing.meter import Finish, Meter
from farthing.testing import Captured, capture, read_calls

if TYPE_CHECKING:
    from collections.abc import Iterator

USAGE = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}
COST = Decimal("0.0045")
"""1,000 x $2.50 and 200 x $10.00 per million: gpt-4o."""


@pytest.fixture
def captured() -> Iterator[Captured]:
    """Record into a ledger of the test's own."""
    with capture() as found:
        yield found


def meter() -> Meter:
    """Give the entrance that plugins use."""
    found = setup.get_meter()
    assert found is not None
    return found


def start(key: object, **facts: Any) -> None:
    """Begin a call to gpt-4o."""
    given: dict[str, Any] = {"framework": "litellm", "operation": "chat", "provider": "openai", "model": "gpt-4o"}
    meter().start_call(key, **(given | facts))


def finish(key: object, **facts: Any) -> None:
    """End a call with the usage of USAGE."""
    given: dict[str, Any] = {"usage": USAGE, "usage_shape": "openai_chat"}
    meter().finish_call(key, Finish(ended_ns=time.time_ns(), **(given | facts)))


def test_a_call_is_recorded_with_tags_price_and_ids(captured: Captured) -> None:
    """The whole way through the house."""
    with farthing.attribute(feature="Chat Bot", tenant="acme"):
        start("k", tags={"route": "api/chat"}, handler_tags={"team": "growth", "feature": "loses"})
    finish("k", response_id="r1", response_model="gpt-4o-2024-08-06", finish_reason="stop")
    (call,) = captured.calls
    assert call.cost.amount_usd == COST
    assert call.cost.status == "priced"
    assert dict(call.attribution.items()) == {
        "feature": "chat-bot",
        "route": "api/chat",
        "team": "growth",
        "tenant": "acme",
    }
    assert call.attribution_source == {
        "route": "call",
        "feature": "attribute",
        "tenant": "attribute",
        "team": "handler",
    }
    assert (call.response_id, call.finish_reason, call.outcome) == ("r1", "stop", "success")
    assert len(call.trace_id) == 32
    assert len(call.span_id) == 16
    assert call.started_at <= call.ended_at


def test_tags_are_those_of_the_start(captured: Captured) -> None:
    """Law 6: what the context holds at the end belongs to somebody else."""
    with farthing.attribute(feature="mine"):
        start("k")
    with farthing.attribute(feature="theirs"):
        finish("k")
    assert captured.calls[0].attribution.feature == "mine"


def test_what_decided_the_price_is_kept(captured: Captured) -> None:
    """A call priced by its region could not be priced anew if the ledger forgot the region."""
    usage = {"input_tokens": 1_000, "output_tokens": 10, "inference_geo": "us"}
    start("k", provider="anthropic", model="claude-opus-4-6")
    finish("k", usage=usage, usage_shape="anthropic", has_content=True)
    start("v", provider="vertex_ai", model="claude-sonnet-4-5")
    finish("v", price_context={"region": "europe-west1"})
    assert [call.price_context for call in captured.calls] == [{"inference_geo": "us"}, {"region": "europe-west1"}]
    assert all(call.cost.provenance and call.cost.provenance.corrections for call in captured.calls)


def test_one_end_counts(captured: Captured) -> None:
    """A framework that reports an end twice, or from two threads, would double the bill."""
    start("k")
    threads = [threading.Thread(target=finish, args=("k",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(captured.calls) == 1
    assert captured.health.duplicates == 7
    assert captured.health.open_runs == 0


def test_a_key_may_be_used_again(captured: Captured) -> None:
    """LangChain lets its users choose run ids, and they repeat them."""
    for _ in range(3):
        start("k")
        finish("k")
    assert len(captured.calls) == 3


def test_an_end_without_a_start_is_recorded_when_its_framework_can_say_what_it_was(captured: Captured) -> None:
    """langchain-core loses on_llm_start in mixed inline handlers; the money was spent all the same."""
    meter().finish_call("lost", Finish(ended_ns=time.time_ns(), usage=USAGE, usage_shape="openai_chat"))
    meter().finish_call(
        "found", Finish(ended_ns=time.time_ns(), usage=USAGE, usage_shape="openai_chat"), started=lambda: start("found")
    )
    assert [call.cost.amount_usd for call in captured.calls] == [COST]
    assert counters.total("unknown_ends") == 1


def test_what_is_not_known_is_not_zero(captured: Captured) -> None:
    """Law 2, case by case."""
    cases: dict[str, dict[str, Any]] = {
        "unreported": {"usage": None, "usage_shape": None},
        "zero with content": {"usage": {"prompt_tokens": 0, "completion_tokens": 0}, "has_content": True},
        "impossible": {"usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 5}}},
        "refused": {"usage": None, "billed": False, "outcome": "error", "error_type": "429"},
        "cut": {"usage": None, "outcome": "error", "error_type": "APIConnectionError"},
        "replayed": {"cache_hit": True},
    }
    for name, facts in cases.items():
        start(name)
        finish(name, **facts)
    start("unknown model", model="no-such-model-9")
    finish("unknown model")
    start("no model", model=None)
    finish("no model")
    seen = {name: call.cost for name, call in zip([*cases, "unknown model", "no model"], captured.calls, strict=True)}
    assert {name: (cost.status, cost.amount_usd) for name, cost in seen.items()} == {
        "unreported": ("unreported", None),
        "zero with content": ("unreported", None),
        "impossible": ("unreported", None),
        "refused": ("not_billed", Decimal(0)),
        "cut": ("unreported", None),
        "replayed": ("cache_hit", Decimal(0)),
        "unknown model": ("unpriced", None),
        "no model": ("unpriced", None),
    }
    assert seen["replayed"].saved_usd == COST
    assert seen["impossible"].flags == ("usage-impossible",)


@pytest.mark.parametrize(("served", "assumed"), [(None, True), ("flex", False), ("default", False)])
def test_a_tier_that_nobody_confirmed_is_flagged(captured: Captured, served: str | None, assumed: bool) -> None:
    """A framework that passes no tier on would leave the price of the one asked for standing as if it were known."""
    start("k", tier="flex", model="gpt-5")
    finish("k", service_tier=served)
    (call,) = captured.calls
    assert ("tier-assumed" in call.cost.flags) is assumed
    assert call.cost.amount_usd is not None


def test_the_inner_layer_bills_and_the_outer_gives_tags_and_place(captured: Captured) -> None:
    """Law 1: LangChain over LiteLLM sees every call twice."""
    meter().start_scope(
        "chain", framework="langchain", kind="workflow", name="support", handler_tags={"team": "growth"}
    )
    start("outer", framework="langchain", parent_key="chain", handler_tags={"feature": "chat"})
    token = runs.CURRENT_CALL.set("outer")
    start("inner", inner=True, handler_tags={"feature": "gateway-default", "plan": "free"})
    runs.CURRENT_CALL.reset(token)
    finish("outer", usage={"prompt_tokens": 1})
    finish("inner")
    meter().finish_scope("chain")
    (call,) = captured.calls
    assert call.framework == "litellm"
    assert call.cost.amount_usd == COST
    assert dict(call.attribution.items()) == {"feature": "chat", "team": "growth", "plan": "free"}
    assert [scope.name for scope in call.scopes] == ["support"]
    assert captured.health.duplicates == 1


def test_every_attempt_of_an_inner_layer_is_billed_under_one_operation(captured: Captured) -> None:
    """A gateway's fallback buys twice for one call of the application."""
    start("outer", framework="langchain")
    token = runs.CURRENT_CALL.set("outer")
    start("first", inner=True)
    finish("first", usage=None, billed=False, outcome="error")
    start("second", inner=True)
    finish("second")
    runs.CURRENT_CALL.reset(token)
    finish("outer")
    first, second = captured.calls
    assert first.operation_id == second.operation_id
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.cost.status == "not_billed"
    assert second.cost.amount_usd == COST


def test_an_inner_layer_that_never_reports_is_billed_with_what_the_outer_saw(captured: Captured) -> None:
    """LiteLLM loses its async callbacks when the event loop ends at once."""
    start("outer", framework="langchain")
    token = runs.CURRENT_CALL.set("outer")
    start("inner", inner=True)
    runs.CURRENT_CALL.reset(token)
    finish("outer")
    (call,) = captured.calls
    assert call.cost.amount_usd == COST
    assert captured.health.open_runs == 0
    finish("inner")
    assert len(captured.calls) == 1


def test_what_an_answer_needed_is_not_the_answer(captured: Captured) -> None:
    """A model of one's own that looks into an index first would lose its own bill to the embedding's."""
    start("outer", framework="langchain")
    token = runs.CURRENT_CALL.set("outer")
    start("embedding", inner=True, operation="embeddings", model="text-embedding-3-small")
    runs.CURRENT_CALL.reset(token)
    finish("outer")
    finish("embedding", usage={"prompt_tokens": 1000, "total_tokens": 1000})
    calls = captured.calls
    assert sorted((call.operation, call.attempt, call.cost.status) for call in calls) == [
        ("chat", 1, "priced"),
        ("embeddings", 1, "priced"),
    ]
    assert len({call.operation_id for call in calls}) == 2


def test_an_outer_call_is_billed_where_nothing_below_was(captured: Captured) -> None:
    """A run below that somebody took away without an end told nothing: the call above it would be lost."""
    start("outer", framework="langchain")
    token = runs.CURRENT_CALL.set("outer")
    start("inner", inner=True)
    runs.CURRENT_CALL.reset(token)
    meter().runs.take("inner")
    finish("outer")
    (call,) = captured.calls
    assert (call.framework, call.cost.amount_usd) == ("langchain", COST)
    assert captured.health.duplicates == 0


@pytest.mark.parametrize("reported", [0, 1, 3])
def test_calls_begun_together_share_what_is_begun_below(captured: Captured, reported: int) -> None:
    """Who of them asks below, nobody says: all are told by what is, each by its own where some is not reported."""
    for number in range(3):
        start(("outer", number), framework="langchain", together=("outer", 0) if number else None)
    token = runs.CURRENT_CALL.set(("outer", 2))
    for number in range(3):
        start(("inner", number), inner=True)
    runs.CURRENT_CALL.reset(token)
    for number in range(reported):
        finish(("inner", number))
    for number in range(3):
        finish(("outer", number), usage={"prompt_tokens": 1000 + number, "completion_tokens": 200})
    calls = captured.calls
    assert [call.framework for call in calls] == ["litellm"] * 3
    told = [None if call.usage is None else call.usage.input_tokens for call in calls]
    assert told == [1000] * reported + [1000 + number for number in range(reported, 3)]
    assert len({call.operation_id for call in calls}) == 3
    assert {call.attempt for call in calls} == {1}
    assert captured.health.duplicates == 3


def test_calls_begun_together_over_nothing(captured: Captured) -> None:
    """Without a layer below each is its own bill, and one that a cache answered costs nothing."""
    for number in range(3):
        start(("outer", number), framework="langchain", together=("outer", 0) if number else None)
    for number in range(3):
        finish(("outer", number), cache_hit=number == 1)
    assert [call.cost.status for call in captured.calls] == ["priced", "cache_hit", "priced"]


def test_a_hit_beside_calls_of_a_layer_below(captured: Captured) -> None:
    """A cache above that answered one of three leaves two to the layer below, and a hit of its own."""
    for number in range(3):
        start(("outer", number), framework="langchain", together=("outer", 0) if number else None)
    token = runs.CURRENT_CALL.set(("outer", 2))
    for number in range(2):
        start(("inner", number), inner=True)
        finish(("inner", number))
    runs.CURRENT_CALL.reset(token)
    for number in range(3):
        finish(("outer", number), cache_hit=number == 0)
    assert sorted((call.framework, call.cost.status) for call in captured.calls) == [
        ("langchain", "cache_hit"),
        ("litellm", "priced"),
        ("litellm", "priced"),
    ]


def test_an_outer_call_that_is_over_owns_nothing(captured: Captured) -> None:
    """The contextvar stays set after an async call; a later direct call must be billed as itself."""
    start("outer", framework="langchain")
    runs.CURRENT_CALL.set("outer")
    finish("outer")
    start("direct", inner=True)
    finish("direct")
    runs.CURRENT_CALL.set(None)
    assert len(captured.calls) == 2


def test_an_outer_layer_that_is_seen_late_still_owns(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """CrewAI's events are handled in a thread pool: the inner call may be over before its owner is known."""
    monkeypatch.setattr(runs, "outer_probes", [lambda: "crew-call"])
    monkeypatch.setattr("farthing.meter.outer_probes", runs.outer_probes)
    start("inner", inner=True)
    finish("inner")
    time.sleep(0.2)
    start("crew-call", framework="crewai", handler_tags={"feature": "research"}, unordered=True)
    finish("crew-call")
    start("crew-call", framework="crewai", unordered=True)
    (call,) = captured.calls
    assert call.attribution.feature == "research"
    assert captured.health.open_runs == 0


def test_cancelling_a_scope_ends_the_calls_below_it_alone(captured: Captured) -> None:
    """A cancelled LangChain run never reports its model call; a neighbour's call goes on."""
    meter().start_scope("a", framework="langchain", kind="workflow", name="a")
    meter().start_scope("b", framework="langchain", kind="workflow", name="b")
    start("in-a", parent_key="a")
    start("in-b", parent_key="b")
    meter().finish_scope("a", outcome="cancelled", error_type="CancelledError")
    finish("in-b")
    meter().finish_scope("b")
    assert {call.scopes[0].name: (call.outcome, call.cost.status) for call in captured.calls} == {
        "a": ("cancelled", "unreported"),
        "b": ("success", "priced"),
    }


def test_calls_that_nobody_ends_are_closed_at_the_end_of_the_process() -> None:
    """An open call is money of unknown amount; it must stand in the ledger."""
    with capture() as found:
        start("k")
        setup.shutdown()
        (call,) = found.calls
        assert (call.outcome, call.cost.status, call.error_type) == ("abandoned", "unreported", "process-ended")


def test_calls_that_nobody_ends_are_closed_by_age() -> None:
    """A run map that only grows is a leak, and its calls would be missing for as long as the process lives."""
    with capture(call_timeout_seconds=0.05) as found:
        start("k")
        time.sleep(0.1)
        (call,) = found.calls
        assert (call.outcome, call.error_type) == ("abandoned", "timeout")
        assert found.health.open_runs == 0


def test_what_was_only_foreseen_is_no_call_without_an_end() -> None:
    """A call that a cache may answer, of which nothing more is heard, would stand there as money of unknown amount."""
    with capture(call_timeout_seconds=0.05) as found:
        start("outer", framework="langchain")
        token = runs.CURRENT_CALL.set("outer")
        start("foreseen", inner=True, tentative=True)
        runs.CURRENT_CALL.reset(token)
        time.sleep(0.1)
        assert [call.framework for call in found.calls] == ["langchain"]
        start("foreseen at the end", tentative=True)
        setup.shutdown()
        assert len(found.calls) == 1


def test_the_oldest_call_leaves_when_too_many_are_open() -> None:
    """Law 8: the map has a size and says when it is hit."""
    with capture(max_open_calls=100) as found:
        for number in range(103):
            start(number)
        assert found.health.open_runs == 100
        assert [call.error_type for call in found.calls] == ["evicted"] * 3


def test_an_overfull_queue_drops_structure_before_bills_and_counts() -> None:
    """A burst must neither grow without bound nor lose in silence."""
    with capture(queue_size=100) as found:
        for number in range(2_000):
            meter().start_scope(("s", number), framework="x", kind="workflow", name="s")
            start(number)
            finish(number)
        dropped = found.health.dropped
        assert len(found.calls) + dropped.get("queue-full:call", 0) == 2_000
        assert dropped["queue-full:scope-open"] > 0
        assert farthing.flush() is True  # nothing new was lost since


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["start", "finish"]), st.integers(0, 4)), max_size=40))
def test_any_interleaving_records_each_started_run_once(events: list[tuple[str, int]]) -> None:
    """Starts and ends in any order, repeated or missing, leave one Call for each run that was started."""
    expected, live = 0, set[int]()
    with capture() as found:
        for event, key in events:
            if event == "start":
                expected += key not in live
                live.add(key)
                start(key)
            else:
                live.discard(key)
                finish(key)
        setup.shutdown()
        assert len(found.calls) == expected
        assert sum(call.cost.amount_usd or 0 for call in found.calls) == COST * (expected - len(live))


def test_layers_that_begin_at_the_same_moment_are_linked(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner layer looks for the outer one just before that begins, and would wait for it in vain: billed twice."""
    monkeypatch.setattr("farthing.meter.outer_probes", [lambda: ("outer", threading.current_thread().name)])
    rounds, every = 300, sys.getswitchinterval()
    try:
        sys.setswitchinterval(1e-6)
        for number in range(rounds):
            together = threading.Barrier(2)

            def inner(number: int = number, together: threading.Barrier = together) -> None:
                together.wait()
                start(("inner", number), inner=True)

            below = threading.Thread(target=inner, name=str(number))
            below.start()
            together.wait()
            start(("outer", str(number)), framework="crewai")
            below.join()
            finish(("inner", number))
            finish(("outer", str(number)))
    finally:
        sys.setswitchinterval(every)
    assert len(captured.calls) == rounds
    assert captured.health.duplicates == rounds


def test_many_calls_of_an_outer_layer_that_never_begins(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that wait in vain would fill what is kept for them, and all later layers be billed twice."""
    for number in range(1_100):
        monkeypatch.setattr("farthing.meter.outer_probes", [lambda number=number: ("nobody", number)])
        start(("lost", number), inner=True)
        finish(("lost", number))
    monkeypatch.setattr("farthing.meter.outer_probes", [lambda: "outer"])
    start("inner", inner=True)
    start("outer", framework="crewai")
    finish("inner")
    finish("outer")
    setup.shutdown(10)
    assert len(read_calls(captured.folder)) == 1_101


@pytest.mark.parametrize("inside", ["runs", "counters", "meter"])
def test_a_run_may_end_while_its_own_thread_is_in_a_lock(captured: Captured, inside: str) -> None:
    """The collector closes a stream that was left wherever it runs: the application would stand still for ever."""
    locks: dict[str, Any] = {
        "runs": meter().runs._lock,  # pyright: ignore[reportPrivateUsage] - where its thread would be
        "counters": counters._lock,  # pyright: ignore[reportPrivateUsage] - as above
        "meter": meter()._lock,  # pyright: ignore[reportPrivateUsage] - as above
    }
    start("left")

    def end() -> None:
        with locks[inside]:
            finish("left")
            finish("left")

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert len(captured.calls) == 1
    assert captured.health.duplicates == 1
