"""The price book: which price holds for a call, from which layer it comes, and what a careful reader should know of it.

Layers, first to last: the user's overrides, our own dated corrections, the catalogue, unpriced. The cost that a provider
itself reports stays beside the computed one; it becomes the amount only when nothing could be computed and the provider
bills by that figure. Nothing here raises for any provider, model or usage.
"""

from __future__ import annotations

import importlib.metadata
from bisect import bisect_right
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from farthing.envelope import Cost, Provenance
from farthing.pricing.names import Target, read_target, read_tier
from farthing.pricing.sheet import EXACT, Sheet
from farthing.providers import canonical_provider, catalogue_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from farthing.envelope import Usage
    from farthing.pricing.catalog import Catalog, Constraint, Match, Price, Provider, Rate
    from farthing.pricing.overrides import Rule

__all__ = ["PriceBook"]

_DAWN: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""A call dated earlier comes from a clock that is wrong: nobody sold tokens then."""

_CACHED_PLANS: Final = 4_096
_CACHED_SHEETS: Final = 512
_ALIAS_DEPTH: Final = 4

_BILLS_WHAT_IT_REPORTS: Final = frozenset({"openrouter", "perplexity", "x_ai"})

_TIER_CONTEXT: Final[dict[str, dict[str, str]]] = {
    "standard": {},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast", "speed": "fast"},
}
"""How the catalogue's variants name our tiers: OpenAI's fast is a service tier, Anthropic's a speed."""

_ORDINARY: Final[dict[str, frozenset[str]]] = {
    "inference_geo": frozenset({"global", "not_available", "default"}),
    "deployment": frozenset({"global", "standard", "globalstandard", "global_standard", "global-standard"}),
    "region": frozenset({"global", "us-east-1", "us-east-2", "us-west-2"}),
    "data_residency": frozenset({"global", "none", "default"}),
    "speed": frozenset({"standard", "normal", "default"}),
    "processing": frozenset({"standard", "interactive", "realtime"}),
    "service_tier": frozenset(),
    "search_type": frozenset(),
    "route": frozenset(),
}
"""The parts of a billing context that can change a price, and the values that mean the list price."""

_UNPRICED: Final = "unpriced"


@dataclass(slots=True)
class _Plan:
    """What is known of a provider, model, tier and context before the moment is: and the sheets already made for it."""

    target: Target
    tier: str | None
    context: dict[str, str]
    provider: Provider | None
    match: Match | None
    overrides: tuple[Rule, ...]
    corrections: tuple[Rule, ...]
    instants: list[datetime]
    clocks: list[time]
    weekly: bool
    flags: tuple[str, ...]
    introduced: date | None
    sheets: dict[tuple[int, int, int], Sheet]
    depth: int

    def epoch(self, moment: datetime) -> tuple[int, int, int]:
        """Number the stretch of time, within which nothing about the price changes."""
        if not self.clocks and not self.weekly:
            return (bisect_right(self.instants, moment), 0, 0)
        utc = moment.astimezone(UTC)
        return (
            bisect_right(self.instants, utc),
            bisect_right(self.clocks, utc.time()),
            utc.weekday() if self.weekly else 0,
        )


def engine_version() -> str:
    """Give the version of farthing that computes."""
    try:
        return importlib.metadata.version("farthing")
    except importlib.metadata.PackageNotFoundError:
        return "0"


