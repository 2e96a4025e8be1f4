"""Which prices are in force: their source, age and size, and which of the user's overrides do what."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict

from farthing.providers import canonical_provider
from farthing_reports.in_force import Origin  # noqa: TC001 - pydantic reads it at run time

if TYPE_CHECKING:
    from farthing.pricing import PriceBook, PriceOverride
    from farthing.pricing.catalog import Catalog
    from farthing.pricing.rules import Rule
    from farthing_reports.in_force import InForce

__all__ = ["OverrideStatus", "PriceStatus", "price_status", "released_on"]

_EXAMPLES: Final = 3


class OverrideStatus(BaseModel):
    """One override of the user's."""

    model_config = ConfigDict(frozen=True)

    name: str
    effect: str
    """What it does to a price."""
    holds: Literal["now", "later", "no longer"]
    models: int
    """How many models of the price book it fits; a model of one's own is not in the book."""


class PriceStatus(BaseModel):
    """The price data in force here, and what is laid over it."""

    model_config = ConfigDict(frozen=True)

    origin: Origin
    file: str | None
    """None: the data that ships with farthing."""
    version: str
    sha256: str
    """Of the file, as `prices.sha256` would hold it; of the content, for the bundled data."""
    released: date | None
    """The day of the data; None where it does not say."""
    age_days: int | None
    max_age_days: int
    providers: int
    models: int
    overrides: list[OverrideStatus]
    warnings: list[str]
    """A sentence for each thing that somebody should look at."""
    corrections: int
    """Our own dated corrections, which apply to every catalogue."""


def price_status(prices: InForce, *, now: datetime) -> PriceStatus:
    """Look at the book in force.

    Args:
        prices: The book.
        now: Aware.

    Raises:
        OSError: The price file has gone since it was read.
    """
    book, settings = prices.book, prices.settings
    manifest = book.catalog.manifest
    released = released_on(book.catalog)
    age = None if released is None else (now.astimezone(UTC).date() - released).days
    models = [(canonical_provider(provider.id), model.id) for provider, model in book.catalog.models()]
    fitting = [{known for known in models if rule.fits(known[0], (known[1].lower(),))} for rule in book.overrides]
    return PriceStatus(
        origin=prices.origin,
        file=None if prices.file is None else str(prices.file),
        version=book.data_version,
        sha256=str(manifest["body_sha256"])
        if prices.file is None
        else hashlib.sha256(prices.file.read_bytes()).hexdigest(),
        released=released,
        age_days=age,
        max_age_days=settings.max_age_days,
        providers=len(book.catalog.providers),
        models=len(models),
        overrides=[
            OverrideStatus(
                name=override.label, effect=_effect(override), holds=_holds(rule, now), models=len(fitting[index])
            )
            for index, (override, rule) in enumerate(zip(settings.overrides, book.overrides, strict=True))
        ],
        warnings=[*_age_warnings(prices, age), *book.doubtful_overrides(), *_overlaps(book, fitting)],
        corrections=len(book.corrections),
    )


def released_on(catalog: Catalog) -> date | None:
    """Give the day of price data, where it says."""
    try:
        return date.fromisoformat(str(catalog.manifest.get("released")))
    except ValueError:
        return None


def _age_warnings(prices: InForce, age: int | None) -> list[str]:
    limit = prices.settings.max_age_days
    if age is None:
        return ["the price data does not say of which day it is: its age cannot be watched"]
    if age <= limit:
        return []
    remedy = {
        "bundled": "update farthing, or take newer data: farthing prices use FILE",
        "installed": "take newer data: farthing prices use FILE, or go back to the bundled: farthing prices reset",
        "configured": "take newer data: farthing prices use FILE",
    }[prices.origin]
    return [f"the price data is {age} days old, more than prices.max_age_days = {limit}; {remedy}"]


def _effect(override: PriceOverride) -> str:
    parts: list[str] = []
    if override.rates is not None:
        parts.append("own rates for " + ", ".join(override.rates))
    if override.free:
        parts.append("free")
    if override.alias_of is not None:
        parts.append(f"priced as {override.alias_of}")
    if override.multiplier is not None:
        parts.append(f"list price x {override.multiplier:f}")
    if override.discount is not None:
        parts.append(f"list price less {(override.discount * 100).normalize():f}%")
    if override.tier is not None:
        parts.append(f"tier {override.tier} only")
    if override.estimated:
        parts.append("an estimate")
    return ", ".join(parts)


def _holds(rule: Rule, now: datetime) -> Literal["now", "later", "no longer"]:
    if rule.start is not None and now < rule.start:
        return "later"
    return "no longer" if rule.end is not None and now >= rule.end else "now"


def _overlaps(book: PriceBook, fitting: list[set[tuple[str | None, str]]]) -> list[str]:
    """Name pairs of overrides that fit some of the same models, in the same tier and at the same time."""
    found: list[str] = []
    for later, rule in enumerate(book.overrides):
        for earlier, first in enumerate(book.overrides[:later]):
            shared = fitting[earlier] & fitting[later]
            if not shared or shared == fitting[later] or not _together(first, rule):
                continue
            names = sorted(name for _, name in shared)
            listed = ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")
            found.append(
                f"overrides {first.id!r} and {rule.id!r} both fit {len(shared)} of the same models ({listed}): "
                f"{first.id!r} comes first and wins there"
            )
    return found


def _together(first: Rule, second: Rule) -> bool:
    """Tell whether two rules can hold for one call."""
    if first.tiers and second.tiers and not first.tiers & second.tiers:
        return False
    starts = [rule.start for rule in (first, second) if rule.start is not None]
    ends = [rule.end for rule in (first, second) if rule.end is not None]
    return not starts or not ends or max(starts) < min(ends)
