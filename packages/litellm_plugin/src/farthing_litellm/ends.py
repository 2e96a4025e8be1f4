"""How attempts end: as LiteLLM says, before it does, without its saying anything, and not at all."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from farthing.counting import counters
from farthing.failures import OTHER
from farthing.runs import Finish
from farthing.setup import get_meter, settlers
from farthing_litellm import extract
from farthing_litellm.attempts import Attempt, Foreseen, left

if TYPE_CHECKING:
    from farthing.meter import Meter

__all__ = ["discard", "end", "end_early", "end_left", "end_of_replaced", "failure_just_raised"]

_FRAMEWORK: Final = "litellm"
_MANY_ENDS: Final = 1_000


def end_of_replaced(kwargs: dict[str, object], before: Attempt, error: BaseException | None) -> Finish:
    """Tell how an attempt ended that LiteLLM follows with another one on the same dict without a word.

    Either it answered and an interception of LiteLLM goes on asking, or it failed: then LiteLLM retries while handling
    the exception, which is this attempt's own unless it was being handled already when the attempt began.
    """
    now = time.time_ns()
    if error is None or id(error) == before.cause:
        return extract.raw_answer(kwargs, ended=now) or Finish(
            now, outcome="error", usage_shape=_FRAMEWORK, error_type=OTHER
        )
    return extract.failed(error, ended=now, handled=before.cause)


def failure_just_raised(kwargs: dict[str, object], attempt: Attempt) -> Finish | None:
    """Read the failure that LiteLLM reports in `original_response`, as the text of the exception it is handling."""
    error = sys.exc_info()[1]
    if error is None or kwargs.get("original_response") != str(error):
        return None
    return extract.failed(error, ended=time.time_ns(), handled=attempt.cause)


def discard(meter: Meter, attempt: object) -> None:
    """Take back an attempt that a proxy only went through the motions of: it refused the request itself."""
    counters.add("skipped", "litellm-not-sent")
    if isinstance(attempt, Attempt) and not attempt.ended:
        attempt.ended = attempt.ended_early = True
        meter.withdraw_call(attempt.key)


def end(meter: Meter, attempt: Attempt, finish: Finish) -> None:
    """End an attempt as LiteLLM reports it."""
    attempt.ended, attempt.answered = True, finish.outcome == "success"
    meter.finish_call(attempt.key, finish)


def end_early(meter: Meter, attempt: Attempt, finish: Finish) -> None:
    """End an attempt before LiteLLM's own event, which is then no duplicate."""
    attempt.ended_early = True
    end(meter, attempt, finish)


def end_left(meter: Meter) -> None:
    """End the attempts that nobody can report any more: LiteLLM has let go of them."""
    now = time.time_ns()
    for _ in range(_MANY_ENDS):
        try:
            gone = left.popleft()
        except IndexError:
            return
        if isinstance(gone, Foreseen):
            meter.withdraw_call(gone.key)
        elif meter.runs.get(gone.key) is not None:
            meter.finish_call(gone.key, Finish(now, outcome="abandoned", usage_shape=_FRAMEWORK, error_type="left"))


def _settle(seconds: float) -> None:  # noqa: ARG001 - the protocol of settlers
    """Before a flush: what was left behind is known to be so."""
    if not left:
        return  # asking for the meter during shutdown() would configure farthing anew
    meter = get_meter()
    while left and meter is not None:
        end_left(meter)


settlers.append(_settle)
