"""What all peers share as watchers of the matrix."""
# ruff: noqa: ARG002 - the matrix calls by these names

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from verdict import Seen

__all__ = ["Peer"]

_QUIET_SECONDS: Final = 0.4
_PATIENCE_SECONDS: Final = 5.0


class Peer:
    """A watcher of the matrix that gives `Seen` in place of records."""

    name = ""
    is_elsewhere = False

    def __init__(self, frameworks: Collection[str]) -> None:
        self.seen: list[Seen] = []
        """What was recorded in the last cell."""
        self.frameworks = frameworks
        self.expected: Callable[[], int] = int
        """How many calls were billed in this cell so far."""

    def start(self, frameworks: Collection[str]) -> None:
        """Begin with nothing recorded."""

    def callbacks(self, framework: str) -> list[Any]:
        """Give what the user hands over; who patches the framework gives nothing."""
        return []

    def tagged(self, tag: str) -> contextlib.AbstractContextManager[object]:
        """Tag nothing: who pays is not compared here."""
        return contextlib.nullcontext()

    def headers(self) -> Mapping[str, str]:
        """Carry nothing."""
        return {}

    async def drain(self) -> None:
        """Let LiteLLM's queue report, as its users are told to before a loop ends."""
        await _drain_litellm()

    def open_calls(self) -> int:
        """Count nothing."""
        return 0

    def leftovers(self) -> list[str]:
        """Name nothing."""
        return []

    def end(self) -> list[Any]:
        """Wait until as much has arrived as was billed, and then until no more comes; what is still missing is lost."""
        before, since = -1, time.monotonic()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            count = self.count()
            if count != before:
                before, since = count, time.monotonic()
            elif time.monotonic() - since > _QUIET_SECONDS and len(self.read()) >= self.expected():
                break
            time.sleep(0.02)
        self.seen = self.read()
        return []

    def stop(self) -> None:
        """Leave everything for the next cell."""

    def count(self) -> int:
        """Count what has arrived."""
        raise NotImplementedError

    def read(self) -> list[Seen]:
        """Give what has arrived."""
        raise NotImplementedError


async def _drain_litellm() -> None:
    with contextlib.suppress(Exception):
        from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER  # noqa: PLC0415 - a peer may lack it

        await asyncio.sleep(0)
        await GLOBAL_LOGGING_WORKER.flush()
    await asyncio.sleep(0.05)
