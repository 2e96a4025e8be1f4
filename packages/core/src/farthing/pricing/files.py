"""Where prices come from, whether to trust them, and the default book of this process."""

from __future__ import annotations

import hashlib
import json
import threading
import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from farthing.errors import PriceDataError
from farthing.pricing.book import PriceBook
from farthing.pricing.catalog import FORMAT, Catalog
from farthing.pricing.conversion import compact
from farthing.pricing.overrides import PricesSettings
from farthing.pricing.rules import overrides_to_rules, read_corrections

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

    from farthing.pricing.catalog import Model

__all__ = [
    "Comparison",
    "Move",
    "bundled_catalog",
    "compare",
    "default_book",
    "load_catalog",
    "make_book",
    "objections",
    "read_catalog",
    "refresh_default_book",
    "replace_default_book",
]

_MAX_BYTES: Final = 64 * 1024 * 1024


def _data() -> Traversable:
    return files("farthing.pricing") / "data"


def bundled_catalog() -> Catalog:
    """Open the catalogue that ships with farthing.

    Raises:
        PriceDataError: The installation is damaged.
    """
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


def load_catalog(path: Path, *, sha256: str | None = None) -> Catalog:
    """Read a price file of the user's: our own compact format, or genai-prices' published v2 JSON.

    Args:
        path: The file.
        sha256: What the file must hash to.

    Raises:
        PriceDataError: It cannot be read, is cut off, is of another format, has another hash, or has absurd prices.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"the price file {path} cannot be read: {error.strerror or error}"
        raise PriceDataError(message) from error
    return read_catalog(data, sha256=sha256, name=str(path))


def read_catalog(data: bytes, *, sha256: str | None = None, name: str = "the price data") -> Catalog:
    """Read price data, and check every model of it.

    Args:
        data: Our own compact format, or genai-prices' published v2 JSON.
        sha256: What the data must hash to.
        name: What to call it in a refusal.

    Raises:
        PriceDataError: As for `load_catalog`.
    """
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256.strip().lower():
        message = f"{name} has the SHA-256 {digest}, not the expected {sha256}: it was changed or cut off"
        raise PriceDataError(message)
    if len(data) > _MAX_BYTES:
        message = f"{name} has {len(data):,} bytes; a price file has at most {_MAX_BYTES:,}"
        raise PriceDataError(message)
    try:
        catalog = Catalog(data if not data.lstrip().startswith(b"[") else _converted(data, digest))
        catalog.load_everything()
    except PriceDataError as error:
        message = f"{name}: {error}"
        raise PriceDataError(message) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{name} is neither in the format {FORMAT} nor genai-prices' v2 JSON: {type(error).__name__}: {error}"
        raise PriceDataError(message) from error
    if not any(True for _ in catalog.models()):
        message = f"{name} has no models"
        raise PriceDataError(message)
    return catalog


def _converted(data: bytes, digest: str) -> bytes:
    try:
        raw: Any = json.loads(data, parse_float=Decimal)
    except ValueError as error:
        message = f"it is cut off or no JSON ({error})"
        raise PriceDataError(message) from error
    return compact(raw, version=f"v2-json-{digest[:12]}", data_sha256=digest)


@dataclass(frozen=True, slots=True)
class Move:
    """A standard price that two catalogues state differently for the same moment."""

    provider: str
    model: str
    bucket: str
    old_usd: Decimal
    new_usd: Decimal

    @property
    def factor(self) -> Decimal | None:
        """How many times dearer, or cheaper, it got; None from or to zero."""
        if not self.old_usd or not self.new_usd:
            return None
        return max(self.old_usd / self.new_usd, self.new_usd / self.old_usd)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changes with another catalogue."""

    old_models: int
    new_models: int
    lost: tuple[str, ...]
    """Models that only the old one has, as `provider/model`."""
    added: tuple[str, ...]
    unpriced: tuple[str, ...]
    """Models that had a price and have none now."""
    moves: tuple[Move, ...]


def compare(old: Catalog, new: Catalog, *, at: datetime | None = None) -> Comparison:
    """Compare two catalogues at one moment.

    Args:
        old: What is used now.
        new: What would be used.
        at: The moment; by default now.
    """
    moment = at or datetime.now(UTC)
    before = {f"{provider.id}/{model.id}": (provider.id, model) for provider, model in old.models()}
    after = {f"{provider.id}/{model.id}": model for provider, model in new.models()}
    moves: list[Move] = []
    unpriced: list[str] = []
    for name, (provider, model) in before.items():
        other = after.get(name)
        if other is None:
            continue
        if model.standard(moment).rates and not other.standard(moment).rates:
            unpriced.append(name)
        moves.extend(_moves(provider, model, other, moment))
    return Comparison(
        old_models=len(before),
        new_models=len(after),
        lost=tuple(name for name in before if name not in after),
        added=tuple(name for name in after if name not in before),
        unpriced=tuple(unpriced),
        moves=tuple(moves),
    )


