"""When it happened, in nanoseconds since the epoch, whatever clock LiteLLM's own times are of."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farthing_litellm.extract.access import Kwargs


__all__ = ["ended_ns", "first_chunk_ns", "started_ns"]


def started_ns(kwargs: Kwargs, start_time: Any, now: int) -> int:
    """Give the start of a call whose `log_pre_api_call` was not seen."""
    return now - _span_ns(start_time, kwargs.get("end_time"))


def ended_ns(attempt_ns: int, mark: Any, end_time: Any, now: int) -> int:
    """Give the end of an attempt: LiteLLM's two naive local times are only good for their difference."""
    if not isinstance(mark, datetime) or not isinstance(end_time, datetime):
        return now
    return min(now, attempt_ns + max(0, _span_ns(mark, end_time)))


def first_chunk_ns(kwargs: Kwargs, attempt_ns: int, mark: Any) -> int | None:
    """Give the time of a stream's first piece."""
    first = kwargs.get("completion_start_time")
    if not kwargs.get("stream") or not isinstance(first, datetime) or not isinstance(mark, datetime):
        return None
    return attempt_ns + max(0, _span_ns(mark, first))


def _span_ns(start: Any, end: Any) -> int:
    if (
        not isinstance(start, datetime)
        or not isinstance(end, datetime)
        or (start.tzinfo is None) != (end.tzinfo is None)
    ):
        return 0
    span = end - start
    return ((span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds) * 1_000
