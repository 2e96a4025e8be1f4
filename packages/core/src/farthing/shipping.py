"""Sends what the worker encoded: a thread for each destination, in order, with backoff, from memory while it is fresh.

A request is on disk before it is sent (`farthing.sinks.spool`); the thread only ever forgets what a receiver took, what
it cannot read, or what had to make room. Where there is no spool, or its disk is full, requests wait in memory. Sums
are on disk long before it is their time to be sent, so that a killed process leaves them to the next one.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Literal, Protocol

from farthing.guard import report_fault, report_problem
from farthing.otlp import Connection, spans_in
from farthing.sifting import sift
from farthing.sinks.segments import Record

if TYPE_CHECKING:
    from farthing.answers import Answer
    from farthing.counting import Counters
    from farthing.otlp import Destination
    from farthing.sinks.segments import Kind
    from farthing.sinks.spool import Spool

__all__ = ["Shipper"]

_MAX_BACKOFF_SECONDS: Final = 60.0
_MAX_RETRY_AFTER_SECONDS: Final = 900.0
_REQUEST_BYTES: Final = 2 << 20
_FRESH_BYTES: Final = 8 << 20
_UNSPOOLED_BYTES: Final = 32 << 20
_ADOPT_SECONDS: Final = 5.0
_JOIN_SECONDS: Final = 0.1
_KEEP_SECONDS: Final = 0.5
_KEEP_SHARE: Final = 0.02
"""Of the worker's time that keeping sums on disk may take."""


class Sums(Protocol):
    """What a destination of metrics is told, over and over."""

    @property
    def changes(self) -> int:
        """Grows with every measurement."""
        ...

    def encoded(self) -> bytes | None:
        """Give the present state as an encoded request, or None where there is none yet."""
        ...


