"""What went wrong: whether the provider refused, so that nothing was bought, or nobody knows."""

from __future__ import annotations

from json import JSONDecodeError
from typing import Final

import httpx
from openai import APIConnectionError, APIStatusError

from farthing.failures import causes, error_type, package_of
from farthing.runs import Finish

__all__ = ["failed", "is_refusal", "was_sent"]

_LITELLM: Final = "litellm"


def failed(error: BaseException | None, *, ended: int, began: bool = False, handled: int | None = None) -> Finish:
    """Describe a failed attempt; usage that LiteLLM gives for a broken stream is its own estimate and is not read.

    Args:
        error: What was raised; its text is not read.
        ended: Nanoseconds since the epoch.
        began: Whether the provider had begun to answer.
        handled: What was being handled when the request went out, as for `farthing.failures.causes`.
    """
    return Finish(
        ended_ns=ended,
        outcome="error",
        usage_shape="litellm",
        error_type=error_type(error, invented_in=_LITELLM, handled=handled),
        billed=False if error is not None and not began and is_refusal(error, handled=handled) else None,
    )


def is_refusal(error: BaseException, *, handled: int | None = None) -> bool:
    """Say whether the provider answered with an HTTP error, which no provider bills."""
    return _decisive(error, handled) == "refused"


def was_sent(error: BaseException, *, handled: int | None = None) -> bool:
    """Say whether a request went out before an error: what LiteLLM refuses itself never does."""
    return _decisive(error, handled) is not None


def _decisive(error: BaseException, handled: int | None) -> str | None:
    """Find what happened on the wire: refused, broken, or None when nothing was on it.

    A `status_code` proves nothing: LiteLLM gives a broken connection 500 and a timeout 408. The exception behind its
    own does. The first that decides counts, since those of earlier attempts may hang at the end of the chain.
    """
    for step in causes(error, handled=handled, invented_in=_LITELLM):
        if isinstance(step, httpx.HTTPStatusError):
            return "refused" if step.response.status_code >= httpx.codes.BAD_REQUEST else "broken"
        is_litellm = package_of(step) == _LITELLM
        if not is_litellm and isinstance(step, APIStatusError):  # raised `from None` for an answer it holds
            return "refused"
        if not is_litellm and isinstance(
            step, (httpx.TransportError, APIConnectionError, TimeoutError, JSONDecodeError)
        ):
            return "broken"
    return None