def _moves(provider: str, old: Model, new: Model, moment: datetime) -> list[Move]:
    before, after = old.standard(moment).rates, new.standard(moment).rates
    return [
        Move(provider, old.id, bucket, rate.base, after[bucket].base)
        for bucket, rate in before.items()
        if bucket in after and after[bucket].base != rate.base
    ]


def objections(
    comparison: Comparison, *, max_lost_share: Decimal = Decimal("0.02"), max_factor: Decimal = Decimal(5)
) -> tuple[str, ...]:
    """Say why a new catalogue should not be taken without a human's consent; nothing to say is consent.

    Args:
        comparison: Of the catalogue in use with the new one.
        max_lost_share: The share of models that may disappear.
        max_factor: How many times dearer or cheaper a price may get.
    """
    found: list[str] = []
    gone = len(comparison.lost) + len(comparison.unpriced)
    if gone > comparison.old_models * max_lost_share:
        examples = ", ".join((*comparison.lost, *comparison.unpriced)[:3])
        found.append(
            f"{gone} of {comparison.old_models} models lose their price ({examples}, ...); "
            f"at most {max_lost_share:%} may"
        )
    for move in comparison.moves:
        factor = move.factor
        if factor is None or factor > max_factor:
            found.append(
                f"{move.provider}/{move.model}: {move.bucket} moves from {move.old_usd} to {move.new_usd} US dollars; "
                f"at most {max_factor} times is taken without consent"
            )
    return tuple(found)


def make_book(settings: PricesSettings | None = None, catalog: Catalog | None = None) -> PriceBook:
    """Make a book: a catalogue, our corrections of the bundled one, the user's overrides.

    Args:
        settings: The `[prices]` table; it may name a price file.
        catalog: Prices to use instead of what the settings name.

    Raises:
        PriceDataError: The price file that the settings name is damaged or absurd.
    """
    settings = settings or PricesSettings()
    source = "bundled"
    if catalog is None and settings.file is not None:
        catalog, source = load_catalog(settings.file.expanduser(), sha256=settings.sha256), "file"
    return PriceBook(
        catalog or bundled_catalog(),
        overrides=overrides_to_rules(settings.overrides),
        corrections=read_corrections((_data() / "corrections.toml").read_text(encoding="utf-8")),
        introduced=bundled_introductions(),
        data_source=source,
        max_age_days=settings.max_age_days,
    )


class _Default:
    """The default book of this process, the settings it was made with, and the state of the file it came from."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.book: PriceBook | None = None
        self.settings: PricesSettings | None = None
        self.stamp: tuple[int, int] | None = None

    def made_with(self, settings: PricesSettings | None) -> bool:
        """Tell whether the book stands for these settings; called for every priced call, so identity is asked first."""
        return settings is None or settings is self.settings or settings == self.settings


_default: Final = _Default()


def default_book(settings: PricesSettings | None = None) -> PriceBook:
    """Give the book of this process; the first call loads the price data, other settings make another book.

    Raises:
        PriceDataError: The price file that the settings name is damaged or absurd.
    """
    book = _default.book
    if book is not None and _default.made_with(settings):
        return book
    with _default.lock:
        if _default.book is None or not _default.made_with(settings):
            stamp = _stamp(settings)
            _default.book = make_book(settings)
            _default.settings, _default.stamp = settings, stamp
        return _default.book


def replace_default_book(book: PriceBook) -> PriceBook | None:
    """Swap another book in, at once for every thread, and give the one that was there.

    Calls under way finish with the book they began with.
    """
    with _default.lock:
        previous, _default.book = _default.book, book
        return previous


def refresh_default_book() -> bool:
    """Take over the price file of the settings where it changed since; to be called now and then, off the request path.

    Returns:
        Whether another book is in use now. A file that cannot be trusted changes nothing.

    Raises:
        PriceDataError: The changed file is damaged or absurd; the book in use stays.
    """
    settings = _default.settings
    stamp = _stamp(settings)
    if stamp is None or stamp == _default.stamp or _default.book is None:
        return False
    _default.stamp = stamp
    replace_default_book(make_book(settings))
    return True


def _stamp(settings: PricesSettings | None) -> tuple[int, int] | None:
    if settings is None or settings.file is None:
        return None
    try:
        state = Path(settings.file).expanduser().stat()
    except OSError:
        return None
    return (state.st_mtime_ns, state.st_size)
