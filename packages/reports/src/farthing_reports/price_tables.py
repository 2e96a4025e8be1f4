"""Price files and repricing as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from farthing_reports.keys import NONE
from farthing_reports.render import amount_text, plural, printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from farthing_reports.price_changes import PriceChanges, RateChange
    from farthing_reports.price_status import PriceStatus
    from farthing_reports.reprice import ModelDifference, Repricing

__all__ = [
    "changes_table",
    "overrides_table",
    "reprice_sentences",
    "reprice_table",
    "status_lines",
]

_ORIGINS: Final = {
    "bundled": "bundled with farthing",
    "installed": "installed by: farthing prices use",
    "configured": "named by the setting prices.file",
}
_SHOWN: Final = 40


def status_lines(status: PriceStatus) -> list[tuple[str, str]]:
    """Say what is in force, as pairs of a label and a text."""
    day = "of an unknown day"
    if status.released is not None:
        day = f"of {status.released}, {plural(status.age_days or 0, 'day')} old"
    lines = [("source", _ORIGINS[status.origin])]
    if status.file is not None:
        lines.append(("file", printable(status.file)))
    return [
        *lines,
        ("version", printable(status.version)),
        ("SHA-256", status.sha256),
        ("data", day),
        ("size", f"{plural(status.models, 'model')} of {plural(status.providers, 'provider')}"),
        ("corrections", f"{status.corrections} of farthing's own, dated"),
        ("overrides", f"{len(status.overrides)} of yours" if status.overrides else "none of yours"),
    ]


def overrides_table(status: PriceStatus) -> Table:
    """List the user's overrides; the first that fits a call wins."""
    table = _table()
    table.add_column("override", overflow="fold", min_width=8)
    table.add_column("effect", overflow="fold", ratio=1)
    table.add_column("holds", no_wrap=True)
    table.add_column("models", justify="right", no_wrap=True)
    for each in status.overrides:
        table.add_row(printable(each.name), printable(each.effect), each.holds, f"{each.models:,}")
    return table


def changes_table(changes: PriceChanges, rates: Sequence[RateChange]) -> Table:
    """List what needs consent: the models that are lost, then rates."""
    table = _table()
    table.add_column("model", overflow="fold", min_width=12)
    table.add_column("rate", overflow="fold")
    for name in ("now USD", "new USD", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in changes.lost[:_SHOWN]:
        table.add_row(printable(name), "all", "", Text("lost", style="yellow"), "")
    if len(changes.lost) > _SHOWN:
        table.add_row(Text(f"({len(changes.lost) - _SHOWN:,} more lost)", style="dim"), "", "", "", "")
    for change in rates[:_SHOWN]:
        new = Text("lost", style="yellow") if change.new_usd is None else Text(f"{change.new_usd:f}")
        share = "" if change.share is None else f"{change.share * 100:+,.0f}%"
        table.add_row(printable(change.model), printable(change.rate), f"{change.old_usd:f}", new, share)
    if len(rates) > _SHOWN:
        table.add_row(Text(f"({len(rates) - _SHOWN:,} more)", style="dim"), "", "", "", "")
    return table


def reprice_table(result: Repricing) -> Table:
    """Draw the sums by model, the largest difference first, and the total."""
    total = result.total()
    places = 4 if max(abs(total.old_usd), abs(total.new_usd)) >= 1 else 6
    table = _table()
    table.add_column("model", overflow="fold", min_width=12)
    for name in ("calls", "old USD", "new USD", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    changed = bool(total.became_priced or total.became_unpriced)
    for name in ("newly priced", "lost price") if changed else ():
        table.add_column(name, justify="right")
    ordered = sorted(result.models.items(), key=lambda item: (-abs(item[1].difference_usd), -item[1].calls))
    for model, each in ordered[:_SHOWN]:
        name = Text(NONE, style="dim") if model is None else Text(printable(model))
        table.add_row(name, *_figures(each, places, changed=changed))
    if len(ordered) > _SHOWN:
        table.add_row(Text(f"({len(ordered) - _SHOWN:,} more)", style="dim"))
    table.add_section()
    table.add_row(Text("total"), *_figures(total, places, changed=changed), style="bold")
    return table


def reprice_sentences(result: Repricing) -> list[str]:
    """Say the exact totals, and what they do not know."""
    total = result.total()
    old = f"{_at_least(total.old_unknown)}${total.old_usd:,f}"
    new = f"{_at_least(total.new_unknown)}${total.new_usd:,f}"
    lines = [f"Old: {old}. New: {new}. Difference: {_signed(total.difference_usd)} for {plural(total.calls, 'call')}."]
    if total.became_priced or total.became_unpriced:
        lines.append(
            f"The difference holds {plural(total.became_priced, 'call')} that had no price and "
            f"{plural(total.became_unpriced, 'call')} that lost it."
        )
    if total.new_unknown:
        lines.append(f"{plural(total.new_unknown, 'call')} of unknown cost under the new prices.")
    return lines


def _figures(each: ModelDifference, places: int, *, changed: bool) -> list[Text]:
    difference = each.difference_usd
    sign = "" if not difference else "-" if difference < 0 else "+"
    cells = [
        Text(f"{each.calls:,}"),
        Text(f"{_at_least(each.old_unknown)}{amount_text(each.old_usd, places)}"),
        Text(f"{_at_least(each.new_unknown)}{amount_text(each.new_usd, places)}"),
        Text(f"{sign}{amount_text(abs(difference), places)}"),
    ]
    if changed:
        cells.append(Text(f"{each.became_priced:,}" if each.became_priced else ""))
        cells.append(Text(f"{each.became_unpriced:,}" if each.became_unpriced else "", style="yellow"))
    return cells


def _at_least(unknown: int) -> str:
    return "≥ " if unknown else ""


def _signed(amount: Decimal) -> str:
    return f"{'-' if amount < 0 else '+' if amount else ''}${amount.copy_abs():,f}"


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
