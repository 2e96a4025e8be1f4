"""Rules that change prices: the user's overrides from farthing.toml, and our own dated corrections of the catalogue."""

from __future__ import annotations

import difflib
import fnmatch
import re
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from farthing.errors import PriceDataError
from farthing.pricing.catalog import Rate
from farthing.pricing.units import BUCKETS, TOKEN_BUCKETS
from farthing.providers import canonical_provider, catalogue_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["PriceOverride", "PricesSettings", "Rule", "corrections_to_rules", "overrides_to_rules", "read_corrections"]

_MAX_PER_UNIT: Final = Decimal(100_000)
_MAX_FACTOR: Final = Decimal(100)

_TIERS: Final = ("standard", "batch", "flex", "priority", "fast")


def _sentence(what: str, value: object, allowed: Iterable[str]) -> str:
    names = sorted(allowed)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {value!r}.{hint} Known: {', '.join(names)}."


def _number(value: object) -> Decimal:
    """Read a number exactly: a string, a whole number, or a TOML float as it was written."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        message = f'{value!r} is no number: write it as a string, for example "2.50"'
        raise ValueError(message)
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation as error:
        message = f'{value!r} is no decimal number: write it like "2.50", without a currency sign or unit'
        raise ValueError(message) from error
    if not number.is_finite():
        message = f"{value!r} is no finite number"
        raise ValueError(message)
    return number


def _price(value: object) -> Decimal:
    number = _number(value)
    if number < 0:
        message = f"{number} is negative: a price is zero or more (for a credit use a multiplier)"
        raise ValueError(message)
    if number > _MAX_PER_UNIT:
        message = (
            f"{number} US dollars is absurd: prices are per 1,000,000 tokens or characters, per 1,000 searches, pages or "
            f"requests, per hour of audio and per picture; the limit is {_MAX_PER_UNIT}"
        )
        raise ValueError(message)
    return number


def _factor(value: object) -> Decimal:
    number = _number(value)
    if not 0 < number <= _MAX_FACTOR:
        message = f"{number} is no sensible multiplier: it is more than 0 and at most {_MAX_FACTOR} (0.85 for 15 % off)"
        raise ValueError(message)
    return number


def _discount(value: object) -> Decimal:
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.endswith("%"):
        number = _number(text[:-1].strip()) / 100
    else:
        number = _number(text)
    if not 0 < number < 1:
        message = f'{value!r} is no discount: write "15%" or "0.15" for 15 % off'
        raise ValueError(message)
    return number


def _moment(value: object) -> object:
    """Read a first or last moment; a day begins at 00:00 UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            message = f'{value!r} is no date: write it like "2026-01-31" or "2026-01-31T16:00:00Z"'
            raise ValueError(message) from error
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    return value


def _rates(value: object) -> object:
    if isinstance(value, dict):
        for bucket in value:  # pyright: ignore[reportUnknownVariableType]
            if bucket not in BUCKETS:
                raise ValueError(_sentence("bucket", bucket, BUCKETS))  # pyright: ignore[reportUnknownArgumentType]
    return value  # pyright: ignore[reportUnknownVariableType]


def _tier(value: object) -> object:
    if isinstance(value, str) and value.lower() not in _TIERS:
        raise ValueError(_sentence("tier", value, _TIERS))
    return value.lower() if isinstance(value, str) else value


