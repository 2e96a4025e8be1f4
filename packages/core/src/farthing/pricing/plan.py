"""A plan: what is known of a provider, model, tier and context before the moment is, and when its price may change."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Final

from farthing.pricing.catalog import clause_literals
from farthing.pricing.names import Target, read_target, read_tier
from farthing.providers import canonical_names, canonical_provider, catalogue_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from farthing.pricing.catalog import Catalog, Constraint, Match, Provider
    from farthing.pricing.rules import Rule
    from farthing.pricing.sheet import Sheet

__all__ = ["ORDINARY", "Plan", "Planner", "known_names"]

_CACHED_PLANS: Final = 4_096
_ALIAS_DEPTH: Final = 4

ORDINARY: Final[dict[str, frozenset[str]]] = {
    "inference_geo": frozenset({"global", "not_available", "default"}),
    "deployment": frozenset({"global", "standard", "globalstandard", "global_standard", "global-standard"}),
    "region": frozenset({"global", "us-east-1", "us-east-2", "us-west-2"}),
    "data_residency": frozenset({"global", "none", "default"}),
    "speed": frozenset({"standard", "normal", "default"}),
    "processing": frozenset({"standard", "interactive", "realtime"}),
    "service_tier": frozenset(),
    "search_type": frozenset(),
    "web_search": frozenset(),
    "route": frozenset(),
}
"""The parts of a billing context that can change a price, and the values that mean the list price."""


@dataclass(slots=True)
class Plan:
    """What is known before the moment is, and the sheets already made for it."""

    provider_name: str | None
    """Canonical."""
    tier: str | None
    """None: one that nobody here knows."""
    context: dict[str, str]
    provider: Provider | None
    match: Match | None
    overrides: tuple[Rule, ...]
    corrections: tuple[Rule, ...]
    flags: tuple[str, ...]
    introduced: date | None
    depth: int
    """How many aliases led here."""
    instants: list[datetime] = field(default_factory=list["datetime"])
    clocks: list[time] = field(default_factory=list["time"])
    weekly: bool = False
    sheets: dict[tuple[int, int, int], Sheet] = field(default_factory=dict["tuple[int, int, int]", "Sheet"])
    """By the stretch of time."""

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


class Planner:
    """Makes plans, and remembers them, unknown models included.

    Args:
        catalog: The price catalogue.
        overrides: The user's rules.
        corrections: Our own rules.
        introduced: First day of models, by `catalogue id/model id`.
        always: Moments at which something about every price changes.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        overrides: Sequence[Rule],
        corrections: Sequence[Rule],
        introduced: Mapping[str, date],
        always: Iterable[datetime],
    ) -> None:
        self._catalog = catalog
        self._overrides = tuple(overrides)
        self._corrections = tuple(corrections)
        self._introduced = introduced
        self._always = frozenset(always)
        self._plans: dict[tuple[str | None, str, str | None, tuple[tuple[str, str], ...], int], Plan] = {}

    def __len__(self) -> int:
        return len(self._plans)

    def plan(
        self, provider: str | None, model: str, tier: str | None, context: Mapping[str, str] | None, depth: int = 0
    ) -> Plan:
        """Give the plan for what a caller says of a call; any text is accepted."""
        key = (provider, model, tier, tuple(sorted(context.items())) if context else (), depth)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._make_plan(provider, model, tier, dict(key[3]), depth)
            if len(self._plans) >= _CACHED_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _make_plan(
        self, provider: str | None, model: str, tier: str | None, context: dict[str, str], depth: int
    ) -> Plan:
        target = read_target(provider, model)
        flags: list[str] = list(target.flags)
        context = {key.strip().lower(): str(value).strip().lower() for key, value in context.items() if value}
        if "location" in context:
            context.setdefault("region", context.pop("location"))
        context = dict(target.context) | context
        found_provider, match = self._find(target, flags)
        names = {name.lower() for name in target.names} | {model.strip().lower()}
        if match is not None:
            names.add(match.model.id.lower())
        canonical = target.provider or (found_provider and canonical_provider(found_provider.id))
        plan = Plan(
            provider_name=canonical,
            tier=_tier_of_context(read_tier(tier), context),
            context=context,
            provider=found_provider,
            match=match,
            overrides=tuple(rule for rule in self._overrides if rule.fits(canonical, names)),
            corrections=tuple(rule for rule in self._corrections if rule.fits(canonical, names)),
            flags=tuple(dict.fromkeys(flags)),
            introduced=self._introduced.get(f"{match.provider_id}/{match.model.id}") if match else None,
            depth=depth,
        )
        self._mark_time(plan)
        return plan

    def _find(self, target: Target, flags: list[str]) -> tuple[Provider | None, Match | None]:
        """Look the target up in the catalogue, and note how it was found."""
        if target.opaque:
            flags.append("account-resource")
            return None, None
        if target.provider is None:
            provider = next((found for name in target.names if (found := self._catalog.provider_of_model(name))), None)
            if provider is None:
                flags.append("unknown-provider")
                return None, None
            flags.append("provider-inferred")
        else:
            identifier = catalogue_id(target.provider) or target.provider
            provider = self._catalog.find_provider(identifier)
            if provider is None:
                flags.append("unknown-provider")
                return None, None
        match = self._match(provider, target)
        if match is not None:
            if match.provider_id != provider.id:
                flags.append("fallback-provider-price")
            if _loose(match):
                flags.append("loose-match")
            if provider.id == "aws":
                flags.extend(_bedrock_doubts(provider, match, target.names[0]))
        return provider, match

    def _match(self, provider: Provider, target: Target) -> Match | None:
        if target.literal is not None:
            match = self._catalog.find_model(provider, target.literal)
            if match is not None and match.kind in {"exact", "alias"}:
                return match
        return next((found for name in target.names if (found := self._catalog.find_model(provider, name))), None)

    def _mark_time(self, plan: Plan) -> None:
        """Collect every moment at which the price may change."""
        instants: set[datetime] = set(self._always)
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
            plan.weekly = plan.weekly or rule.weekdays is not None
            instants.update(moment for moment in (rule.start, rule.end) if moment is not None)
            clocks.update(clock for window in rule.windows for clock in window)
            other = self.alias(plan, rule)
            if other is not None:
                instants.update(other.instants)
                clocks.update(other.clocks)
                plan.weekly = plan.weekly or other.weekly
        if plan.introduced is not None:
            instants.add(datetime.combine(plan.introduced, time(), UTC))
        plan.instants = sorted(instants)
        plan.clocks = sorted(clocks)

    def alias(self, plan: Plan, rule: Rule) -> Plan | None:
        """Follow an alias to the plan of the model whose price it has; aliases that lead in a circle end somewhere."""
        if rule.alias_of is None or plan.depth >= _ALIAS_DEPTH:
            return None
        return self.plan(plan.provider_name, rule.alias_of, plan.tier, plan.context, plan.depth + 1)


