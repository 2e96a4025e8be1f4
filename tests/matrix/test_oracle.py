"""The judge sees what it is there for: a call lost, doubled, mispriced, somebody else's, or silent about itself."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import httpx
import pytest

from matrix.cells import PAID, promise
from matrix.observers import Record
from matrix.oracle import Case, judge

if TYPE_CHECKING:
    from farthing.testing.provider import FakeProvider

MARK, NEXT = "mark-abcdef-1x", "mark-abcdef-2x"


@pytest.fixture
def case(provider: FakeProvider) -> Case:
    """Give a case of one tagged and one plain request that both stand as they should."""
    before = len(provider.requests), len(provider.invoice.lines)
    for mark in (MARK, NEXT):
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": mark}]}
        assert httpx.post(f"{provider.openai_url}/chat/completions", json=body).status_code == 200
    assert provider.settle()
    lines = provider.invoice.lines[before[1] :]
    records = [
        Record(tag=tag, status="priced", amount_usd=line.amount_usd, response_id=line.response_id)
        for tag, line in zip((MARK, None), lines, strict=True)
    ]
    return Case(
        tagged=(MARK,),
        untagged=(NEXT,),
        requests=provider.requests[before[0] :],
        lines=lines,
        records=tuple(records),
    )


def test_what_is_right_is_right(case: Case) -> None:
    """A judge that always complains would be switched off."""
    assert judge(case, PAID, plain=PAID) == []


@pytest.mark.parametrize("wrong", ["lost", "doubled", "mispriced", "swapped", "leaked", "silent", "unasked"])
def test_what_is_wrong_is_named(case: Case, wrong: str) -> None:
    """A judge that always agrees would make the whole matrix a decoration."""
    first, second = case.records
    records = {
        "lost": (second,),
        "doubled": (first, first, second),
        "mispriced": (replace(first, amount_usd=Decimal("0.1")), second),
        "swapped": (replace(first, amount_usd=second.amount_usd), replace(second, amount_usd=first.amount_usd)),
        "leaked": (first, replace(second, tag=MARK)),
        "silent": (replace(first, status="unreported", amount_usd=None), second),
        "unasked": (first, second, replace(first, tag="somebody")),
    }[wrong]
    promised = promise(unreported=1) if wrong == "silent" else PAID
    assert judge(replace(case, records=records), promised, plain=PAID)


def test_an_exception_that_is_none_any_more_is_named(case: Case) -> None:
    """A promise of less than what is there would stay in the page for ever."""
    for stale in (promise(priced=1, invisible=1), promise(priced=1, hidden=1)):
        assert judge(case, stale, plain=PAID)
    assert judge(case, promise(untagged={"priced": 1}), plain=PAID)
