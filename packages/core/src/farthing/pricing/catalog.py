"""The compact price catalogue: one line a model, read a provider at a time, matched as genai-prices matches.

The file is JSON lines: a manifest, then for each provider a header and its models. Only the headers are parsed when the
catalogue is opened; a provider's models are parsed when the first call asks for one of them. `tools/build_catalog.py`
writes it, and a test proves both engines equal over every model.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from farthing.errors import PriceDataError
from farthing.pricing.units import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "FORMAT",
    "Catalog",
    "Constraint",
    "Match",
    "Model",
    "Price",
    "Provider",
    "Rate",
    "Variant",
    "clause_literals",
    "match_clause",
]

FORMAT: Final = "farthing.prices/1"

_MAX_RATE: Final = Decimal(100_000)
"""US dollars per quoted unit beyond which a rate is a mistake: the dearest known is 600 per million tokens."""

Clause: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one bucket: US dollars for the bucket's quoted number of units."""

    base: Decimal
    steps: tuple[tuple[int, Decimal], ...] = ()
    """Long-context prices, highest threshold first: the first whose threshold the whole input exceeds bills it all."""

    def at(self, input_tokens: int) -> Decimal:
        """Give the price for a request with so many input tokens."""
        for start, price in self.steps:
            if input_tokens > start:
                return price
        return self.base


@dataclass(frozen=True, slots=True)
class Constraint:
    """When a price holds: from a first UTC day, or in a daily UTC window."""

    start: date | None = None
    window: tuple[time, time] | None = None

    def active(self, moment: datetime) -> bool:
        """Tell whether it holds at an aware moment."""
        utc = moment.astimezone(UTC)
        if self.start is not None:
            return utc.date() >= self.start
        if self.window is not None:
            begin, end = self.window
            clock = utc.time()
            if end < begin:
                return clock >= begin or clock < end
            return begin <= clock < end
        return True


@dataclass(frozen=True, slots=True)
class Price:
    """One set of rates with its condition."""

    constraint: Constraint | None
    rates: Mapping[str, Rate]


@dataclass(frozen=True, slots=True)
class Variant:
    """Rates that replace some of the standard ones for a context such as `processing=batch`."""

    when: Mapping[str, str]
    constraint: Constraint | None
    rates: Mapping[str, Rate]


@dataclass(frozen=True, slots=True)
class Model:
    """One model of one provider, with its price history."""

    id: str
    match: Clause
    prices: tuple[Price, ...]
    variants: tuple[Variant, ...]
    deprecated: bool
    minimum_seconds: int | None

    def standard(self, moment: datetime) -> Price:
        """Give the price in force: the last whose condition holds, else the first."""
        for price in reversed(self.prices):
            if price.constraint is None or price.constraint.active(moment):
                return price
        return self.prices[0]


@dataclass(frozen=True, slots=True)
class Match:
    """How a requested name found its model."""

    model: Model
    provider_id: str
    """Whose model it is; another than the one asked for when a fallback answered."""
    kind: str
    """exact, alias, prefix, suffix, contains or regex."""
    rest: str
    """What of the requested name the rule did not account for."""
    redated: bool = False
    """Whether a compact date had to be rewritten to find it."""


@dataclass(slots=True)
class Provider:
    """One provider's header and, once asked for, its models."""

    id: str
    match: Clause | None
    model_match: Clause | None
    fallback: tuple[str, ...]
    count: int
    lines: list[bytes] | None
    _models: tuple[Model, ...] | None = None

    def models(self) -> tuple[Model, ...]:
        """Parse the models on first use; two threads at once parse twice and agree."""
        if self._models is None:
            lines = self.lines or []
            self._models = tuple(_model(json.loads(line)) for line in lines)
            self.lines = None
        return self._models


def match_clause(clause: Clause, text: str) -> tuple[str, str] | None:
    """Match a lower-case name; give the kind of rule that matched and the part of the name it left open."""
    ((kind, content),) = clause.items()
    if kind == "or":
        return next((found for part in content if (found := match_clause(part, text))), None)
    if kind == "and":
        found = [match_clause(part, text) for part in content]
        return found[0] if all(found) else None
    return _literal(kind, content, text)


def _literal(kind: str, content: str, text: str) -> tuple[str, str] | None:
    if kind == "equals":
        return ("exact", "") if text == content else None
    if kind == "starts_with":
        return ("prefix", text[len(content) :]) if text.startswith(content) else None
    if kind == "ends_with":
        return ("suffix", text.removesuffix(content)) if text.endswith(content) else None
    if kind == "contains":
        return ("contains", text.partition(content)[2]) if content in text else None
    return ("regex", "") if re.search(content, text) else None


def clause_literals(clause: Clause) -> list[str]:
    """Give the names that a match rule spells out."""
    ((kind, content),) = clause.items()
    if kind in {"or", "and"}:
        return [name for part in content for name in clause_literals(part)]
    return [] if kind == "regex" else [content]


