"""A price, explained line by line: what was counted, at which rate, from which source, and what to know about it."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

import farthing
from farthing.pricing.units import BUCKETS
from farthing.providers import canonical_names, canonical_provider, catalogue_id
from farthing_reports.faults import CommandError
from farthing_reports.flags import FLAG_SENTENCES
from farthing_reports.in_force import prices_in_force

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

    from farthing import Cost, Usage
    from farthing.envelope import CostLine

__all__ = [
    "TIERS",
    "cost_json",
    "cost_sentences",
    "cost_table",
    "long_context_buckets",
    "near_names",
    "price_usage",
    "usage_of",
]

_HOUR: Final = 3_600
TIERS: Final = ("standard", "batch", "flex", "priority", "fast")

_OPTIONS: Final = {
    "input_tokens": "--input",
    "output_tokens": "--output",
    "cache_read_tokens": "--cached",
    "cache_write_tokens": "--cache-write",
    "cache_write_5m_tokens": "--cache-write-5m",
    "cache_write_1h_tokens": "--cache-write-1h",
    "output_reasoning_tokens": "--reasoning",
    "input_audio_tokens": "--audio-in",
    "output_audio_tokens": "--audio-out",
    "web_searches": "--web-searches",
}

_STATUSES: Final = {
    "priced": "computed from the usage and a known price",
    "free": "the price book says that it costs nothing",
    "estimated": "computed from a price that is an estimate",
    "reported": "the provider's own figure, which is what it bills by",
    "unpriced": "the usage is known, the price is not; unknown is not zero",
    "unreported": "no usage to price: give at least --input and --output",
}

_SOURCES: Final = {
    "override": "your own price, from the settings",
    "provider": "the provider's own figure",
    "correction": "a dated correction that ships with farthing",
    "catalog": "the price catalogue",
}

_NOUNS: Final = {
    "tokens": "tokens",
    "characters": "characters",
    "messages": "messages",
    "durations": "seconds",
    "pages": "pages",
    "pictures": "pictures",
    "tool": "uses",
    "rerank": "searches",
    "requests": "requests",
}
"""How to call the units of a bucket, by its dimension."""

_LONG: Final = frozenset({"input_tokens", "output_tokens"})
_MIDDLE: Final = frozenset({"cache_read_tokens", "cache_write_tokens", "input_audio_tokens", "input_image_tokens"})


def usage_of(counts: Mapping[str, int | None]) -> Usage:
    """Build a usage from the options that were given.

    Raises:
        CommandError: A count is negative, or parts are more than their whole; the message names the options.
    """
    try:
        return farthing.Usage.model_validate({name: count for name, count in counts.items() if count is not None})
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            name = str(first["loc"][0])
            raise CommandError(
                f"{_OPTIONS.get(name, name)}: {first['input']} is no count of tokens; {message}"
            ) from None
        for name in sorted(_OPTIONS, key=len, reverse=True):
            message = message.replace(name, _OPTIONS[name])
        raise CommandError(f"{message.replace('None', 'nothing')}; --input and --output hold their parts") from None


def price_usage(provider: str, model: str, usage: Usage, *, at: datetime, tier: str) -> Cost:
    """Price a usage with the book in force here.

    Raises:
        ConfigurationError: farthing.toml or a FARTHING_* variable cannot be used.
        PriceDataError: The user's own price data cannot be used.
    """
    return prices_in_force().book.price(provider, model, usage, at=at, tier=tier)


def long_context_buckets(
    cost: Cost, provider: str, model: str, usage: Usage, *, at: datetime, tier: str
) -> tuple[str, ...]:
    """Give the buckets that are dearer or cheaper because the request is long: a short one has another rate.

    Raises:
        FarthingError: As for `price_usage`.
    """
    short: dict[str, int] = {}
    for name, count in usage.model_dump(exclude={"audio_seconds"}).items():
        if count:
            short[name] = min(count, 100 if name in _LONG else 10 if name in _MIDDLE else 1)
    try:
        other = price_usage(provider, model, type(usage).model_validate(short), at=at, tier=tier)
    except ValidationError:
        return ()
    return tuple(
        bucket
        for bucket, line in cost.breakdown.items()
        if bucket in other.breakdown and other.breakdown[bucket].rate_usd != line.rate_usd
    )


def near_names(cost: Cost, provider: str, model: str) -> tuple[str, ...]:
    """Give the names that were perhaps meant, nearest first: models of the provider, or providers where it is unknown.

    Raises:
        FarthingError: As for `price_usage`.
    """
    catalog = prices_in_force().book.catalog
    if "unknown-provider" in cost.flags:
        houses = [house for known in catalog.providers for house in canonical_names(known)]
        return tuple(difflib.get_close_matches(provider.lower(), houses))
    known = catalog.find_provider(catalogue_id(canonical_provider(provider) or "") or provider)
    if "unknown-model" not in cost.flags or known is None:
        return ()
    owners = [known, *(found for other in known.fallback if (found := catalog.find_provider(other)))]
    names = dict.fromkeys(each.id for owner in owners for each in owner.models())
    return tuple(difflib.get_close_matches(model.lower(), names) or difflib.get_close_matches(_bare(model), names))


def _bare(model: str) -> str:
    """Take away what routes to a model: openai/gpt4o."""
    return model.lower().rpartition("/")[2]


def cost_json(cost: Cost) -> str:
    """Render a cost as the ledger holds it."""
    return json.dumps(cost.model_dump(mode="json"), indent=2)


def cost_table(cost: Cost) -> Table:
    """Draw the bill: a line for each bucket, and the total."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("bucket")
    for name in ("quantity", "rate USD", "amount USD"):
        table.add_column(name, justify="right")
    amounts = [line.amount_usd for line in cost.breakdown.values()]
    if cost.amount_usd is not None:
        amounts.append(cost.amount_usd)
    places = max((_places(amount) for amount in amounts), default=0)
    for bucket, line in cost.breakdown.items():
        table.add_row(bucket, f"{line.quantity:,f}", _rate(bucket, line), _padded(line.amount_usd, places))
    amount = Text("unknown", style="yellow") if cost.amount_usd is None else Text(_padded(cost.amount_usd, places))
    table.add_row(Text("total"), "", "", amount, style="bold")
    return table


