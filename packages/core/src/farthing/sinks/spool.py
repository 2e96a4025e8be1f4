"""The spool: OTLP requests on disk until a receiver has taken them, from this process or the next one.

Every request is written here before it is sent, so that neither an outage nor a killed process loses it. A process
appends to segments of its own, one for each kind, and holds a lock on each. A segment without its lock belongs to a
process that is gone: whoever finds it takes it over. The header of a segment says how far it was taken, so that what
was sent is not sent again, but for the one request that was on its way when its process died; span ids make that
harmless. How they look: segments.py.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast
from uuid import uuid4

from farthing.files import lock_file, make_private_folder, open_regular
from farthing.guard import report_fault, report_problem
from farthing.sinks.segments import (
    FIRST_MAGIC,
    FRAME,
    HEADER,
    MAGIC,
    MARKER,
    Kind,
    Record,
    Segment,
    checksum,
    create_private,
    folder_bytes,
    frames,
    remove,
    segments,
    write_all,
)

if TYPE_CHECKING:
    from pathlib import Path

    from farthing.counting import Counters

__all__ = ["Spool"]

_RANKS: Final = {"structure": 0, "bills": 1, "metrics": 2}
_SEGMENT_BYTES: Final = 4 << 20
_RESET_BYTES: Final = 64 << 10
_QUARANTINE_BYTES: Final = 16 << 20
_SCAN_SECONDS: Final = 10.0
_STRANDED_SECONDS: Final = 3_600.0
_DAY_SECONDS: Final = 86_400.0


class Spool:
    """The segments of one process in a folder that it shares with others.

    Args:
        folder: Created when the first request is written.
        tag: Tells receivers and tenants apart: a segment is only ever sent to the one that it was written for.
        max_bytes: Of the whole folder; above it, the oldest structure goes first and bills last.
        max_age_seconds: Segments that nobody could deliver for so long are given up.
        counters: Where losses are counted.
    """

    def __init__(self, folder: Path, *, tag: str, max_bytes: int, max_age_seconds: float, counters: Counters) -> None:
        self.folder: Final = folder
        self._tag: Final = tag
        self._max_bytes: Final = max_bytes
        self._max_age_seconds: Final = max_age_seconds
        self._counters = counters
        self._segment_bytes: Final = max(_RESET_BYTES, min(_SEGMENT_BYTES, max_bytes // 16))
        self._lock = threading.Lock()
        self._own: dict[Path, Segment] = {}
        self._active: dict[Kind, Segment] = {}
        self._began_ns: Final = time.time_ns()
        self._made = 0
        self._foreign_bytes = 0
        self._scanned_at = float("-inf")
        self._stranded: set[Path] = set()

    def append(self, kind: Kind, payload: bytes, count: int) -> Record:
        """Write a request.

        Args:
            kind: What is in it.
            payload: The encoded request.
            count: Spans in it.

        Raises:
            OSError: It could not be written, and nothing of it was.
        """
        record = Record(kind, count, payload, len(payload))
        with self._lock:
            self._append(record, payload)
        return record

    def replace(self, kind: Kind, payload: bytes, count: int) -> Record:
        """Write a request that makes the earlier ones of its kind from this process needless.

        Args:
            kind: As for `append`.
            payload: As for `append`.
            count: As for `append`.

        Raises:
            OSError: As for `append`.
        """
        record = Record(kind, count, payload, len(payload))
        with self._lock:
            earlier = self._active.pop(kind, None)
            try:
                self._append(record, payload)
            except OSError:
                if earlier is not None:
                    self._active[kind] = earlier
                raise
            if earlier is not None:
                self._remove(earlier)
        return record

    def discard(self, kind: Kind) -> None:
        """Forget the last request of a kind that `replace` wrote: a receiver took a newer one that no disk has.

        Raises:
            Nothing.
        """
        with self._lock:
            earlier = self._active.pop(kind, None)
            if earlier is not None:
                self._remove(earlier)

    def read(self, record: Record) -> bytes | None:
        """Give the request of a record, or None where it is damaged or had to make room."""
        payload, segment = record.payload, record.segment
        if segment is None:
            return payload
        with self._lock:
            if segment.lost:
                return None
            if payload is not None or segment.descriptor is None:
                return payload
            try:
                frame = os.pread(segment.descriptor, FRAME.size + record.length, record.offset)
            except OSError as error:
                report_fault("farthing.sinks.spool.read", error, self._counters)
                return None
        payload = frame[FRAME.size :]
        whole = len(payload) == record.length
        if whole and checksum(segment.magic, frame, payload) == FRAME.unpack_from(frame)[2]:
            return payload
        segment.damaged = True
        self._counters.add("exported", "spans:damaged", record.count)
        return None

    def done(self, record: Record) -> bool:
        """Note that a record needs no sending any more; say whether it had already been counted as lost."""
        segment = record.segment
        if segment is None:
            return False
        with self._lock:
            if segment.lost:
                return True
            segment.waiting -= 1
            segment.waiting_spans -= record.count
            if segment.descriptor is None:
                return False
            try:
                self._advance(segment, record.offset + FRAME.size + record.length)
            except OSError as error:
                report_fault("farthing.sinks.spool.ack", error, self._counters)
        return False

    def adopt(self, kinds: tuple[Kind, ...] = ("bills", "structure")) -> list[Record]:
        """Take over the oldest segment that a process left behind; give its requests in order.

        Args:
            kinds: Which of those for other receivers are named where nobody has sent them for long.
        """
        with self._lock:
            for path, kind, tag in segments(self.folder):
                if tag == self._tag and path not in self._own:
                    records = self._take_over(path, kind)
                    if records:
                        return records
                elif tag != self._tag and kind in kinds:
                    self._name_stranded(path)
        return []

    def keep_refused(self, record: Record, payload: bytes) -> None:
        """Put aside a request that the receiver calls unreadable, so that somebody can look at it."""
        self._quarantine(f"refused-{record.kind}-{time.time_ns():020d}-{uuid4().hex[:8]}.otlp", payload)

    def close(self) -> None:
        """Leave what nobody has taken to the next process."""
        with self._lock:
            self._restore_removed()
            for segment in list(self._own.values()):
                if segment.waiting:
                    self._release(segment)
                else:
                    self._remove(segment)
            self._active.clear()
            with suppress(OSError):
                self.folder.rmdir()  # where nothing is left of anybody's

    def abandon(self) -> None:
        """Let go of the parent's files in a forked child, whatever its locks were doing."""
        for segment in self._own.values():
            descriptor, segment.descriptor = segment.descriptor, None
            if descriptor is not None:
                with suppress(OSError):
                    os.close(descriptor)
        self._own.clear()
        self._active.clear()

    def _append(self, record: Record, payload: bytes) -> None:
        self._restore_removed()
        self._make_room(FRAME.size + len(payload))
        segment = self._active.get(record.kind)
        if segment is None or segment.descriptor is None or segment.size >= self._segment_bytes:
            segment = self._active[record.kind] = self._create(record.kind)
        descriptor = cast("int", segment.descriptor)
        facts = (record.count, time.time_ns())
        crc = checksum(segment.magic, FRAME.pack(MARKER, len(payload), 0, *facts), payload)
        frame = FRAME.pack(MARKER, len(payload), crc, *facts) + payload
        try:
            write_all(descriptor, frame, segment.size)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, segment.size)
            raise
        record.segment, record.offset = segment, segment.size
        segment.size += len(frame)
        segment.waiting += 1
        segment.waiting_spans += record.count

    def _create(self, kind: Kind) -> Segment:
        """Make a segment; it gets its name once it is locked and whole, so that nobody takes it for a leftover."""
        self._made += 1
        name = f"{kind}-{self._tag}-{self._began_ns:020d}-{self._made:06d}-{os.getpid()}-{uuid4().hex[:8]}.spool"
        path = self.folder / name
        descriptor = self._put_down(path, HEADER.pack(MAGIC, HEADER.size))
        segment = self._own[path] = Segment(path, descriptor, kind, HEADER.size)
        return segment

    def _put_down(self, path: Path, data: bytes) -> int:
        """Make a locked file with this in it, and give its descriptor."""
        hidden = path.with_name(f".{path.name}")
        try:
            make_private_folder(self.folder)
            descriptor = create_private(hidden)
        except FileNotFoundError:  # another process has just removed the folder, as it was empty
            make_private_folder(self.folder)
            descriptor = create_private(hidden)
        try:
            with suppress(OSError):
                lock_file(descriptor)  # where the file system knows no locks, nobody takes over either
            write_all(descriptor, data, 0)
            hidden.rename(path)
        except OSError:
            os.close(descriptor)
            with suppress(OSError):
                hidden.unlink()
            raise
        return descriptor

    def _restore_removed(self) -> None:
        """Write down again what somebody removed from under us while nobody had taken it."""
        for segment in list(self._own.values()):
            descriptor = segment.descriptor
            try:
                if descriptor is None or os.fstat(descriptor).st_nlink:
                    continue
                report_problem("farthing.sinks.spool", "a segment was removed while it was written", self._counters)
                segment.descriptor = self._put_down(segment.path, os.pread(descriptor, segment.size, 0))
                os.close(descriptor)
            except OSError as error:
                report_fault("farthing.sinks.spool.restore", error, self._counters)

    def _advance(self, segment: Segment, offset: int) -> None:
        descriptor = cast("int", segment.descriptor)
        if segment.waiting:
            write_all(descriptor, HEADER.pack(segment.magic, offset), 0)
        elif segment is not self._active.get(segment.kind):
            self._remove(segment)
        elif segment.size >= _RESET_BYTES:
            os.ftruncate(descriptor, HEADER.size)
            segment.size = HEADER.size
            write_all(descriptor, HEADER.pack(segment.magic, segment.size), 0)
        else:
            write_all(descriptor, HEADER.pack(segment.magic, segment.size), 0)

    def _remove(self, segment: Segment) -> None:
        try:
            if segment.damaged:
                self._put_aside(segment.path)
            else:
                segment.path.unlink(missing_ok=True)
        except OSError as error:
            report_fault("farthing.sinks.spool.remove", error, self._counters)
        self._release(segment)

    def _release(self, segment: Segment) -> None:
        descriptor, segment.descriptor = segment.descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)
        self._own.pop(segment.path, None)
        if self._active.get(segment.kind) is segment:
            del self._active[segment.kind]

    def _make_room(self, wanted_bytes: int) -> None:
        own_bytes = sum(segment.size for segment in self._own.values())
        now = time.monotonic()
        if now - self._scanned_at > _SCAN_SECONDS:
            self._scanned_at = now
            self._foreign_bytes = max(0, folder_bytes(self.folder) - own_bytes)
        if own_bytes + self._foreign_bytes + wanted_bytes <= self._max_bytes:
            return
        self._scanned_at = now
        excess = folder_bytes(self.folder) + wanted_bytes - self._max_bytes
        for path in sorted((self.folder / "quarantine").glob("*")):
            if excess > 0:
                excess -= remove(path)
        for path, kind, _ in sorted(segments(self.folder), key=lambda found: (_RANKS[found[1]], found[0].name)):
            if excess <= 0:
                break
            excess -= self._give_up(path, kind, "spool_max_megabytes is reached")
        self._foreign_bytes = max(0, folder_bytes(self.folder) - sum(s.size for s in self._own.values()))

    def _give_up(self, path: Path, kind: Kind, why: str) -> int:
        """Delete a segment that is ours or nobody's, count what was in it, and give the bytes gained."""
        segment = self._own.get(path)
        if segment is None:
            records = self._take_over(path, kind)
            segment = records[0].segment if records else None
        if segment is None:
            return 0
        segment.lost = True
        self._counters.add("exported", f"{_what(kind)}:lost", segment.waiting_spans or segment.waiting)
        report_problem("farthing.sinks.spool", f"{kind} are lost: {why}", self._counters)
        size = segment.size
        self._remove(segment)
        return size

    def _name_stranded(self, path: Path) -> None:
        """Say once of a segment for another receiver or tenant that nobody has sent for long, and nobody holds."""
        if path in self._stranded:
            return
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime < _STRANDED_SECONDS:
                return
            descriptor = open_regular(path, os.O_RDWR)
            try:
                if not lock_file(descriptor):
                    return
            finally:
                os.close(descriptor)
            self._stranded.add(path)
            self._counters.add("spool", "stranded")
            report_problem(
                "farthing.sinks.spool", "segments wait for a receiver that nobody exports to", self._counters
            )

    def _take_over(self, path: Path, kind: Kind) -> list[Record]:
        try:
            descriptor = open_regular(path, os.O_RDWR)
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.ELOOP}:
                self._put_strange_aside(path)
            return []  # else its owner has just finished with it, or it is not ours to read
        try:
            if not lock_file(descriptor):
                os.close(descriptor)
                return []
            status = os.fstat(descriptor)
            if not status.st_nlink:
                os.close(descriptor)
                return []
            segment = Segment(path, descriptor, kind, status.st_size)
            records = self._index(segment)
        except OSError as error:
            os.close(descriptor)
            report_fault("farthing.sinks.spool.adopt", error, self._counters)
            return []
        self._own[path] = segment
        if not records:
            self._remove(segment)
        elif self._age_seconds(status.st_mtime) > self._max_age_seconds:
            self._give_up(path, kind, "nobody took them for spool_max_age_hours")
            return []
        return records

    def _age_seconds(self, written: float) -> float:
        """Give the age of what was written at a time, counted from the last moment before this day that left a segment.

        A clock that jumps ahead must not take the whole spool along: the same guard as that of the ledger's retention.
        """
        now = time.time()
        if now - written <= self._max_age_seconds:
            return now - written
        times: list[float] = []
        for path, _, _ in segments(self.folder):
            with suppress(OSError):
                times.append(path.lstat().st_mtime)
        return max((moment for moment in times if moment < now - _DAY_SECONDS), default=now) - written

    def _index(self, segment: Segment) -> list[Record]:
        """Find the frames of a segment that no receiver has taken."""
        descriptor, size = cast("int", segment.descriptor), segment.size
        data = os.pread(descriptor, size, 0)
        if len(data) < HEADER.size or not data.startswith((MAGIC, FIRST_MAGIC)):
            segment.damaged = size > 0
            self._counters.add("spool", "damaged")
            return []
        segment.magic = data[: len(MAGIC)]
        found, verdict = frames(segment.magic, data, HEADER.unpack_from(data)[1])
        segment.damaged = verdict == "damaged"
        if verdict:
            self._counters.add("spool", verdict)
        records: list[Record] = []
        for offset, length, count, written_ns in found:
            record = Record(segment.kind, count, None, length)
            record.segment, record.offset, record.written_ns = segment, offset, written_ns
            records.append(record)
        segment.waiting = len(records)
        segment.waiting_spans = sum(record.count for record in records)
        return records

    def _put_strange_aside(self, path: Path) -> None:
        """Put aside a pipe, a link or a folder by the name of a segment; what is in it is left alone."""
        self._counters.add("spool", "damaged")
        try:
            self._put_aside(path)
        except OSError as error:
            report_fault("farthing.sinks.spool.remove", error, self._counters)

    def _put_aside(self, path: Path) -> None:
        folder = self.folder / "quarantine"
        make_private_folder(folder)
        path.rename(folder / path.name)
        report_problem("farthing.sinks.spool", f"a damaged segment is quarantined: {path.name}", self._counters)

    def _quarantine(self, name: str, payload: bytes) -> None:
        folder = self.folder / "quarantine"
        try:
            make_private_folder(folder)
            if folder_bytes(folder) + len(payload) > _QUARANTINE_BYTES:
                return
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                write_all(descriptor, payload, 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            report_fault("farthing.sinks.spool.quarantine", error, self._counters)


def _what(kind: Kind) -> str:
    return "metrics" if kind == "metrics" else "spans"
