"""The bill: one line for everything a real provider would have charged for, in exact decimals."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, fields, replace
from decimal import Context, Decimal, localcontext
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from farthing.testing.provider.plan import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from farthing.testing.provider.price_table import PriceTable
    from farthing.testing.provider.wire_json import JSON

Problem: TypeAlias = Literal["UnknownModel", "UnknownTier", "UnknownRate"]

_PRECISION = 50
_PER = {name: Decimal(1) for name in ("image", "audio_second", "code_container")} | {
    name: Decimal(1000) for name in ("web_search", "web_search_preview", "grounded_prompt", "rerank_search")
}
_PER_TOKEN = Decimal(1_000_000)


class Item(NamedTuple):
    """One position of a line: how many, USD each, USD together."""

    quantity: int
    unit_price: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """What one request is billed.

    `number` is that of the request, `model` the one billed (the response's), `tier` the one served, `counts` the units
    with tokens inclusive of their parts. `amount_usd` is None exactly when `problem` says why there is no price.
    `client_left` is True when the server noticed that the client went away before the end.
    """

    number: int
    at: datetime
    provider: str
    endpoint: str
    requested_model: str
    model: str
    response_id: str
    tier: str
    status: int
    streamed: bool
    counts: Counts
    items: Mapping[str, Item]
    amount_usd: Decimal | None
    problem: Problem | None = None
    client_left: bool = False

    def __post_init__(self) -> None:
        if (self.amount_usd is None) != (self.problem is not None):
            raise ValueError("a line has either an amount or a problem")

    @property
    def input_tokens(self) -> int:
        """All input tokens. Raises: nothing."""
        return self.counts.input_tokens

    @property
    def output_tokens(self) -> int:
        """All output tokens. Raises: nothing."""
        return self.counts.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """The money side of a line."""

    items: Mapping[str, Item]
    amount_usd: Decimal | None
    problem: Problem | None = None


def charge(counts: Counts, *, provider: str, model: str, tier: str, prices: PriceTable) -> Charge:
    """Price the units of one request exactly. Raises: nothing."""
    found = prices.find(provider, model)
    if found is None:
        return Charge(items=MappingProxyType({}), amount_usd=None, problem="UnknownModel")
    rates = found.rates(tier, input_tokens=counts.input_tokens)
    if rates is None:
        return Charge(items=MappingProxyType({}), amount_usd=None, problem="UnknownTier")
    quantities = {label: quantity for label, quantity in _quantities(counts, rates) if quantity}
    if any(_rate(label, rates) is None for label in quantities):
        return Charge(items=MappingProxyType({}), amount_usd=None, problem="UnknownRate")
    with localcontext(Context(prec=_PRECISION)):
        items = {label: _item(label, quantity, rates) for label, quantity in quantities.items()}
        total = sum((item.amount for item in items.values()), Decimal(0))
    return Charge(items=MappingProxyType(items), amount_usd=total)


# A part without a rate of its own is billed as the plain whole it belongs to.
_FALLBACK = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "input",
    "input_audio": "input",
    "output_audio": "output",
}


def _rate(label: str, rates: Mapping[str, Decimal]) -> Decimal | None:
    return rates.get(label, rates.get(_FALLBACK.get(label, label)))


def _item(label: str, quantity: int, rates: Mapping[str, Decimal]) -> Item:
    unit_price = (_rate(label, rates) or Decimal(0)) / _PER.get(label, _PER_TOKEN)
    return Item(quantity=quantity, unit_price=unit_price, amount=unit_price * quantity)


def _quantities(counts: Counts, rates: Mapping[str, Decimal]) -> Iterator[tuple[str, int]]:
    if "input" in rates or "output" in rates:
        yield "input", counts.fresh_input_tokens - counts.input_audio_tokens
        yield "cache_read", counts.cache_read_tokens
        yield "cache_write_5m", counts.cache_write_5m_tokens
        yield "cache_write_1h", counts.cache_write_1h_tokens
        yield "input_audio", counts.input_audio_tokens
        yield "output", counts.output_tokens - counts.output_audio_tokens
        yield "output_audio", counts.output_audio_tokens
        yield "code_container", counts.code_containers
        if counts.web_searches:
            yield _search_fee(counts, rates)
        return
    yield "image", counts.images
    yield "characters", counts.characters
    yield "audio_second", counts.audio_seconds
    yield "rerank_search", counts.rerank_searches


def _search_fee(counts: Counts, rates: Mapping[str, Decimal]) -> tuple[str, int]:
    if "grounded_prompt" in rates:
        return "grounded_prompt", 1
    is_preview = (counts.web_search_tool or "").startswith("web_search_preview")
    return "web_search_preview" if is_preview else "web_search", counts.web_searches


class Invoice:
    """Every line billed so far; safe to read while requests arrive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[int, InvoiceLine] = {}

    def add(self, line: InvoiceLine) -> None:
        """Bill a line. Raises: nothing."""
        with self._lock:
            self._lines[line.number] = line

    def mark_client_left(self, number: int) -> None:
        """Note on a line that its client went away; a request that was not billed has no line. Raises: nothing."""
        with self._lock:
            if number in self._lines:
                self._lines[number] = replace(self._lines[number], client_left=True)

    def clear(self) -> None:
        """Forget every line. Raises: nothing."""
        with self._lock:
            self._lines.clear()

    @property
    def lines(self) -> tuple[InvoiceLine, ...]:
        """All lines in the order they were billed. Raises: nothing."""
        with self._lock:
            return tuple(self._lines.values())

    @property
    def unpriced(self) -> tuple[InvoiceLine, ...]:
        """Lines without an amount; while there are any, `total_usd` is a lower bound. Raises: nothing."""
        return tuple(line for line in self.lines if line.amount_usd is None)

    @property
    def total_usd(self) -> Decimal:
        """The sum of all amounts that are known. Raises: nothing."""
        return _total(self.lines)

    def by(self, key: str) -> dict[str, Decimal]:
        """Sum the known amounts by a field of the line ("model", "provider", "endpoint", "tier", ...).

        Raises:
            ValueError: the line has no such field.
        """
        allowed = [field.name for field in fields(InvoiceLine)]
        if key not in allowed:
            raise ValueError(f"cannot group by {key!r}; allowed: {allowed}")
        groups: dict[str, list[InvoiceLine]] = {}
        for line in self.lines:
            groups.setdefault(str(getattr(line, key)), []).append(line)
        return {name: _total(group) for name, group in groups.items()}

    def write(self, path: str | Path) -> None:
        """Write the invoice as JSON, amounts as decimal strings.

        Raises:
            OSError: the file cannot be written.
        """
        document: JSON = {
            "total_usd": format(self.total_usd, "f"),
            "unpriced_lines": len(self.unpriced),
            "lines": [_line_json(line) for line in self.lines],
        }
        Path(path).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def __str__(self) -> str:
        rows = [_row(line) for line in self.lines]
        header = ("no", "provider", "model", "tier", "input", "output", "USD", "")
        widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [header, *rows]
        ]
        unpriced = len(self.unpriced)
        suffix = f" and {unpriced} line(s) without a price" if unpriced else ""
        return "\n".join([*table, f"total {format(self.total_usd, 'f')} USD{suffix}"])


