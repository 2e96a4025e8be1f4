"""The pieces of the tree: scopes, places in it, and the calls that are open there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from farthing.runs import Run
    from farthing_crewai.extract import CallEnd, CallStart, ScopeEnd, ScopeStart
    from farthing_crewai.order import Deferred

__all__ = ["FRAMEWORK", "OpenCall", "Place", "Scope", "call_key", "hold"]

FRAMEWORK: Final = "crewai"


def call_key(call_id: str) -> Hashable:
    """Give the meter's key of a call of CrewAI's."""
    return (FRAMEWORK, call_id)


class Scope:
    """A crew, task, agent or flow under way; kept after its end while something below may still refer to it."""

    __slots__ = ("busy", "calls", "closing", "finish", "outside", "start")

    def __init__(self, start: ScopeStart, *, outside: Place) -> None:
        self.start: Final = start
        self.outside = outside
        """The place it was opened in."""
        self.finish: ScopeEnd | None = None
        self.closing: Deferred | None = None
        self.calls: dict[str, OpenCall] = {}
        """Open calls made directly in this scope."""
        self.busy = 0
        """How many calls and scopes are open below it."""

    @property
    def key(self) -> Hashable:
        """The meter's key of this scope."""
        return (FRAMEWORK, self.start.event_id)

    @property
    def is_sequential(self) -> bool:
        """Whether nothing in it can outlast it: a crew's or a flow's tasks can run on threads of their own."""
        return self.start.kind in {"task", "agent"}

    def is_past(self, moment_ns: int) -> bool:
        """Say whether it had ended before a moment."""
        return self.finish is not None and self.finish.ended_ns < moment_ns

    def is_below(self, other: Scope | None) -> bool:
        """Say whether it is `other` or below it; everything is below None."""
        return other is None or any(step is other for step in self.lineage())

    def lineage(self) -> Iterator[Scope]:
        """Give this scope and those above it, innermost first."""
        step: Scope | None = self
        while step is not None:
            yield step
            step = step.outside.scope


class Place(NamedTuple):
    """Where something emitted below an event belongs."""

    scope: Scope | None = None
    run: Run | None = None
    """The meter's run of the scope; it may have ended."""
    step: str | None = None
    method: str | None = None
    call: OpenCall | None = None
    """Set below a model call: such work is below the call's scope, and shows that a silent call is over."""

    def at(self, moment_ns: int) -> Place:
        """Give this place, or the first one around it that had not ended by then; memory may outlive its scope."""
        place = self
        while place.scope is not None and not place.is_in_background and place.scope.is_past(moment_ns):
            place = place.scope.outside
        return place

    @property
    def is_in_background(self) -> bool:
        """Whether memory works here, on a thread of its own that outlives the scope."""
        return (self.step or "").startswith("memory")


class OpenCall:
    """A model call that was begun and not yet handed over."""

    __slots__ = ("closing", "end", "over_ns", "place", "run", "start")

    def __init__(self, start: CallStart, *, place: Place, run: Run | None) -> None:
        self.start: Final = start
        self.place = place
        self.run: Final = run
        self.end: CallEnd | None = None
        """An end without usage, held back: CrewAI may report a second one that has it."""
        self.over_ns: int | None = None
        """When the call must have returned, judged by what was emitted after it."""
        self.closing: Deferred | None = None

    @property
    def key(self) -> Hashable:
        """The meter's key of this call."""
        return call_key(self.start.call_id)

    @property
    def is_billed_below(self) -> bool:
        """Whether an inner layer (LiteLLM's) has told all about it."""
        return self.run is not None and bool(self.run.inner) and all(i.finish is not None for i in self.run.inner)


def hold(scope: Scope | None, count: int = 1) -> None:
    """Keep a scope and those above it from closing."""
    for each in () if scope is None else scope.lineage():
        each.busy += count
