"""The worker between the meter and the sinks: a bounded queue, one thread, batches, flush, fork and exit."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from farthing.guard import report_fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from farthing.counting import Counters
    from farthing.runs import Run

__all__ = ["Delivery", "Event"]

Event = tuple[str, "Run"]

_GATHER_SECONDS: Final = 0.2
_YIELD_SECONDS: Final = 0.05
_IDLE_SECONDS: Final = 1.0
_MAX_BATCH: Final = 500
_STRUCTURE_SHARE: Final = 0.9
_FORK_SECONDS: Final = 5.0
_LONGEST_FORK_SECONDS: Final = 60.0
_PROGRESS_SECONDS: Final = 2.0


class Delivery:
    """Moves work off the caller's thread.

    Args:
        handle: Gets batches of events, on the worker.
        tick: Called about once a second on the worker, for sweeping.
        max_queue: Above it, events are dropped and counted: structure from 90 % on, bills only when full.
        counters: Where drops are counted.
        at_once: Whether each call is delivered on its caller's thread, as the process is about to end.
    """

    def __init__(
        self,
        *,
        handle: Callable[[list[Event]], None],
        tick: Callable[[bool], None],
        max_queue: int,
        counters: Counters,
        at_once: bool = False,
    ) -> None:
        self._handle = handle
        self._tick = tick
        self._max: Final = max_queue
        self._counters = counters
        self._at_once: Final = at_once
        self._start_afresh()
        _alive.add(self)

    def _start_afresh(self) -> None:
        self._queue: deque[Event | threading.Event] = deque()
        # Reentrant, as an Event is not: the collector may end a run, and so wake the worker, inside of either.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._hurry: SimpleQueue[None] = SimpleQueue()
        self._lock = threading.RLock()
        self._busy = threading.Lock()
        self._in_hand = 0
        self._forking: dict[int, bool] = {}
        self._thread: threading.Thread | None = None
        self._clock: int | None = None
        self._stopping = False
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._queue)

    def submit(self, kind: str, run: Run) -> None:
        """Hand over an event; never blocks.

        Raises:
            Nothing.
        """
        waiting = len(self._queue)
        if waiting >= self._max or (kind != "call" and waiting >= self._max * _STRUCTURE_SHARE):
            self._counters.add("dropped", f"queue-full:{kind}")
            return
        self._queue.append((kind, run))
        if self._at_once:
            self._drain()
            return
        if self._wake.empty():
            self._wake.put(None)
        if waiting == _MAX_BATCH and self._hurry.empty():
            self._hurry.put(None)
        if self._thread is None:
            self._ensure_thread()

    def begin(self) -> None:
        """Start the worker before there is an event for it: it also reads a changed policy.

        Raises:
            Nothing.
        """
        if self._thread is None:
            self._ensure_thread()

    def flush(self, timeout: float) -> bool:
        """Wait until everything submitted so far was handled.

        Args:
            timeout: In seconds.

        Returns:
            Whether that happened in time.
        """
        done = threading.Event()
        self._queue.append(done)
        self._hurry.put(None)
        self._wake.put(None)
        if not self._ensure_thread():
            self._drain()
        return done.wait(max(timeout, 0.0))

    def stop(self, timeout: float) -> bool:
        """Flush, then end the worker.

        Bills that still are in the queue go before a quick end: writing them down needs no backend, and that work gets
        time for as long as it gets on. The worker is waited for, as the interpreter kills a daemon thread wherever it
        is, and the process too if that is in native code.
        """
        flushed = self.flush(timeout)
        seen = self._progress()
        while not flushed and self._unfinished():
            flushed = self.flush(_PROGRESS_SECONDS)
            if seen == (seen := self._progress()):
                break
        self._stopping = True
        self._wake.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_IDLE_SECONDS)
        for item in tuple(self._queue):
            if not isinstance(item, threading.Event):
                self._counters.add("dropped", f"process-ended:{item[0]}")
        return flushed

    def _progress(self) -> tuple[int, float]:
        """Give what changes while the worker gets on: what it finished, and the processor time that it had.

        Its first batch loads prices and SDK, which takes many seconds on a machine that has no time for it.
        """
        seconds = 0.0
        if self._clock is not None:
            with suppress(OSError):  # the thread is gone
                seconds = time.clock_gettime(self._clock)
        return self._unfinished(), seconds

    def _unfinished(self) -> int:
        return self._in_hand + sum(not isinstance(item, threading.Event) for item in tuple(self._queue))

    def before_fork(self) -> None:
        """Let the worker come to rest, so that a child is not born with locks held by a thread that it does not have.

        Locks of imports among them: the first batch loads the SDK and the prices. A child that is born meanwhile never
        gets to export, so a worker that computes is waited for, and one that stands still is not.
        """
        thread = threading.get_ident()
        self._forking[thread] = False
        until = time.monotonic() + _LONGEST_FORK_SECONDS
        seen = self._progress()
        while not (held := self._busy.acquire(timeout=_FORK_SECONDS)):
            if seen == (seen := self._progress()) or time.monotonic() > until:
                break
        self._forking[thread] = held

    def after_fork_in_parent(self) -> None:
        """Let the worker go on, if this thread held it up; others may be forking too."""
        if self._forking.pop(threading.get_ident(), False):
            self._busy.release()

    def after_fork_in_child(self) -> None:
        """Begin again: what the parent queued is the parent's to deliver."""
        self._start_afresh()

    def _ensure_thread(self) -> bool:
        """Start the worker where none runs; say whether one runs now: at exit, Python 3.12 and newer start none."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._stopping = False
                thread = threading.Thread(target=self._work, name="farthing", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return False
                self._thread = thread
        return True

    def _work(self) -> None:
        if hasattr(time, "pthread_getcpuclockid"):  # elsewhere what is finished has to do
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
        last_tick = time.monotonic()
        while True:
            with suppress(Empty):
                self._wake.get(timeout=_IDLE_SECONDS)
            if self._queue and not self._stopping:
                with suppress(Empty):  # a batch costs less than its parts, and the caller keeps the interpreter
                    self._hurry.get(timeout=_GATHER_SECONDS)
            self._drain()
            if time.monotonic() - last_tick >= _IDLE_SECONDS:
                last_tick = time.monotonic()
                self._safely(lambda: self._tick(False))
            if self._stopping:
                return

    def _drain(self) -> None:
        batch: list[Event] = []
        while self._queue:
            if self._stopping and not batch:
                return
            item = self._queue.popleft()
            if isinstance(item, threading.Event):
                self._safely(lambda batch=batch: self._handle(batch))
                batch = []
                self._in_hand = 0
                self._safely(lambda: self._tick(True))
                item.set()
                continue
            batch.append(item)
            self._in_hand = len(batch)
            if len(batch) >= _MAX_BATCH:
                self._safely(lambda batch=batch: self._handle(batch))
                batch = []
                self._in_hand = 0
        if batch:
            self._safely(lambda: self._handle(batch))
            self._in_hand = 0

    def _safely(self, step: Callable[[], None]) -> None:
        if self._forking:
            time.sleep(_YIELD_SECONDS)  # a lock is not fair, and there may be a long queue
        with self._busy:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - the worker must outlive any fault
                report_fault("farthing.delivery", error, self._counters)


_alive: weakref.WeakSet[Delivery] = weakref.WeakSet()


def _before_fork() -> None:
    for delivery in list(_alive):
        delivery.before_fork()


def _after_fork_in_parent() -> None:
    for delivery in list(_alive):
        delivery.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for delivery in list(_alive):
        delivery.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
