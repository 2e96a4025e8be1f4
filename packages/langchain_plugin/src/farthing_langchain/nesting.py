"""Which open call a new one stands below or beside: LangChain names a parent only where callbacks were passed on.

A model in front of another one may ask it without passing any. `CURRENT_CALL` knows the call that its context last
began, but not whether that one asks now. The conversations of one `generate()` all begin before the first is asked,
and a call that `asyncio.timeout()` ended has no end event: it is dead when its own frame is not on the stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from farthing.runs import CURRENT_CALL, outer_checks
from farthing_langchain.lineage import lineage
from farthing_langchain.orphans import end_forgotten
from farthing_langchain.stacks import is_dead

if TYPE_CHECKING:
    from collections.abc import Hashable

    from farthing.meter import Meter

__all__ = ["Nesting", "nesting"]


class Nesting(NamedTuple):
    """Where a call stands among the open ones."""

    above: Hashable | None = None
    """The open call that asks it."""
    beside: Hashable | None = None
    """An open call that began together with it."""


def nesting(key: tuple[str, int], *, parent: int | None, shared: object, meter: Meter) -> Nesting:
    """Find the open calls that a new one stands below or beside.

    Args:
        key: The new call's.
        parent: The run that encloses it.
        shared: The object that it has in common with the calls that begin together with it; None if it begins alone.
        meter: Where open calls are known.
    """
    latest = CURRENT_CALL.get()
    if latest == key or latest is None or meter.runs.get(latest) is None:
        latest = None
    beside = latest if shared is not None and lineage.of_call(latest).shared is shared else None
    if lineage.get(parent).kind == "model" and meter.runs.get(("langchain", parent)) is not None:
        return Nesting(("langchain", parent), beside)
    if beside is not None:
        return Nesting(None, beside)
    return Nesting(latest if latest is not None and _still_asks(latest, beginning=True) else None)


def _still_asks(key: Hashable, *, beginning: bool = False) -> bool:
    """Say whether an open call may be asking here; one that is dead is ended.

    Args:
        key: The open call's.
        beginning: Whether a model call of LangChain's is just beginning here.
    """
    place = lineage.of_call(key)
    if place.kind != "model" or not is_dead(place, beginning=beginning):
        return True
    end_forgotten(key)
    return False


outer_checks.append(_still_asks)
