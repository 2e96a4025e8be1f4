"""Events out of order, twice, missing or drifted: the tracker alone, with plain values, against the real meter."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from crewai_bench import open_runs, scopes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import farthing
from farthing_crewai.extract import CallEnd, CallStart, Entity, Passage, ScopeEnd, ScopeStart
from farthing_crewai.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewai_bench import Bench

SECOND = 1_000_000_000
BASE = int(time.time()) * SECOND
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
AGENT: Entity = ("agent", "a", "t")


def begin(
    number: int, *, parent: str | None = "agent", litellm: bool = False, previous: str | None = None
) -> CallStart:
    """Make the start of a call."""
    return CallStart(
        call_id=f"call-{number}",
        event_id=f"llm-{number}",
        parent_id=parent,
        previous_id=previous,
        started_ns=BASE + number * SECOND,
        provider="openai",
        model="gpt-4o-mini",
        streaming=False,
        tier=None,
        through_litellm=litellm,
        runs_functions=False,
        homes=(AGENT, ("task", "t")),
    )


def finish(start: CallStart, *, usage: bool = True, failed: bool = False) -> CallEnd:
    """Make the end of a call."""
    return CallEnd(
        start=start,
        event_id=f"end-{start.event_id}-{usage}-{failed}",
        ended_ns=start.started_ns + SECOND // 2,
        failed=failed,
        usage=USAGE if usage else None,
        usage_shape="crewai:openai",
        finish_reason=None,
        response_id=None,
        error_type="429" if failed else None,
        billed=False if failed else None,
    )


def scope(kind: str, entity: Entity, *, parent: str | None, homes: tuple[Entity, ...] = ()) -> ScopeStart:
    """Make the start of a scope."""
    answers = {entity, ("crew-of", "t")} if entity[0] == "crew" else {entity}
    return ScopeStart(
        event_id=entity[0],
        parent_id=parent,
        started_ns=BASE,
        kind=kind,
        name=entity[0],
        entity=entity,
        answers_to=frozenset(answers),
        homes=homes,
        tags={},
    )


def ended(entity: Entity, *, started: str | None = None) -> ScopeEnd:
    """Make the end of a scope."""
    return ScopeEnd(
        started_id=started or entity[0], entity=entity, ended_ns=BASE + 60 * SECOND, failed=False, error_type=None
    )


CREW = scope("workflow", ("crew", "c"), parent=None)
TASK = scope("task", ("task", "t"), parent="crew", homes=(("crew-of", "t"),))
WORKER = scope("agent", AGENT, parent="task", homes=(("task", "t"),))
LOOP = Passage(event_id="loop", parent_id="agent", started_ns=BASE, step=None, method=None)
TREE = ["workflow:crew", "task:task", "agent:agent"]


@pytest.fixture
def tracker() -> Tracker:
    """Give a tracker of the test's own."""
    return Tracker(handler_tags=lambda: {"feature": "research"})


def steps(tracker: Tracker) -> list[Callable[[], None]]:
    """Give a whole kickoff with three calls, in the order of emission."""
    calls = [begin(number, parent="loop") for number in (1, 2, 3)]
    return [
        lambda: tracker.scope_started(CREW),
        lambda: tracker.scope_started(TASK),
        lambda: tracker.scope_started(WORKER),
        lambda: tracker.passed(LOOP),
        *(lambda call=call: tracker.call_started(call) for call in calls),
        *(lambda call=call: tracker.call_ended(finish(call)) for call in calls),
        lambda: tracker.scope_ended(ended(AGENT)),
        lambda: tracker.scope_ended(ended(("task", "t"))),
        lambda: tracker.scope_ended(ended(("crew", "c"))),
    ]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(13)))
def test_any_order_gives_one_tree(bench: Bench, order: list[int]) -> None:
    """Handlers that overtake each other would lose a call, double it or hang it into the wrong place."""
    for path in bench.folder.rglob("*.jsonl"):
        path.write_text("")
    farthing.shutdown()
    farthing.configure(ledger=str(bench.folder))
    tracker = Tracker(handler_tags=dict)
    taken = steps(tracker)
    for index in order:
        taken[index]()
    assert len(tracker) == 0
    assert open_runs() == 0
    calls = bench.calls()
    assert [scopes(call) for call in calls] == [TREE] * 3
    assert len({call.trace_id for call in calls}) == 1
    tracker.clear()


def open_tree(tracker: Tracker) -> None:
    """Begin a crew, its task, its agent and the agent's loop."""
    for step in steps(tracker)[:4]:
        step()


def close_tree(tracker: Tracker) -> None:
    """End the agent, the task and the crew."""
    for step in steps(tracker)[-3:]:
        step()


