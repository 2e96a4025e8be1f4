"""Answers from LiteLLM's own cache: a hit has one event, late and in nobody's context, and no layer above knows of it.

So where a cache is in use every call is begun before LiteLLM looks into it, in its caller's context and below the open
call of the framework above. A request that goes out after all takes it back and begins as usual; a hit completes it,
and the layer above, which saw the tokens of the first answer, does not bill them once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from farthing_litellm import extract, refusing
from farthing_litellm.attempts import FORESEEN, Foreseen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farthing.meter import Finish, Meter

__all__ = ["complete", "foresee", "take_back"]

_FRAMEWORK: Final = "litellm"


def foresee(
    meter: Meter, details: dict[str, Any], arguments: Mapping[str, Any], handlers: list[Mapping[str, object]]
) -> None:
    """Begin a call that the cache may answer.

    Args:
        meter: Where it begins.
        details: LiteLLM's dict of the call, in which it stands until it is known what became of it.
        arguments: Those of the call.
        handlers: The tags of the callbacks.
    """
    asked = extract.asked(extract.before_setup(arguments), meter.policy)
    details[FORESEEN] = foreseen = Foreseen()
    meter.start_call(
        foreseen.key,
        framework=_FRAMEWORK,
        operation=asked.operation,
        provider=asked.provider,
        model=asked.model,
        tags=asked.tags,
        handler_tags=refusing.merged(asked, handlers),
        inner=True,
        late_report=True,
        tentative=True,
    )


def take_back(meter: Meter, kwargs: Mapping[str, object]) -> None:
    """Know that the cache did not answer."""
    foreseen = kwargs.get(FORESEEN)
    if isinstance(foreseen, Foreseen) and not foreseen.ended:
        foreseen.ended = True
        meter.withdraw_call(foreseen.key)


def complete(meter: Meter, kwargs: dict[str, Any], finish: Finish, handlers: list[Mapping[str, object]]) -> bool:
    """End a call with the answer of the cache; say whether it had been foreseen."""
    foreseen = kwargs.get(FORESEEN)
    if not isinstance(foreseen, Foreseen):
        return False
    if not foreseen.ended:
        foreseen.ended = True
        asked = extract.asked(kwargs, meter.policy)
        meter.describe_call(
            foreseen.key,
            operation=asked.operation,
            provider=asked.provider,
            model=asked.model,
            tags=asked.tags,
            handler_tags=refusing.merged(asked, handlers),
            details=asked.details,
            streaming=asked.streaming,
            tier=asked.tier,
        )
    meter.finish_call(foreseen.key, finish)
    return True
