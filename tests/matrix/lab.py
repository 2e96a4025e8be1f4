"""Where a cell runs: a provider, an observer, and a mark of its own for every request."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import itertools
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from matrix.cells import Ask, Cell, Stack
from matrix.oracle import Case, judge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    from farthing.testing.provider import FakeProvider, Fault, ReceivedRequest, Reply
    from matrix.observers import Observer

__all__ = ["Lab", "in_loop", "run"]

_PATIENCE_SECONDS: Final = 30.0

_loop: Final = asyncio.Runner()

T = TypeVar("T")


class Lab:
    """What a situation works with.

    Every request has a mark, which stands in its prompt and is its tag. Answers are scripted for a mark, so that
    requests that run at once never take each other's.
    """

    _numbers = itertools.count(1)
    _prefix = f"mark-{secrets.token_hex(3)}"

    def __init__(self, provider: FakeProvider, observer: Observer) -> None:
        self.provider: Final = provider
        self.observer: Final = observer
        self.tagged: Final[list[str]] = []
        self.untagged: Final[list[str]] = []

    @contextlib.contextmanager
    def request(self, *answers: Reply | Fault, model: str | None = None) -> Generator[str]:
        """Tag what is asked inside with a fresh mark, and script the provider's first answers to it."""
        mark = self._mark(self.tagged)
        for answer in answers:
            self.provider.script(answer, model=model, when=_about(mark))
        with self.observer.tagged(mark):
            yield mark

    def plain(self) -> str:
        """Give a mark for a request that is not tagged."""
        return self._mark(self.untagged)

    def arrived(self, mark: str) -> int:
        """Count the provider's requests with a mark."""
        return sum(1 for request in self.provider.requests if mark.encode() in request.body)

    async def arrival(self, mark: str) -> None:
        """Wait until the provider has a request."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not self.arrived(mark):  # noqa: ASYNC110 - it arrives on a thread of the provider's
                await asyncio.sleep(0.005)

    def _mark(self, among: list[str]) -> str:
        mark = f"{self._prefix}-{next(self._numbers)}x"  # no mark is the beginning of another
        among.append(mark)
        return mark


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run something asynchronous in the one loop of this process: clients are kept for the loop they began in."""
    return _loop.run(work, context=contextvars.copy_context())


def run(cell: Cell, *, provider: FakeProvider, observer: Observer) -> list[str]:
    """Run a cell, then one untagged request in the same place, and name everything that is not as promised."""
    lab = Lab(provider, observer)
    observer.start(cell.row.frameworks)
    try:
        stack = cell.row.make(lab)
        stack.open(cell.situation.attachment)
        try:
            _act(lab, stack, cell)
            gc.collect()  # a stream that was left is known to be left once it is collected, and so is a connection
            assert provider.settle(timeout_seconds=_PATIENCE_SECONDS)
            left_over = _left_over(observer, cell.promise.late * len(lab.tagged))
            return [*left_over, *_judged(lab, cell)]
        finally:
            stack.close()
    finally:
        observer.stop()


def _left_over(observer: Observer, late: int) -> list[str]:
    """Wait for the frameworks' own threads, which may hold a stream that was left, and say what stays."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (standing := observer.open_calls()) > late and time.monotonic() < deadline:
        time.sleep(0.02)
        gc.collect()
    problems = [f"left over: {each}" for each in observer.leftovers()]
    return problems if standing == late else [f"{standing} calls and scopes are open, promised {late}", *problems]


def _judged(lab: Lab, cell: Cell) -> list[str]:
    """Judge, again and again where what is recorded arrives from another process."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        case = Case(
            tagged=tuple(lab.tagged),
            untagged=tuple(lab.untagged),
            requests=lab.provider.requests,
            lines=tuple(lab.provider.invoice.lines),
            records=tuple(lab.observer.end()),
        )
        problems = judge(case, cell.promise, plain=cell.row.plain)
        if not problems or not lab.observer.is_elsewhere or time.monotonic() > deadline:
            return problems
        time.sleep(0.1)


def _act(lab: Lab, stack: Stack, cell: Cell) -> None:
    acting = cell.situation.act(lab, stack)
    if inspect.isawaitable(acting):
        in_loop(_act_in_loop(lab, stack, acting))
    else:
        stack.ask(Ask(mark=lab.plain()))


async def _act_in_loop(lab: Lab, stack: Stack, acting: Awaitable[None]) -> None:
    await acting
    await stack.aask(Ask(mark=lab.plain()))
    gc.collect()
    await lab.observer.drain()


def _about(mark: str) -> Callable[[ReceivedRequest], bool]:
    sought = mark.encode()
    return lambda request: sought in request.body