def test_drifted_parent_is_corrected(bench: Bench, tracker: Tracker) -> None:
    """After a failure that CrewAI reports twice, later calls and agents name a parent too far up."""
    open_tree(tracker)
    for number, parent in enumerate(("task", "crew", None), start=1):
        call = begin(number, parent=parent)
        tracker.call_started(call)
        tracker.call_ended(finish(call))
    again: Entity = ("agent", "b", "t")
    tracker.scope_started(scope("agent", again, parent="crew", homes=(("task", "t"),))._replace(event_id="again"))
    call = begin(4, parent="again")._replace(homes=(again, ("task", "t")))
    tracker.call_started(call)
    tracker.call_ended(finish(call))
    tracker.scope_ended(ended(again, started="loop"))
    close_tree(tracker)
    assert [scopes(call) for call in bench.settled(invoiced=False)] == [TREE] * 4
    assert len(tracker) == 0


def test_usage_may_come_with_a_second_end(bench: Bench, tracker: Tracker) -> None:
    """A LiteLLM stream with a tool ends twice, first without usage; a failed tool looks like a failed call."""
    for number, failed in ((1, False), (2, True)):
        call = begin(number, parent=None, litellm=True)
        tracker.call_started(call)
        tracker.call_ended(finish(call, usage=False, failed=failed))
        tracker.call_ended(finish(call))
        tracker.call_ended(finish(call))
    calls = bench.calls()
    assert [(call.cost.status, call.outcome) for call in calls] == [("priced", "success")] * 2
    assert farthing.health().duplicates >= 2


def test_failure_reported_twice_is_one_call_and_its_retry_the_second_attempt(bench: Bench, tracker: Tracker) -> None:
    """A rate limit would be two calls, and its retry another operation."""
    first = begin(1, parent=None)
    failure = finish(first, usage=False, failed=True)
    second = begin(2, parent=None, previous="second report")
    tracker.call_started(first)
    tracker.call_ended(failure)
    tracker.call_ended(failure._replace(event_id="second report"))
    tracker.call_started(second)
    tracker.call_ended(finish(second))
    tracker.settle(1)
    refused, answered = bench.calls()
    assert (refused.cost.status, refused.error_type, refused.attempt) == ("not_billed", "429", 1)
    assert (answered.cost.status, answered.attempt) == ("priced", 2)
    assert answered.operation_id == refused.operation_id


def test_silent_call_ends_with_its_agent(bench: Bench, tracker: Tracker, caplog: pytest.LogCaptureFixture) -> None:
    """A call that CrewAI never ends would stay open, or take the calls of another crew with it."""
    open_tree(tracker)
    silent, other = begin(1, litellm=True), begin(2, parent=None)
    tracker.call_started(silent)
    tracker.call_started(other._replace(homes=()))
    tracker.passed(LOOP._replace(event_id="tool", parent_id="llm-1", started_ns=BASE + 5 * SECOND, step="tool_usage"))
    last = begin(3, parent="llm-1", litellm=True)
    tracker.call_started(last)
    tracker.call_ended(finish(last))
    close_tree(tracker)
    tracker.settle(1)
    abandoned, answered = bench.calls()
    assert (abandoned.outcome, abandoned.error_type) == ("abandoned", "end-not-reported")
    assert (abandoned.ended_at - abandoned.started_at).total_seconds() == 4
    assert [scopes(abandoned), scopes(answered)] == [TREE, TREE]
    assert "farthing-litellm" in caplog.text
    assert open_runs() == 1
    tracker.call_ended(finish(other))
    assert len(bench.settled(unreported=1, invoiced=False)) == 3


def test_memory_goes_on_after_its_agent(bench: Bench, tracker: Tracker) -> None:
    """What memory does in the background ends after the crew and would be cut off, or lose its place."""
    open_tree(tracker)
    tracker.passed(LOOP._replace(event_id="save", step="memory_save"))
    early, late = begin(1, parent="save"), begin(2, parent="save")
    tracker.call_started(early._replace(homes=()))
    close_tree(tracker)
    tracker.settle(1)
    assert len(tracker) == 1
    tracker.call_started(late._replace(homes=()))
    tracker.call_ended(finish(early))
    tracker.call_ended(finish(late))
    calls = bench.settled(invoiced=False)
    assert [scopes(call) for call in calls] == [TREE] * 2
    assert [call.details for call in calls] == [{"step": "memory_save"}] * 2


def test_parent_from_before_the_listener_is_given_up(bench: Bench, tracker: Tracker) -> None:
    """A listener constructed in the middle of a crew would wait for ever for the events it missed."""
    call = begin(1, parent="never seen")
    tracker.call_started(call)
    tracker.call_ended(finish(call))
    tracker.call_ended(finish(begin(2, parent="never seen")))
    assert len(tracker) == 3
    tracker.settle(1)
    assert len(bench.settled(invoiced=False)) == 2
    assert len(tracker) == 0
    again = begin(3, parent="never seen")
    tracker.call_started(again)
    tracker.call_ended(finish(again))
    assert len(tracker) == 0


