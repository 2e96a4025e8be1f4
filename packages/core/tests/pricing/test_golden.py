"""Prices worked out by hand, compared to the last digit; and our corrections, whose every figure matters to one."""

from __future__ import annotations

import copy
import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from farthing.envelope import Cost, Usage
from farthing.errors import PriceDataError
from farthing.pricing import PriceBook, default_book
from farthing.pricing.files import bundled_catalog
from farthing.pricing.rules import corrections_to_rules, read_corrections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farthing.pricing.catalog import Catalog

CASES: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("golden.toml").read_text(encoding="utf-8"))["case"]

NOW = "2026-11-24T12:00:00Z"

UNITS = {"M": 1_000_000, "K": 1_000, "H": 3_600, "1": 1}


def price(book: PriceBook, case: dict[str, Any]) -> Cost:
    """Price one case."""
    reported = case.get("reported_usd")
    return book.price(
        case.get("provider"),
        case["model"],
        Usage.model_validate(case["usage"]),
        at=datetime.fromisoformat(case.get("at", NOW)),
        tier=case.get("tier"),
        context=case.get("context"),
        reported_usd=Decimal(reported) if reported else None,
    )


def agrees(cost: Cost, case: dict[str, Any]) -> bool:
    """Tell whether a cost is the one that the case expects."""
    amount = case.get("amount_usd")
    if cost.amount_usd != (Decimal(amount) if amount is not None else None) or cost.status != case["status"]:
        return False
    flags = case.get("flags")
    return flags is None or (set(flags) <= set(cost.flags) if flags else not cost.flags)


def calculated(working: str) -> Fraction:
    """Do the calculation that a case shows, exactly and without the engine."""
    total = Fraction(0)
    for term in working.split(" + "):
        factors, unit = term.rsplit("/", 1)
        value = Fraction(1)
        for factor in factors.split("*"):
            value *= Fraction(factor)
        total += value / UNITS[unit]
    return total


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_the_price_is_the_one_worked_out_by_hand(case: dict[str, Any]) -> None:
    """A price that is off by any digit, or a reason that is not told, fails here."""
    cost = price(default_book(), case)
    assert agrees(cost, case), cost.model_dump_json(exclude_none=True)


def test_the_workings_give_the_figures() -> None:
    """A slip in the golden file itself would hide a wrong price."""
    for case in CASES:
        if "working" in case:
            assert calculated(case["working"]) == Fraction(case["amount_usd"]), case["id"]


def test_there_are_enough_cases() -> None:
    """The golden file must not shrink unnoticed."""
    assert len({case["id"] for case in CASES}) == len(CASES) >= 120


def test_every_bill_adds_up() -> None:
    """The lines of a bill must sum to its total, exactly, for whoever adds them up."""
    for case in CASES:
        cost = price(default_book(), case)
        if cost.status == "priced":
            assert sum(line.amount_usd for line in cost.breakdown.values()) == cost.amount_usd, case["id"]


def test_a_bill_names_its_source() -> None:
    """A figure that cannot be traced to price data cannot be defended."""
    for case in CASES:
        cost = price(default_book(), case)
        if cost.status == "priced":
            assert cost.provenance is not None
            assert cost.provenance.data_version, case["id"]
            assert cost.source == ("correction" if cost.provenance.corrections else "catalog"), case["id"]


def test_now_is_a_tuesday() -> None:
    """DeepSeek's prices depend on the weekday, so the cases' common moment must stay what it says."""
    assert datetime.fromisoformat(NOW).astimezone(UTC).strftime("%A") == "Tuesday"


TEXT = (files("farthing.pricing") / "data" / "corrections.toml").read_text(encoding="utf-8")
ENTRIES: list[dict[str, Any]] = tomllib.loads(TEXT)["correction"]


@cache
def catalog() -> Catalog:
    """Give one catalogue for all the books of this module."""
    return bundled_catalog()


def nudged(figure: str) -> str:
    """Change a figure a little."""
    return format(Decimal(figure) * Decimal("1.01") + Decimal("0.0001"), "f")


def nudges(figure: Any) -> Iterator[tuple[str, Any]]:
    """Change a figure, or each part of one with long-context steps."""
    if isinstance(figure, str):
        yield "", nudged(figure)
        return
    yield " base", {**figure, "base": nudged(figure["base"])}
    step = figure["steps"][0]
    yield " step", {**figure, "steps": [{**step, "price": nudged(step["price"])}]}
    yield " threshold", {**figure, "steps": [{**step, "above": step["above"] + 1}]}


def mutations() -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Give every entry with one of its figures changed, one switch turned, or the whole of it gone."""
    for index, entry in enumerate(ENTRIES):
        for table in ("rates", "multiply"):
            for key, figure in entry.get(table, {}).items():
                for name, changed_figure in nudges(figure):
                    changed = copy.deepcopy(entry)
                    changed[table][key] = changed_figure
                    yield f"{entry['id']}: {table}.{key}{name}", index, changed
        for switch in ("backdate", "free"):
            if entry.get(switch):
                yield f"{entry['id']}: {switch}", index, {**entry, "models": ["no-such-model"]}


MUTATIONS = list(mutations())


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation[0])
def test_a_changed_figure_fails_a_case(mutation: tuple[str, int, dict[str, Any]]) -> None:
    """A figure that no case depends on could be wrong for years."""
    _, index, changed = mutation
    entries = [*ENTRIES[:index], changed, *ENTRIES[index + 1 :]]
    book = PriceBook(catalog(), corrections=corrections_to_rules(entries))
    assert not all(agrees(price(book, case), case) for case in cases_of(ENTRIES[index]["id"]))


@cache
def corrections_of_cases() -> list[tuple[str, ...]]:
    """Give for each case the corrections that its price stands on."""
    book = PriceBook(catalog(), corrections=corrections_to_rules(ENTRIES))
    found = [price(book, case).provenance for case in CASES]
    return [provenance.corrections if provenance else () for provenance in found]


def cases_of(identifier: str) -> list[dict[str, Any]]:
    """Give the cases that one correction has a part in; a change of it can show nowhere else."""
    return [case for case, used in zip(CASES, corrections_of_cases(), strict=True) if identifier in used]


def test_every_entry_says_where_it_is_from() -> None:
    """A correction without source and reason is only an opinion."""
    assert len({entry["id"] for entry in ENTRIES}) == len(ENTRIES)
    for entry in ENTRIES:
        assert entry["source"], entry["id"]
        assert entry["reason"], entry["id"]


def test_every_entry_is_used_by_a_case() -> None:
    """An entry that nothing reaches, because an earlier one shadows it, is dead."""
    used = {identifier for corrections in corrections_of_cases() for identifier in corrections}
    assert {entry["id"] for entry in ENTRIES} == used


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('rates = { inptu = "1" }', "unknown bucket 'inptu'. Did you mean 'input'?"),
        ('rates = { input = "-1" }', "negative"),
        ('multiply = { tokens = "0" }', "no sensible multiplier"),
        ('from = "soon"', "is no date"),
    ],
)
def test_a_broken_entry_is_refused_by_name(line: str, complaint: str) -> None:
    """A slip in the data must stop the release, naming the entry."""
    text = f'[[correction]]\nid = "x"\nprovider = "openai"\nsource = "s"\nreason = "r"\n{line}\n'
    with pytest.raises(PriceDataError, match="correction 'x': ") as refusal:
        read_corrections(text)
    assert complaint in str(refusal.value)
