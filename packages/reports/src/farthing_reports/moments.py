"""Moments as people type them: 7d, 24h, 2026-11-24, 2026-11-24T09:30Z."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from farthing_reports.faults import CommandError

__all__ = ["parse_moment"]

_SPAN: Final = re.compile(r"(\d{1,9})\s*(w|d|h|m|s)")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME: Final = re.compile(r"[T :]", re.IGNORECASE)
_UNITS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_ACCEPTED: Final = "write e.g. 7d, 24h, 30m, today, 2026-11-24 (midnight UTC) or 2026-11-24T09:30Z"


def parse_moment(text: str, *, now: datetime, option: str) -> datetime:
    """Read a moment: a span back from now, a date (its midnight in UTC) or an aware time.

    Args:
        text: What was typed.
        now: An aware time.
        option: The option it was typed for; named in the error.

    Raises:
        CommandError: The text is none of these, is naive, or lies outside of the calendar.
    """
    plain = text.strip()
    midnight = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    named = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}.get(plain.lower())
    if named is not None:
        return named
    span = _SPAN.fullmatch(plain.lower())
    try:
        if span is not None:
            return now - timedelta(**{_UNITS[span[2]]: int(span[1])})
        if _DAY.fullmatch(plain):
            return datetime.combine(date.fromisoformat(plain), time(), UTC)
        moment = datetime.fromisoformat(plain)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except OverflowError:
        raise CommandError(f"{option}: {text!r} lies before the calendar begins; {_ACCEPTED}") from None
    except ValueError:
        raise CommandError(f"{option}: {text!r} is no date or time span; {_ACCEPTED}") from None
    if not _TIME.search(plain):  # ISO 8601 has further dates: 20261124, 2026-W48
        return moment.replace(tzinfo=UTC)
    raise CommandError(f"{option}: {text!r} has no timezone; add Z for UTC, or an offset such as +01:00")
