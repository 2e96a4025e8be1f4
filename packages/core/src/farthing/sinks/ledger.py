"""The ledger: append-only JSON lines on this machine, one Call a line, in segments of one process and day each.

A batch is one write of whole lines, so that a crash can tear the last line only. What a full disk does not take waits
in memory, within bounds, and is written when there is room. An open segment is locked: who compacts or removes segments
knows by that which ones are finished.
"""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from farthing.files import lock_file, make_private_folder, open_regular
from farthing.guard import report_problem

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from farthing.envelope import Call

__all__ = ["LEDGER_NAME", "LedgerSink"]

LEDGER_NAME: Final = re.compile(r"calls-(\d{4}-\d{2}-\d{2})-.+\.(?:jsonl|parquet)")
"""The name of a ledger's file; the first group is its day."""

_RETRY_SECONDS: Final = 5.0
_MAX_WAITING_BYTES: Final = 32 << 20


class LedgerSink:
    """Appends Calls to a folder that is private to the user.

    Args:
        folder: Created when the first Call arrives.
        segment_bytes: The size at which a new segment is begun.
        segment_seconds: The age at which a new segment is begun.
        fsync: Whether every batch is forced to the disk; else the system writes it out within half a minute, which a
            crash of the process survives and a crash of the machine does not.
        retention_days: Finished files older than this are removed, counted from the last day before this one that has
            a file; None keeps all.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = 64 << 20,
        segment_seconds: float = 3_600.0,
        fsync: bool = False,
        retention_days: int | None = None,
    ) -> None:
        self.folder: Final = folder
        self.written = 0
        """Calls on disk."""
        self.failed = 0
        """Calls that are on no disk and will not be."""
        self.waiting = 0
        """Calls that the disk has not taken yet."""
        self._segment_bytes: Final = segment_bytes
        self._segment_seconds: Final = segment_seconds
        self._fsync: Final = fsync
        self._retention_days: Final = retention_days
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._descriptor: int | None = None
        self._path: Path | None = None
        self._day = ""
        self._opened_at = 0.0
        self._bytes = 0
        self._retry_at = 0.0
        self._cleaned_on: date | None = None

    def write(self, calls: Iterable[Call]) -> None:
        """Append a batch, behind what still waits.

        Raises:
            OSError: The folder or file cannot be written; the batch waits in memory.
            ValueError: Some cannot be written as JSON and are failed; the others are written.
        """
        lines: list[bytes] = []
        unwritable: Exception | None = None
        for call in calls:
            try:
                lines.append(_line(call))
            except Exception as error:  # noqa: BLE001 - one call's fault must not take the others along
                self.failed += 1
                unwritable = error
        self._take(lines)
        if unwritable is not None:
            raise ValueError("a call cannot be written as JSON") from unwritable

    def _take(self, lines: list[bytes]) -> None:
        """Append lines behind what waits, or let them wait as well."""
        if not self._held and time.monotonic() >= self._retry_at:
            self._append(lines)
        else:
            self._hold(lines)
            if time.monotonic() >= self._retry_at:
                self.retry()

    def retry(self) -> None:
        """Write what waits.

        Raises:
            OSError: The disk takes it no better than before.
        """
        if self._held:
            lines, self._held, self._held_bytes, self.waiting = self._held, [], 0, 0
            self._append(lines)

    def roll(self) -> None:
        """Close a segment whose time is over, so that it can be compacted; called about once a second.

        Raises:
            OSError: What waits cannot be written.
        """
        if self._held and time.monotonic() >= self._retry_at:
            self.retry()
        if self._descriptor is not None and time.monotonic() - self._opened_at > self._segment_seconds:
            self.close()

    def give_up(self) -> None:
        """Count what still waits as failed: the process ends."""
        self.failed += self.waiting
        self._held, self._held_bytes, self.waiting = [], 0, 0

    def close(self) -> None:
        """Close the current segment; the next write begins a new one."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                if self._path is not None and not os.fstat(descriptor).st_size:
                    self._path.unlink(missing_ok=True)  # a full disk makes a file and puts nothing into it
            with suppress(OSError):
                os.close(descriptor)

    def _append(self, lines: list[bytes]) -> None:
        """Write lines; a file that takes no more (a limit of its size, a quota) is followed by another one at once."""
        while True:
            began = written = 0
            data = b"".join(lines)
            try:
                descriptor = self._current()
                began = self._bytes
                while written < len(data):
                    written += os.write(descriptor, memoryview(data)[written:])
                if self._fsync:
                    os.fsync(descriptor)
            except OSError:
                whole = self._keep_whole_lines(lines, written)
                lines = lines[whole:]
                self.close()
                if lines and (began or whole):
                    continue
                self._retry_at = time.monotonic() + _RETRY_SECONDS
                self._hold(lines)
                raise
            self.written += len(lines)
            self._bytes += len(data)
            return

    def _keep_whole_lines(self, lines: list[bytes], written: int) -> int:
        """Cut off the line that the disk took a part of; give the number of lines that it took whole."""
        whole = size = 0
        while whole < len(lines) and size + len(lines[whole]) <= written:
            size += len(lines[whole])
            whole += 1
        if self._descriptor is not None and written > size:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._bytes + size)
        self.written += whole
        return whole

    def _hold(self, lines: list[bytes]) -> None:
        """Keep lines in memory, in order; what is too much is failed, and that is the newest."""
        for index, line in enumerate(lines):
            if self._held_bytes + len(line) > _MAX_WAITING_BYTES:
                self.failed += len(lines) - index
                return
            self._held.append(line)
            self._held_bytes += len(line)
            self.waiting += 1

    def _current(self) -> int:
        today = datetime.now(UTC).strftime("%Y-%m-%d")
        if self._descriptor is not None and os.fstat(self._descriptor).st_nlink == 0:
            report_problem("farthing.sinks.ledger", "its file was removed while it was written; another one is begun")
        elif self._descriptor is not None and self._day == today and self._bytes < self._segment_bytes:
            return self._descriptor
        self.close()
        make_private_folder(self.folder)
        path = self.folder / f"calls-{today}-{os.getpid()}-{uuid4().hex[:8]}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | _CLOSE_ON_EXEC, 0o600)
        with suppress(OSError):
            lock_file(descriptor)
        self._descriptor, self._day, self._bytes, self._opened_at = descriptor, today, 0, time.monotonic()
        self._path = path
        self._remove_old()
        return descriptor

    def _remove_old(self) -> None:
        """Remove finished files whose day is over for longer than they are kept, once a day.

        It counts from the last day before this one that has a file: a clock that jumps ahead must not take the whole
        history along.
        """
        today = datetime.now(UTC).date()
        if self._retention_days is None or self._cleaned_on == today:
            return
        self._cleaned_on = today
        days = {path: day for path in self.folder.glob("calls-*") if (day := _day_of(path)) is not None}
        last = max((day for day in days.values() if day < today), default=today)
        oldest_kept = last - timedelta(days=self._retention_days)
        for path in sorted(path for path, day in days.items() if day < oldest_kept):
            with suppress(OSError):
                descriptor = open_regular(path, os.O_RDONLY)
                try:
                    if lock_file(descriptor):
                        path.unlink()
                finally:
                    os.close(descriptor)


def _day_of(path: Path) -> date | None:
    """Give the day of a ledger file, by its name."""
    match = LEDGER_NAME.fullmatch(path.name)
    try:
        return None if match is None else date.fromisoformat(match[1])
    except ValueError:
        return None


def _line(call: Call) -> bytes:
    """Encode a Call; half a surrogate pair, which no UTF-8 can hold, becomes a question mark."""
    try:
        return call.model_dump_json().encode() + b"\n"
    except ValueError:
        told = json.dumps(call.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"))
        return told.encode("utf-8", "replace") + b"\n"


_CLOSE_ON_EXEC: Final = getattr(os, "O_CLOEXEC", 0)
