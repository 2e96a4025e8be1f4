"""The list price of one stretch of time: the catalogue, then our corrections, then the tier, then the place."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Final

from farthing.pricing.plan import ORDINARY
from farthing.pricing.sheet import Sheet, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from farthing.envelope import Provenance
    from farthing.pricing.catalog import Price, Rate, Variant
    from farthing.pricing.plan import Plan
    from farthing.pricing.rules import Rule

__all__ = ["Draft"]

_TIER_CONTEXT: Final[dict[str, dict[str, str]]] = {
    "standard": {},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast", "speed": "fast"},
}
"""How the catalogue's variants name our tiers: OpenAI's fast is a service tier, Anthropic's a speed."""

_PLACES: Final = frozenset({"region", "inference_geo", "data_residency", "deployment"})

_SETTLED_BY_RATES: Final = frozenset({"context-not-priced", "fallback-provider-price", "loose-match"})
"""Doubts about a catalogue price, which a correction with rates of its own puts an end to."""


class Draft:
    """A list price in the making."""

    def __init__(self, plan: Plan, moment: datetime, provenance: Provenance) -> None:
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
            self.rates = scaled(self.rates, rule.factors)
        if rule.rates is not None:
            self.rates = dict(rule.rates) if rule.replace else self.rates | dict(rule.rates)

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
                if rule.replace:
                    self.replaced = True
                    self.flags = [flag for flag in self.flags if flag not in _SETTLED_BY_RATES]
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

    def _own_variants(self, wanted: Mapping[str, str]) -> list[Variant]:
        """Give the catalogue's variants for a context, but not a fallback's, nor those of a price that we replaced."""
        plan = self.plan
        if plan.match is None or plan.provider is None or self.replaced or plan.match.provider_id != plan.provider.id:
            return []
        return [
            variant
            for variant in plan.match.model.variants
            if all(wanted.get(key) == value for key, value in variant.when.items())
        ]

    def _variants(self, wanted: Mapping[str, str]) -> bool:
        """Put the catalogue's own variants in place, the first for each bucket."""
        changes: dict[str, Rate] = {}
        found = False
        for variant in self._own_variants(wanted):
            if variant.constraint is None or variant.constraint.active(self.moment):
                found = True
                changes = dict(variant.rates) | changes
        self.rates |= changes
        return found

    def _backdated(self, wanted: Mapping[str, str]) -> bool:
        """Use a variant before the day it was verified on, where the standard price was already the one of that day."""
        later = [
            (variant.constraint.start, variant.rates)
            for variant in self._own_variants(wanted)
            if variant.constraint is not None and variant.constraint.start is not None
            if variant.constraint.start > self.moment.date()
        ]
        if not later or self.plan.match is None or self.price is None:
            return False
        verified, rates = min(later, key=lambda found: found[0])
        standard = self.plan.match.model.standard(datetime.combine(verified, time(12), UTC))
        if standard.rates != self.price.rates:
            return False
        self.rates |= rates
        return True

    def contextual(self, active: Sequence[Rule]) -> bool:
        """Apply what region, residency and deployment change; note where that is not known.

        Returns:
            Whether the price can be used: government clouds are known to be dearer, by how much is not.
        """
        context = self.plan.context
        settled: set[str] = set()
        for rule in active:
            if not rule.when or rule.tiers or settled & rule.when.keys() or not rule.in_context(context):
                continue
            self._change(rule)
            settled |= rule.when.keys()
            self._apply(rule)
        open_places = [context[key] for key in _PLACES & context.keys() - settled if context[key] not in ORDINARY[key]]
        if open_places:
            self.flags.append("context-not-priced")
        return not any(place.startswith("us-gov") for place in open_places)

    def sheet(self, flags: tuple[str, ...]) -> Sheet:
        """Give the finished sheet."""
        if self.price is not None and self.price.constraint is not None and self.price.constraint.start is not None:
            self.since.append(self.price.constraint.start)
        start = max(self.since, default=None)
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
