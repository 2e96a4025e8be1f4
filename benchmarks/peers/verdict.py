"""Who is right in a cell: what a peer recorded, beside the provider's invoice."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Line", "Seen", "judge", "unmatched"]

_TOLERANCE: Final = Decimal("1e-9")
"""Of an amount: a peer's own cost is a float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the invoice; an amount of None is a model without a price."""

    amount_usd: Decimal | None
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One model call as a peer recorded it; None is what it does not say."""

    amount_usd: Decimal | None
    input_tokens: int | None
    output_tokens: int | None
    own: bool = False
    """Whether the amount is the peer's own, not its tokens priced by us."""

    @property
    def says_nothing(self) -> bool:
        """Whether it says that there was a call, and neither tokens nor an amount."""
        return self.amount_usd is None and self.input_tokens is None and self.output_tokens is None


def judge(lines: Sequence[Line], seen: Iterable[Seen], *, unknown: int) -> tuple[str, str]:
    """Compare, and give one word and the figures behind it.

    Args:
        lines: What the provider billed.
        seen: What the peer recorded, one for each model call that it shows.
        unknown: For how many of the lines no client was told the usage: there a record without tokens is right.

    Returns:
        right, double, lost or wrong; and what was found.
    """
    seen = list(seen)
    silent = sum(1 for each in seen if each.says_nothing)
    said = [each for each in seen if not each.says_nothing]
    owed, extra = unmatched(lines, said)
    # Nothing was bought with nothing: an answer from a cache, or a refusal, that says so.
    extra = [each for each in extra if not (_is_nothing(each) and not owed)]
    figures = f"invoiced {_list(line.amount_usd for line in lines)}; recorded {_list(each.amount_usd for each in said)}"
    figures += f" and {silent} without a figure" if silent else ""
    if not extra and not owed:
        return "right", figures
    if not extra:
        known = len(owed) - unknown
        if len(owed) > silent:
            return "lost", figures
        return ("right" if known <= 0 else "lost"), figures
    if not owed and all(any(_same(line, each) for line in lines) for each in extra):
        return "double", figures
    return "wrong", figures


def unmatched(lines: Sequence[Line], seen: Iterable[Seen]) -> tuple[list[Line], list[Seen]]:
    """Give the lines that no record is equal to, and the records with figures that are equal to no line."""
    owed, extra = list(lines), list[Seen]()
    for each in seen:
        if each.says_nothing:
            continue
        line = next((line for line in owed if _same(line, each)), None)
        if line is None:
            extra.append(each)
        else:
            owed.remove(line)
    return owed, extra


def _same(line: Line, seen: Seen) -> bool:
    if line.amount_usd is None:
        is_free = seen.own and seen.amount_usd is not None  # an amount, or $0, for a price that nobody knows
        return not is_free and (seen.input_tokens, seen.output_tokens) == (line.input_tokens, line.output_tokens)
    return seen.amount_usd is not None and abs(seen.amount_usd - line.amount_usd) <= _TOLERANCE * line.amount_usd


def _is_nothing(seen: Seen) -> bool:
    if seen.own:
        return seen.amount_usd == 0
    return not seen.amount_usd and not seen.input_tokens and not seen.output_tokens


def _list(amounts: Iterable[Decimal | None]) -> str:
    told = ["no price" if amount is None else f"${format(amount.normalize(), 'f')}" for amount in amounts]
    return " + ".join(told) or "nothing"
