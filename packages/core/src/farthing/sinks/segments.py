"""The files of a spool: how they are named and laid out, what a reader finds in them, and how they are written.

segment = header, frame, frame, ...
header  = magic, offset of the first frame that no receiver has taken
frame   = marker, length, CRC-32, number of spans, time in nanoseconds, then an encoded export request

The checksum is of the length, the number, the time and the request; of segments that say version 1, of the request.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from farthing.files import open_regular

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

__all__ = [
    "FIRST_MAGIC",
    "FRAME",
    "HEADER",
    "MAGIC",
    "MARKER",
    "Kind",
    "Record",
    "Segment",
    "SpoolContents",
    "checksum",
    "create_private",
    "folder_bytes",
    "frames",
    "remove",
    "segments",
    "spool_contents",
    "write_all",
]

Kind = Literal["structure", "bills", "metrics"]
"""Also the order in which room is made: structure goes first, bills and sums last."""

Verdict = Literal["", "torn", "damaged"]

MAGIC: Final = b"farthing-spool/2\n"
FIRST_MAGIC: Final = b"farthing-spool/1\n"
HEADER: Final = struct.Struct("<17s7xQ")
MARKER: Final = b"REQ\n"
FRAME: Final = struct.Struct("<4sIIIQ")
_SEALED: Final = struct.Struct("<IIQ")
_MAX_REQUEST_BYTES: Final = 1 << 26
_SPAN_BYTES: Final = 64
"""No span of ours takes less; it bounds a number of spans that cannot be trusted."""
_NAME: Final = re.compile(r"(structure|bills|metrics)-([0-9a-f]{8})-\d{20}-\d{6}-\d+-[0-9a-f]{8}\.spool")


class Record:
    """One request that waits."""

    __slots__ = ("count", "kind", "length", "number", "offset", "payload", "segment", "written_ns")

    def __init__(self, kind: Kind, count: int, payload: bytes | None, length: int) -> None:
        self.kind: Final = kind
        self.count: Final = count
        """Spans in it."""
        self.length: Final = length
        self.payload = payload
        """None where only the disk has it."""
        self.segment: Segment | None = None
        """None where no disk has it."""
        self.offset = 0
        self.written_ns = time.time_ns()
        self.number = 0
        """Its place among the requests of this process; 0 for one of another's."""


class Segment:
    """One file of the spool, open and locked by this process."""

    __slots__ = ("damaged", "descriptor", "kind", "lost", "magic", "path", "size", "waiting", "waiting_spans")

    def __init__(self, path: Path, descriptor: int, kind: Kind, size: int) -> None:
        self.path: Final = path
        self.descriptor: int | None = descriptor
        self.kind: Final = kind
        self.size = size
        self.waiting = 0
        """Records that no receiver has taken."""
        self.waiting_spans = 0
        self.lost = False
        self.damaged = False
        self.magic = MAGIC


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolContents:
    """What waits in a spool folder, as seen from outside."""

    segments: int
    """Files that hold something."""
    size_bytes: int
    oldest_seconds: float
    """Since the oldest of them was written to; 0 when there is none."""
    quarantined: tuple[str, ...]
    """Names of the files that were put aside, or will be: what has a segment's name and is none."""
    foreign: int = 0
    """Files of the above that are for receivers which nobody named."""
    foreign_seconds: float = 0.0
    """Since the oldest of those was written to."""


def spool_contents(folder: Path, tags: Collection[str] | None = None) -> SpoolContents:
    """Look into a spool folder without touching anything.

    Args:
        folder: The spool's.
        tags: Of the receivers that are in use; None takes all for that.

    Raises:
        OSError: The quarantine cannot be listed.
    """
    held: list[os.stat_result] = []
    foreign: list[os.stat_result] = []
    strange: list[str] = []
    for path, _, tag in segments(folder):
        with suppress(OSError):
            if not stat.S_ISREG(path.lstat().st_mode):
                strange.append(path.name)
                continue
        with suppress(OSError), os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
            head = file.read(HEADER.size)
            status = os.fstat(file.fileno())
            if len(head) < HEADER.size or not head.startswith((MAGIC, FIRST_MAGIC)):
                strange += [path.name] if status.st_size else []
            elif HEADER.unpack(head)[1] < status.st_size:
                held.append(status)
                foreign += [status] if tags is not None and tag not in tags else []
    quarantine = folder / "quarantine"
    return SpoolContents(
        segments=len(held),
        size_bytes=sum(status.st_size for status in held),
        oldest_seconds=_oldest_seconds(held),
        foreign=len(foreign),
        foreign_seconds=_oldest_seconds(foreign),
        quarantined=(*strange, *(sorted(path.name for path in quarantine.iterdir()) if quarantine.is_dir() else ())),
    )


