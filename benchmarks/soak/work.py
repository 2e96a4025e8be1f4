"""What the ways of asking share: a call's number, plan and tags, how a way is registered, how work is broken off."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from plans import prompt_of

import farthing

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from types import TracebackType

Seen = Literal["answer", "left", "cancelled", "timeout", "error"]
"""How the application's side of a call ended; an answer is one that was read to its end."""

_OUT: Final = sys.stdout


def say(text: str) -> None:
    """Print where the user looks; `sys.stdout` is closed to the frameworks, one of which prints every error."""
    print(text, file=_OUT, flush=True)


WAYS: Final[list[Way]] = []
TENANTS: Final = 97


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way of asking: a framework, a mode and what becomes of it.

    `ask` gives what the application saw; `size` is how many calls it makes at once, each with a number of its own.
    """

    name: str
    family: str
    """The feature that the plugin's own default gives its calls."""
    plans: Sequence[str]
    ask: Callable[[Work], Any]
    is_async: bool
    weight: int = 4
    size: int = 1
    may_hide: int = 0
    """How many refused requests the framework may hide from every callback."""


@dataclass(slots=True, kw_only=True)
class Work:
    """A piece of work: one call, or as many as its way makes at once."""

    number: int
    way: Way
    plan: str
    dice: random.Random
    url: str
    seen: list[Seen] = field(default_factory=list)

    def prompt(self, at: int = 0) -> str:
        """Write the prompt of one of its calls."""
        return prompt_of(self.number + at, self.plan)

    def messages(self) -> list[dict[str, str]]:
        """Write the prompt as OpenAI's clients take it."""
        return [{"role": "user", "content": self.prompt()}]


def tags_of(number: int) -> dict[str, str]:
    """Give the tags of a call, which no other call has together."""
    return {"job_id": f"job-{number:06d}", "tenant": f"tenant-{number % TENANTS:02d}"}


class Tagged:
    """Spread a call's tags over `attribute()` and its own metadata, another way for each call.

    with Tagged(work) as metadata:
        model.invoke(prompt, metadata=metadata)
    """

    def __init__(self, work: Work, *, inside: bool | None = None) -> None:
        tags = tags_of(work.number)
        names = list(tags)
        split = work.dice.randrange(len(names) + 1) if inside is None else len(names) * inside
        work.dice.shuffle(names)
        self.metadata: dict[str, Any] = {name: tags[name] for name in names[:split]}
        self._outside = {name: tags[name] for name in names[split:]}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(farthing.attribute(**self._outside))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def way(
    name: str, *plans: str, weight: int = 4, size: int = 1, may_hide: int = 0
) -> Callable[[Callable[[Work], Any]], Callable[[Work], Any]]:
    """Register a way of asking; its family is the first word of its name."""

    def register(ask: Callable[[Work], Any]) -> Callable[[Work], Any]:
        WAYS.append(
            Way(
                name=name,
                family=name.split(maxsplit=1)[0],
                plans=plans,
                ask=ask,
                is_async=asyncio.iscoroutinefunction(ask),
                weight=weight,
                size=size,
                may_hide=may_hide,
            )
        )
        return ask

    return register


async def cancelled(asking: Coroutine[Any, Any, Any], after: float) -> Seen:
    """Cancel a call after some time, unless it is over by then."""
    task = asyncio.ensure_future(asking)
    await asyncio.sleep(after)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    return "answer"


async def given_up(asking: Awaitable[Any], after: float) -> Seen:
    """Wait for a call for so long and no longer."""
    try:
        await asyncio.wait_for(asking, after)
    except TimeoutError:
        return "timeout"
    return "answer"
