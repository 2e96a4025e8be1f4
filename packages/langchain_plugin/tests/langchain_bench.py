"""What the fixtures of these tests give; imported for their types alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from farthing import Call


class Settle(Protocol):
    """Gives the Calls of a test after comparing them with the invoice."""

    def __call__(self, *, unknown: int = 0, open_runs: int = 0) -> list[Call]:
        """Compare, with as many unknown costs and open runs as expected."""
        ...


class MakeModel(Protocol):
    """Makes a chat model whose provider is the fake one."""

    def __call__(self, model: str = ..., **settings: Any) -> Any:
        """Make one with these settings."""
        ...