class Shipper:
    """The sending thread of one destination, and what waits for it.

    Args:
        destination: Where to.
        word: What the counters call its contents.
        spool: Where requests wait; None keeps them in memory alone.
        counters: Where results are counted.
        sums: For metrics: what there is to send.
        interval_seconds: How often they are sent.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        word: Literal["spans", "metrics"],
        spool: Spool | None,
        counters: Counters,
        sums: Sums | None = None,
        interval_seconds: float = 60.0,
    ) -> None:
        self.destination: Final = destination
        self._word: Final = word
        self._spool: Final = spool
        self._counters = counters
        self._sums = sums
        self._interval: Final = interval_seconds
        self._connection: Final = Connection(destination)
        self._changed = threading.Condition()
        self._working = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waiting: deque[Record] = deque()
        self._fresh: deque[Record] = deque()
        self._fresh_bytes = 0
        self._last_snapshot: Record | None = None
        self._flying: list[Record] = []
        self._snapping: Final = threading.Lock()
        self._kept = 0
        self._keep_at = 0.0
        self._put = 0
        self._finished = 0
        self._asked = 0
        self._collected = 0
        self._collect_at = time.monotonic() + interval_seconds
        self._adopt_at = 0.0
        self._urgent = False
        self._closing = False
        self._failures = 0
        self._in_a_row = 0
        self._retry_at = 0.0
        self._told_until = 0.0
        self._refused_all = False

    @property
    def waiting(self) -> int:
        """Spans (or snapshots of metrics) that no receiver has taken yet."""
        with self._changed:
            return sum(record.count for record in self._waiting)

    @property
    def oldest_ns(self) -> int | None:
        """The time at which the oldest of them was handed over, in nanoseconds since the epoch."""
        with self._changed:
            return self._waiting[0].written_ns if self._waiting else None

    def put(self, kind: Kind, payload: bytes, count: int) -> None:
        """Hand over an encoded request; when this returns it is on disk, if the disk takes it.

        Args:
            kind: What is in it.
            payload: The encoded request.
            count: Spans in it.

        Raises:
            Nothing.
        """
        self._enqueue(self._stored(kind, payload, count))

    def ask(self) -> tuple[int, int, int]:
        """Ask for everything so far to be sent at once; `wait` takes the answer."""
        with self._changed:
            self._asked += 1
            self._urgent = True
            ticket = (self._put, self._asked, self._failures)
            self._start_thread()
            self._changed.notify_all()
        return ticket

    def wait(self, ticket: tuple[int, int, int], timeout: float) -> bool:
        """Wait for what was asked.

        Args:
            ticket: From `ask`.
            timeout: In seconds.

        Returns:
            Whether a receiver took all of it; False as soon as an attempt fails, for it is made again later.
        """
        deadline = time.monotonic() + timeout
        put, asked, failures = ticket

        def arrived() -> bool:
            return self._collected >= asked and self._finished >= (put if self._sums is None else self._put)

        def settled() -> bool:
            return arrived() or self._failures != failures or self._must_wait()

        if not self._can_start():
            while not settled() and time.monotonic() < deadline:
                self._step(deadline)
        with self._changed:
            self._changed.wait_for(settled, max(0.0, deadline - time.monotonic()))
            return arrived() and self._failures == failures

    def close(self) -> None:
        """End the thread; what is left stays in the spool."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._take_last_snapshot()
        with self._changed:
            left = list(self._waiting)
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)
        else:
            self._connection.close()
        lost = sum(record.count for record in left if record.segment is None and not self._spooled_late(record))
        if lost:
            self._counters.add("exported", f"{self._word}:lost", lost)
        if self._spool is not None:
            self._spool.close()

    def abandon(self) -> None:
        """Let go of the parent's files in a forked child."""
        self._closing = True
        if self._spool is not None:
            self._spool.abandon()

    def keep(self) -> None:
        """Have sums that changed on disk, for the next process if this one is killed; called on the worker.

        Raises:
            Nothing.
        """
        began = time.monotonic()
        if self._sums is None or self._spool is None or began < self._keep_at or self._sums.changes == self._kept:
            return
        try:
            self._take_snapshot(self._sums, to_send=False)
        except Exception as error:  # noqa: BLE001 - a metric's fault must not take bills along
            report_fault("farthing.shipping", error, self._counters)
        ended = time.monotonic()
        self._keep_at = ended + max(_KEEP_SECONDS, (ended - began) / _KEEP_SHARE)

    def cut_if_stuck(self) -> None:
        """Cut a request that never ends; called about once a second from another thread."""
        self._connection.cut_if_stuck()

    def start(self) -> None:
        """Begin to send snapshots, and what other processes left behind."""
        with self._changed:
            self._start_thread()

    def _stored(self, kind: Kind, payload: bytes, count: int) -> Record:
        if self._spool is not None:
            try:
                if kind == "metrics":
                    return self._spool.replace(kind, payload, count)
                return self._spool.append(kind, payload, count)
            except OSError as error:
                report_fault("farthing.sinks.spool", error, self._counters)
        return Record(kind, count, payload, len(payload))

    def _enqueue(self, record: Record) -> None:
        with self._changed:
            if record.segment is None:
                self._shed(record.length)
            else:
                self._keep_fresh(record)
            self._put += 1
            record.number = self._put
            self._waiting.append(record)
            self._start_thread()
            self._changed.notify_all()

    def _keep_fresh(self, record: Record) -> None:
        """Keep the newest requests in memory too, so that a healthy receiver costs no reading."""
        self._fresh.append(record)
        self._fresh_bytes += record.length
        while self._fresh and (self._fresh_bytes > _FRESH_BYTES or self._fresh[0].payload is None):
            oldest = self._fresh.popleft()
            self._fresh_bytes -= oldest.length
            oldest.payload = None

    def _shed(self, wanted_bytes: int) -> None:
        """Make room in memory where there is no disk: the oldest structure goes first, bills last."""
        held = sum(record.length for record in self._waiting if record.segment is None)
        for kind in ("structure", "bills"):
            for record in [record for record in self._waiting if record.segment is None and record.kind == kind]:
                if held + wanted_bytes <= _UNSPOOLED_BYTES:
                    return
                held -= record.length
                self._waiting.remove(record)
                self._counters.add("exported", f"{self._word}:lost", record.count)

    def _spooled_late(self, record: Record) -> bool:
        """Try the disk once more for what could not be written before."""
        if self._spool is None or record.payload is None:
            return False
        write = self._spool.append if self._sums is None else self._spool.replace
        try:
            write(record.kind, record.payload, record.count)
        except OSError:
            return False
        return True

    def _can_start(self) -> bool:
        with self._changed:
            return self._start_thread()

    def _start_thread(self) -> bool:
        """Start the thread where none runs; say whether one runs now: at exit, Python 3.12 and newer start none."""
        if self._closing:
            return False
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._work, name=f"farthing-{self._word}", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        return True

    def _work(self) -> None:
        while not self._closing:
            with self._changed:
                put, asked = self._put, self._asked
            try:
                wait = self._step(None)
            except Exception as error:  # noqa: BLE001 - the thread must outlive any fault
                report_fault("farthing.shipping", error, self._counters)
                wait = 1.0
            with self._changed:
                self._changed.notify_all()
                if wait > 0 and not self._closing:
                    self._changed.wait_for(
                        lambda put=put, asked=asked: self._closing or self._put != put or self._asked != asked, wait
                    )
        self._connection.close()

    def _step(self, deadline: float | None) -> float:
        """Do what is due; give the seconds until something may be."""
        with self._working:
            now = time.monotonic()
            self._collect(now)
            if now >= self._adopt_at and (self._refused_all or (not self._waiting and now >= self._retry_at)):
                self._adopt(now)  # what is refused alone may be put aside once something of others is taken
            if not self._waiting:
                self._urgent = False
                return _ADOPT_SECONDS if self._sums is None else min(_ADOPT_SECONDS, self._collect_at - now)
            if now < self._told_until or (now < self._retry_at and not self._urgent):
                return max(self._retry_at, self._told_until) - now
            limit = self.destination.timeout_seconds
            self._send(limit if deadline is None else max(0.05, min(limit, deadline - now)))
            return 0.0

    def _must_wait(self) -> bool:
        """Say whether the receiver asked for time that is not over yet."""
        return time.monotonic() < self._told_until and bool(self._waiting)

    def _collect(self, now: float) -> None:
        """Take a snapshot when its time has come or somebody asks; it stands for all earlier ones of this process."""
        asked = self._asked
        if self._sums is not None and (asked > self._collected or now >= self._collect_at):
            self._collect_at = now + self._interval
            self._take_snapshot(self._sums, to_send=True)
        self._collected = asked

    def _take_snapshot(self, sums: Sums, *, to_send: bool) -> None:
        """Write the present sums down instead of the earlier ones; send them if that was due for those as well."""
        with self._snapping:
            changes, payload = sums.changes, sums.encoded()
            if payload is None:
                return
            record = self._stored("metrics", payload, 1)
            earlier, self._last_snapshot, self._kept = self._last_snapshot, record, changes
            with self._changed:
                if earlier is not None and earlier in self._waiting:
                    self._waiting.remove(earlier)
                    to_send = to_send or earlier not in self._flying
            if to_send:
                self._enqueue(record)

    def _take_last_snapshot(self) -> None:
        """Keep the sums that were asked for and that the thread had no time for: the next process sends them."""
        idle = self._working.acquire(timeout=_JOIN_SECONDS)  # else it is sending, and will not collect any more
        try:
            if self._asked > self._collected:
                self._collect(time.monotonic())
        except Exception as error:  # noqa: BLE001 - the end must not fail for a metric
            report_fault("farthing.shipping", error, self._counters)
        finally:
            if idle:
                self._working.release()

    def _adopt(self, now: float) -> None:
        if self._spool is None:
            self._adopt_at = float("inf")
            return
        found = self._spool.adopt(("bills", "structure") if self._sums is None else ("metrics",))
        if found:
            with self._changed:
                self._waiting.extendleft(reversed(found))
        else:
            self._adopt_at = now + _ADOPT_SECONDS

    def _payload(self, record: Record) -> bytes | None:
        return record.payload if self._spool is None else self._spool.read(record)

    def _send(self, timeout_seconds: float) -> None:
        """Send the oldest requests as one.

        Export requests are joined by joining their bytes, as every field of theirs repeats.
        """
        with self._changed:
            oldest: list[Record] = []
            size = 0
            for record in self._waiting:
                if oldest and size + record.length > _REQUEST_BYTES:
                    break
                oldest.append(record)
                size += record.length
        parts: list[bytes] = []
        for record in oldest:
            payload = self._payload(record)
            if payload is None:
                self._forget([record])
            else:
                parts.append(payload)
        records = [record for record in oldest if record in self._waiting]
        if not parts or len(parts) != len(records):
            return
        self._flying = records
        answer = self._connection.post(b"".join(parts), timeout_seconds=timeout_seconds)
        self._flying = []
        if answer.verdict == "taken":
            self._refused_all = False
            self._succeeded(answer, sum(record.count for record in records))
            self._forget(records, sent=True)
        elif answer.verdict == "later":
            self._failed(answer)
        else:
            self._send_apart(records, parts, timeout_seconds)

    def _send_apart(self, records: list[Record], requests: list[bytes], timeout_seconds: float) -> None:
        """Send what was refused in ever smaller pieces, and put aside those that the receiver cannot read."""
        found = sift(
            requests,
            lambda piece: self._connection.post(piece, timeout_seconds=timeout_seconds),
            splits=self._word == "spans",
            first=not self._refused_all,
        )
        for answer, spans in found.taken:
            self._succeeded(answer, spans)
        for number, piece, answer in found.refused:
            self._counters.add("exported", f"{self._word}:refused", spans_in(piece) if self._word == "spans" else 1)
            report_problem(f"farthing.export.{self._word}", f"{answer.reason}: refused for good", self._counters)
            if self._spool is not None:
                self._spool.keep_refused(records[number], piece)
        self._forget([records[number] for number in found.settled])
        self._refused_all = not found.taken
        if found.stopped is not None:
            self._failed(found.stopped)

    def _forget(self, records: list[Record], *, sent: bool = False) -> None:
        with self._changed:
            for record in records:
                if self._waiting and self._waiting[0] is record:
                    self._waiting.popleft()
                elif record in self._waiting:
                    self._waiting.remove(record)
                record.payload = None
                self._finished = max(self._finished, record.number)
        if self._spool is None:
            return
        if self._sums is not None and sent:
            with self._snapping:
                if self._last_snapshot in records and self._last_snapshot.segment is None:
                    self._spool.discard("metrics")  # older sums from before the disk was full
        for record in records:
            if self._spool.done(record) and sent:  # it was on its way while it had to make room
                self._counters.add("exported", f"{self._word}:lost", -record.count)

    def _succeeded(self, answer: Answer, count: int) -> None:
        self._in_a_row = 0
        self._retry_at = self._told_until = 0.0
        rejected = min(answer.rejected, count)  # of a snapshot with rejected points, the whole
        self._counters.add("exported", f"{self._word}:sent", count - rejected)
        if rejected:
            self._counters.add("exported", f"{self._word}:rejected", rejected)
            report_problem(f"farthing.export.{self._word}", "the receiver rejects some", self._counters)

    def _failed(self, answer: Answer) -> None:
        self._in_a_row += 1
        self._urgent = False
        self._counters.add("exported", f"{self._word}:attempts-failed")
        report_problem(f"farthing.export.{self._word}", answer.reason, self._counters)
        wait = min(_MAX_BACKOFF_SECONDS, 2.0 ** min(self._in_a_row - 1, 6)) * random.uniform(0.8, 1.2)  # noqa: S311
        now = time.monotonic()
        self._told_until = now + min(answer.retry_after_seconds or 0.0, _MAX_RETRY_AFTER_SECONDS)
        self._retry_at = max(now + wait, self._told_until)  # "Retry-After: 0" is no leave to ask without end
        with self._changed:
            self._failures += 1
            if self._sums is not None and self._last_snapshot not in self._waiting:
                self._collect_at = time.monotonic()  # newer sums were kept while the older were on their way
