"""Rows as people and programs read them: a table, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from farthing_reports.keys import NONE
from farthing_reports.report import Row, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from farthing_reports.checks import Check
    from farthing_reports.renames import Merged
    from farthing_reports.report import Skipped

__all__ = [
    "amount_text",
    "as_csv",
    "as_json",
    "checks_table",
    "count_text",
    "merged_sentences",
    "plural",
    "printable",
    "report_table",
    "skipped_sentences",
    "stderr",
    "total_sentences",
    "use_sentences",
]

_BAR_WIDTH: Final = 6
_FIGURES: Final = [name for name in Row.model_fields if name != "dimensions"]
_SCHEMAS_SHOWN: Final = 3
_MERGED_SHOWN: Final = 5
_STATES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_MILLION: Final = 1_000_000


def stderr() -> Console:
    """Give the console for what is no result."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def as_json(rows: Iterable[Row]) -> str:
    """Render a list of flat objects; money is an exact decimal string."""
    return json.dumps([row.flat() for row in rows], indent=2)


def as_csv(rows: Iterable[Row], by: Sequence[str]) -> str:
    """Render a header and a line for each row; a missing value is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*by, *_FIGURES], lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.flat() for row in rows)
    return text.getvalue()


def report_table(rows: Sequence[Row], by: Sequence[str], *, top: int) -> Table:
    """Render the dearest rows, the rest in one line, and the total.

    Args:
        rows: Sorted.
        by: Names of the dimensions.
        top: How many rows to show; the rest is added up in one.
    """
    whole = total(rows)
    shown, rest = rows[:top], rows[top:]
    scale = _Scale(whole, max((row.cost_usd for row in shown), default=whole.cost_usd))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_footer=False)
    for name in by:
        table.add_column(name, overflow="fold", min_width=6)
    for name in ("calls", "input", "output", "cost USD"):
        table.add_column(name, justify="right", no_wrap=True)
    if whole.unpriced_calls:
        table.add_column("unknown", justify="right", no_wrap=True)
    if whole.estimated_calls:
        table.add_column("estimated", justify="right", no_wrap=True)
    table.add_column("share", no_wrap=True)
    for row in shown:
        names = [_name(value) for value in row.dimensions.values()]
        table.add_row(*names, *_figures(row, scale))
    if rest:
        others = [Text(f"({len(rest):,} more)", style="dim"), *[Text("")] * (len(by) - 1)]
        table.add_row(*others, *_figures(total(rest), scale))
    table.add_section()
    label = [Text("total", style="bold"), *[Text("")] * (len(by) - 1)]
    table.add_row(*label, *_figures(whole, scale)[:-1], Text(""), style="bold")
    return table


def total_sentences(whole: Row) -> list[str]:
    """Say what the total is, and what it does not know."""
    calls = f"{plural(whole.calls, 'call')}"
    exact = format(whole.cost_usd, ",f")
    if not whole.unpriced_calls:
        lines = [f"Total: {'≥ ' if whole.estimated_calls else ''}${exact} for {calls}."]
    else:
        unknown = whole.unpriced_calls
        lines = [f"Total: ≥ ${exact} ({plural(unknown, 'call')} of unknown cost, of {calls})."]
        reasons = (
            (unknown - whole.unreported_calls, "no price known"),
            (whole.unreported_calls, "usage never reported"),
        )
        named = ", ".join(f"{count:,} {reason}" for count, reason in reasons if count)
        lines.append(f"Unknown: {named}. See them with: --where status=unpriced, --where status=unreported")
    if whole.estimated_calls:
        estimated = format(whole.estimated_usd, ",f")
        lines.append(f"Estimated, not in the total: ${estimated} for {plural(whole.estimated_calls, 'call')}.")
    if whole.cache_hits:
        saved = format(whole.saved_usd, "f")
        lines.append(f"Cache: {plural(whole.cache_hits, 'hit')} saved ${saved}.")
    return lines


def use_sentences(rows: Iterable[Row]) -> list[str]:
    """Tell what brought an answer from what did not, for rows that are grouped by `use`.

    Shares are of what is known: neither unknown costs nor estimates are in them.
    """
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(row.dimensions.get("use") or NONE, []).append(row)
    useful = total(kinds.get("useful", []))
    wasted = {name: total(kinds[name]) for name in WASTE if name in kinds}
    waste = total(wasted.values())
    lines = [f"Useful: {_spent(useful)}."]
    if not waste.calls:
        return [*lines, "Waste: none."]
    named = "; ".join(f"{name} {_spent(each)}" for name, each in wasted.items())
    known = useful.cost_usd + waste.cost_usd
    share = f" ({_percent(float(waste.cost_usd / known)).strip()} of what is known)" if known > 0 else ""
    return [*lines, f"Waste: {_spent(waste)}{share}: {named}."]


WASTE: Final = ("superseded", "failed", "cancelled", "abandoned")
"""Uses that are none: another attempt answered, none did, the application stopped it, nobody took the end of it."""


def _spent(row: Row) -> str:
    exact = f"{'≥ ' if row.unpriced_calls or row.estimated_calls else ''}${row.cost_usd:,f}"
    parts = [f"{exact} for {plural(row.calls, 'call')}"]
    if row.unpriced_calls:
        parts.append(f"{row.unpriced_calls:,} of unknown cost")
    if row.estimated_calls:
        parts.append(f"estimated besides: ${row.estimated_usd:,f}")
    return ", ".join(parts)


def checks_table(checks: Iterable[Check]) -> Table:
    """Render what the doctor found, a line or two for each check."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", min_width=8)
    table.add_column(overflow="fold", ratio=1)
    topic = ""
    for check in checks:
        if check.topic != topic:
            topic = check.topic
            table.add_row(Text(""), Text(topic, style="bold"), Text(""))
        found = Text(printable(check.found))
        if check.fix is not None:
            found.append(f"\n-> {printable(check.fix)}", style="bold")
        table.add_row(Text(check.state, style=_STATES[check.state]), Text(printable(check.name)), found)
    return table


