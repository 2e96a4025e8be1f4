"""Rules that change prices, ready to apply: the user's overrides and our own dated corrections of the catalogue."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import TYPE_CHECKING, Any, Final

from farthing.errors import PriceDataError
from farthing.pricing.catalog import Rate
from farthing.pricing.overrides import check_buckets, read_factor, read_moment, read_price
from farthing.pricing.units import BUCKETS, TOKEN_BUCKETS
from farthing.providers import canonical_provider, catalogue_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from farthing.pricing.overrides import PriceOverride

__all__ = ["Rule", "corrections_to_rules", "overrides_to_rules", "read_corrections"]


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

    def covers(self, other: Rule) -> bool:
        """Tell whether it holds in every tier and at every moment in which another does, which then comes too late."""
        if self.tiers and (not other.tiers or other.tiers - self.tiers):
            return False
        begins = self.start is None or (other.start is not None and self.start <= other.start)
        ends = self.end is None or (other.end is not None and self.end >= other.end)
        return begins and ends

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
        how = override.how
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
    for bucket, base in override.rates.items():
        steps = sorted(
            ((part.above, part.rates[bucket]) for part in override.long_context if bucket in part.rates), reverse=True
        )
        rates[bucket] = Rate(base, tuple(steps))
    return rates


_GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "tokens": TOKEN_BUCKETS,
    "input_and_output": tuple(bucket for bucket in TOKEN_BUCKETS if not bucket.startswith("cache_")),
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
            factors |= dict.fromkeys(_GROUPS.get(name, (name,)), read_factor(value))
    rates: dict[str, Rate] | None = None
    if "rates" in raw:
        check_buckets(raw["rates"])
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
    moment = read_moment(value)
    return moment if isinstance(moment, datetime) else None


def _correction_rate(value: Any) -> Rate:
    if isinstance(value, str):
        return Rate(read_price(value))
    return Rate(
        read_price(value["base"]),
        tuple(sorted(((step["above"], read_price(step["price"])) for step in value["steps"]), reverse=True)),
    )
