"""Where prices come from: the bundled file, or one of the user's; and the default book of this process."""

from __future__ import annotations

import threading
import tomllib
from datetime import date
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from farthing.pricing.book import PriceBook
from farthing.pricing.catalog import Catalog
from farthing.pricing.overrides import PricesSettings, overrides_to_rules, read_corrections

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

__all__ = ["bundled_catalog", "default_book", "make_book", "replace_default_book"]


def _data() -> Traversable:
    return files("farthing.pricing") / "data"


def bundled_catalog() -> Catalog:
    """Open the catalogue that ships with farthing."""
    return Catalog((_data() / "catalog.jsonl").read_bytes())


def bundled_introductions() -> Mapping[str, date]:
    """Give the first day of models whose price history has no beginning in the catalogue."""
    raw = tomllib.loads((_data() / "introduced.toml").read_text(encoding="utf-8"))
    return {
        f"{provider}/{model}": day
        for provider, models in raw.items()
        for model, day in models.items()
        if isinstance(day, date)
    }


def make_book(settings: PricesSettings | None = None, catalog: Catalog | None = None) -> PriceBook:
    """Make a book of the bundled or a given catalogue, our corrections and the user's overrides.

    Raises:
        PriceDataError: The price file that the settings name is damaged or absurd.
    """
    settings = settings or PricesSettings()
    return PriceBook(
        catalog or bundled_catalog(),
        overrides=overrides_to_rules(settings.overrides),
        corrections=read_corrections((_data() / "corrections.toml").read_text(encoding="utf-8")),
        introduced=bundled_introductions(),
        max_age_days=settings.max_age_days,
    )


class _Default:
    """The default book of this process and the settings it was made with."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.book: PriceBook | None = None
        self.settings: PricesSettings | None = None


_default: Final = _Default()


def default_book(settings: PricesSettings | None = None) -> PriceBook:
    """Give the book of this process; the first call loads the price data, other settings make another book.

    Raises:
        PriceDataError: The price file that the settings name is damaged or absurd.
    """
    book = _default.book
    if book is not None and (settings is None or settings == _default.settings):
        return book
    with _default.lock:
        if _default.book is None or (settings is not None and settings != _default.settings):
            _default.book = make_book(settings)
            _default.settings = settings
        return _default.book


def replace_default_book(book: PriceBook) -> PriceBook | None:
    """Swap another book in, at once for every thread, and give the one that was there; calls under way finish with theirs."""
    with _default.lock:
        previous, _default.book = _default.book, book
        return previous
