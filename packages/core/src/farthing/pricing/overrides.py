"""The user's own prices: the `[prices]` table of farthing.toml, and a clear sentence for every slip in it."""

from __future__ import annotations

import difflib
import re
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from pathlib import Path  # noqa: TC003 - pydantic reads it at run time
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from farthing.pricing.units import BUCKETS
from farthing.providers import canonical_provider

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PriceOverride", "PricesSettings"]

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
        raise ValueError(message)  # noqa: TRY004 - pydantic collects ValueErrors
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation as error:
        message = f'{value!r} is no decimal number: write it like "2.50", without a currency sign or unit'
        raise ValueError(message) from error
    if not number.is_finite():
        message = f"{value!r} is no finite number"
        raise ValueError(message)
    return number


def read_price(value: object) -> Decimal:
    number = _number(value)
    if number < 0:
        message = f"{number} is negative: a price is zero or more (for a credit use a multiplier)"
        raise ValueError(message)
    if number > _MAX_PER_UNIT:
        message = (
            f"{number} US dollars is absurd: prices are per 1,000,000 tokens or characters, per 1,000 searches, pages "
            f"or requests, per hour of audio and per picture; the limit is {_MAX_PER_UNIT}"
        )
        raise ValueError(message)
    return number


def read_factor(value: object) -> Decimal:
    number = _number(value)
    if not 0 < number <= _MAX_FACTOR:
        message = f"{number} is no sensible multiplier: it is more than 0 and at most {_MAX_FACTOR} (0.85 for 15 % off)"
        raise ValueError(message)
    return number


def _discount(value: object) -> Decimal:
    percent = isinstance(value, str) and value.strip().endswith("%")
    number = _number(value.strip()[:-1].strip()).scaleb(-2) if isinstance(value, str) and percent else _number(value)
    if not 0 < number < 1:
        message = f'{value!r} is no discount: write "15%" or "0.15" for 15 % off'
        raise ValueError(message)
    return number


def read_moment(value: object) -> object:
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


def check_buckets(value: object) -> object:
    if isinstance(value, dict):
        for bucket in value:  # pyright: ignore[reportUnknownVariableType]
            if bucket not in BUCKETS:
                raise ValueError(_sentence("bucket", bucket, BUCKETS))  # pyright: ignore[reportUnknownArgumentType]
    return value  # pyright: ignore[reportUnknownVariableType]


def _tier(value: object) -> object:
    if isinstance(value, str) and value.lower() not in _TIERS:
        raise ValueError(_sentence("tier", value, _TIERS))
    return value.lower() if isinstance(value, str) else value


Price = Annotated[Decimal, BeforeValidator(read_price)]
Rates = Annotated[dict[str, Price], BeforeValidator(check_buckets)]
Moment = Annotated[datetime, BeforeValidator(read_moment)]


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

    Exactly one of `rates`, `multiplier`, `discount`, `free` and `alias_of` says what it does; only `alias_of` may be
    combined with a multiplier or a discount. The first entry of the list that fits a call is used, and only that one.
    """

    name: str | None = None
    """How reports call it; by default `provider:model`."""
    provider: str | None = None
    """Any spelling; None fits every provider."""
    model: str = Field(default="*", min_length=1)
    match: Literal["exact", "prefix", "glob", "regex"] | None = None
    """How `model` is compared, without regard to case, with the requested name and with the book's own id of the
    model; by default `glob` when it holds a `*`, else `exact`."""
    tier: Annotated[Literal["standard", "batch", "flex", "priority", "fast"] | None, BeforeValidator(_tier)] = None
    """None: absolute rates hold for standard calls, a multiplier, a discount, `free` and an alias for every tier."""
    start: Moment | None = Field(default=None, alias="from")
    """First moment; a day begins at 00:00 UTC."""
    end: Moment | None = Field(default=None, alias="until")
    """First moment at which it no longer holds."""
    rates: Rates | None = None
    """US dollars by bucket: per 1,000,000 tokens or characters, per 1,000 searches, pages or requests, per hour of
    audio (`audio_seconds`), per picture (`output_images`). Buckets it does not name keep their list price."""
    long_context: tuple[LongContext, ...] = ()
    multiplier: Annotated[Decimal, BeforeValidator(read_factor)] | None = None
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
        if (
            set(chosen) - {"alias_of"}
            and len(chosen) > 1
            and set(chosen)
            not in (
                {"alias_of", "multiplier"},
                {"alias_of", "discount"},
            )
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
        for part in self.long_context:
            missing = part.rates.keys() - (self.rates or {}).keys()
            if missing:
                message = (
                    f"{self.label}: long_context has {', '.join(sorted(missing))}, for which rates has no base price"
                )
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

    @property
    def how(self) -> str:
        """How its pattern is compared."""
        return self.match or ("glob" if "*" in self.model else "exact")


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
    if first.model.lower() != second.model.lower() or first.how != second.how:
        return False
    latest_start = max(
        first.start or datetime.min.replace(tzinfo=UTC), second.start or datetime.min.replace(tzinfo=UTC)
    )
    earliest_end = min(first.end or datetime.max.replace(tzinfo=UTC), second.end or datetime.max.replace(tzinfo=UTC))
    return latest_start < earliest_end
