"""The vocabulary of the matrix: what is asked, what a stack can do, what a cell promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from matrix.lab import Lab

__all__ = ["PAID", "UNKNOWN", "Ask", "Attachment", "Cell", "Promise", "Row", "Situation", "Stack", "promise"]

Attachment: TypeAlias = Literal["once", "twice", "everywhere"]
"""How the observer is handed over: once, as two instances in one place, or in every place that takes one."""

Statuses: TypeAlias = Mapping[str, int]

UNKNOWN: Final = frozenset({"unreported", "unpriced", "estimated"})
"""The statuses that keep a ledger's total from being the invoice's, and say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One logical request; what is left at its default is the row's own choice.

    `mark` stands in the prompt, and so in what the provider receives: it tells which request is whose.
    """

    mark: str
    unknown: bool = False
    """Of a model that nobody knows."""
    choices: int = 1
    tool: bool = False
    schema: bool = False
    tier: str | None = None
    usage: bool = True
    """Whether the provider is asked to tell the usage of a stream."""
    timeout_seconds: float | None = None
    client_retries: int = 0
    """Of the provider's own client, below the framework."""
    retries: int = 0
    """Of the framework."""
    fallback: bool = False
    """To the row's second provider, after an error."""
    wider_window: bool = False
    """To the row's second model, after the prompt was too long."""
    cached: bool = False
    """Through the framework's own cache."""
    nested: bool = False
    """As work inside other work of the same framework."""

    @property
    def prompt(self) -> str:
        """What the model is asked."""
        return f"Say {self.mark}."


class Stack:
    """How one stack of frameworks asks a model. A verb that a stack does not have is declared in its row."""

    held_back_seconds = 60.0
    """How long the provider holds back what nobody will wait for; it notices when the client leaves before."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def open(self, attachment: Attachment) -> None:
        """Hand the observer to the framework."""

    def close(self) -> None:
        """Leave the framework as it was found."""

    def ask(self, ask: Ask) -> object:
        """Ask and wait for the whole answer."""
        raise NotImplementedError

    async def aask(self, ask: Ask) -> object:
        """Ask asynchronously."""
        raise NotImplementedError

    def stream(self, ask: Ask) -> Iterator[Any]:
        """Ask, and give the pieces as they come."""
        raise NotImplementedError

    def astream(self, ask: Ask) -> AsyncIterator[Any]:
        """Ask asynchronously, and give the pieces as they come."""
        raise NotImplementedError

    def batch(self, asks: list[Ask]) -> object:
        """Ask all of them at once, by the framework's own means."""
        raise NotImplementedError

    def embed(self, ask: Ask) -> object:
        """Embed the prompt."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What the ledger says of one marked request, and what the provider saw of it.

    `statuses` counts the Calls by the status of their cost. `hidden` is how many requests of a client no callback ever
    sees, none of which is billed. `invisible` is how many billed ones no callback sees. `untagged` counts the Calls
    that stand in the ledger without their tag. `late` is how many Calls and scopes only the sweep or the end of the
    process closes. `why`
    is a sentence where the row keeps another promise than the situation's own.
    """

    statuses: Statuses
    untagged: Statuses = field(default_factory=dict[str, int])
    hidden: int = 0
    invisible: int = 0
    late: int = 0
    why: str | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the ledger's total is the invoice's."""
        return not self.invisible and not UNKNOWN & {*self.statuses, *self.untagged}


def promise(
    why: str | None = None,
    *,
    hidden: int = 0,
    invisible: int = 0,
    late: int = 0,
    untagged: Statuses | None = None,
    **calls: int,
) -> Promise:
    """Say what becomes of one request: `promise(priced=2)`."""
    return Promise(
        statuses=MappingProxyType(calls),
        untagged=MappingProxyType(dict(untagged or {})),
        hidden=hidden,
        invisible=invisible,
        late=late,
        why=why,
    )


PAID: Final = promise(priced=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A column: what happens, and what a stack promises unless its row says otherwise."""

    name: str
    says: str
    act: Callable[[Lab, Stack], Awaitable[None] | None]
    promise: Promise
    attachment: Attachment = "once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A stack: how it is built, and where it differs.

    `impossible` gives, by situation, the sentence why the stack has no such thing; `promises` what is promised in place
    of the situation's own promise, with its reason. `plain` is what the untagged request after each cell comes to.
    """

    name: str
    title: str
    frameworks: tuple[str, ...]
    make: Callable[[Lab], Stack]
    plain: Promise = PAID
    impossible: Mapping[str, str] = field(default_factory=dict[str, str])
    promises: Mapping[str, Promise] = field(default_factory=dict[str, Promise])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A row in a situation."""

    row: Row
    situation: Situation

    @property
    def name(self) -> str:
        """The cell's name, and its test's."""
        return f"{self.row.name}-{self.situation.name}"

    @property
    def impossible(self) -> str | None:
        """Why there is no such cell, None where there is one."""
        return self.row.impossible.get(self.situation.name)

    @property
    def promise(self) -> Promise:
        """What this cell keeps."""
        return self.row.promises.get(self.situation.name, self.situation.promise)
