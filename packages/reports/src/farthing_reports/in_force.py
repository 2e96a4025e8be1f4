"""The price book that calls are priced with here: its settings, its file, and where that comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from farthing.pricing import default_book
from farthing.pricing.installed import with_installed
from farthing.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from farthing.pricing import PriceBook, PricesSettings

__all__ = ["InForce", "Origin", "prices_in_force", "prices_settings"]

Origin = Literal["bundled", "installed", "configured"]
"""bundled: ships with farthing; installed: by `farthing prices use`; configured: the setting prices.file names it."""


@dataclass(frozen=True, slots=True)
class InForce:
    """A price book and where it comes from."""

    settings: PricesSettings
    """As the book was made with: `file` is the file that it was read from."""
    origin: Origin
    book: PriceBook

    @property
    def file(self) -> Path | None:
        """Give the file that it was read from; None is the bundled data."""
        return None if self.settings.file is None else self.settings.file.expanduser()


def prices_settings() -> tuple[PricesSettings, Origin]:
    """Give the `[prices]` table, with the installed price file where there is one.

    Raises:
        ConfigurationError: farthing.toml or a FARTHING_* variable cannot be used.
    """
    configured = load_settings({}).prices
    if configured.file is not None:
        return configured, "configured"
    chosen = with_installed(configured)
    return chosen, "bundled" if chosen.file is None else "installed"


def prices_in_force() -> InForce:
    """Load the price book.

    Raises:
        ConfigurationError: farthing.toml or a FARTHING_* variable cannot be used.
        PriceDataError: The user's own price data cannot be used.
    """
    settings, origin = prices_settings()
    return InForce(settings, origin, default_book(settings))