def checksum(magic: bytes, frame: bytes, payload: bytes) -> int:
    """Compute what the CRC-32 of a frame must be.

    Args:
        magic: Of its segment.
        frame: Its header.
        payload: Its request.
    """
    _, length, _, count, written_ns = FRAME.unpack_from(frame)
    return zlib.crc32(payload, 0 if magic == FIRST_MAGIC else zlib.crc32(_SEALED.pack(length, count, written_ns)))


def frames(
    magic: bytes, data: bytes, offset: int
) -> tuple[list[tuple[int, int, int, int]], Literal["", "torn", "damaged"]]:
    """Find the frames of a segment from an offset on, those behind a damaged one too.

    Args:
        magic: The segment's.
        data: The segment, whole.
        offset: The first frame that no receiver has taken.

    Returns:
        Offset, length, number of spans and time of each; and whether the end is torn or something is damaged.
    """
    found: list[tuple[int, int, int, int]] = []
    verdict: Verdict = ""
    if not HEADER.size <= offset <= len(data):
        offset, verdict = HEADER.size, "damaged" if len(data) > HEADER.size else ""
    while offset + FRAME.size <= len(data):
        marker, length, _, count, written_ns = FRAME.unpack_from(data, offset)
        end = offset + FRAME.size + length
        if _is_whole(magic, data, offset):
            found.append((offset, length, count, written_ns))
            offset = end
            continue
        if marker == MARKER and (end == len(data) or data.startswith(MARKER, end)):
            found.append((offset, length, min(count, 1 + length // _SPAN_BYTES), written_ns))  # its reader will see
            offset = end
            continue
        following = data.find(MARKER, offset + 1)
        while following >= 0 and not _is_whole(magic, data, following):
            following = data.find(MARKER, following + 1)
        if following < 0:
            torn = marker == MARKER and end > len(data) and length <= _MAX_REQUEST_BYTES
            return found, verdict or ("torn" if torn else "damaged")
        offset, verdict = following, "damaged"
    return found, verdict


def _is_whole(magic: bytes, data: bytes, offset: int) -> bool:
    if offset + FRAME.size > len(data):
        return False
    marker, length, expected, _, _ = FRAME.unpack_from(data, offset)
    start = offset + FRAME.size
    if marker != MARKER or length > _MAX_REQUEST_BYTES or start + length > len(data):
        return False
    return checksum(magic, data[offset:start], data[start : start + length]) == expected


def _oldest_seconds(found: Sequence[os.stat_result]) -> float:
    return max((time.time() - status.st_mtime for status in found), default=0.0)


def segments(folder: Path) -> list[tuple[Path, Kind, str]]:
    """Give what is named like a segment, by name: path, kind and the tag of its destination."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names are enough
    except OSError:
        return []
    matches = ((folder / name, _NAME.fullmatch(name)) for name in names)
    return [(path, cast("Kind", match[1]), match[2]) for path, match in matches if match is not None]


def folder_bytes(folder: Path) -> int:
    """Add up what stands in a spool folder and in its quarantine."""
    total = 0
    for path in (*folder.glob("*"), *folder.glob("quarantine/*")):
        with suppress(OSError):
            total += path.lstat().st_size
    return total


def remove(path: Path) -> int:
    """Delete a file, and give the bytes gained."""
    try:
        size = path.lstat().st_size
        path.unlink()
    except OSError:
        return 0
    return size


def create_private(path: Path) -> int:
    """Create a file that only its user can read, and give its descriptor.

    Raises:
        OSError: It cannot be created, or is there already.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of it at a place.

    Raises:
        OSError: The disk did not take it all.
    """
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)