class PriceBook:
    """Prices of every known model at any moment, under the user's overrides and our corrections.

    A book never changes once made: to bring new prices into a running process, make another and swap it in with
    `replace_default_book`. Safe to use from any thread.

    Args:
        catalog: The price catalogue.
        overrides: The user's rules, first match wins.
        corrections: Our own rules.
        introduced: First day of models whose price history has no beginning, by `catalogue id/model id`.
        data_source: bundled, file or url.
        max_age_days: Older price data is flagged.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        overrides: Sequence[Rule] = (),
        corrections: Sequence[Rule] = (),
        introduced: Mapping[str, date] | None = None,
        data_source: str = "bundled",
        max_age_days: int = 90,
    ) -> None:
        self.catalog = catalog
        self.overrides = tuple(overrides)
        self.corrections = tuple(corrections)
        self.introduced = dict(introduced or {})
        self.data_source = data_source
        self._engine_version = engine_version()
        manifest = catalog.manifest
        self.data_version = f"{manifest['engine']}-{manifest['version']}+{catalog.version}"
        self._stale_after = _stale_after(str(manifest.get("released", "")), max_age_days)
        self._plans: dict[tuple[str | None, str, str | None, tuple[tuple[str, str], ...]], _Plan] = {}
        self.used_overrides: set[str] = set()

    def price(
        self,
        provider: str | None,
        model: str | None,
        usage: Usage | None,
        *,
        at: datetime,
        tier: str | None = None,
        context: Mapping[str, str] | None = None,
        reported_usd: Decimal | None = None,
    ) -> Cost:
        """Price one attempt.

        Args:
            provider: Who served it, in any spelling; None to tell from the model's name.
            model: The model that answered, or else the one that was asked for, as any framework writes it.
            usage: What was used; None when the provider never said.
            at: When the call was made; a naive time is taken as UTC and flagged.
            tier: standard, batch, flex, priority or fast, or what a provider calls it; None is standard.
            context: What else decides the price: region, inference_geo, data_residency, deployment, speed, search_type.
            reported_usd: What the provider or gateway says it charged.

        Returns:
            The cost, or why it is not known. Amount None is never zero.

        Raises:
            Nothing.
        """
        if usage is None:
            return self._without(provider, "unreported", ("usage-missing",), reported_usd)
        flags: tuple[str, ...] = ()
        if at.tzinfo is None:
            at, flags = at.replace(tzinfo=UTC), ("naive-time",)
        if at < _DAWN:
            return self._without(provider, _UNPRICED, (*flags, "clock-before-2020"), reported_usd)
        if not model or not model.strip():
            return self._without(provider, _UNPRICED, (*flags, "no-model"), reported_usd)
        sheet = self._sheet(self._plan(provider, model, tier, context), at)
        if flags or sheet.flags:
            flags = flags + sheet.flags
        if not sheet.known:
            return self._without(provider, _UNPRICED, flags, reported_usd, sheet)
        if sheet.status == "free":
            return Cost(
                amount_usd=Decimal(0),
                status="free",
                source=sheet.source,
                flags=flags,
                reported_usd=reported_usd,
                list_amount_usd=self._list_amount(sheet, usage),
                provenance=sheet.provenance,
            )
        counts = usage.__dict__
        bill = sheet.bill(counts)
        if bill.flags:
            flags = flags + bill.flags
        if bill.amount_usd is None:
            return self._without(provider, _UNPRICED, flags, reported_usd, sheet)
        if not bill.lines and not any(count is not None for count in counts.values()):
            return self._without(provider, "unreported", (*flags, "usage-missing"), reported_usd, sheet)
        return Cost(
            amount_usd=bill.amount_usd,
            status="estimated" if sheet.estimated else "priced",
            source=sheet.source,
            breakdown=bill.lines,
            flags=flags,
            reported_usd=reported_usd,
            list_amount_usd=self._list_amount(sheet, usage),
            provenance=sheet.provenance,
        )

    def _list_amount(self, sheet: Sheet, usage: Usage) -> Decimal | None:
        if sheet.list_sheet is None or not sheet.list_sheet.known:
            return None
        return sheet.list_sheet.bill(usage.__dict__).amount_usd

    def _without(
        self,
        provider: str | None,
        status: str,
        flags: tuple[str, ...],
        reported_usd: Decimal | None,
        sheet: Sheet | None = None,
    ) -> Cost:
        """Say why a cost is not known; fall back on the provider's own figure where the provider bills by it."""
        provenance = sheet.provenance if sheet else None
        if reported_usd is not None and canonical_provider(provider) in _BILLS_WHAT_IT_REPORTS:
            return Cost(
                amount_usd=reported_usd,
                status="reported",
                source="provider",
                flags=flags,
                reported_usd=reported_usd,
                provenance=provenance,
            )
        return Cost(
            amount_usd=None,
            status="unreported" if status == "unreported" else "unpriced",
            flags=flags,
            reported_usd=reported_usd,
            provenance=provenance,
        )

    def _plan(
        self, provider: str | None, model: str, tier: str | None, context: Mapping[str, str] | None, depth: int = 0
    ) -> _Plan:
        key = (provider, model, tier, tuple(sorted(context.items())) if context else ())
        plan = self._plans.get(key)
        if plan is None:
            plan = self._make_plan(provider, model, tier, dict(key[3]), depth)
            if len(self._plans) >= _CACHED_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _make_plan(
        self, provider: str | None, model: str, tier: str | None, context: dict[str, str], depth: int
    ) -> _Plan:
        target = read_target(provider, model)
        flags: list[str] = list(target.flags)
        known_tier = read_tier(tier)
        context = {key.strip().lower(): value.strip().lower() for key, value in context.items() if value}
        if "location" in context:
            context.setdefault("region", context.pop("location"))
        context = dict(target.context) | context
        known_tier = _tier_of_context(known_tier, context)
        found_provider, match = self._find(target, flags)
        names = {name.lower() for name in target.names} | {model.strip().lower()}
        if match is not None:
            names.add(match.model.id.lower())
        canonical = target.provider or (found_provider and canonical_provider(found_provider.id))
        overrides = tuple(rule for rule in self.overrides if rule.fits(canonical, names))
        corrections = tuple(rule for rule in self.corrections if rule.fits(canonical, names))
        plan = _Plan(
            target=replace(target, provider=canonical),
            tier=known_tier,
            context=context,
            provider=found_provider,
            match=match,
            overrides=overrides,
            corrections=corrections,
            instants=[],
            clocks=[],
            weekly=any(rule.weekdays is not None for rule in (*overrides, *corrections)),
            flags=tuple(dict.fromkeys(flags)),
            introduced=self._introduced(match),
            sheets={},
            depth=depth,
        )
        self._mark_time(plan)
        return plan

    def _introduced(self, match: Match | None) -> date | None:
        return self.introduced.get(f"{match.provider_id}/{match.model.id}") if match else None

    def _find(self, target: Target, flags: list[str]) -> tuple[Provider | None, Match | None]:
        """Look the target up in the catalogue, and note how it was found."""
        if target.opaque:
            flags.append("account-resource")
            return None, None
        if target.provider is None:
            provider = next((found for name in target.names if (found := self.catalog.provider_of_model(name))), None)
            if provider is None:
                flags.append("unknown-provider")
                return None, None
            flags.append("provider-inferred")
        else:
            identifier = catalogue_id(target.provider) or target.provider
            provider = self.catalog.find_provider(identifier)
            if provider is None:
                flags.append("unknown-provider")
                return None, None
        match = self._match(provider, target)
        if match is not None:
            if match.provider_id != provider.id:
                flags.append("fallback-provider-price")
            if _loose(match):
                flags.append("loose-match")
            if _premium_assumed(provider, match, target.names[0]):
                flags.append("bedrock-bare-id")
        return provider, match

    def _match(self, provider: Provider, target: Target) -> Match | None:
        if target.literal is not None:
            match = self.catalog.find_model(provider, target.literal)
            if match is not None and match.kind in {"exact", "alias"}:
                return match
        return next((found for name in target.names if (found := self.catalog.find_model(provider, name))), None)

    def _mark_time(self, plan: _Plan) -> None:
        """Collect every moment at which the price may change."""
        instants: set[datetime] = {_DAWN, self._stale_after}
        clocks: set[time] = set()
        constraints: list[Constraint | None] = []
        if plan.match is not None:
            constraints += [price.constraint for price in plan.match.model.prices]
            constraints += [variant.constraint for variant in plan.match.model.variants]
        for constraint in constraints:
            if constraint is not None and constraint.start is not None:
                instants.add(datetime.combine(constraint.start, time(), UTC))
            if constraint is not None and constraint.window is not None:
                clocks.update(constraint.window)
        for rule in (*plan.overrides, *plan.corrections):
            instants.update(moment for moment in (rule.start, rule.end) if moment is not None)
            clocks.update(clock for window in rule.windows for clock in window)
            if rule.alias_of is not None and plan.depth < _ALIAS_DEPTH:
                other = self._alias(plan, rule.alias_of)
                instants.update(other.instants)
                clocks.update(other.clocks)
                plan.weekly = plan.weekly or other.weekly
        if plan.introduced is not None:
            instants.add(datetime.combine(plan.introduced, time(), UTC))
        plan.instants = sorted(instants)
        plan.clocks = sorted(clocks)

    def _alias(self, plan: _Plan, name: str) -> _Plan:
        provider = plan.target.provider
        return self._plan(provider, name, plan.tier, plan.context, plan.depth + 1)

    def _sheet(self, plan: _Plan, moment: datetime) -> Sheet:
        epoch = plan.epoch(moment)
        sheet = plan.sheets.get(epoch)
        if sheet is None:
            sheet = self._make_sheet(plan, moment.astimezone(UTC))
            if len(plan.sheets) >= _CACHED_SHEETS:
                plan.sheets.clear()
            plan.sheets[epoch] = sheet
        return sheet

    def _make_sheet(self, plan: _Plan, moment: datetime) -> Sheet:
        """Resolve the price of one stretch of time, layer by layer."""
        listed = self._list_sheet(plan, moment)
        override = next(
            (
                rule
                for rule in plan.overrides
                if rule.active(moment) and (not rule.tiers or plan.tier in rule.tiers) and rule.in_context(plan.context)
            ),
            None,
        )
        if override is None:
            return listed
        self.used_overrides.add(override.id)
        return self._overridden(plan, moment, listed, override)

    def _overridden(self, plan: _Plan, moment: datetime, listed: Sheet, rule: Rule) -> Sheet:
        base = listed
        if rule.alias_of is not None and plan.depth < _ALIAS_DEPTH:
            base = self._sheet(self._alias(plan, rule.alias_of), moment)
        provenance = base.provenance or self._provenance(plan, None)
        provenance = provenance.model_copy(
            update={
                "overrides": (*provenance.overrides, rule.id),
                "matched_by": "alias" if rule.alias_of else "override" if not base.known else provenance.matched_by,
                "data_source": "override" if rule.rates or rule.free else provenance.data_source,
            }
        )
        flags = tuple(flag for flag in base.flags if flag not in _SETTLED_BY_OVERRIDE) if (
            rule.rates or rule.free or rule.alias_of
        ) else base.flags
        if rule.free:
            return Sheet({}, provenance=provenance, source="override", flags=flags, status="free", list_sheet=listed)
        rates: dict[str, Rate] = dict(base.rates) if base.known else {}
        if rule.rates is not None:
            rates |= rule.rates
        elif not base.known:
            return Sheet({}, provenance=provenance, source=None, flags=base.flags, status=_UNPRICED)
        if base.status == "free" and rule.rates is None:
            return base
        if rule.factors is not None:
            rates = _scaled(rates, rule.factors)
        return Sheet(
            rates,
            provenance=provenance,
            source="override",
            flags=flags,
            minimum_seconds=plan.match.model.minimum_seconds if plan.match else None,
            strict_output=rule.rates is not None,
            estimated=rule.estimated,
            list_sheet=listed if listed.known else base if rule.factors and base.known else None,
        )

    def _list_sheet(self, plan: _Plan, moment: datetime) -> Sheet:
        """Resolve the list price: catalogue under our corrections."""
        provenance = self._provenance(plan, plan.match)
        if plan.tier is None:
            return self._unpriced(plan, provenance, "context-not-priced", "unknown-tier")
        active = [rule for rule in plan.corrections if rule.active(moment)]
        if plan.introduced is not None and moment.date() < plan.introduced:
            return self._unpriced(plan, provenance, "before-first-price")
        draft = _Draft(plan, moment, provenance)
        alias = next((rule for rule in active if rule.alias_of is not None), None)
        if alias is not None and alias.alias_of is not None and plan.depth < _ALIAS_DEPTH:
            return self._corrected_alias(plan, moment, alias)
        draft.base(active)
        if not draft.rates:
            return self._nothing_listed(plan, provenance, active)
        if not draft.tiered(active):
            return self._unpriced(plan, provenance, "context-not-priced")
        draft.contextual(active)
        return draft.sheet(self._stale(moment))

    def _corrected_alias(self, plan: _Plan, moment: datetime, rule: Rule) -> Sheet:
        other = self._sheet(self._alias(plan, str(rule.alias_of)), moment)
        provenance = (other.provenance or self._provenance(plan, None)).model_copy(
            update={"corrections": ((*other.provenance.corrections, rule.id) if other.provenance else (rule.id,))}
        )
        return other.with_provenance(provenance, source="correction" if other.known else None)

    def _nothing_listed(self, plan: _Plan, provenance: Provenance, active: Sequence[Rule]) -> Sheet:
        if plan.match is None:
            return self._unpriced(plan, provenance, "unknown-model")
        free = next((rule for rule in active if rule.free), None)
        if free is not None:
            provenance = provenance.model_copy(update={"corrections": (free.id,)})
        if free is not None or plan.match.model.id.endswith(":free"):
            source = "correction" if free else "catalog"
            return Sheet({}, provenance=provenance, source=source, flags=plan.flags, status="free")
        return self._unpriced(plan, provenance, "no-price-listed")

    def _unpriced(self, plan: _Plan, provenance: Provenance, *flags: str) -> Sheet:
        listed = tuple(dict.fromkeys((*plan.flags, *flags)))
        return Sheet({}, provenance=provenance, source=None, flags=listed, status=_UNPRICED)

    def _stale(self, moment: datetime) -> tuple[str, ...]:
        return ("stale-price-data",) if moment >= self._stale_after else ()

    def _provenance(self, plan: _Plan, match: Match | None) -> Provenance:
        return Provenance(
            engine="farthing",
            engine_version=self._engine_version,
            data_source=self.data_source,
            data_version=self.data_version,
            provider_id=plan.provider.id if plan.provider else None,
            model_id=match.model.id if match else None,
            matched_by=match.kind if match else None,
            tier=plan.tier,
        )


