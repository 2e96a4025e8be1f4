"""Where each open LangChain run stands: below which scope, agent and run. One bounded map for all handlers.

LangChain names only the parent of a run, and handlers are shared by concurrent requests, so this map and the meter hold
all there is of state. Every operation is one that the interpreter does atomically; what it does not know is no scope.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from langchain_core.runnables.config import var_child_runnable_config

from farthing.context import NOTHING
from farthing.counting import counters
from farthing.setup import get_meter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping
    from uuid import UUID
    from weakref import ref

    from farthing.runs import Run
    from farthing_langchain.repeating import Told
    from farthing_langchain.requested import Requested

__all__ = ["Failure", "Kind", "Lineage", "Place", "lineage", "parent_of"]

Kind = Literal["scope", "chain", "leaf", "model"]
"""scope: a span of its own; chain: always reports its end; leaf: a tool or retriever, whose end a cancel swallows."""

Member = Literal["first", "follower"]
"""The first run of a batch carries the usage of a request that all of them share."""

_FIRST_SWEEP: Final = 2_000
_MAX_BATCHES: Final = 1_000
_DEEPEST: Final = 1_000


class Place(NamedTuple):
    """Where one run stands."""

    scope: Run | None
    """The nearest scope; a scope's own run for the scope itself."""
    agent: str | None
    parent: int | None
    kind: Kind
    name: object = None
    in_task: bool = False
    """Whether a leaf or a model call began in an event loop: cancelled there, LangChain never reports its end."""
    tags: Mapping[str, object] = NOTHING
    """What the graph's nodes between the scope and this run are declared with; the innermost node's win."""
    told: Told | None = None
    """What the pieces of a model call's stream told of its usage."""
    requested: Requested | None = None
    """What a model call's request says of its price, where it says anything."""
    shared: object = None
    """What the model calls that were begun together have in common, and no other call has; None if it is one alone."""
    task: ref[asyncio.Task[object]] | None = None
    """The task that a model call began in."""
    thread: int = 0
    """The thread that it began in."""
    handled: int | None = None
    """What was being handled when a scope or a model call began, see `farthing.failures.handled_now`."""


_NOWHERE: Final = Place(None, None, None, "leaf")


class Failure(NamedTuple):
    """A model call that failed and may be tried again, or answered what a later step may refuse."""

    operation_id: str
    attempt: int
    paid: bool = False
    """Whether it answered: only a retry or a fallback of all that stands around it is then another attempt."""
    expected: bool = False
    """Whether the run it was handed to is known to be another attempt."""


