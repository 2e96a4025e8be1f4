"""A price, explained line by line: what was counted, at which rate, from which source, and what to know about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

import farthing
from farthing.settings import load_settings
from farthing_reports.faults import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from farthing import Cost, Usage
    from farthing.envelope import CostLine

__all__ = ["TIERS", "cost_json", "cost_sentences", "cost_table", "price_usage", "usage_of"]

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
    "reported": "only the provider's own figure is known",
    "unpriced": "the usage is known, the price is not; unknown is not zero",
    "unreported": "no usage to price: give at least --input and --output",
}

_SOURCES: Final = {
    "override": "your own price, from the settings",
    "provider": "the provider's own figure",
    "correction": "a dated correction that ships with farthing",
    "catalog": "the price catalogue",
}

_FLAGS: Final = {
    "account-resource": "The name is a resource of your own account, which hides the model; add a price override.",
    "bedrock-bare-id": "The Bedrock id names no geography; it is taken as regional, which is dearer than global.",
    "before-first-price": "The moment lies before the first known price of this model.",
    "cache-billed-as-input": "No rate for cached tokens is known; they are billed as plain input.",
    "cache-split-assumed": "How much of the cached input is audio or image was assumed.",
    "cache-ttl-assumed": "The lifetime of some cache writes is unknown; the short one is assumed (--cache-write-1h).",
    "code-executions-not-priced": "Code executions are not in the amount: their price is not known.",
    "context-not-priced": "No price is known for this tier or context, and standard would be a guess.",
    "fallback-provider-price": "This provider's own price is not known; the model maker's is taken.",
    "file-searches-not-priced": "File searches are not in the amount: their price is not known.",
    "loose-match": "The name says more than the model that it matched; check that it is the same one.",
    "modality-billed-as-text": "No own rate for audio, image or video is known; they are billed as text.",
    "no-model-name": "No model is named.",
    "no-price-listed": "The model is known, but no price of it.",
    "output-not-priced": "The model has no rate for output.",
    "provider-inferred": "The provider was inferred from the model's name.",
    "rerank-searches-not-priced": "Rerank searches are not in the amount: their price is not known.",
    "social-searches-not-priced": "Social searches are not in the amount: their price is not known.",
    "stale-price-data": "The price data is older than prices.max_age_days; update farthing or its price file.",
    "unknown-model": "The price book does not know this model; check its spelling, or add a price override.",
    "unknown-provider": "The price book does not know this provider; check its spelling, or add a price override.",
    "unknown-tier": f"This is no tier; there are {', '.join(TIERS)}.",
    "usage-missing": "Nothing was counted.",
    "usage-not-priced": "Some of the usage has no rate.",
    "web-searches-not-priced": "Web searches are not in the amount: their price is not known.",
}


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
    """Price a usage under the settings in force here.

    Raises:
        ConfigurationError: farthing.toml or a FARTHING_* variable cannot be used.
        PriceDataError: The user's own price data cannot be used.
    """
    load_settings({})  # farthing.price() would fall back to the defaults where the settings cannot be used
    return farthing.price(provider, model, usage, at=at, tier=tier)


def cost_json(cost: Cost) -> str:
    """Render a cost as the ledger holds it."""
    return json.dumps(cost.model_dump(mode="json"), indent=2)


def cost_table(cost: Cost) -> Table:
    """Draw the bill: a line for each bucket, and the total."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("bucket")
    for name in ("quantity", "rate USD", "amount USD"):
        table.add_column(name, justify="right")
    for bucket, line in cost.breakdown.items():
        table.add_row(bucket, f"{line.quantity:,f}", _rate(line), f"{line.amount_usd:f}")
    amount = Text("unknown", style="yellow") if cost.amount_usd is None else Text(f"{cost.amount_usd:f}")
    table.add_row(Text("total"), "", "", amount, style="bold")
    return table


def cost_sentences(cost: Cost, *, at: datetime) -> list[tuple[str, str]]:
    """Say what a cost rests on, as pairs of a label and a sentence."""
    lines = [("status", f"{cost.status}: {_STATUSES.get(cost.status, 'see the documentation')}")]
    if cost.source is not None:
        lines.append(("source", f"{cost.source}: {_SOURCES.get(cost.source, 'see the documentation')}"))
    lines.append(("moment", f"{at:%Y-%m-%d %H:%M:%S} UTC"))
    for label, amount in (("list price", cost.list_amount_usd), ("provider says", cost.reported_usd)):
        if amount is not None:
            lines.append((label, f"${amount:f}"))
    lines += _provenance(cost)
    for flag in cost.flags:
        name, _, detail = flag.partition(":")
        known = _FLAGS.get(name)
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


def _rate(line: CostLine) -> str:
    units = {1_000_000: "1M", 1_000: "1K", 1: "each"}.get(line.per, f"{line.per:,}")
    return f"{line.rate_usd:f} / {units}"