_SETTLED_BY_OVERRIDE: Final = frozenset(
    {
        "unknown-model",
        "unknown-provider",
        "no-price-listed",
        "context-not-priced",
        "fallback-provider-price",
        "loose-match",
        "account-resource",
        "before-first-price",
        "provider-inferred",
    }
)
"""Doubts about the list price, which do not concern a price that the user gave."""


class _Draft:
    """A list price in the making."""

    def __init__(self, plan: _Plan, moment: datetime, provenance: Provenance) -> None:
        self.plan = plan
        self.moment = moment
        self.provenance = provenance
        self.rates: dict[str, Rate] = {}
        self.applied: list[str] = []
        self.since: list[date] = []
        self.flags: list[str] = list(plan.flags)
        self.price: Price | None = None
        self.replaced = False

    def _apply(self, rule: Rule) -> None:
        self.applied.append(rule.id)
        if rule.start is not None and not rule.backdate:
            self.since.append(rule.start.date())
        if rule.flag:
            self.flags.append(rule.flag)

    def _change(self, rule: Rule) -> None:
        """Scale, then put single rates in place."""
        if rule.factors is not None:
            self.rates = _scaled(self.rates, rule.factors)
        if rule.rates is not None:
            self.rates = dict(rule.rates) if rule.replace else self.rates | rule.rates

    def base(self, active: Sequence[Rule]) -> None:
        """Take the standard price of the moment, then the corrections of it."""
        if self.plan.match is not None:
            self.price = self.plan.match.model.standard(self.moment)
            self.rates = dict(self.price.rates)
        for rule in active:
            if rule.tiers or rule.when or rule.free:
                continue
            if rule.rates is not None or (rule.factors is not None and self.rates):
                self._change(rule)
                self.replaced = self.replaced or rule.replace
                self._apply(rule)

    def tiered(self, active: Sequence[Rule]) -> bool:
        """Go from the standard price to that of the tier; tell whether one is known."""
        tier = self.plan.tier
        wanted = _TIER_CONTEXT[tier or "standard"] | {
            key: value for key, value in self.plan.context.items() if key in {"search_type", "route"}
        }
        priced = self._variants(wanted)
        if tier == "standard":
            if "search_type" in wanted and not priced:
                self.flags.append("context-not-priced")
            return True
        if priced:
            return True
        for rule in active:
            if tier not in rule.tiers or rule.when:
                continue
            if rule.backdate:
                if self._backdated(wanted):
                    self._apply(rule)
                    return True
                continue
            self._change(rule)
            self._apply(rule)
            return True
        return False

    def _variants(self, wanted: Mapping[str, str]) -> bool:
        """Put the catalogue's own variants in place, the first for each bucket."""
        plan = self.plan
        if plan.match is None or plan.provider is None or self.replaced or plan.match.provider_id != plan.provider.id:
            return False
        changes: dict[str, Rate] = {}
        found = False
        for variant in plan.match.model.variants:
            if variant.constraint is not None and not variant.constraint.active(self.moment):
                continue
            if all(wanted.get(key) == value for key, value in variant.when.items()):
                found = True
                changes = dict(variant.rates) | changes
        self.rates |= changes
        return found

    def _backdated(self, wanted: Mapping[str, str]) -> bool:
        """Use a variant before the day it was verified on, where the standard price was already the one of that day."""
        plan = self.plan
        if plan.match is None or plan.provider is None or self.replaced or plan.match.provider_id != plan.provider.id:
            return False
        candidates = [
            variant
            for variant in plan.match.model.variants
            if variant.constraint is not None
            and variant.constraint.start is not None
            and variant.constraint.start > self.moment.date()
            and all(wanted.get(key) == value for key, value in variant.when.items())
        ]
        if not candidates:
            return False
        first = min(candidates, key=lambda variant: variant.constraint.start if variant.constraint and variant.constraint.start else date.max)
        if first.constraint is None or first.constraint.start is None:
            return False
        verified = datetime.combine(first.constraint.start, time(12), UTC)
        if plan.match.model.standard(verified).rates != (self.price.rates if self.price else None):
            return False
        self.rates |= first.rates
        return True

    def contextual(self, active: Sequence[Rule]) -> None:
        """Apply what region, residency and deployment change; note where that is not known."""
        context = self.plan.context
        settled: set[str] = set()
        for rule in active:
            if not rule.when or rule.tiers or not rule.in_context(context):
                continue
            if settled & rule.when.keys():
                continue
            self._change(rule)
            settled |= rule.when.keys()
            self._apply(rule)
        for key, ordinary in _ORDINARY.items():
            value = context.get(key)
            if value is None or key in settled or value in ordinary:
                continue
            if key in {"region", "inference_geo", "data_residency", "deployment"}:
                self.flags.append("context-not-priced")

    def sheet(self, flags: tuple[str, ...]) -> Sheet:
        """Give the finished sheet."""
        start = self.price.constraint.start if self.price and self.price.constraint else None
        start = max((*self.since, *([start] if start else [])), default=None)
        provenance = self.provenance.model_copy(
            update={
                "corrections": tuple(self.applied),
                "effective_from": start.isoformat() if start else None,
                "matched_by": self.provenance.matched_by or ("correction" if self.applied else None),
            }
        )
        match = self.plan.match
        return Sheet(
            self.rates,
            provenance=provenance,
            source="correction" if self.applied else "catalog",
            flags=tuple(dict.fromkeys((*self.flags, *flags))),
            minimum_seconds=match.model.minimum_seconds if match else None,
        )


