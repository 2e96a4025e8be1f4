"""What happened to every call: counters that add up, for health(), the doctor and the metrics."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Counters", "Health", "counters"]

_MAX_REASONS = 1_000


class Counters:
    """Counts by name and reason; any thread may add."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        # Counted is also from what the collector runs, which may be while this very thread is counting.
        self._lock = threading.RLock()
        self.last_error: str | None = None

    def add(self, name: str, reason: str = "", count: int = 1) -> None:
        """Count something that happened."""
        with self._lock:
            if len(self._counts) >= _MAX_REASONS and (name, reason) not in self._counts:
                reason = "other"
            self._counts[name, reason] += count

    def total(self, name: str) -> int:
        """Give the count of a name over all reasons."""
        with self._lock:
            return sum(count for (counted, _), count in tuple(self._counts.items()) if counted == name)

    def by_reason(self, name: str) -> dict[str, int]:
        """Give the counts of a name by reason."""
        with self._lock:
            return {reason: count for (counted, reason), count in tuple(self._counts.items()) if counted == name}

    def snapshot(self) -> dict[tuple[str, str], int]:
        """Give all counts."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Start from nothing: a forked child answers for itself alone.

        The lock is made anew: a thread that the child does not have may have held it at the fork.
        """
        self._lock = threading.RLock()
        with self._lock:
            self._counts.clear()
            self.last_error = None


counters = Counters()
"""The process's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What farthing did in this process since it started."""

    configured: bool
    calls: int
    """Calls recorded: one for every provider attempt that was seen to end."""
    priced: int
    unpriced: int
    """Usage known, price not."""
    unreported: int
    """The provider's usage never arrived."""
    estimated: int
    """As unreported, with an estimate beside it; or priced by a rate that is an estimate."""
    cache_hits: int
    not_billed: int
    """Refused by the provider; nothing was bought."""
    duplicates: int
    """Ends or layers of a call that was already billed."""
    unknown_ends: int
    """Ends of calls whose start was never seen; who made them is not known, and they are not recorded."""
    open_runs: int
    queued: int
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    """Calls that are nowhere, by reason; anything here is a loss."""
    exported: dict[str, int] = field(default_factory=dict[str, int])
    """Spans and metric batches by what became of them: sent, rejected and refused by the receiver, damaged, lost (the
    spool was full or too old); and attempts-failed, after each of which the same spans are sent again."""
    sent: int = 0
    """Spans that a receiver took, those among them that an earlier process had left in the spool."""
    spooled: int = 0
    """Spans that no receiver has taken yet; they are on disk, if there is a spool, and are sent again."""
    lag_seconds: float = 0.0
    """The age of the oldest of them; 0 when none waits."""
    ledger_written: int = 0
    ledger_waiting: int = 0
    """Calls that the disk has not taken yet; they are written when it has room."""
    ledger_failed: int = 0
    """Calls that are not in the ledger and will not be."""
    skipped: dict[str, int] = field(default_factory=dict[str, int])
    """Ends of what was no provider call: mocked, or never sent."""
    spool: dict[str, int] = field(default_factory=dict[str, int])
    """What was found in the spool and could not be read: damaged segments, which are quarantined, and torn requests;
    and segments that are stranded: for an hour they have waited for a receiver or tenant that nobody exports to."""
    violations: dict[str, int] = field(default_factory=dict[str, int])
    """What the policy changed or missed in the tags of calls, as `dimension:reason`."""
    refused: dict[str, int] = field(default_factory=dict[str, int])
    """Calls that were not made because the policy says reject, by `dimension:reason`."""
    context: dict[str, int] = field(default_factory=dict[str, int])
    """Tags from headers and messages that were not taken over, and those written for providers or not, by reason."""
    neighbours: dict[str, int] = field(default_factory=dict[str, int])
    """Other software in this process that writes spans with the same token counts."""
    faults: dict[str, int] = field(default_factory=dict[str, int])
    """Errors of farthing's own, by place."""
    last_error: str | None = None