def cost_sentences(cost: Cost, *, at: datetime) -> list[tuple[str, str]]:
    """Say what a cost rests on, as pairs of a label and a sentence."""
    lines = [("status", f"{cost.status}: {_STATUSES.get(cost.status, 'see the documentation')}")]
    if cost.source is not None:
        lines.append(("source", f"{cost.source}: {_SOURCES.get(cost.source, 'see the documentation')}"))
    lines.append(("moment", f"{at:%Y-%m-%d %H:%M:%S} UTC"))
    if cost.list_amount_usd is not None:
        lines.append(("list price", f"${cost.list_amount_usd:f}{_saving(cost.list_amount_usd, cost.amount_usd)}"))
    if cost.reported_usd is not None:
        lines.append(("provider says", f"${cost.reported_usd:f}"))
    lines += _provenance(cost)
    for flag in cost.flags:
        name, _, detail = flag.partition(":")
        known = FLAG_SENTENCES.get(name)
        remark = f" ({detail})" if detail else ""
        lines.append(("note", f"{flag}" if known is None else f"{known}{remark} [{name}]"))
    return lines


def _provenance(cost: Cost) -> list[tuple[str, str]]:
    known = cost.provenance
    if known is None:
        return []
    lines: list[tuple[str, str]] = []
    if known.model_id is not None:
        how = f" (matched: {known.matched_by})" if known.matched_by else ""
        lines.append(("model", f"{known.provider_id or 'unknown provider'} / {known.model_id}{how}"))
    if known.tier is not None:
        lines.append(("tier", known.tier))
    if cost.breakdown:
        lines.append(("holds since", known.effective_from or "the data gives no beginning"))
    for label, names in (("overrides", known.overrides), ("corrections", known.corrections)):
        if names:
            lines.append((label, ", ".join(names)))
    data = " ".join(part for part in (known.data_source, known.data_version) if part)
    lines.append(("price data", f"{data or 'none'}, engine {known.engine} {known.engine_version}"))
    return lines


def _saving(listed: Decimal, paid: Decimal | None) -> str:
    if paid is None or not listed or paid == listed:
        return ""
    share = (paid - listed) / listed * 100
    return f"; yours is {float(abs(share)):.4g}% {'above' if share > 0 else 'below'} it"


def _rate(bucket: str, line: CostLine) -> str:
    """Write a rate with its unit, and at least cents: 2.50 per 1M tokens."""
    rate = _padded(line.rate_usd.normalize(), 2)
    known = BUCKETS.get(bucket)
    noun = next((_NOUNS[name] for name in known.dimensions if name in _NOUNS), "units") if known else "units"
    if line.per == 1:
        return f"{rate} each"
    if line.per == _HOUR and noun == "seconds":
        return f"{rate} per hour"
    units = {1_000_000: "1M", 1_000: "1K"}.get(line.per, f"{line.per:,}")
    return f"{rate} per {units} {noun}"


def _places(amount: Decimal) -> int:
    exponent = amount.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _padded(amount: Decimal, places: int) -> str:
    """Write every digit, with zeros up to a number of decimals, so that a column has its points below one another."""
    text = f"{amount:f}"
    whole, _, fraction = text.partition(".")
    fraction = fraction.ljust(places, "0")
    return f"{whole}.{fraction}" if fraction else whole