def _scaled(rates: Mapping[str, Rate], factors: Mapping[str, Decimal]) -> dict[str, Rate]:
    return {
        bucket: rate.times(factors[bucket], EXACT) if bucket in factors else rate for bucket, rate in rates.items()
    }


def _tier_of_context(tier: str | None, context: Mapping[str, str]) -> str | None:
    """Let the context name the tier where the caller named none."""
    if tier != "standard":
        return tier
    for key in ("processing", "service_tier", "speed"):
        value = context.get(key)
        if value is not None and value not in _ORDINARY[key]:
            return read_tier(value)
    return tier


_VERSION_TAIL: Final = (
    r"^(?:[-@:]?(?:\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{2}|\d{2}-\d{4}|\d{4}|\d{3}|latest|preview|exp|experimental|"
    r"v\d+(?:[.:]\d+)*|default|\d+k?|free|beta|it|instruct))*$"
)


def _loose(match: Match) -> bool:
    """Tell whether a rule matched a name that says more than a version: `claude-sonnet-4-5-foo`."""
    import re  # noqa: PLC0415

    if match.kind not in {"prefix", "contains"}:
        return False
    return re.match(_VERSION_TAIL, match.rest) is None


def _premium_assumed(provider: Provider, match: Match, name: str) -> bool:
    """Tell whether a Bedrock id says neither global nor a geography, where the two differ in price.

    Such an id is invoked in one region, which is billed as regional inference: 10 % above the global endpoint.
    """
    if provider.id != "aws" or not match.model.id.startswith("regional.") or match.kind == "contains":
        return False
    if name.partition(".")[0] in {"us", "eu", "au", "jp", "apac", "in", "us-gov", "global"}:
        return False
    sibling = "global." + match.model.id.removeprefix("regional.")
    return any(
        model.id == sibling and model.prices[-1].rates != match.model.prices[-1].rates for model in provider.models()
    )


def _stale_after(released: str, max_age_days: int) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(released), time(), UTC) + timedelta(days=max_age_days)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
