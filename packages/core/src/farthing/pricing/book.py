"""The price book: which price holds for a call, from which layer it comes, and what to know of it.

Layers, first to last: the user's overrides, our own dated corrections, the catalogue, unpriced. The cost that a
provider itself reports stays beside the computed one; it becomes the amount where nothing could be computed and the
provider bills by that figure. OpenRouter's is the amount whenever it is known, but for an override: it sends a request
to whichever house it chooses, at that house's price, which no list can tell, and the charge is all that it ever bills.
Nothing here raises for any provider, model or usage.
"""

from __future__ import annotations

import importlib.metadata
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from farthing.envelope import Cost, Provenance
from farthing.pricing.listing import Draft
from farthing.pricing.plan import Planner, known_names
from farthing.pricing.sheet import Sheet, scaled
from farthing.providers import canonical_provider

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from farthing.envelope import CostLine, CostStatus, Usage
    from farthing.pricing.catalog import Catalog, Match, Rate
    from farthing.pricing.plan import Plan
    from farthing.pricing.rules import Rule

__all__ = ["PriceBook"]

_DAWN: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""A call dated earlier comes from a clock that is wrong: nobody sold tokens then."""

_CACHED_SHEETS: Final = 512

_BILLS_WHAT_IT_REPORTS: Final = frozenset({"openrouter", "perplexity", "x_ai"})

_HAS_NO_LIST: Final = frozenset({"openrouter"})
"""Of these, who bills by its own figure alone: a list has one of the prices that it may have charged.