Price = Annotated[Decimal, BeforeValidator(_price)]
Rates = Annotated[dict[str, Price], BeforeValidator(_rates)]
Moment = Annotated[datetime, BeforeValidator(_moment)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = {field.alias or name for name, field in cls.model_fields.items()} | set(cls.model_fields)
            for key in data:  # pyright: ignore[reportUnknownVariableType]
                if key not in known:
                    raise ValueError(_sentence("key", key, known))  # pyright: ignore[reportUnknownArgumentType]
        return data  # pyright: ignore[reportUnknownVariableType]


class LongContext(_Strict):
    """Rates for requests whose whole input is longer than a threshold."""

    above: int = Field(gt=0)
    """Input tokens; the rates hold for the whole request when it has more than that."""
    rates: Rates


class PriceOverride(_Strict):
    """One price of the user's own, for the models and the period it names.

    Exactly one of `rates`, `multiplier`, `discount`, `free` and `alias_of` says what it does; `alias_of` may be combined
    with a multiplier or a discount. The first entry of the list that fits a call is used, and only that one.
    """

    name: str | None = None
    """How reports call it; by default `provider:model`."""
    provider: str | None = None
    """Any spelling; None fits every provider."""
    model: str = Field(default="*", min_length=1)
    match: Literal["exact", "prefix", "glob", "regex"] | None = None
    """How `model` is compared, without regard to case, with the requested name and with the price book's own id of the
    model; by default `glob` when it holds a `*`, else `exact`."""
    tier: Annotated[Literal["standard", "batch", "flex", "priority", "fast"] | None, BeforeValidator(_tier)] = None
    """None: absolute rates hold for standard calls, a multiplier, a discount, `free` and an alias for every tier."""
    start: Moment | None = Field(default=None, alias="from")
    """First moment; a day begins at 00:00 UTC."""
    end: Moment | None = Field(default=None, alias="until")
    """First moment at which it no longer holds."""
    rates: Rates | None = None
    """US dollars by bucket: per 1,000,000 tokens or characters, per 1,000 searches, pages or requests, per hour of audio
    (`audio_seconds`), per picture (`output_images`). Buckets it does not name keep their list price."""
    long_context: tuple[LongContext, ...] = ()
    multiplier: Annotated[Decimal, BeforeValidator(_factor)] | None = None
    """Of the list price: 0.85 is 15 % off, 1.1 is 10 % on top."""
    discount: Annotated[Decimal, BeforeValidator(_discount)] | None = None
    """Off the list price: `"15%"` or `0.15`."""
    free: bool = False
    """Costs nothing: included in a contract, or self-hosted and accounted for elsewhere."""
    alias_of: str | None = None
    """The model whose price it has: `gpt-4o`, or `openai/gpt-4o` of another provider."""
    estimated: bool = False
    """The rates are an estimate, e.g. GPU hours spread over tokens; costs say so."""
    reason: str | None = None

    @model_validator(mode="after")
    def _one_effect(self) -> PriceOverride:
        chosen = [
            name
            for name, given in (
                ("rates", self.rates is not None),
                ("multiplier", self.multiplier is not None),
                ("discount", self.discount is not None),
                ("free", self.free),
                ("alias_of", self.alias_of is not None),
            )
            if given
        ]
        if set(chosen) - {"alias_of"} and len(chosen) > 1 and set(chosen) not in (
            {"alias_of", "multiplier"},
            {"alias_of", "discount"},
        ):
            message = f"{self.label}: {' and '.join(chosen)} cannot be combined; keep one of them"
            raise ValueError(message)
        if not chosen:
            message = f"{self.label}: nothing to do: give one of rates, multiplier, discount, free or alias_of"
            raise ValueError(message)
        if self.rates is not None and not self.rates:
            message = f"{self.label}: rates is empty: give at least one bucket, or free = true"
            raise ValueError(message)
        if self.long_context and self.rates is None:
            message = f"{self.label}: long_context needs rates"
            raise ValueError(message)
        if self.start and self.end and self.start >= self.end:
            message = f"{self.label}: its period is empty: from {self.start:%Y-%m-%d} until {self.end:%Y-%m-%d}"
            raise ValueError(message)
        if self.match == "regex":
            try:
                re.compile(self.model)
            except re.error as error:
                message = f"{self.label}: model is no regular expression: {error}"
                raise ValueError(message) from error
        return self

    @property
    def label(self) -> str:
        """How provenance calls it."""
        return self.name or f"{self.provider or '*'}:{self.model}"


class PricesSettings(_Strict):
    """The `[prices]` table of farthing.toml.

    Raises:
        pydantic.ValidationError: An unknown key or bucket, an absurd price, an empty or ambiguous override.
    """

    overrides: tuple[PriceOverride, ...] = ()
    file: Path | None = None
    """A price file to use instead of the bundled one; see `farthing prices use`."""
    sha256: str | None = None
    """What `file` must hash to."""
    max_age_days: int = Field(default=90, ge=1)
    """Older price data is flagged `stale-price-data` on every cost."""

    @model_validator(mode="after")
    def _unambiguous(self) -> PricesSettings:
        for index, first in enumerate(self.overrides):
            for second in self.overrides[index + 1 :]:
                if _same_calls(first, second):
                    message = (
                        f"two overrides for {first.label!r} hold at the same time; "
                        "the first would always win: give them periods (from, until) that do not overlap, or remove one"
                    )
                    raise ValueError(message)
        return self


def _same_calls(first: PriceOverride, second: PriceOverride) -> bool:
    if canonical_provider(first.provider) != canonical_provider(second.provider) or first.tier != second.tier:
        return False
    if first.model.lower() != second.model.lower() or _how(first) != _how(second):
        return False
    latest_start = max(first.start or datetime.min.replace(tzinfo=UTC), second.start or datetime.min.replace(tzinfo=UTC))
    earliest_end = min(first.end or datetime.max.replace(tzinfo=UTC), second.end or datetime.max.replace(tzinfo=UTC))
    return latest_start < earliest_end


def _how(override: PriceOverride) -> str:
    return override.match or ("glob" if "*" in override.model else "exact")


@dataclass(frozen=True, slots=True)
class Rule:
    """One override or correction, ready to apply."""

    id: str
    provider: str | None
    """Canonical name, or `=id` for everything that one catalogue provider stands for."""
    patterns: tuple[tuple[str, str], ...]
    """(how, lower-case pattern), any of which fits."""
    excluded: tuple[str, ...] = ()
    """Globs of models that it does not fit after all."""
    tiers: frozenset[str] = frozenset()
    """Empty: every tier."""
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Values of the billing context it needs; `!x` is any other than x."""
    start: datetime | None = None
    end: datetime | None = None
    windows: tuple[tuple[time, time], ...] = ()
    """Daily UTC hours; empty: all day."""
    weekdays: frozenset[int] | None = None
    rates: Mapping[str, Rate] | None = None
    replace: bool = False
    """Whether `rates` are all there is, not only those that it names."""
    factors: Mapping[str, Decimal] | None = None
    backdate: bool = False
    """Use the catalogue's own variant before the day on which it was verified, where the standard price is the same."""
    free: bool = False
    alias_of: str | None = None
    estimated: bool = False
    flag: str | None = None
    source: str | None = None
    reason: str | None = None

    def fits(self, provider: str | None, names: Iterable[str]) -> bool:
        """Tell whether it is about a model, given by its canonical provider and lower-case names."""
        if self.provider is not None and self.provider != provider:
            if not self.provider.startswith("="):
                return False
            if provider is None or catalogue_id(provider) != self.provider[1:]:
                return False
        fitting = [name for name in names if any(_compare(how, pattern, name) for how, pattern in self.patterns)]
        return bool(fitting) and not any(fnmatch.fnmatchcase(name, glob) for name in names for glob in self.excluded)

    def active(self, moment: datetime) -> bool:
        """Tell whether it holds at a moment in UTC."""
        if self.start is not None and moment < self.start:
            return False
        if self.end is not None and moment >= self.end:
            return False
        if self.weekdays is not None and moment.weekday() not in self.weekdays:
            return False
        return not self.windows or any(begin <= moment.time() < end for begin, end in self.windows)

    def in_context(self, context: Mapping[str, str]) -> bool:
        """Tell whether the billing context is the one it needs."""
        return all(_value_fits(context.get(key), allowed) for key, allowed in self.when.items())


def _value_fits(value: str | None, allowed: tuple[str, ...]) -> bool:
    if value is None:
        return False
    refused = [item[1:] for item in allowed if item.startswith("!")]
    if refused:
        return not any(fnmatch.fnmatchcase(value, item) for item in refused)
    return any(fnmatch.fnmatchcase(value, item) for item in allowed)


def _compare(how: str, pattern: str, name: str) -> bool:
    if how == "exact":
        return name == pattern
    if how == "prefix":
        return name.startswith(pattern)
    if how == "glob":
        return fnmatch.fnmatchcase(name, pattern)
    return re.search(pattern, name, re.IGNORECASE) is not None


def overrides_to_rules(overrides: Iterable[PriceOverride]) -> tuple[Rule, ...]:
    """Compile the user's overrides."""
    rules: list[Rule] = []
    for override in overrides:
        factor = override.multiplier if override.discount is None else 1 - override.discount
        tiers = frozenset({override.tier}) if override.tier else frozenset({"standard"} if override.rates else ())
        how = _how(override)
        rules.append(
            Rule(
                id=override.label,
                provider=canonical_provider(override.provider),
                patterns=((how, override.model if how == "regex" else override.model.lower()),),
                tiers=tiers,
                start=override.start,
                end=override.end,
                rates=_override_rates(override),
                factors=dict.fromkeys(BUCKETS, factor) if factor is not None else None,
                free=override.free,
                alias_of=override.alias_of,
                estimated=override.estimated,
                reason=override.reason,
            )
        )
    return tuple(rules)


def _override_rates(override: PriceOverride) -> dict[str, Rate] | None:
    if override.rates is None:
        return None
    rates: dict[str, Rate] = {}
    for bucket in override.rates.keys() | {bucket for part in override.long_context for bucket in part.rates}:
        steps = sorted(
            ((part.above, part.rates[bucket]) for part in override.long_context if bucket in part.rates), reverse=True
        )
        rates[bucket] = Rate(override.rates.get(bucket, Decimal(0)), tuple(steps))
    return rates


_GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "tokens": TOKEN_BUCKETS,
    "input_and_output": tuple(
        bucket for bucket in TOKEN_BUCKETS if not bucket.startswith("cache_")
    ),
    "everything": tuple(BUCKETS),
}


