"""The columns: everything that can happen to a model call, said once for all stacks."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from farthing.testing.provider import Fault, Reply
from matrix.cells import PAID, Ask, Situation, promise

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from matrix.cells import Attachment, Promise, Stack
    from matrix.lab import Lab

__all__ = ["SITUATIONS"]

REFUSED: Final = Fault(status=500, retry_after_seconds=0)
TOO_LONG: Final = Fault(
    status=400, code="context_length_exceeded", message="This model's maximum context length is 10 tokens."
)
CUT: Final = Fault(cut_stream_after=2)
MANY: Final = 4
FAILING: Final = contextlib.suppress(Exception)
"""Whether a framework raises, and what, is its own affair: the ledger has to be right either way."""


def once(*answers: Reply | Fault, only: str | None = None, **options: Any) -> Callable[[Lab, Stack], None]:
    """Ask once, with these options, of a provider that answers so."""

    def act(lab: Lab, stack: Stack) -> None:
        with lab.request(*answers, model=only) as mark:
            stack.ask(Ask(mark=mark, **options))

    return act


def streamed(*answers: Reply | Fault, **options: Any) -> Callable[[Lab, Stack], None]:
    """Stream to the end."""

    def act(lab: Lab, stack: Stack) -> None:
        with lab.request(*answers) as mark:
            for _ in stack.stream(Ask(mark=mark, **options)):
                pass

    return act


async def ask_async(lab: Lab, stack: Stack) -> None:
    """Ask asynchronously."""
    with lab.request() as mark:
        await stack.aask(Ask(mark=mark))


async def stream_async(lab: Lab, stack: Stack) -> None:
    """Stream asynchronously to the end."""
    with lab.request() as mark:
        async for _ in stack.astream(Ask(mark=mark)):
            pass


def batch(lab: Lab, stack: Stack) -> None:
    """Ask several at once by the framework's own means."""
    with lab.request() as mark:
        stack.batch([Ask(mark=mark)] * 3)


def embed(lab: Lab, stack: Stack) -> None:
    """Embed a text."""
    with lab.request() as mark:
        stack.embed(Ask(mark=mark))


def refused(lab: Lab, stack: Stack) -> None:
    """Ask a provider that refuses."""
    with lab.request(Fault(status=400)) as mark, FAILING:
        stack.ask(Ask(mark=mark))


async def refused_async(lab: Lab, stack: Stack) -> None:
    """Ask a provider that refuses, asynchronously."""
    with lab.request(Fault(status=400)) as mark, FAILING:
        await stack.aask(Ask(mark=mark))


def garbled(lab: Lab, stack: Stack) -> None:
    """Get an answer that nobody can read, and that is billed all the same."""
    with lab.request(Fault(malformed_json=True)) as mark, FAILING:
        stack.ask(Ask(mark=mark))


def cut(lab: Lab, stack: Stack) -> None:
    """Lose the connection in the middle of a stream."""
    with lab.request(CUT) as mark, FAILING:
        for _ in stack.stream(Ask(mark=mark)):
            pass


async def cut_async(lab: Lab, stack: Stack) -> None:
    """Lose the connection in the middle of an async stream."""
    with lab.request(CUT) as mark, FAILING:
        async for _ in stack.astream(Ask(mark=mark)):
            pass


def left(lab: Lab, stack: Stack) -> None:
    """Leave a stream after its first piece."""
    with lab.request() as mark:
        for _ in stack.stream(Ask(mark=mark)):
            break


async def left_async(lab: Lab, stack: Stack) -> None:
    """Leave an async stream after its first piece."""
    with lab.request() as mark:
        async for _ in stack.astream(Ask(mark=mark)):
            break


def never_read(lab: Lab, stack: Stack) -> None:
    """Ask for a stream and never read it."""
    with lab.request() as mark:
        stack.stream(Ask(mark=mark))


async def cancelled(lab: Lab, stack: Stack) -> None:
    """Cancel a request while the provider works on it."""
    with lab.request(Reply(delay_seconds=stack.held_back_seconds)) as mark:
        # A framework that asks from a thread goes on after the cancel: its client gives up by itself, soon after.
        task = asyncio.ensure_future(stack.aask(Ask(mark=mark, timeout_seconds=3)))
        await lab.arrival(mark)
        task.cancel()
        await asyncio.wait([task])


def timed_out(lab: Lab, stack: Stack) -> None:
    """Give up waiting."""
    with lab.request(Reply(delay_seconds=stack.held_back_seconds)) as mark, FAILING:
        stack.ask(Ask(mark=mark, timeout_seconds=0.3))


def cache_hit(lab: Lab, stack: Stack) -> None:
    """Ask the same twice through the framework's cache."""
    with lab.request() as mark:
        for _ in range(2):
            stack.ask(Ask(mark=mark, cached=True))