Source: OpenRouter, "Usage accounting": `cost` is the total amount charged to your account.
"""

_ZERO: Final = Decimal(0)


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
        self.data_source = data_source
        self._engine_version = engine_version()
        manifest = catalog.manifest
        self.data_version = f"{manifest['engine']}-{manifest['version']}+{catalog.version}"
        self._stale_after = _stale_after(str(manifest.get("released", "")), max_age_days)
        self._planner = Planner(
            catalog,
            overrides=self.overrides,
            corrections=self.corrections,
            introduced=introduced or {},
            always=(_DAWN, self._stale_after),
        )
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
            context: What else decides the price: region, inference_geo, data_residency, deployment, speed, search_type,
                web_search (`preview`: the tool of that name), and of a picture size and quality.
            reported_usd: What the provider or gateway says it charged.

        Returns:
            The cost, or why it is not known. Amount None is never zero.

        Raises:
            Nothing.
        """
        flags: tuple[str, ...] = ()
        if at.tzinfo is None:
            at, flags = at.replace(tzinfo=UTC), ("naive-time",)
        if usage is None:
            reason = "usage-missing"
        elif at < _DAWN:
            reason = "clock-before-2020"
        elif not model or not model.strip():
            reason = "no-model"
        else:
            sheet = self._sheet(self._planner.plan(provider, model, tier, context), at)
            cost = self._computed(sheet, usage, flags, reported_usd)
            return _reported(cost, provider)
        status: CostStatus = "unreported" if usage is None else "unpriced"
        return _reported(
            Cost(amount_usd=None, status=status, flags=(*flags, reason), reported_usd=reported_usd), provider
        )

    @property
    def cached_plans(self) -> int:
        """How many combinations of provider, model, tier and context are remembered; bounded."""
        return len(self._planner)

    def _computed(self, sheet: Sheet, usage: Usage, flags: tuple[str, ...], reported_usd: Decimal | None) -> Cost:
        """Bill a usage with a sheet, or say why that cannot be done."""
        amount: Decimal | None = None
        status: CostStatus = "estimated" if sheet.estimated else sheet.status
        lines: dict[str, CostLine] = {}
        flags = flags + sheet.flags
        if status == "free":
            amount = _ZERO
        elif sheet.known:
            bill = sheet.bill(usage.__dict__)
            amount, lines, flags = bill.amount_usd, bill.lines, flags + bill.flags
            if amount is None:
                status, lines = "unpriced", {}
            elif not lines and all(count is None for count in usage.__dict__.values()):
                amount, status, flags = None, "unreported", (*flags, "usage-missing")
        values: dict[str, object] = {
            "amount_usd": amount,
            "status": status,
            "source": sheet.source if amount is not None else None,
            "breakdown": lines,
            "flags": flags,
            "list_amount_usd": self._list_amount(sheet, usage) if amount is not None else None,
            "reported_usd": reported_usd,
            "saved_usd": None,
            "estimated_usd": None,
            "provenance": sheet.provenance,
        }
        return (
            Cost.assembled(values) if reported_usd is None else Cost.model_validate(values)
        )  # the provider's figure is not ours

    def _list_amount(self, sheet: Sheet, usage: Usage) -> Decimal | None:
        if sheet.list_sheet is None or not sheet.list_sheet.known:
            return None
        return sheet.list_sheet.bill(usage.__dict__).amount_usd

    def _sheet(self, plan: Plan, moment: datetime) -> Sheet:
        epoch = plan.epoch(moment)
        sheet = plan.sheets.get(epoch)
        if sheet is None:
            sheet = self._make_sheet(plan, moment.astimezone(UTC))
            if len(plan.sheets) >= _CACHED_SHEETS:
                plan.sheets.clear()
            plan.sheets[epoch] = sheet
        return sheet

    def _make_sheet(self, plan: Plan, moment: datetime) -> Sheet:
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

    def _overridden(self, plan: Plan, moment: datetime, listed: Sheet, rule: Rule) -> Sheet:
        base = listed
        if (other := self._planner.alias(plan, rule)) is not None:
            base = self._sheet(other, moment)
        provenance = base.provenance or self._provenance(plan, None)
        provenance = provenance.model_copy(
            update={
                "overrides": (*provenance.overrides, rule.id),
                "matched_by": "alias" if rule.alias_of else provenance.matched_by or "override",
                "data_source": "override" if rule.rates or rule.free else provenance.data_source,
            }
        )
        flags = base.flags
        if rule.rates or rule.free or (rule.alias_of and base.known):
            flags = tuple(flag for flag in flags if flag not in _SETTLED_BY_OVERRIDE)
        list_sheet = base if rule.alias_of else listed
        if rule.free:
            return Sheet(
                {}, provenance=provenance, source="override", flags=flags, status="free", list_sheet=list_sheet
            )
        if not base.known and rule.rates is None:
            flags = (*flags, "override-without-list-price")
            return Sheet({}, provenance=provenance, source=None, flags=flags, status="unpriced")
        if base.status == "free" and rule.rates is None:
            return base.with_provenance(provenance, source="override")
        rates: dict[str, Rate] = dict(base.rates)
        if rule.rates is not None:
            rates |= rule.rates
        if rule.factors is not None:
            rates = scaled(rates, rule.factors)
        return Sheet(
            rates,
            provenance=provenance,
            source="override",
            flags=flags,
            minimum_seconds=plan.match.model.minimum_seconds if plan.match else None,
            strict_output=rule.rates is not None,
            estimated=rule.estimated,
            list_sheet=list_sheet if rule.rates or rule.factors else None,
        )

    def doubtful_overrides(self) -> tuple[str, ...]:
        """Say which of the user's overrides can have no effect: nothing fits, or an earlier one always wins.

        Absolute rates may be for a model of one's own, which no price list has, so they need to fit nothing. To be
        called on request: it reads the whole catalogue.
        """
        names = known_names(self.catalog)
        found: list[str] = []
        for index, rule in enumerate(self.overrides):
            fitting = [known for known in names if rule.fits(known[0], (known[1],))]
            if rule.alias_of is not None:
                other = self._planner.plan(rule.provider, rule.alias_of, None, None)
                if not self._sheet(other, datetime.now(UTC)).known:
                    found.append(f"override {rule.id!r}: alias_of = {rule.alias_of!r} has no price of its own")
            elif rule.rates is None and not rule.free and not fitting:
                found.append(f"override {rule.id!r} fits no model of the price book: check provider and model")
            earlier = [one for one in self.overrides[:index] if one.covers(rule)]
            if fitting and all(any(one.fits(house, (name,)) for one in earlier) for house, name in fitting):
                winners = ", ".join(repr(one.id) for one in earlier)
                found.append(f"override {rule.id!r} never wins: {winners} comes first; put the narrower one before it")
        return tuple(found)

    def _list_sheet(self, plan: Plan, moment: datetime) -> Sheet:
        """Resolve the list price: catalogue under our corrections."""
        provenance = self._provenance(plan, plan.match)
        if plan.tier is None:
            return self._unpriced(plan, provenance, "context-not-priced", "unknown-tier")
        active = [rule for rule in plan.corrections if rule.active(moment)]
        if plan.introduced is not None and moment.date() < plan.introduced:
            return self._unpriced(plan, provenance, "before-first-price")
        draft = Draft(plan, moment, provenance)
        for rule in active:
            if (other := self._planner.alias(plan, rule)) is not None:
                return self._corrected_alias(self._sheet(other, moment), provenance, rule)
        draft.base(active)
        if not draft.rates:
            return self._nothing_listed(plan, provenance, active)
        if not draft.tiered(active) or not draft.contextual(active):
            return self._unpriced(plan, provenance, "context-not-priced")
        return draft.sheet(self._stale(moment))

    def _corrected_alias(self, other: Sheet, provenance: Provenance, rule: Rule) -> Sheet:
        found = other.provenance or provenance
        found = found.model_copy(update={"corrections": (*found.corrections, rule.id)})
        return other.with_provenance(found, source="correction" if other.known else None)

    def _nothing_listed(self, plan: Plan, provenance: Provenance, active: Sequence[Rule]) -> Sheet:
        if plan.match is None:
            return self._unpriced(plan, provenance, "unknown-model")
        free = next((rule for rule in active if rule.free), None)
        if free is not None:
            provenance = provenance.model_copy(update={"corrections": (free.id,)})
        if free is not None or plan.match.model.id.endswith(":free"):
            source = "correction" if free else "catalog"
            return Sheet({}, provenance=provenance, source=source, flags=plan.flags, status="free")
        return self._unpriced(plan, provenance, "no-price-listed")

    def _unpriced(self, plan: Plan, provenance: Provenance, *flags: str) -> Sheet:
        listed = tuple(dict.fromkeys((*plan.flags, *flags)))
        return Sheet({}, provenance=provenance, source=None, flags=listed, status="unpriced")

    def _stale(self, moment: datetime) -> tuple[str, ...]:
        return ("stale-price-data",) if moment >= self._stale_after else ()

    def _provenance(self, plan: Plan, match: Match | None) -> Provenance:
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


def _reported(cost: Cost, provider: str | None) -> Cost:
    """Take the provider's own figure where it is what the provider bills, and nothing better was computed."""
    house = canonical_provider(provider)
    if cost.reported_usd is None or house not in _BILLS_WHAT_IT_REPORTS:
        return cost
    computed = cost.amount_usd
    if computed is not None and (cost.source == "override" or house not in _HAS_NO_LIST):
        return cost
    return cost.model_copy(
        update={
            "amount_usd": cost.reported_usd,
            "status": "reported",
            "source": "provider",
            "breakdown": {},
            "list_amount_usd": computed,
        }
    )


def _stale_after(released: str, max_age_days: int) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(released), time(), UTC) + timedelta(days=max_age_days)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
