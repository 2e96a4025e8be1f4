"""Reading the policy again when its file changes; the worker asks once a second. A broken file changes nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from farthing.errors import ConfigurationError
from farthing.guard import log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from farthing.counting import Counters

__all__ = ["PolicyWatch"]

Stamp = tuple[int, int, int]


class PolicyWatch:
    """Watches one file.

    Args:
        path: The file that the settings came from; None watches nothing.
        reload: Reads it and puts its policy in force.
        counters: Where reloads are counted.

    Raises:
        Nothing.
    """

    def __init__(self, path: Path | None, *, reload: Callable[[], None], counters: Counters) -> None:
        self.path: Final = path
        self._reload = reload
        self._counters = counters
        self._stamp = self._look()
        self._since = datetime.now(UTC)

    def check(self) -> None:
        """Read the file if it is another one than last time; if it cannot be used, say so once and keep the policy.

        Raises:
            Nothing.
        """
        if self.path is None:
            return
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._reload()
        except ConfigurationError as error:
            self._counters.add("policy", "reload-refused")
            self._counters.last_error = str(error)
            log.error("farthing: %s; the policy read at %s stays in force", error, self._since.strftime("%H:%M:%S UTC"))
            return
        self._since = datetime.now(UTC)
        self._counters.add("policy", "reloaded")
        log.info("farthing: %s: changed, and its policy is in force", self.path)

    def _look(self) -> Stamp | None:
        if self.path is None:
            return None
        try:
            found = os.stat(self.path)  # noqa: PTH116 - once a second, for ever
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