def threads(lab: Lab, stack: Stack) -> None:
    """Ask from several threads, each with a tag of its own."""

    def work() -> None:
        with lab.request() as mark:
            stack.ask(Ask(mark=mark))

    started = [Thread(target=work) for _ in range(MANY)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def executor(lab: Lab, stack: Stack) -> None:
    """Hand requests over to two pooled threads, with the caller's context as asyncio.to_thread does."""
    with ThreadPoolExecutor(2) as pool:
        waiting: list[Future[object]] = []
        for _ in range(MANY):
            with lab.request() as mark:
                waiting.append(pool.submit(contextvars.copy_context().run, stack.ask, Ask(mark=mark)))
        for each in waiting:
            each.result()


async def concurrent(lab: Lab, stack: Stack) -> None:
    """Ask from several tasks at once, each with a tag of its own."""

    async def work() -> None:
        with lab.request() as mark:
            await stack.aask(Ask(mark=mark))

    await asyncio.gather(*(work() for _ in range(MANY)))


def _column(
    name: str,
    says: str,
    act: Callable[[Lab, Stack], Awaitable[None] | None],
    promised: Promise,
    *,
    attachment: Attachment = "once",
) -> Situation:
    return Situation(name=name, says=says, act=act, promise=promised, attachment=attachment)


_UNKNOWN: Final = promise(unreported=1)
_REFUSED: Final = promise(not_billed=1)
_SECOND: Final = promise(not_billed=1, priced=1)

SITUATIONS: Final = (
    _column("sync", "one call", once(), PAID),
    _column("async", "one async call", ask_async, PAID),
    _column("stream", "a stream read to its end", streamed(), PAID),
    _column("async-stream", "an async stream read to its end", stream_async, PAID),
    _column("batch", "three at once by the framework's own means", batch, promise(priced=3)),
    _column("n2", "two choices in one answer", once(choices=2), PAID),
    _column(
        "tools",
        "a tool is called: two requests",
        once(Reply(tool_rounds=1), Reply(tool_rounds=1), tool=True),
        promise(priced=2),
    ),
    _column("structured", "structured output", once(schema=True), PAID),
    _column("embeddings", "a text is embedded", embed, PAID),
    _column("error", "the provider refuses", refused, _REFUSED),
    _column("async-error", "the provider refuses an async call", refused_async, _REFUSED),
    _column("garbled", "the answer is billed and unreadable", garbled, _UNKNOWN),
    _column("cut", "the connection breaks in mid-stream", cut, _UNKNOWN),
    _column("async-cut", "the connection breaks in mid-stream, async", cut_async, _UNKNOWN),
    _column("left", "the consumer leaves the stream", left, _UNKNOWN),
    _column("async-left", "the consumer leaves the async stream", left_async, _UNKNOWN),
    _column("never-read", "a stream is asked for and never read", never_read, _UNKNOWN),
    _column("cancelled", "the task is cancelled while it waits", cancelled, _UNKNOWN),
    _column("timeout", "the client gives up waiting", timed_out, _UNKNOWN),
    _column(
        "client-retry",
        "the provider's client retries once",
        once(REFUSED, client_retries=1),
        promise(priced=1, hidden=1),
    ),
    _column("retry", "the framework retries once", once(REFUSED, retries=1), _SECOND),
    _column("fallback", "a second provider takes over", once(REFUSED, fallback=True), _SECOND),
    _column("wider-window", "a model with a wider window takes over", once(TOO_LONG, wider_window=True), _SECOND),
    _column("cache-hit", "the framework's cache answers the second time", cache_hit, promise(priced=1, cache_hit=1)),
    _column("no-usage", "the answer has no usage", once(Reply(omit_usage=True)), _UNKNOWN),
    _column("silent-stream", "a stream that was not asked for its usage", streamed(usage=False), _UNKNOWN),
    _column("unknown-model", "a model that no price list knows", once(unknown=True), promise(unpriced=1)),
    _column("flex", "flex is asked for and served", once(tier="flex"), PAID),
    _column(
        "flex-refused",
        "flex is asked for, the default is served",
        once(Reply(service_tier="default"), tier="flex"),
        PAID,
    ),
    _column("priority", "priority is asked for and served", once(tier="priority"), PAID),
    _column("threads", "several threads, each with its tag", threads, PAID),
    _column("executor", "a pool of threads that carries the context", executor, PAID),
    _column("concurrent", "several tasks at once, each with its tag", concurrent, PAID),
    _column(
        "nested",
        "work inside other work",
        once(Reply(tool_rounds=1), Reply(tool_rounds=1), Reply(tool_rounds=1), nested=True),
        PAID,
    ),
    _column("twice", "two instances of the callback", once(), PAID, attachment="twice"),
    _column("everywhere", "the callback in every place that takes one", once(), PAID, attachment="everywhere"),
)
