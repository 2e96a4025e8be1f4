"""Refusing a model call before it is sent: events cannot stop CrewAI, its interception hooks can (from 1.15.3 on).

A hook must raise HookAborted: anything else is swallowed and the call goes out.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from crewai import hooks

from farthing.context import NOTHING
from farthing.errors import AttributionError
from farthing.guard import guarded, log
from farthing.setup import get_meter
from farthing_crewai.versions import INSTALLED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from farthing.meter import Meter

__all__ = ["CallRefusedError", "declared", "install", "note", "require", "uninstall"]

FLOOR: Final = (1, 15, 3)
_HOW: Final = (
    "Send it with `with farthing.attribute({example}): crew.kickoff()`, or declare it once: "
    'FarthingListener({example}) or FarthingListener(crews={"the-crews-name": {{pairs}}})'
)

_Aborted: Any = getattr(hooks, "HookAborted", RuntimeError)
_above: ContextVar[Mapping[str, object] | None] = ContextVar("farthing_crewai_tags", default=None)
"""The tags of the last call in this context that CrewAI named a crew or an agent for: its converter calls name none."""


class CallRefusedError(AttributionError, _Aborted):
    """A call that the policy refuses; CrewAI lets it through to the caller of kickoff() and does not retry."""

    def __init__(self, message: str, *, problems: tuple[str, ...] = ()) -> None:
        AttributionError.__init__(self, message, problems=problems)
        self.reason = message
        self.source = "farthing"


def install(before_call: Callable[[object], None]) -> None:
    """Stand before every model call of CrewAI.

    Raises:
        Nothing: a CrewAI that cannot be stopped is told in the log, where refusing was asked for.
    """
    if INSTALLED < FLOOR:
        meter = get_meter()
        if meter is not None and meter.enforcing:
            log.error("farthing: the policy says reject, but only crewai >= 1.15.3 can be stopped; calls are marked")
        return
    points: Any = hooks.InterceptionPoint
    if before_call not in hooks.get_hooks(points.PRE_MODEL_CALL):
        hooks.register_hook(points.PRE_MODEL_CALL, before_call)
        hooks.register_hook(points.EXECUTION_END, _forget)


def uninstall(before_call: Callable[[object], None]) -> None:
    """Leave.

    Raises:
        Nothing.
    """
    if INSTALLED >= FLOOR:
        points: Any = hooks.InterceptionPoint
        hooks.unregister_hook(points.PRE_MODEL_CALL, before_call)
        hooks.unregister_hook(points.EXECUTION_END, _forget)


def note(tags: Mapping[str, object] | None) -> None:
    """Note what the crew, task and agent of a call declare; None where CrewAI names none of them.

    Raises:
        Nothing.
    """
    if tags is not None:
        _above.set(tags)


def declared() -> Mapping[str, object]:
    """Give what the crew, task and agent of the call declare that is being made here.

    Raises:
        Nothing.
    """
    return _above.get() or NOTHING


@guarded
def require(meter: Meter, handler_tags: Mapping[str, object]) -> None:
    """Refuse a call that the policy does not let go out.

    Args:
        meter: Whose policy decides.
        handler_tags: The tags of the listeners.

    Raises:
        CallRefusedError: A rule that says reject is violated.
    """
    try:
        meter.require(how=_HOW, tags=declared(), handler_tags=handler_tags)
    except AttributionError as error:
        raise CallRefusedError(str(error), problems=error.problems) from None


def _forget(context: object) -> None:  # noqa: ARG001 - a hook's protocol
    """Know no crew any more once a run is over."""
    _above.set(None)
