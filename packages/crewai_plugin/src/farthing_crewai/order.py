"""Events put back into the order they were emitted in.

CrewAI hands events to a pool of ten threads, so a call may be reported before the crew it belongs to, and an end before
its start. Every event names its parent: one whose parent has not been seen yet waits for it, together with the context
it was emitted in. What never arrives is given up after a grace, so that nothing waits for ever.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Final

from farthing.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Deferred", "Order"]

GRACE_SECONDS: Final = 5.0
"""How long an event waits for one emitted before it: far above the delay of CrewAI's thread pool."""
SETTLED_SECONDS: Final = 0.2
"""The same when flushing: by then the event bus has delivered everything, and only a call in mid-air could follow."""
_POLL_SECONDS: Final = 0.01
_MAX_WAITING: Final = 10_000


class Deferred:
    """A step that is taken once: when its time has come, or before."""

    __slots__ = ("_step", "is_done", "since")

    def __init__(self, step: Callable[[], None], *, since: float) -> None:
        self.since: Final = since
        self.is_done = False
        self._step: Callable[[], None] | None = step

    def __call__(self) -> None:
        """Take the step, if nobody has."""
        step, self._step, self.is_done = self._step, None, True
        if step is not None:
            step()


class Order:
    """Steps that wait for a key to be seen, or for the grace to be over.

    Args:
        lock: Held whenever a step is taken.
    """

    def __init__(self, *, lock: threading.RLock) -> None:
        self._lock = lock
        self._waiting: dict[Hashable, list[Deferred]] = {}
        self._deferred: deque[Deferred] = deque()
        self._timer: threading.Timer | None = None
        self._given_up: float | None = None
        """While a step is taken whose time was over: since when it had waited, which holds for what follows from it."""

    def __len__(self) -> int:
        return sum(len(steps) for steps in self._waiting.values())

    def wait(self, key: Hashable, step: Callable[[], None]) -> None:
        """Take a step in the context of this event when `key` is seen, at the latest when the grace is over."""
        later = self.in_time(partial(copy_context().run, step))
        self._waiting.setdefault(key, []).append(later)

    def seen(self, *keys: Hashable) -> None:
        """Take the steps that wait for any of the keys, in the order in which they came."""
        if not self._waiting:
            return
        steps = [step for key in keys for step in self._waiting.pop(key, ())]
        for step in sorted(steps, key=lambda step: step.since):
            step()

    def in_time(self, step: Callable[[], None]) -> Deferred:
        """Take a step when the grace is over, unless it was taken before."""
        self._drop_done()
        if self._given_up is None:
            deferred = Deferred(step, since=time.monotonic())
            self._deferred.append(deferred)
        else:
            deferred = Deferred(step, since=self._given_up)
            self._deferred.appendleft(deferred)  # the oldest stands first
        if len(self._deferred) > _MAX_WAITING:
            self._deferred.popleft()()
        if self._timer is None:
            self._arm(GRACE_SECONDS)
        return deferred

    def settle(self, timeout: float) -> None:
        """Take what waits now, giving calls in mid-air a moment.

        Args:
            timeout: In seconds.
        """
        begun = time.monotonic()
        until = begun + min(timeout, SETTLED_SECONDS + 2 * _POLL_SECONDS)
        while True:
            now = time.monotonic()
            self._give_up(older_than=now - SETTLED_SECONDS)
            with self._lock:
                oldest = self._deferred[0].since if self._deferred else now
            if oldest >= begun or now >= until:
                return
            time.sleep(_POLL_SECONDS)

    def clear(self) -> None:
        """Forget everything."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._waiting.clear()
        self._deferred.clear()

    def _arm(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        self._give_up(older_than=time.monotonic() - GRACE_SECONDS)
        with self._lock:
            self._timer = None
            if self._deferred:
                self._arm(max(_POLL_SECONDS, self._deferred[0].since + GRACE_SECONDS - time.monotonic()))

    @guarded
    def _give_up(self, *, older_than: float) -> None:
        with self._lock:
            try:
                while self._deferred and self._deferred[0].since <= older_than:
                    step = self._deferred.popleft()
                    self._given_up = step.since
                    step()
            finally:
                self._given_up = None
            for key in [key for key, steps in self._waiting.items() if all(step.is_done for step in steps)]:
                del self._waiting[key]
            self._drop_done()

    def _drop_done(self) -> None:
        while self._deferred and self._deferred[0].is_done:
            self._deferred.popleft()
