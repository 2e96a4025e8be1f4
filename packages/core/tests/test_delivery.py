"""The end of the worker: what gets on is waited for, what hangs is not, and what is left is counted."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from farthing.counting import Counters
from farthing.delivery import Delivery

if TYPE_CHECKING:
    from farthing.delivery import Event


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take half a second without progress for a standstill."""
    monkeypatch.setattr("farthing.delivery._PROGRESS_SECONDS", 0.5)


def delivery(handle: Any, counters: Counters) -> Delivery:
    """Make one that handles its events so."""
    return Delivery(handle=handle, tick=lambda _: None, max_queue=100_000, counters=counters)


def test_work_that_gets_on_is_waited_for() -> None:
    """Writing bills down needs no backend: a short time for one must cost no bill."""
    handled: list[Event] = []
    counters = Counters()

    def handle(events: list[Event]) -> None:
        time.sleep(0.02)
        handled.extend(events)

    made = delivery(handle, counters)
    run: Any = object()
    for _ in range(20_000):
        made.submit("call", run)
    made.stop(0.0)
    assert len(handled) == 20_000
    assert counters.by_reason("dropped") == {}


def test_work_that_hangs_is_not_waited_for_and_is_counted() -> None:
    """A disk that never answers must not keep a process from its end."""
    counters = Counters()
    never = threading.Event()

    def handle(_: list[Event]) -> None:
        never.wait(60)

    made = delivery(handle, counters)
    run: Any = object()
    for _ in range(1_200):
        made.submit("call", run)
    assert made.stop(0.1) is False
    assert not never.is_set()
    assert counters.by_reason("dropped")["process-ended:call"] >= 700  # what is in hand may still be written
    never.set()


def test_one_long_step_is_waited_for_while_it_computes() -> None:
    """The first batch loads prices and SDK: on a starved machine nothing is finished for a long while."""
    handled: list[Event] = []
    counters = Counters()

    def handle(events: list[Event]) -> None:
        until = time.thread_time() + 2.0
        while time.thread_time() < until:
            sum(range(1_000))
        handled.extend(events)

    made = delivery(handle, counters)
    run: Any = object()
    for _ in range(7):
        made.submit("call", run)
    made.stop(0.0)
    assert len(handled) == 7
    assert counters.by_reason("dropped") == {}


def test_a_fork_waits_for_a_step_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is born in the middle of the first batch's imports would never export anything."""
    monkeypatch.setattr("farthing.delivery._FORK_SECONDS", 0.3)
    ended: list[float] = []
    begun = threading.Event()

    def handle(_: list[Event]) -> None:
        begun.set()
        until = time.thread_time() + 1.5
        while time.thread_time() < until:
            sum(range(1_000))
        ended.append(time.monotonic())

    made = delivery(handle, Counters())
    run: Any = object()
    made.submit("call", run)
    begun.wait(30)
    made.before_fork()
    assert len(ended) == 1
    made.after_fork_in_parent()
    assert made.stop(60.0)


def test_a_fork_does_not_wait_for_a_step_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's own fork must not stand still with our disk."""
    monkeypatch.setattr("farthing.delivery._FORK_SECONDS", 0.3)
    begun, never, ended = threading.Event(), threading.Event(), threading.Event()

    def handle(_: list[Event]) -> None:
        begun.set()
        never.wait(60)
        ended.set()

    made = delivery(handle, Counters())
    run: Any = object()
    made.submit("call", run)
    begun.wait(30)
    made.before_fork()
    assert not ended.is_set()
    made.after_fork_in_parent()
    never.set()
    assert made.stop(60.0)