class Lineage:
    """Open runs by id.

    Args:
        max_open: Above it the oldest place is forgotten: its calls are billed as before, but stand under no scope.
    """

    def __init__(self, *, max_open: int = 50_000) -> None:
        self._max_open: Final = max_open
        self._sweep_at = _FIRST_SWEEP
        self._places: dict[int, Place] = {}
        self._failures: dict[int, Failure] = {}
        self._batches: dict[int, tuple[object, list[int]]] = {}
        self._batched: dict[int, Member] = {}

    def __len__(self) -> int:
        return len(self._places) + len(self._failures) + len(self._batches) + len(self._batched)

    def clear(self) -> None:
        """Forget everything, as a forked child does: the runs are its parent's."""
        for held in (self._places, self._failures, self._batches, self._batched):
            held.clear()

    def __contains__(self, run: int) -> bool:
        return run in self._places

    def get(self, run: int | None) -> Place:
        """Give the place of an open run; an unknown one stands nowhere."""
        return _NOWHERE if run is None else self._places.get(run, _NOWHERE)

    def of_call(self, key: object) -> Place:
        """Give the place of an open model call by its key in the meter; what is not LangChain's stands nowhere."""
        match key:
            case ("langchain", int() as run):
                return self.get(run)
            case _:
                return _NOWHERE

    def enter(self, run: int, place: Place) -> None:
        """Put a run in its place."""
        self._places[run] = place
        if len(self._places) > self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        """Forget runs whose end LangChain forgot, as those beside a failing one in `generate([a, b, c])`."""
        for run, place in tuple(self._places.items()):
            if (place.scope is not None and place.scope.finish is not None) or (
                place.kind == "model" and (meter := get_meter()) and meter.runs.get(("langchain", run)) is None
            ):
                self.leave(run)
        while len(self._places) > self._max_open:
            _forget_oldest(self._places, "langchain-run")
        self._sweep_at = min(self._max_open, max(_FIRST_SWEEP, 2 * len(self._places)))

    def leave(self, run: int) -> Place | None:
        """Remove and give the place of a run that ended."""
        if self._failures:
            self._failures.pop(run, None)
        return self._places.pop(run, None)

    def below(self, run: int) -> list[tuple[int, Place]]:
        """Give the open runs anywhere below a run; asked only when something was cancelled."""
        return [(other, place) for other, place in tuple(self._places.items()) if run in self._ancestors(place)]

    def _ancestors(self, place: Place | None) -> Iterator[int]:
        for _ in range(_DEEPEST):
            if place is None or place.parent is None:
                return
            yield place.parent
            place = self._places.get(place.parent)

    def note_failure(self, parent: int | None, failure: Failure) -> None:
        """Remember that a model call below `parent` failed, in case another attempt follows there."""
        if parent is not None and parent in self._places:
            self._failures[parent] = failure
            if len(self._failures) > self._max_open:
                _forget_oldest(self._failures, "langchain-attempt")

    def lift_failure(self, run: int, parent: int | None) -> None:
        """Hand a failure to the run above: its own run failed with it."""
        if self._failures and (failure := self._failures.pop(run, None)):
            self.note_failure(parent, failure._replace(expected=False))

    def lower_failure(self, parent: int | None, run: int) -> None:
        """Hand a failure to a run that begins as the next attempt."""
        if parent is not None and (failure := self._failures.pop(parent, None)):
            self.note_failure(run, failure._replace(expected=True))

    def take_failure(self, parent: int | None, *, expected: bool = True, labelled: bool = True) -> Failure | None:
        """Remove the failure below `parent`; give it if the call that begins there is known to be another attempt.

        Args:
            parent: The run that the call begins in.
            expected: Whether a failure there is followed by another attempt.
            labelled: Whether LangChain itself says that the call is one.
        """
        if not self._failures or parent is None or (failure := self._failures.pop(parent, None)) is None:
            return None
        return failure if failure.expected or labelled or (expected and not failure.paid) else None

    @property
    def any_failed(self) -> bool:
        """Whether some model call failed below a run that is still open."""
        return bool(self._failures)

    def join_batch(self, run: int, shared: object, size: int) -> None:
        """Note the runs of plain prompts that were begun together, for one request or for several."""
        _, members = self._batches.setdefault(id(shared), (shared, []))
        members.append(run)
        self._batched[run] = "first" if len(members) == 1 else "follower"
        if len(members) >= size:
            self._batches.pop(id(shared), None)
        if len(self._batches) > _MAX_BATCHES:  # never filled: the handler was on a part of the prompts only
            _forget_oldest(self._batches, "langchain-batch")
        if len(self._batched) > self._max_open:
            _forget_oldest(self._batched, "langchain-batch")

    def leave_batch(self, run: int) -> Member | None:
        """Give the part that a run which ended had in a batch, if any, and forget it."""
        return self._batched.pop(run, None) if self._batched else None


def _forget_oldest(
    held: dict[int, Place] | dict[int, Failure] | dict[int, tuple[object, list[int]]] | dict[int, Member], reason: str
) -> None:
    try:
        held.pop(next(iter(held)), None)
    except (RuntimeError, StopIteration):  # another thread changed the map: it forgets one itself
        return
    counters.add("evicted", reason)


lineage: Final = Lineage()
"""The process's own, shared by all handlers: they see the same runs."""


def parent_of(parent_run_id: UUID | None) -> int | None:
    """Give the run that really encloses a new one.

    LangChain names none where a nested call is given its callbacks as a list, and the wrong one below
    `RunnableWithFallbacks.invoke`, which hands its children its own config (langchain-core 1.3 to 1.8); the config that
    is current there knows better.
    """
    stated = None if parent_run_id is None else parent_run_id.int
    config = var_child_runnable_config.get()
    if config is None:
        return stated
    current = getattr(config.get("callbacks"), "parent_run_id", None)
    if current is None or current.int == stated:
        return stated
    place = lineage.get(current.int)
    return current.int if place.parent == stated and place.kind != "leaf" else stated