def _total(lines: tuple[InvoiceLine, ...] | list[InvoiceLine]) -> Decimal:
    with localcontext(Context(prec=_PRECISION)):
        return sum((line.amount_usd for line in lines if line.amount_usd is not None), Decimal(0))


def _row(line: InvoiceLine) -> tuple[str, ...]:
    notes = [line.problem or "", "client left" if line.client_left else ""]
    return (
        str(line.number),
        line.provider,
        line.model,
        line.tier,
        str(line.input_tokens),
        str(line.output_tokens),
        "-" if line.amount_usd is None else format(line.amount_usd, "f"),
        " ".join(note for note in notes if note),
    )


def _line_json(line: InvoiceLine) -> JSON:
    return {
        "number": line.number,
        "at": line.at.isoformat(),
        "provider": line.provider,
        "endpoint": line.endpoint,
        "requested_model": line.requested_model,
        "model": line.model,
        "response_id": line.response_id,
        "tier": line.tier,
        "status": line.status,
        "streamed": line.streamed,
        "client_left": line.client_left,
        "counts": {field.name: getattr(line.counts, field.name) for field in fields(Counts)},
        "items": {
            label: {
                "quantity": item.quantity,
                "unit_price": format(item.unit_price, "f"),
                "amount": format(item.amount, "f"),
            }
            for label, item in line.items.items()
        },
        "amount_usd": None if line.amount_usd is None else format(line.amount_usd, "f"),
        "problem": line.problem,
    }
