"""The ledger: append-only JSON lines on this machine, one Call a line, one file per process and day.

A batch is one write of whole lines, so that a crash can tear the last line only.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from io import FileIO
from typing import TYPE_CHECKING, Final
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from farthing.envelope import Call

__all__ = ["LedgerSink"]

_RETRY_SECONDS: Final = 5.0
_MAX_BYTES: Final = 256 * 1024 * 1024


class LedgerSink:
    """Appends Calls to a folder that is private to the user.

    Args:
        folder: Created when the first Call arrives.
    """

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self.written = 0
        """Calls on disk."""
        self.failed = 0
        """Calls that could not be written."""
        self._file: FileIO | None = None
        self._opened: tuple[str, int] | None = None
        self._bytes = 0
        self._retry_at = 0.0

    def write(self, calls: Iterable[Call]) -> None:
        """Append a batch.

        Raises:
            OSError: The folder or file cannot be written; the batch is counted as failed.
        """
        data = b"".join(call.model_dump_json().encode() + b"\n" for call in calls)
        total = data.count(b"\n")
        if time.monotonic() < self._retry_at:
            self.failed += total
            return
        written = 0
        try:
            file = self._current()
            while written < len(data):
                written += file.write(data[written:]) or 0
        except OSError:
            # The disk may have taken a part: whole lines count as kept, and the torn one is left behind in a file
            # that is never written again.
            whole = data.count(b"\n", 0, written)
            self.written += whole
            self.failed += total - whole
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            self.close()
            raise
        self.written += total
        self._bytes += len(data)

    def close(self) -> None:
        """Close the current file; the next write opens a new one."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                self._opened = None

    def _current(self) -> FileIO:
        today = datetime.now(UTC).strftime("%Y-%m-%d")
        if self._file is not None and self._opened == (today, os.getpid()) and self._bytes < _MAX_BYTES:
            return self._file
        self.close()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"calls-{today}-{os.getpid()}-{uuid4().hex[:8]}.jsonl"
        self._file = FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600), "a")
        self._opened = (today, os.getpid())
        self._bytes = 0
        return self._file
