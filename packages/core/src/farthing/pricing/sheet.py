"""A price sheet: the resolved rates of one model, tier, context and moment, and the arithmetic that bills with them.

All arithmetic runs in one explicit Decimal context, never in the ambient one, so that a host which lowers its
precision cannot change a cost. Rates are quoted per a power of ten almost everywhere, so a line is exact; a rate per
hour of audio may not terminate, and such a line is rounded to 28 significant digits, as Python's own default would.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

from farthing.envelope import CostLine
from farthing.pricing.catalog import Rate
from farthing.pricing.units import BUCKETS, DISPLAY_ORDER, Unit, contains

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farthing.envelope import CostStatus, Provenance

__all__ = ["Bill", "Sheet", "scaled"]

_EXACT: Final = Context(prec=50)
_DIVIDING: Final = Context(prec=28)
_ZERO: Final = Decimal(0)
_ONE: Final = Decimal(1)
_TEN: Final = Decimal(10)

_MODALITIES: Final = (
    ("input_audio_tokens", "cache_read_audio_tokens"),
    ("input_image_tokens", "cache_read_image_tokens"),
    ("input_video_tokens", "cache_read_video_tokens"),
)

_NOTICED: Final = (
    # usage that is billed inside another bucket when the model has no rate for it, and what a reader should know then
    ("input_audio_tokens", "input_audio", "modality-billed-as-text"),
    ("output_audio_tokens", "output_audio", "modality-billed-as-text"),
    ("output_image_tokens", "output_image", "modality-billed-as-text"),
    ("output_video_tokens", "output_video", "modality-billed-as-text"),
    ("cache_read_tokens", "cache_read", "cache-billed-as-input"),
    ("cache_write_tokens", "cache_write", "cache-billed-as-input"),
    ("cache_write_1h_tokens", "cache_write_1h", "cache-1h-billed-as-5m"),
    ("code_executions", "code_executions", "code-executions-not-priced"),
)

_BILLED_ALONE: Final = (
    ("web_searches", "web_searches", "web-searches-not-priced"),
    ("social_searches", "social_searches", "social-searches-not-priced"),
    ("file_searches", "file_searches", "file-searches-not-priced"),
    ("rerank_searches", "rerank_searches", "rerank-searches-not-priced"),
)
"""What a provider bills on its own line: without a rate the total is not known."""

_MEASURES: Final = (
    "input_tokens",
    "output_tokens",
    "input_characters",
    "input_messages",
    "audio_seconds",
    "document_pages",
    "output_images",
)
"""Ways to measure the same work: a model bills by one of them and the others are information."""


@dataclass(frozen=True, slots=True)
class Bill:
    """A usage billed with a sheet."""

    lines: dict[str, CostLine]
    amount_usd: Decimal | None
    """None when a part of the usage has no known rate."""
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """One priced bucket: what it counts, less what the priced buckets inside it count."""

    unit: Unit
    inner: tuple[int, ...]
    rate: Rate
    quoted_usd: Decimal
    unit_usd: Decimal | None
    """The rate for a single unit, when that is exact."""


class Sheet:
    """Rates ready to bill with."""

    __slots__ = (
        "_alone",
        "_measured",
        "_minimum_seconds",
        "_noticed",
        "_order",
        "_program",
        "_splits",
        "_strict_output",
        "_ttl",
        "estimated",
        "flags",
        "list_sheet",
        "provenance",
        "rates",
        "source",
        "status",
    )

    def __init__(
        self,
        rates: Mapping[str, Rate],
        *,
        provenance: Provenance | None,
        source: str | None,
        flags: tuple[str, ...] = (),
        status: CostStatus = "priced",
        minimum_seconds: int | None = None,
        strict_output: bool = False,
        estimated: bool = False,
        list_sheet: Sheet | None = None,
    ) -> None:
        self.rates = dict(rates)
        self.provenance = provenance
        self.source = source
        self.flags = flags
        self.status: CostStatus = status
        self.estimated = estimated
        self.list_sheet = list_sheet
        self._minimum_seconds = minimum_seconds
        _complete_joins(self.rates)
        self._program = _program(self.rates)
        self._order = sorted(
            range(len(self._program)), key=lambda index: DISPLAY_ORDER[self._program[index].unit.bucket]
        )
        priced = self.rates.keys()
        self._splits = [(part, join) for part, join in _MODALITIES if BUCKETS_OF_FIELD.get(join) in priced]
        self._noticed = [(field, flag) for field, bucket, flag in _NOTICED if bucket not in priced]
        self._alone = [(field, flag) for field, bucket, flag in _BILLED_ALONE if bucket not in priced]
        self._measured = tuple(field for field in _MEASURES if BUCKETS_OF_FIELD[field] not in priced)
        self._ttl = "cache_write_1h" in priced
        self._strict_output = strict_output or "input" not in priced

    def with_provenance(self, provenance: Provenance, *, source: str | None) -> Sheet:
        """Give the same rates under another provenance."""
        return Sheet(
            self.rates,
            provenance=provenance,
            source=source,
            flags=self.flags,
            status=self.status,
            minimum_seconds=self._minimum_seconds,
            strict_output=self._strict_output,
            estimated=self.estimated,
            list_sheet=self.list_sheet,
        )

    @property
    def known(self) -> bool:
        """Whether this sheet has a price at all."""
        return self.status in {"priced", "free"}

    def bill(self, counts: Mapping[str, int | Decimal | None]) -> Bill:
        """Bill a usage, given by the fields of `Usage`; absent and None count nothing."""
        flags: list[str] = []
        if self._splits and counts.get("cache_read_tokens"):
            counts = self._split(counts, flags)
        quantities = self._quantities(counts)
        if min(quantities, default=0) < 0:
            return Bill({}, None, ("usage-overlap",))
        lines: dict[str, CostLine] = {}
        total = _ZERO
        whole_input = int(counts.get("input_tokens") or 0)
        for index in self._order:
            quantity = quantities[index]
            if not quantity:
                continue
            step = self._program[index]
            line = _line(step, quantity, whole_input)
            lines[step.unit.bucket] = line
            total = _EXACT.add(total, line.amount_usd)
        complete = self._notice(counts, lines, flags)
        amount = _tidy(total) if complete else None
        return Bill(lines, amount, tuple(flags))

    def _quantities(self, counts: Mapping[str, int | Decimal | None]) -> list[int | Decimal]:
        quantities: list[int | Decimal] = []
        for step in self._program:
            quantity = (counts.get(step.unit.usage_field) or 0) if step.unit.usage_field else 1
            if self._minimum_seconds and quantity and step.unit.usage_field == "audio_seconds":
                quantity = max(quantity, self._minimum_seconds)
            for inner in step.inner:
                quantity -= quantities[inner]
            quantities.append(quantity)
        return quantities

    def _split(
        self, counts: Mapping[str, int | Decimal | None], flags: list[str]
    ) -> Mapping[str, int | Decimal | None]:
        """Decide how much of a modality was cached when the provider does not say: as little as the totals allow.

        Cached text has the smaller discount in money, so this is the upper bound of the two possible costs.
        """
        present = [(part, join) for part, join in self._splits if counts.get(part)]
        if all(counts.get(join) is not None for _, join in present):
            return counts
        settled = dict(counts)
        modal = sum(int(counts.get(part) or 0) for part, _ in _MODALITIES)
        over = max(0, int(counts.get("cache_read_tokens") or 0) + modal - int(counts.get("input_tokens") or 0))
        for part, join in present:
            if settled.get(join) is None:
                settled[join] = min(over, int(counts.get(part) or 0))
                flags.append("cache-split-assumed")
            over -= min(over, int(settled[join] or 0))
        del flags[1:]
        return settled

    def _notice(self, counts: Mapping[str, int | Decimal | None], lines: dict[str, CostLine], flags: list[str]) -> bool:
        """Note what the bill does not say by itself; tell whether it is complete."""
        flags.extend(flag for field, flag in self._noticed if counts.get(field) and flag not in flags)
        if self._ttl and (written := counts.get("cache_write_tokens")):
            known = (counts.get("cache_write_5m_tokens") or 0) + (counts.get("cache_write_1h_tokens") or 0)
            if written > known:
                flags.append("cache-ttl-assumed")
        missing = [flag for field, flag in self._alone if counts.get(field)]
        flags.extend(missing)
        complete = not missing
        for field in self._measured:
            if counts.get(field):
                complete = self._unmeasured(field, lines, flags) and complete
        return complete

    def _unmeasured(self, field: str, lines: dict[str, CostLine], flags: list[str]) -> bool:
        """Note a count that no rate bills; tell whether the bill is complete all the same."""
        if field == "output_tokens":
            flags.append("output-not-priced")
            return not self._strict_output
        if lines.keys() - {"requests", "web_searches"}:
            return True
        flags.append("usage-not-priced")
        return False


BUCKETS_OF_FIELD: Final = {unit.usage_field: unit.bucket for unit in BUCKETS.values() if unit.usage_field}


def _line(step: _Step, quantity: int | Decimal, whole_input: int) -> CostLine:
    count = Decimal(quantity)
    if step.unit_usd is not None:
        rate, amount = step.quoted_usd, _EXACT.multiply(step.unit_usd, count)
    else:
        rate = step.rate.at(whole_input)
        context = _DIVIDING if step.unit.per % 10 else _EXACT
        amount = context.divide(_EXACT.multiply(rate, count), Decimal(step.unit.per))
    return CostLine.assembled({"quantity": count, "rate_usd": rate, "per": step.unit.per, "amount_usd": _tidy(amount)})


def _program(rates: Mapping[str, Rate]) -> tuple[_Step, ...]:
    units = sorted(
        (BUCKETS[bucket] for bucket in rates), key=lambda unit: (-len(unit.dimensions), DISPLAY_ORDER[unit.bucket])
    )
    steps: list[_Step] = []
    for index, unit in enumerate(units):
        rate = rates[unit.bucket]
        exact = not rate.steps and str(unit.per).strip("0") == "1"
        steps.append(
            _Step(
                unit,
                tuple(inner for inner in range(index) if contains(unit, units[inner])),
                rate,
                rate.base,
                _EXACT.divide(rate.base, Decimal(unit.per)) if exact else None,
            )
        )
    return tuple(steps)


def _complete_joins(rates: dict[str, Rate]) -> None:
    """Give cached audio, pictures and video a rate where only both its wholes have one: the one of the modality.

    The catalogue always has it (genai-prices refuses data without); overrides and corrections may leave it out, and
    without it such tokens would be subtracted twice.
    """
    if "cache_read" in rates:
        for modality in ("audio", "image", "video"):
            whole, join = f"input_{modality}", f"cache_read_{modality}"
            if whole in rates and join not in rates:
                rates[join] = rates[whole]


def _tidy(amount: Decimal) -> Decimal:
    """Drop idle zeros behind the point, and only there: 30 must not print as 3E+1."""
    plain = amount.normalize(_EXACT)
    if plain < _TEN or _EXACT.remainder(plain, _TEN):
        return plain
    return plain.quantize(_ONE, context=_EXACT)


def scaled(rates: Mapping[str, Rate], factors: Mapping[str, Decimal]) -> dict[str, Rate]:
    """Multiply rates by the factors of their buckets; a bucket without a factor stays."""
    return {bucket: _times(rate, factors[bucket]) if bucket in factors else rate for bucket, rate in rates.items()}


def _times(rate: Rate, factor: Decimal) -> Rate:
    return Rate(
        _EXACT.multiply(rate.base, factor),
        tuple((start, _EXACT.multiply(price, factor)) for start, price in rate.steps),
    )