def _tier_of_context(tier: str | None, context: Mapping[str, str]) -> str | None:
    """Let the context name the tier where the caller named none."""
    if tier != "standard":
        return tier
    for key in ("processing", "service_tier", "speed"):
        value = context.get(key)
        if value is not None and value not in ORDINARY[key]:
            return read_tier(value)
    return tier


def known_names(catalog: Catalog) -> frozenset[tuple[str, str]]:
    """Give every model under each canonical provider that sells it, by its id and by the names its rule spells out."""
    owned = {
        provider.id: [name for model in provider.models() for name in (model.id.lower(), *clause_literals(model.match))]
        for provider in catalog.providers.values()
    }
    return frozenset(
        (house, name)
        for provider in catalog.providers.values()
        for house in canonical_names(provider.id)
        for owner in (provider.id, *provider.fallback)
        for name in owned.get(owner, ())
    )


_VERSION_TAIL: Final = (
    r"^(?:[-@:]?(?:\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{2}|\d{2}-\d{4}|\d{4}|\d{3}|latest|preview|exp|experimental|"
    r"v\d+(?:[.:]\d+)*|default|\d+k?|free|beta|it|instruct))*$"
)


def _loose(match: Match) -> bool:
    """Tell whether a rule matched a name that says more than a version: `claude-sonnet-4-5-foo`."""
    if match.kind not in {"prefix", "contains"}:
        return False
    return re.match(_VERSION_TAIL, match.rest) is None


_GEOGRAPHIES: Final = frozenset({"eu", "au", "jp", "apac", "in", "ca", "sa"})


def _bedrock_doubts(provider: Provider, match: Match, name: str) -> tuple[str, ...]:
    """Tell what a Bedrock id leaves open.

    An id that says neither global nor a geography, where the two differ in price, is invoked in one region, which is
    billed as regional inference: 10 % above the global endpoint. A geography whose price the catalogue does not tell
    from the American one may cost more.
    """
    geography = name.partition(".")[0].lower()
    regional = match.model.id.startswith("regional.")
    if not regional and geography in _GEOGRAPHIES:
        return ("context-not-priced",)
    if not regional or match.kind == "contains" or geography in {"us", "us-gov", "global", *_GEOGRAPHIES}:
        return ()
    sibling = "global." + match.model.id.removeprefix("regional.")
    differs = any(
        model.id == sibling and model.prices[-1].rates != match.model.prices[-1].rates for model in provider.models()
    )
    return ("bedrock-bare-id",) if differs else ()
