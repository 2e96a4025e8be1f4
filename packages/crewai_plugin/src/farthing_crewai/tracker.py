"""What CrewAI has under way: the tree of scopes, and the open calls in it.

Events arrive in any order (see order.py); from here on they go to the meter in the order of cause and effect: a scope
is opened before what is below it, and closed after the calls in it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Final

from farthing.failures import OTHER
from farthing.runs import Finish
from farthing.setup import get_meter
from farthing_crewai.extract import ScopeEnd
from farthing_crewai.order import Order
from farthing_crewai.places import FRAMEWORK, OpenCall, Place, Scope, call_key, hold

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from farthing_crewai.extract import CallEnd, CallStart, Entity, Passage, ScopeStart

__all__ = ["Tracker"]

_MAX_PLACES: Final = 20_000
_MAX_CALLS: Final = 20_000
_MAX_SCOPES: Final = 10_000
_MAX_FAILED: Final = 1_000
_FIRST_SWEEP: Final = 1_000

log: Final = logging.getLogger("farthing")


_NOWHERE: Final = Place()


class Tracker:
    """Turns plain values of events into runs of the meter, in causal order. One for the whole process.

    Args:
        handler_tags: Gives the tags of all listeners.
    """

    def __init__(self, *, handler_tags: Callable[[], Mapping[str, object]]) -> None:
        self._handler_tags = handler_tags
        self._lock = threading.RLock()
        self._places: OrderedDict[str, Place] = OrderedDict()
        self._scopes: OrderedDict[str, Scope] = OrderedDict()
        self._calls: OrderedDict[str, OpenCall] = OrderedDict()
        self._failed: OrderedDict[str, tuple[str, int]] = OrderedDict()
        """By the id of a failure's event: operation and attempt, for the retry that is emitted right after it."""
        self._order: Final = Order(lock=self._lock)
        self._has_advised = False
        self._sweep_at = _FIRST_SWEEP

    def __len__(self) -> int:
        """Count what is under way: open calls, open scopes, and events that wait."""
        return len(self._calls) + len(self._scopes) + len(self._order)

    # -- events -------------------------------------------------------------------------------------------------

    def passed(self, passage: Passage) -> None:
        """Note something that begins and has no scope of its own."""
        with self._lock:
            self._after(passage.parent_id, lambda: self._pass(passage))

    def scope_started(self, start: ScopeStart) -> None:
        """Begin a scope."""
        with self._lock:
            self._after(start.parent_id, lambda: self._open_scope(start))

    def scope_ended(self, end: ScopeEnd) -> None:
        """End a scope."""
        with self._lock:
            if self._scope_of(end) is None:
                self._order.wait(end.entity, lambda: self._end_scope(end))
            else:
                self._end_scope(end)

    def call_started(self, start: CallStart) -> None:
        """Begin a model call."""
        with self._lock:
            self._after(start.parent_id, lambda: self._open_call(start))

    def call_ended(self, end: CallEnd) -> None:
        """End a model call."""
        with self._lock:
            if end.start.call_id in self._calls or self._is_finished(end):
                self._end_call(end)
            else:
                self._order.wait(call_key(end.start.call_id), lambda: self._end_call(end))

    def is_native(self, call_id: str) -> bool:
        """Say whether an open call is known not to go through LiteLLM."""
        call = self._calls.get(call_id)
        return call is not None and not call.start.through_litellm

    def settle(self, timeout: float) -> None:
        """Finish what waits, giving calls in mid-air a moment; the event bus must have been flushed before.

        Args:
            timeout: In seconds.
        """
        self._order.settle(timeout)
        with self._lock:
            self._sweep()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._order.clear()
            for held in (self._places, self._scopes, self._calls, self._failed):
                held.clear()

    def _sweep(self) -> None:
        """Let go of what the meter has closed: CrewAI ends nothing that is cancelled, neither a call nor a kickoff."""
        meter = get_meter()
        if meter is None:
            return
        for call in [each for each in self._calls.values() if meter.runs.get(each.key) is None]:
            if self._calls.pop(call.start.call_id, None) is not None:
                self._leave(call)
        for scope in reversed(list(self._scopes.values())):  # what is inside was opened later
            if scope.finish is None and scope.busy == 0 and meter.runs.get(scope.key) is None:
                del self._scopes[scope.start.event_id]
                self._let_go(scope.outside.scope)
        self._sweep_at = max(_FIRST_SWEEP, 2 * len(self))

    def _after(self, event_id: str | None, step: Callable[[], None]) -> None:
        """Take a step now, or once the event that it follows from has been seen."""
        if event_id is None or event_id in self._places:
            step()
            return

        def given_up_or_seen() -> None:
            if event_id not in self._places:
                self._put(event_id, _NOWHERE)  # nothing else needs to wait for it
            step()

        self._order.wait(event_id, given_up_or_seen)

    # -- places -------------------------------------------------------------------------------------------------

    def _put(self, event_id: str, place: Place, *, known_as: Hashable = None) -> None:
        """Let an event be known, and with it a scope's entity or a call's key."""
        self._places[event_id] = place
        if len(self._places) > _MAX_PLACES:
            self._places.popitem(last=False)
        self._order.seen(event_id, known_as)

    def _below(self, parent_id: str | None, moment_ns: int) -> Place:
        """Give the place below an event."""
        place = None if parent_id is None else self._places.get(parent_id)
        if parent_id is None or place is None:
            return _NOWHERE
        self._places.move_to_end(parent_id)  # what is still referred to is the last to be forgotten
        if place.call is None:
            return place
        self._is_over(place.call, moment_ns)
        return place._replace(call=None)

    def _within(self, parent_id: str | None, moment_ns: int) -> Place:
        """Give the place below an event, but nothing that had ended before.

        After a failure or a call without an end CrewAI leaves events on its stack, and what the same thread does next,
        even in another crew, names them as its parent.
        """
        return self._below(parent_id, moment_ns).at(moment_ns)

    def _is_over(self, call: OpenCall, moment_ns: int) -> None:
        """Note that work goes on after a call that CrewAI never ends: on its LiteLLM path, one that asked for tools."""
        if call.over_ns is not None or call.start.runs_functions or not call.start.through_litellm:
            return
        call.over_ns = moment_ns
        if call.place.scope is None and call.closing is None:
            call.closing = self._order.in_time(partial(self._hand_over, call))

    def _pass(self, passage: Passage) -> None:
        above = self._below(passage.parent_id, passage.started_ns)
        if not above._replace(step=passage.step or above.step).is_in_background:
            above = self._within(passage.parent_id, passage.started_ns)
        step, method = passage.step or above.step, passage.method or above.method
        self._put(passage.event_id, above._replace(step=step, method=method))

    def _corrected(self, found: Place, homes: tuple[Entity, ...]) -> Place:
        """Correct a place that has drifted up the tree, as it does after every failure that CrewAI reports twice.

        The ids of agents and tasks say what is meant, the strongest first; only an open scope below `found` can be.
        """
        lineage = [] if found.scope is None else list(found.scope.lineage())
        for home in homes:
            if any(home in scope.start.answers_to for scope in lineage):
                return found
            for scope in reversed(self._scopes.values()):
                if scope.finish is None and home in scope.start.answers_to and scope.is_below(found.scope):
                    return self._places.get(scope.start.event_id, found)
        return found

    # -- scopes -------------------------------------------------------------------------------------------------

    def _open_scope(self, start: ScopeStart) -> None:
        place = self._corrected(self._within(start.parent_id, start.started_ns), start.homes)
        meter = get_meter()
        if meter is None or start.event_id in self._scopes:
            return
        if place.scope is not None and place.scope.start.entity == start.entity:
            place = self._restarted(place.scope, start)
        scope = Scope(start, outside=place)
        meter.start_scope(
            scope.key,
            framework=FRAMEWORK,
            kind=start.kind,
            name=start.name,
            parent=place.run,
            tags=start.tags,
            handler_tags=self._handler_tags(),
            started_ns=start.started_ns,
        )
        hold(place.scope)
        self._scopes[start.event_id] = scope
        if len(self._scopes) > _MAX_SCOPES:
            self._let_go(self._scopes.popitem(last=False)[1].outside.scope)
        made = Place(scope, run=meter.runs.get(scope.key), method=place.method)
        self._put(start.event_id, made, known_as=start.entity)

    def _restarted(self, scope: Scope, start: ScopeStart) -> Place:
        """End an attempt of an agent that begins its task anew, which CrewAI before 1.15 does without a word."""
        end = ScopeEnd(scope.start.event_id, scope.start.entity, start.started_ns, failed=True, error_type=OTHER)
        self._end_scope(end)
        return scope.outside

    def _scope_of(self, end: ScopeEnd) -> Scope | None:
        """Find what ended: after a failure that CrewAI reports twice, `started_event_id` names something else."""
        named = None if end.started_id is None else self._scopes.get(end.started_id)
        if named is not None and named.start.entity == end.entity:
            return named
        fitting = (s for s in reversed(self._scopes.values()) if s.finish is None and s.start.entity == end.entity)
        return next(fitting, None)

    def _end_scope(self, end: ScopeEnd) -> None:
        scope = self._scope_of(end)
        if scope is None or scope.finish is not None:
            return
        scope.finish = end
        self._move_out(scope, end.ended_ns)
        for call in list(scope.calls.values()):
            if call.is_billed_below:
                self._hand_over(call)
        if scope.busy and scope.closing is None:
            scope.closing = self._order.in_time(partial(self._close_scope, scope))
        else:
            self._close_scope(scope)

    def _move_out(self, scope: Scope, ended_ns: int) -> None:
        """Move what had started after a scope's end out of it, now that the end is known (see `_within`)."""
        meter = get_meter()
        for later in [each for each in self._scopes.values() if each.outside.scope is scope]:
            if later.start.started_ns <= ended_ns or meter is None:
                continue
            later.outside = later.outside.at(later.start.started_ns)
            hold(later.outside.scope, later.busy + 1)
            self._let_go(scope, later.busy + 1)
            if (run := meter.runs.get(later.key)) is not None:
                run.parent = later.outside.run
        for call in [each for each in scope.calls.values() if each.start.started_ns > ended_ns]:
            self._leave(call)
            call.place = call.place.at(call.start.started_ns)
            self._enter(call)
            for run in () if call.run is None else (call.run, *call.run.inner):
                run.parent = call.place.run

    def _close_scope(self, scope: Scope) -> None:
        """Close a scope after the calls in it; what is still open then is over, though CrewAI has not said so."""
        end = scope.finish
        if end is None or self._scopes.pop(scope.start.event_id, None) is None:
            return
        if scope.closing is not None:
            scope.closing.is_done = True
        if scope.is_sequential:
            for inside in [each for each in self._scopes.values() if each.outside.scope is scope]:
                inside.finish = inside.finish or end._replace(error_type="end-not-reported", failed=True)
                self._close_scope(inside)
        for call in list(scope.calls.values()):
            if not call.place.is_in_background:
                call.over_ns = call.over_ns or end.ended_ns
                self._hand_over(call)
        meter = get_meter()
        if meter is not None:
            outcome = "error" if end.failed else "success"
            meter.finish_scope(scope.key, outcome=outcome, error_type=end.error_type, ended_ns=end.ended_ns)
        self._let_go(scope.outside.scope)

    # -- calls --------------------------------------------------------------------------------------------------

    def _open_call(self, start: CallStart) -> None:
        place = self._corrected(self._within(start.parent_id, start.started_ns), start.homes)
        meter, key = get_meter(), call_key(start.call_id)
        if meter is None or start.call_id in self._calls or meter.runs.finished(key):
            return
        operation_id, failures = self._failed.pop(start.previous_id or "", (None, 0))
        meter.start_call(
            key,
            framework=FRAMEWORK,
            operation="chat",
            provider=start.provider,
            model=start.model,
            parent=place.run,
            handler_tags=self._handler_tags(),
            details={name: said for name, said in (("step", place.step), ("method", place.method)) if said},
            streaming=start.streaming,
            tier=start.tier,
            attempt=failures + 1,
            operation_id=operation_id,
            started_ns=start.started_ns,
            unordered=True,
            prompt_bytes=start.prompt_bytes,
        )
        call = OpenCall(start, place=place, run=meter.runs.get(key))
        self._calls[start.call_id] = call
        if len(self._calls) + len(self._scopes) > self._sweep_at:
            self._sweep()
        if len(self._calls) > _MAX_CALLS:
            self._leave(self._calls.popitem(last=False)[1])
        self._enter(call)
        self._put(start.event_id, place._replace(call=call), known_as=key)

    def _end_call(self, end: CallEnd) -> None:
        """Take an end: one with usage is final, one without may be followed by another that has it.

        On the LiteLLM path CrewAI ends a streamed call once when a tool ran and once when the stream is over; a tool
        that fails is reported as a failed call, before the end with the usage.
        """
        if end.start.call_id not in self._calls and not self._is_finished(end):
            self._open_call(end.start)
        call = self._calls.get(end.start.call_id)
        if call is None:
            self._finish_again(end)
            return
        if end.failed:
            self._note_failure(end, call)
        if end.has_usage or (call.is_billed_below and not end.failed):
            call.end = end
            self._hand_over(call)
        elif call.end is None:
            call.end = end
            if call.closing is None:
                call.closing = self._order.in_time(partial(self._hand_over, call))

    def _note_failure(self, end: CallEnd, call: OpenCall) -> None:
        if call.run is None:
            return
        self._failed[end.event_id] = (call.run.operation_id, call.run.attempt)
        if len(self._failed) > _MAX_FAILED:
            self._failed.popitem(last=False)

    def _finish_again(self, end: CallEnd) -> None:
        """Let the meter count an end of a call that has ended already."""
        meter = get_meter()
        if meter is not None:
            meter.finish_call(call_key(end.start.call_id), _finish(end))

    def _is_finished(self, end: CallEnd) -> bool:
        meter = get_meter()
        return meter is None or meter.runs.finished(call_key(end.start.call_id))

    def _hand_over(self, call: OpenCall) -> None:
        """Give a call to the meter with the end that is known, or as abandoned."""
        if self._calls.pop(call.start.call_id, None) is None:
            return
        if call.closing is not None:
            call.closing.is_done = True
        if call.start.event_id in self._places:
            self._places[call.start.event_id] = call.place
        if not (call.end is not None and call.end.has_usage):
            self._advise(call)
        meter = get_meter()
        if meter is not None:
            meter.finish_call(call.key, _abandoned(call.over_ns) if call.end is None else _finish(call.end))
        self._leave(call)

    def _enter(self, call: OpenCall) -> None:
        scope = call.place.scope
        if scope is None:
            return
        scope.calls[call.start.call_id] = call
        if not call.place.is_in_background:
            hold(scope)

    def _leave(self, call: OpenCall) -> None:
        scope = call.place.scope
        if scope is None:
            return
        scope.calls.pop(call.start.call_id, None)
        if not call.place.is_in_background:
            self._let_go(scope)

    def _let_go(self, scope: Scope | None, count: int = 1) -> None:
        """Note that something below a scope has closed; one that has ended closes with the last of it."""
        for each in () if scope is None else scope.lineage():
            each.busy -= count
            if each.finish is not None and each.busy == 0:
                self._close_scope(each)

    def _advise(self, call: OpenCall) -> None:
        """Say once what would have told the usage that CrewAI's LiteLLM path keeps to itself."""
        is_refused = call.end is not None and call.end.failed
        answered_below = call.run is not None and (call.run.inner or call.run.outer_key is not None)
        if self._has_advised or is_refused or answered_below or not call.start.through_litellm:
            return
        self._has_advised = True
        log.warning(
            "farthing: CrewAI reported no usage for a call that went through LiteLLM (it never does when the model "
            "asks for a tool); such calls are recorded as unreported. Install farthing-litellm for exact figures on "
            "CrewAI's LiteLLM path: litellm.callbacks = [farthing_litellm.FarthingLogger()]."
        )


def _finish(end: CallEnd) -> Finish:
    return Finish(
        ended_ns=end.ended_ns,
        outcome="error" if end.failed else "success",
        usage=end.usage,
        usage_shape=end.usage_shape,
        has_content=not end.failed,
        response_id=end.response_id,
        response_model=end.response_model,
        service_tier=end.tier_served,
        error_type=end.error_type,
        finish_reason=end.finish_reason,
        billed=end.billed,
        received_bytes=end.received_bytes,
    )


def _abandoned(over_ns: int | None) -> Finish:
    """Say that CrewAI never reported how a call ended."""
    return Finish(ended_ns=over_ns or time.time_ns(), outcome="abandoned", error_type="end-not-reported")