def test_waiting_events_are_given_up_without_a_flush(
    bench: Bench, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that neither flushes nor calls again would never write its last call."""
    monkeypatch.setattr("farthing_crewai.order.GRACE_SECONDS", 0.05)
    call = begin(1, parent=None)
    tracker.call_started(call)
    tracker.call_ended(finish(call, usage=False))
    until = time.monotonic() + 5
    while len(tracker) and time.monotonic() < until:
        time.sleep(0.01)
    assert len(bench.settled(unreported=1, invoiced=False)) == 1


def test_waiting_keeps_the_context_of_its_own_event(bench: Bench, tracker: Tracker) -> None:
    """A call that waits for its parent would take the tags of whoever emits that parent."""
    with farthing.attribute(tenant="mine"):
        call = begin(1, parent="crew")
        tracker.call_started(call)
    with farthing.attribute(tenant="theirs", route="theirs"):
        tracker.scope_started(CREW._replace(tags={}))
    tracker.call_ended(finish(call))
    tracker.scope_ended(ended(("crew", "c")))
    (found,) = bench.settled(invoiced=False)
    assert found.attribution.tenant == "mine"


def test_nothing_grows(bench: Bench, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long-lived service would keep what it has seen."""
    monkeypatch.setattr("farthing_crewai.tracker._MAX_PLACES", 50)
    monkeypatch.setattr("farthing_crewai.tracker._MAX_FAILED", 20)
    open_tree(tracker)
    for number in range(500):
        call = begin(number, parent="loop")
        tracker.call_started(call)
        tracker.call_ended(finish(call, usage=number % 5 > 0, failed=number % 5 == 0))
    assert len(tracker._places) <= 50
    assert len(tracker._failed) <= 20
    tracker.settle(1)
    close_tree(tracker)
    assert (len(tracker), open_runs()) == (0, 0)
    calls = bench.calls()
    assert len(calls) == 500
    assert {tuple(scopes(call)) for call in calls} == {tuple(TREE)}


def test_what_starts_after_a_scope_is_not_in_it(bench: Bench, tracker: Tracker) -> None:
    """CrewAI's stack keeps events of a crew that failed: the next request on that thread would join its tree."""
    open_tree(tracker)
    close_tree(tracker)
    next_crew: Entity = ("crew", "d")
    later = BASE + 100 * SECOND
    tracker.scope_started(scope("workflow", next_crew, parent="task")._replace(event_id="next", started_ns=later))
    inside, bare = begin(1, parent="next")._replace(homes=()), begin(2, parent="loop")._replace(homes=())
    for call in (inside._replace(started_ns=later + 1), bare._replace(started_ns=later + 2)):
        tracker.call_started(call)
        tracker.call_ended(finish(call))
    tracker.scope_ended(ended(next_crew, started="next")._replace(ended_ns=later + SECOND))
    calls = bench.settled(invoiced=False)
    assert [scopes(call) for call in calls] == [["workflow:crew"], []]
    assert len({call.trace_id for call in calls}) == 2


def test_agent_that_begins_anew_stands_beside_its_first_attempt(bench: Bench, tracker: Tracker) -> None:
    """CrewAI before 1.15 runs an agent's second attempt inside the first, and ends only one of them."""
    open_tree(tracker)
    tracker.scope_started(WORKER._replace(event_id="again", parent_id="loop", started_ns=BASE + SECOND))
    call = begin(2, parent="again")
    tracker.call_started(call)
    tracker.call_ended(finish(call))
    tracker.scope_ended(ended(AGENT, started="again"))
    tracker.scope_ended(ended(AGENT))
    tracker.scope_ended(ended(("task", "t")))
    tracker.scope_ended(ended(("crew", "c")))
    tracker.settle(1)
    (found,) = bench.settled(invoiced=False)
    assert scopes(found) == TREE
    assert len(tracker) == 0


def test_agent_without_an_end_ends_with_its_task(bench: Bench, tracker: Tracker) -> None:
    """A scope that CrewAI forgets would stay open for a quarter of an hour."""
    open_tree(tracker)
    tracker.scope_ended(ended(("task", "t")))
    tracker.scope_ended(ended(("crew", "c")))
    tracker.settle(1)
    assert bench.calls() == []
    assert (len(tracker), open_runs()) == (0, 0)


def test_what_was_put_into_a_scope_that_had_ended_moves_out(bench: Bench, tracker: Tracker) -> None:
    """The end of a crew may be told after the start of the next one, which names it as its parent."""
    open_tree(tracker)
    next_crew: Entity = ("crew", "d")
    later = BASE + 100 * SECOND
    tracker.scope_started(scope("workflow", next_crew, parent="agent")._replace(event_id="next", started_ns=later))
    inside, bare = begin(1, parent="next")._replace(homes=()), begin(2, parent="loop")._replace(homes=())
    inside, bare = inside._replace(started_ns=later + 1), bare._replace(started_ns=later + 2)
    tracker.call_started(inside)
    tracker.call_started(bare)
    tracker.scope_ended(ended(("task", "t")))
    tracker.scope_ended(ended(("crew", "c")))
    tracker.scope_ended(ended(AGENT))
    tracker.call_ended(finish(inside))
    tracker.call_ended(finish(bare))
    tracker.scope_ended(ended(next_crew, started="next")._replace(ended_ns=later + SECOND))
    calls = bench.settled(invoiced=False)
    assert [scopes(call) for call in calls] == [["workflow:crew"], []]
    assert len({call.trace_id for call in calls}) == 2
    assert len(tracker) == 0