_COMPACT_DATE: Final = re.compile(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def redate(name: str) -> str:
    """Rewrite `-20251211` as `-2025-12-11`, as LiteLLM and OpenRouter write dates (genai-prices does the same)."""

    def dashed(found: re.Match[str]) -> str:
        year, month, day = (int(found.group(index)) for index in range(2, 5))
        try:
            return "-" + date(year, month, day).isoformat()
        except ValueError:
            return found.group(0)

    return _COMPACT_DATE.sub(dashed, name)


class Catalog:
    """Prices of every known model.

    Raises:
        PriceDataError: The data is truncated, of another format, or does not hash to what its manifest says.
    """

    def __init__(self, data: bytes) -> None:
        first, newline, body = data.partition(b"\n")
        try:
            manifest = json.loads(first)
        except ValueError as error:
            message = f"not a price file: its first line is no manifest in the format {FORMAT}"
            raise PriceDataError(message) from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:  # pyright: ignore[reportUnknownMemberType]
            message = f"not a price file: its first line is no manifest in the format {FORMAT}"
            raise PriceDataError(message)
        self.manifest: dict[str, Any] = manifest
        digest = hashlib.sha256(body).hexdigest()
        if not newline or digest != self.manifest.get("body_sha256"):
            message = (
                f"the price file is damaged or cut off: its content has the SHA-256 {digest[:12]}..., "
                f"its manifest promises {str(self.manifest.get('body_sha256'))[:12]}..."
            )
            raise PriceDataError(message)
        self.providers: dict[str, Provider] = {}
        self._lock = threading.Lock()
        self._read(body.splitlines())

    def _read(self, lines: list[bytes]) -> None:
        position = 0
        while position < len(lines):
            header = json.loads(lines[position])
            count = header["models"]
            self.providers[header["provider"]] = Provider(
                id=header["provider"],
                match=header["match"],
                model_match=header["model_match"],
                fallback=tuple(header["fallback"]),
                count=count,
                lines=lines[position + 1 : position + 1 + count],
            )
            position += 1 + count

    @property
    def version(self) -> str:
        """Which price data this is: the first digits of the hash of its content."""
        return str(self.manifest["body_sha256"])[:16]

    def load_everything(self) -> None:
        """Parse and check every model.

        Raises:
            PriceDataError: A line cannot be read, or a rate is absurd.
        """
        for provider in self.providers.values():
            provider.models()

    def models(self) -> Iterator[tuple[Provider, Model]]:
        """Give every model with its provider."""
        for provider in self.providers.values():
            for model in provider.models():
                yield provider, model

    def find_provider(self, name: str) -> Provider | None:
        """Find a provider by its id or by its own rule for spellings."""
        wanted = name.lower().strip()
        if wanted in self.providers:
            return self.providers[wanted]
        for provider in self.providers.values():
            if provider.match is not None and match_clause(provider.match, wanted):
                return provider
        return None

    def provider_of_model(self, name: str) -> Provider | None:
        """Guess the provider of a bare model name."""
        wanted = name.lower()
        for provider in self.providers.values():
            if provider.model_match is not None and match_clause(provider.model_match, wanted):
                return provider
        return None

    def find_model(self, provider: Provider, name: str) -> Match | None:
        """Find a model: the provider's own list, then its fallbacks, then both again with the date rewritten."""
        wanted = name.lower()
        with self._lock:
            found = self._find(provider, wanted, redated=False)
            if found is None and (rewritten := redate(wanted)) != wanted:
                found = self._find(provider, rewritten, redated=True)
        return found

    def _find(self, provider: Provider, name: str, *, redated: bool) -> Match | None:
        candidates = [provider, *(self.providers[other] for other in provider.fallback if other in self.providers)]
        for owner in candidates:
            for model in owner.models():
                found = match_clause(model.match, name)
                if found is None:
                    continue
                kind = "alias" if found[0] == "exact" and name != model.id.lower() else found[0]
                return Match(model, owner.id, kind, found[1], redated)
        return None


def _model(raw: dict[str, Any]) -> Model:
    return Model(
        id=raw["id"],
        match=raw["match"],
        prices=tuple(Price(_constraint(when), _rates(raw["id"], rates)) for when, rates in raw["prices"]),
        variants=tuple(
            Variant(context, _constraint(when), _rates(raw["id"], rates))
            for context, when, rates in raw.get("variants", ())
        ),
        deprecated=raw.get("deprecated", False),
        minimum_seconds=raw.get("minimum_seconds"),
    )


def _constraint(raw: Any) -> Constraint | None:
    if raw is None:
        return None
    if isinstance(raw, str):
        return Constraint(start=date.fromisoformat(raw))
    return Constraint(window=(time.fromisoformat(raw[0]), time.fromisoformat(raw[1])))


def _rates(model: str, raw: Mapping[str, Any]) -> dict[str, Rate]:
    rates: dict[str, Rate] = {}
    for bucket, value in raw.items():
        if bucket not in BUCKETS:
            message = f"the price of {model} has an unknown bucket {bucket!r}"
            raise PriceDataError(message)
        base, steps = (value, ()) if isinstance(value, str) else value
        rates[bucket] = Rate(
            _amount(model, bucket, base),
            tuple(sorted(((start, _amount(model, bucket, price)) for start, price in steps), reverse=True)),
        )
    return rates


def _amount(model: str, bucket: str, text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        message = f"the price of {model} for {bucket} is no decimal number: {text!r}"
        raise PriceDataError(message) from error
    if not amount.is_finite() or not 0 <= amount <= _MAX_RATE:
        message = f"the price of {model} for {bucket} is absurd: {text}"
        raise PriceDataError(message)
    return amount
