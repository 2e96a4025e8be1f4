"""A wall clock that can be set, for a process that test_chaos.py starts; the monotonic clock goes on, as it does there.

It stands in for the system's, which a test has no right to set. Import it before anything that reads the time.
"""

from __future__ import annotations

import time

__all__ = ["step"]

_seconds, _nanoseconds = time.time, time.time_ns
_offsets = [0]


def step(seconds: int) -> None:
    """Set the clock forth, or back by a negative number."""
    _offsets.append(seconds)


time.time = lambda: _seconds() + sum(_offsets)
time.time_ns = lambda: _nanoseconds() + sum(_offsets) * 1_000_000_000