def read_corrections(text: str) -> tuple[Rule, ...]:
    """Compile our own corrections from their TOML.

    Raises:
        PriceDataError: An entry is not what it should be; it names the entry.
    """
    return corrections_to_rules(tomllib.loads(text)["correction"])


def corrections_to_rules(entries: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Compile corrections that are parsed already.

    Raises:
        PriceDataError: An entry is not what it should be; it names the entry.
    """
    rules: list[Rule] = []
    for raw in entries:
        try:
            rules.append(_correction(dict(raw)))
        except (KeyError, ValueError, TypeError) as error:
            message = f"correction {raw.get('id')!r}: {error}"
            raise PriceDataError(message) from error
    return tuple(rules)


def _correction(raw: dict[str, Any]) -> Rule:
    factors: dict[str, Decimal] | None = None
    if "multiply" in raw:
        factors = {}
        for name, value in raw["multiply"].items():
            factors |= dict.fromkeys(_GROUPS.get(name, (name,)), _factor(value))
    rates: dict[str, Rate] | None = None
    if "rates" in raw:
        _rates(raw["rates"])
        rates = {bucket: _correction_rate(value) for bucket, value in raw["rates"].items()}
    models = raw.get("models", ["*"])
    return Rule(
        id=raw["id"],
        provider=raw["provider"] if raw["provider"].startswith("=") else canonical_provider(raw["provider"]),
        patterns=tuple(("glob", model.lower()) for model in models),
        excluded=tuple(raw.get("except", ())),
        tiers=frozenset(raw.get("tiers", ())),
        when={key: tuple([value] if isinstance(value, str) else value) for key, value in raw.get("when", {}).items()},
        start=_optional_moment(raw.get("from")),
        end=_optional_moment(raw.get("until")),
        windows=tuple((time.fromisoformat(begin), time.fromisoformat(end)) for begin, end in raw.get("windows", ())),
        weekdays=frozenset(raw["weekdays"]) if "weekdays" in raw else None,
        rates=rates,
        replace=raw.get("replace", False),
        factors=factors,
        backdate=raw.get("backdate", False),
        free=raw.get("free", False),
        alias_of=raw.get("alias_of"),
        flag=raw.get("flag"),
        source=raw["source"],
        reason=raw["reason"],
    )


def _optional_moment(value: object) -> datetime | None:
    moment = _moment(value)
    return moment if isinstance(moment, datetime) else None


def _correction_rate(value: Any) -> Rate:
    if isinstance(value, str):
        return Rate(_price(value))
    return Rate(
        _price(value["base"]),
        tuple(sorted(((step["above"], _price(step["price"])) for step in value["steps"]), reverse=True)),
    )