def merged_sentences(merged: Sequence[Merged]) -> list[str]:
    """Say which recorded names stand under another one, and how to see them apart."""
    if not merged:
        return []
    shown = [
        f"{each.key} {printable(each.recorded)!r} ({plural(each.calls, 'call')}) is counted as "
        f"{printable(each.counted_as)!r}"
        for each in merged[:_MERGED_SHOWN]
    ]
    if len(merged) > _MERGED_SHOWN:
        shown.append(f"and {len(merged) - _MERGED_SHOWN:,} more")
    return [f"By the policy's names of today: {'; '.join(shown)}. As recorded: --as-recorded"]


def skipped_sentences(skipped: Iterable[Skipped]) -> list[str]:
    """Say what could not be read, a sentence for each file."""
    sentences: list[str] = []
    for file in skipped:
        parts: list[str] = []
        if file.damaged_lines:
            torn = ", the last one torn" if file.torn else ""
            parts.append(f"{plural(file.damaged_lines, 'damaged line')}{torn}")
        schemas = list(file.other_schemas.items())
        parts += [f"{plural(count, 'line')} of schema {printable(name)!r}" for name, count in schemas[:_SCHEMAS_SHOWN]]
        if rest := sum(count for _, count in schemas[_SCHEMAS_SHOWN:]):
            parts.append(f"{plural(rest, 'line')} of other schemas")
        sentences.append(f"{printable(file.file)}: skipped {', '.join(parts)}")
    return sentences


def printable(text: str) -> str:
    """Replace what would steer a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def amount_text(amount: Decimal, places: int) -> str:
    """Write dollars with a number of decimals; what is less than half of the last one is not written as zero."""
    with localcontext() as context:
        context.prec = len(amount.as_tuple().digits) + abs(amount.adjusted()) + places + 2
        rounded = amount.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)
    if not rounded and amount:
        return f"<{Decimal(1).scaleb(-places):f}"
    return f"{rounded:,f}"


def count_text(count: int) -> str:
    """Write a count of tokens: in full while that is short."""
    if count < 10 * _MILLION:
        return f"{count:,}"
    for name, size in (("M", _MILLION), ("G", 1_000 * _MILLION), ("T", _MILLION * _MILLION)):
        if count < 1_000 * size:
            return f"{count / size:,.1f}{name}"
    return f"{count / _MILLION / _MILLION:,.0f}T"


@dataclass(frozen=True, slots=True)
class _Scale:
    """What all rows of one table are measured by."""

    whole: Row
    largest: Decimal
    """The cost whose bar is full."""


def _figures(row: Row, scale: _Scale) -> list[Text]:
    cost = amount_text(row.cost_usd, _places(scale.whole.cost_usd))
    if row.unpriced_calls or row.estimated_calls:
        cost = f"≥ {cost}"
    cells = [
        Text(f"{row.calls:,}"),
        Text(count_text(row.input_tokens)),
        Text(count_text(row.output_tokens)),
        Text(cost),
    ]
    if scale.whole.unpriced_calls:
        cells.append(Text(f"{row.unpriced_calls:,}" if row.unpriced_calls else "", style="yellow"))
    if scale.whole.estimated_calls:
        estimate = amount_text(row.estimated_usd, _places(scale.whole.estimated_usd)) if row.estimated_calls else ""
        cells.append(Text(estimate, style="yellow"))
    share = float(row.cost_usd / scale.whole.cost_usd) if scale.whole.cost_usd > 0 else 0.0
    length = float(row.cost_usd / scale.largest) if scale.largest > 0 else 0.0
    cells.append(Text.assemble((_bar(length), "cyan"), f" {_percent(share)}"))
    return cells


def _percent(share: float) -> str:
    return " <1%" if 0 < share < 0.005 else f"{share:4.0%}"  # noqa: PLR2004 - what would be rounded to 0%


def _bar(length: float) -> str:
    """Draw a bar in eighths of a character."""
    eighths = round(min(max(length, 0.0), 1.0) * _BAR_WIDTH * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "")).ljust(_BAR_WIDTH)


def _name(value: str | None) -> Text:
    return Text(NONE, style="dim") if value is None else Text(printable(value))


def _places(whole: Decimal) -> int:
    """Choose how many decimals a column of dollars needs."""
    return 2 if whole >= 1_000 else 4 if whole >= 1 else 6  # noqa: PLR2004 - cents matter less in thousands


def plural(count: int, noun: str) -> str:
    """Write a count and its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
