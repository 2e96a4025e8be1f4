"""What another price file would change: models lost, rates lost, and rates that move, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

from farthing.pricing.files import compare
from farthing_reports.faults import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from farthing.pricing.catalog import Catalog, Model, Rate

__all__ = ["PriceChanges", "RateChange", "parse_bound", "price_changes"]

_CONTEXT: Final = Context(prec=28)


@dataclass(frozen=True, slots=True)
class RateChange:
    """One rate that is another one in the new file."""

    model: str
    """`provider/model`."""
    rate: str
    """The bucket, with its tier and its long-context threshold: `input`, `batch output`, `input above 200000`."""
    old_usd: Decimal
    new_usd: Decimal | None
    """None: the new file has no such rate."""

    @property
    def share(self) -> Decimal | None:
        """How far it moves, as a share of the old rate; None where there is no such figure."""
        if self.new_usd is None or not self.old_usd:
            return None
        return _CONTEXT.divide(self.new_usd - self.old_usd, self.old_usd)

    def exceeds(self, bound: Decimal) -> bool:
        """Tell whether it moves further than a share: a rate that appears from or sinks to zero always does."""
        share = self.share
        return share is None or not self.new_usd or abs(share) > bound


@dataclass(frozen=True, slots=True)
class PriceChanges:
    """All that changes; only the standard catalogue is compared, without overrides and corrections."""

    old_models: int
    new_models: int
    lost: tuple[str, ...]
    """Models that the new file does not know, or for which it has no price at all."""
    added: int
    rates: tuple[RateChange, ...]

    def needing_consent(self, bound: Decimal) -> list[RateChange]:
        """Give the rates that are lost or move too far, the furthest first."""
        found = [change for change in self.rates if change.exceeds(bound)]
        return sorted(found, key=lambda change: (change.share is not None, -abs(change.share or 0), change.model))


def price_changes(old: Catalog, new: Catalog, *, at: datetime) -> PriceChanges:
    """Compare two catalogues as they price a call at one moment: base rates, long-context rates and tiers.

    Args:
        old: What is in force.
        new: What would be.
        at: Aware.

    Raises:
        Nothing.
    """
    whole = compare(old, new, at=at)
    after = {f"{provider.id}/{model.id}": model for provider, model in new.models()}
    gone = {*whole.lost, *whole.unpriced}
    rates = [
        change
        for provider, model in old.models()
        if (name := f"{provider.id}/{model.id}") not in gone
        for change in _changes(name, model, after[name], at)
    ]
    return PriceChanges(
        old_models=whole.old_models,
        new_models=whole.new_models,
        lost=(*whole.lost, *whole.unpriced),
        added=len(whole.added),
        rates=tuple(rates),
    )


def parse_bound(text: str) -> Decimal:
    """Read a share: 50%, 0.5.

    Raises:
        CommandError: It is none, or not above zero.
    """
    plain = text.strip()
    try:
        number = Decimal(plain.removesuffix("%").strip())
    except ArithmeticError:
        number = Decimal(0)
    share = number.scaleb(-2) if plain.endswith("%") else number
    if not share.is_finite() or share <= 0:
        raise CommandError(f"--bound: {text!r} is no share above zero; write e.g. 50% or 0.5")
    return share


def _changes(name: str, old: Model, new: Model, at: datetime) -> Iterator[RateChange]:
    before, after = _by_context(old, at), _by_context(new, at)
    for context, rates in before.items():
        others = after.get(context, {})
        for bucket, rate in rates.items():
            other = others.get(bucket)
            label = f"{context} {bucket}".strip()
            if other is None:
                yield RateChange(name, label, rate.base, None)
                continue
            if other.base != rate.base:
                yield RateChange(name, label, rate.base, other.base)
            for start in sorted({start for start, _ in (*rate.steps, *other.steps)}):
                one, two = rate.at(start + 1), other.at(start + 1)
                if one != two and (one, two) != (rate.base, other.base):
                    yield RateChange(name, f"{label} above {start:,}", one, two)


def _by_context(model: Model, at: datetime) -> dict[str, Mapping[str, Rate]]:
    """Give the rates of the moment by tier or other context; the standard ones under an empty name."""
    found: dict[str, Mapping[str, Rate]] = {"": model.standard(at).rates}
    for variant in model.variants:
        if variant.constraint is None or variant.constraint.active(at):
            context = " ".join(variant.when.values())
            found[context] = dict(variant.rates) | dict(found.get(context, {}))
    return found
