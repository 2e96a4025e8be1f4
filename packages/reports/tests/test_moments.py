"""Moments as people type them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from farthing_reports.faults import CommandError
from farthing_reports.moments import parse_moment

NOW = datetime(2026, 11, 24, 18, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", "2026-11-17T18:30:15Z"),
        ("24h", "2026-11-23T18:30:15Z"),
        ("30m", "2026-11-24T18:00:15Z"),
        ("15s", "2026-11-24T18:30:00Z"),
        ("2w", "2026-11-10T18:30:15Z"),
        (" 1 D ", "2026-11-23T18:30:15Z"),
        ("now", "2026-11-24T18:30:15Z"),
        ("today", "2026-11-24T00:00:00Z"),
        ("yesterday", "2026-11-23T00:00:00Z"),
        ("2026-11-24", "2026-11-24T00:00:00Z"),
        ("20261124", "2026-11-24T00:00:00Z"),
        ("2026-11-24T09:30Z", "2026-11-24T09:30:00Z"),
        ("2026-11-24T09:30+02:00", "2026-11-24T07:30:00Z"),
        ("2026-11-24 09:30:01.5Z", "2026-11-24T09:30:01.5Z"),
    ],
)
def test_moment_is_understood(text: str, expected: str) -> None:
    """Every spelling that the help names is the moment that it says."""
    assert parse_moment(text, now=NOW, option="--since") == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no date or time span"),
        ("d", "no date or time span"),
        ("-7d", "no date or time span"),
        ("7y", "no date or time span"),
        ("1.5d", "no date or time span"),
        ("2026-02-30", "no date or time span"),
        ("24.11.2026", "no date or time span"),
        ("999999999w", "before the calendar begins"),
        ("0001-01-01T00:00+14:00", "before the calendar begins"),
        ("2026-11-24T09:30", "no timezone"),
        ("2026-11-24 09:30", "no timezone"),
        ("20261124T0930", "no timezone"),
    ],
)
def test_other_texts_are_refused(text: str, reason: str) -> None:
    """What is no moment, or an ambiguous one, is refused with the option, the text and the fix."""
    with pytest.raises(CommandError, match=reason) as caught:
        parse_moment(text, now=NOW, option="--since")
    assert str(caught.value).startswith(f"--since: {text!r}")
