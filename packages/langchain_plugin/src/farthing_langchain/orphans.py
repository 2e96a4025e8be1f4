"""Calls that end without an event: langchain-core (up to 1.8) reports no end of a model call whose task is cancelled.

A call that began in the event loop dies with its task. One that began in a thread goes on, and its end is reported.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary, ref

from farthing.runs import Finish
from farthing.setup import get_meter
from farthing_langchain.lineage import lineage

if TYPE_CHECKING:
    from collections.abc import Hashable

    from farthing.meter import Meter

__all__ = ["end_below", "end_forgotten", "in_event_loop", "watch"]

_MANY_KEYS: Final = 64

_calls_by_task: WeakKeyDictionary[asyncio.Task[object], set[tuple[str, int]]] = WeakKeyDictionary()


def in_event_loop() -> bool:
    """Say whether this is a task's code."""
    return asyncio._get_running_loop() is not None  # noqa: SLF001 - in asyncio's __all__; the public one raises: slow


def watch(key: tuple[str, int]) -> ref[asyncio.Task[object]] | None:
    """See to it that a call ends when its task is cancelled; give that task."""
    loop = asyncio._get_running_loop()  # noqa: SLF001 - as above
    task = None if loop is None else asyncio.current_task(loop)
    if task is None:
        return None
    keys = _calls_by_task.get(task)
    if keys is None:
        _calls_by_task[task] = keys = set[tuple[str, int]]()
        task.add_done_callback(_end_with_task)
    elif len(keys) >= _MANY_KEYS:
        keys.intersection_update([known for known in keys if known[1] in lineage])
    keys.add(key)
    return ref(task)


def end_forgotten(key: Hashable) -> None:
    """End a call that is made no more, and those that began together with it: none of them will be reported."""
    meter = get_meter()
    run = None if meter is None else meter.runs.get(key)
    for other in () if run is None else run.together or [run]:
        match other.key:
            case ("langchain", int() as number):
                place = lineage.leave(number)
                _end(("langchain", number), meter, in_task=place is not None and place.in_task)
            case _:
                continue


def _end_with_task(task: asyncio.Task[object]) -> None:
    """End the open calls of a cancelled task: a bare model's cancelled `ainvoke` has no event at all.

    A task that merely ended proves nothing: `wait_for(stream.__anext__(), ...)` runs each step in one of its own.
    """
    keys = _calls_by_task.pop(task, None)
    if keys and task.cancelled():
        meter = get_meter()
        for key in keys:
            if lineage.leave(key[1]) is not None:
                _end(key, meter)


def end_below(run: int, meter: Meter | None) -> None:
    """End what stands below a cancelled run and will not end by itself."""
    for below, place in lineage.below(run):
        if place.in_task:
            lineage.leave(below)
            if place.kind == "model":
                _end(("langchain", below), meter)


def _end(key: tuple[str, int], meter: Meter | None, *, in_task: bool = True) -> None:
    if meter is None or meter.runs.get(key) is None:
        return
    if in_task:
        meter.finish_call(key, Finish(time.time_ns(), outcome="cancelled", error_type="CancelledError"))
    else:
        meter.finish_call(key, Finish(time.time_ns(), outcome="abandoned", error_type="forgotten"))
