"""Whether an open model call is still being made: its frames are on the stack of the thread or task where it began.

LangChain reports no end of a call whose task is cancelled, and `asyncio.timeout()` cancels what it holds and lets the
task go on. What cannot be seen from here is believed to be alive.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import FrameType

    from farthing_langchain.lineage import Place

__all__ = ["is_dead"]

_MODELS: Final = "langchain_core.language_models."
_DEEPEST: Final = 1_000
_STEPS: Final = (("cr_frame", "cr_await"), ("ag_frame", "ag_await"), ("gi_frame", "gi_yieldfrom"))
"""What coroutines, asynchronous generators and generators call their frame, and what they wait for."""


def is_dead(place: Place, *, beginning: bool) -> bool:
    """Say whether a model call that began in this thread or event loop is made no more.

    Args:
        place: The call's.
        beginning: Whether another model call is just beginning here, so that the nearest frames are its own.
    """
    loop = asyncio._get_running_loop()  # noqa: SLF001 - in asyncio's __all__; the public one raises: slow
    task = None if place.task is None else place.task()
    if loop is None:
        return not place.in_task and place.thread == get_ident() and not _is_on_stack(beginning)
    if task is None:
        return False
    if task is asyncio.current_task(loop):
        return not _is_on_stack(beginning)
    return task.get_loop() is loop and not task.done() and not _is_awaited(task)


def _is_on_stack(beginning: bool) -> bool:  # noqa: FBT001 - of this module alone
    """Say whether a model is being asked on this stack, beside the one whose frames are nearest."""
    before_own, in_own = beginning, False
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - inspect.stack() reads sources
    while frame is not None:
        is_model = _is_models(frame)
        if is_model and not before_own and not in_own:
            return True
        in_own = is_model
        before_own = before_own and not is_model
        frame = frame.f_back
    return False


def _is_awaited(task: asyncio.Task[Any]) -> bool:
    """Say whether a model is being asked by a task that waits; where that cannot be followed, it may be."""
    step: Any = task.get_coro()
    for _ in range(_DEEPEST):
        names = next((names for names in _STEPS if hasattr(step, names[0])), None)
        if names is not None:
            frame, step = getattr(step, names[0]), getattr(step, names[1])
            if frame is None or _is_models(frame):
                return True
            if step is None:
                return False
        elif asyncio.isfuture(step) or type(step).__name__ == "FutureIter":
            return False
        else:  # one step of an async generator does not say of which one
            step = next((held for held in gc.get_referents(step) if hasattr(held, "ag_frame")), None)
            if step is None:
                return True
    return True


def _is_models(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(_MODELS)
