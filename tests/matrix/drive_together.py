"""All three frameworks in one process: each request goes through a chain, a bare LiteLLM call and a crew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from matrix import drive_crewai, drive_langchain, drive_litellm
from matrix.cells import Ask, Attachment, Promise, Row, Stack, promise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from matrix.lab import Lab

__all__ = ["TOGETHER"]


class Together(Stack):
    """A chain, LiteLLM and a crew, one after the other or at once."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self._sdk = drive_litellm.Sdk(lab)
        self._each: list[Stack] = [drive_langchain.OpenAI(lab), self._sdk, drive_crewai.OpenAI(lab)]

    @override
    def open(self, attachment: Attachment) -> None:
        for stack in self._each:
            stack.open(attachment)

    @override
    def close(self) -> None:
        for stack in self._each:
            stack.close()

    @override
    def ask(self, ask: Ask) -> object:
        failures = _Failures()
        for stack in self._each:
            with failures:
                stack.ask(ask)
        return failures.raise_first()

    @override
    async def aask(self, ask: Ask) -> object:
        failures = _Failures()
        for stack in self._each:
            with failures:
                await stack.aask(ask)
        return failures.raise_first()

    @override
    def stream(self, ask: Ask) -> Iterator[Any]:
        failures = _Failures()
        for stack in self._each:
            with failures:
                yield from stack.stream(ask)
        failures.raise_first()

    @override
    async def astream(self, ask: Ask) -> AsyncIterator[Any]:
        failures = _Failures()
        for stack in self._each:
            with failures:
                async for piece in stack.astream(ask):
                    yield piece
        failures.raise_first()


class _Failures:
    """Lets the other frameworks go on when one has failed, and raises its failure at the end."""

    def __init__(self) -> None:
        self._first: Exception | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Exception):
            self._first = self._first or error
            return True
        return False

    def raise_first(self) -> None:
        if self._first is not None:
            raise self._first


_CHANCE: Final = "Which of the three is reached before the time is up would be chance; each has it in its own row."
_OWN: Final = "Each framework has its own, in its own row."
_ALL: Final = promise(priced=3)
_FIRST_REFUSED: Final = promise(not_billed=1, priced=2)
_FIRST_UNKNOWN: Final = promise(
    "The scripted answer meets the chain, the others get a good one.", unreported=1, priced=2
)
_FIRST_AGAIN: Final = promise("The chain asks twice, the others once.", not_billed=1, priced=3)
_PAID: Final = ("sync", "async", "stream", "async-stream", "n2", "structured", "flex", "flex-refused", "priority")
_PAID_TOO: Final = ("threads", "executor", "concurrent", "nested", "twice", "everywhere")

_PROMISES: Final[dict[str, Promise]] = {
    **dict.fromkeys(_PAID, _ALL),
    **dict.fromkeys(_PAID_TOO, _ALL),
    **dict.fromkeys(("error", "async-error"), _FIRST_REFUSED),
    **dict.fromkeys(("garbled", "cut", "async-cut", "no-usage"), _FIRST_UNKNOWN),
    **dict.fromkeys(("retry", "fallback", "wider-window"), _FIRST_AGAIN),
    "tools": promise(priced=4),
    "client-retry": promise(priced=3, hidden=1),
    "cache-hit": promise("CrewAI has no such cache, and asks twice.", priced=4, cache_hit=2),
    "silent-stream": promise("CrewAI asks for the usage by itself.", unreported=2, priced=1),
    "unknown-model": promise(unpriced=3),
    "left": drive_langchain.DRAINED,
    "never-read": promise("There is no request before the stream is read."),
}

TOGETHER: Final = Row(
    name="together",
    title="All three in one process",
    frameworks=("langchain", "litellm", "crewai"),
    make=Together,
    plain=_ALL,
    impossible={"batch": _OWN, "embeddings": _OWN, "cancelled": _CHANCE, "timeout": _CHANCE},
    promises=_PROMISES,
)
