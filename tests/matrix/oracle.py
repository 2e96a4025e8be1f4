"""The judge: what an observer recorded, beside the provider's invoice, mark by mark."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

from matrix.cells import UNKNOWN, Promise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from farthing.testing.provider import InvoiceLine, ReceivedRequest
    from matrix.observers import Record

__all__ = ["Case", "judge"]

_MARK: Final = re.compile(rb"mark-[0-9a-f]{6}-\d+x")
_FREE: Final = re.compile(r"count.?tokens", re.IGNORECASE)
"""Paths that cost nothing, and are no model calls."""

_Group: TypeAlias = "tuple[Sequence[str], Sequence[str | None], Promise]"
"""Marks, the tags of the calls that are to own their requests, and what is promised of them all together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What there is to compare; requests and lines may hold those of earlier cells."""

    tagged: tuple[str, ...]
    untagged: tuple[str, ...]
    requests: Sequence[ReceivedRequest]
    lines: Sequence[InvoiceLine]
    records: Sequence[Record]


def judge(case: Case, promised: Promise, *, plain: Promise) -> list[str]:
    """Name every disagreement: none means that each billed request has exactly one call that owns it."""
    seen = _Seen(case)
    if not promised.untagged:
        groups: list[_Group] = [([mark], [mark], promised) for mark in case.tagged]
        groups.append((list(case.untagged), [None], _times(plain, len(case.untagged))))
    else:
        whole = [_times(promised, len(case.tagged)), _times(plain, len(case.untagged))]
        tags = [*case.tagged, None]
        groups = [([*case.tagged, *case.untagged], tags, _sum_of(whole))]
    problems = [
        f"{marks[0] if len(marks) == 1 else 'all'}: {problem}"
        for marks, tags, each in groups
        for problem in _judge_one(
            seen.requests_of(marks),
            seen.lines_of(marks),
            [record for tag in tags for record in seen.records[tag]],
            each,
        )
    ]
    for mark in case.tagged if promised.untagged else ():
        tagged = Counter(record.status for record in seen.records[mark])
        if tagged != Counter(promised.statuses):
            problems.append(f"{mark}: promised {dict(promised.statuses)} with their tag, recorded {dict(tagged)}")
    strangers = {record.tag for record in case.records} - {None, *case.tagged}
    problems.extend(f"a call is tagged {tag}, which nobody asked for" for tag in strangers)
    return problems


class _Seen:
    """A case by mark: the requests and lines by what stands in the prompt, the records by their tag."""

    def __init__(self, case: Case) -> None:
        self._requests: dict[str, list[ReceivedRequest]] = defaultdict(list)
        self._lines: dict[str, list[InvoiceLine]] = defaultdict(list)
        self.records: dict[str | None, list[Record]] = defaultdict(list)
        numbers: dict[int, str] = {}
        for request in case.requests:
            mark = _MARK.search(request.body)
            if mark is not None and not _FREE.search(request.path):
                numbers[request.number] = mark[0].decode()
                self._requests[mark[0].decode()].append(request)
        for line in case.lines:
            self._lines[numbers.get(line.number, "")].append(line)
        for record in case.records:
            self.records[record.tag].append(record)

    def requests_of(self, marks: Sequence[str]) -> list[ReceivedRequest]:
        return [request for mark in marks for request in self._requests[mark]]

    def lines_of(self, marks: Sequence[str]) -> list[InvoiceLine]:
        return [line for mark in marks for line in self._lines[mark]]


def _times(promised: Promise, count: int) -> Promise:
    return _sum_of([promised] * count)


def _sum_of(promises: list[Promise]) -> Promise:
    """Add promises up; what is untagged is a status like any other where tags are not looked at."""
    statuses: Counter[str] = Counter()
    for each in promises:
        statuses.update(each.statuses)
        statuses.update(each.untagged)
    return Promise(
        statuses=statuses,
        hidden=sum(each.hidden for each in promises),
        invisible=sum(each.invisible for each in promises),
    )


def _judge_one(
    requests: Sequence[ReceivedRequest], lines: Sequence[InvoiceLine], records: Sequence[Record], promised: Promise
) -> Iterator[str]:
    statuses = Counter(record.status for record in records)
    if statuses != Counter(promised.statuses):
        said = [(record.status, record.reason) for record in records]
        yield f"promised {dict(promised.statuses)}, recorded {said}, invoiced {[line.amount_usd for line in lines]}"
        return
    seen = sum(statuses.values()) - statuses["cache_hit"]
    if len(requests) != seen + promised.hidden + promised.invisible:
        unseen = promised.hidden + promised.invisible
        yield f"the provider had {len(requests)} requests, {seen} are recorded and {unseen} promised to be unseen"
    yield from _owners(lines, records, promised)
    for record in records:
        yield from _stands_as_said(record, lines, promised)


def _owners(lines: Sequence[InvoiceLine], records: Sequence[Record], promised: Promise) -> Iterator[str]:
    """Check that each line is paid for by one record: the known ones to the last digit, the rest by an unknown one."""
    owed = Counter(line.amount_usd for line in lines if line.amount_usd is not None)
    paid = Counter(record.amount_usd or Decimal(0) for record in records if record.status == "priced")
    if paid - owed:
        yield f"paid but not invoiced: {_amounts(paid - owed)}; invoiced: {_amounts(owed)}"
    unpaid = (owed - paid).total() + sum(1 for line in lines if line.amount_usd is None)
    unknown = sum(1 for record in records if record.status in UNKNOWN)
    if unpaid > unknown + promised.invisible:
        yield f"{unpaid} invoiced requests have no known cost, {unknown} calls say so; invoiced: {_amounts(owed)}"


def _stands_as_said(record: Record, lines: Sequence[InvoiceLine], promised: Promise) -> Iterator[str]:
    if record.status in UNKNOWN and not record.reason:
        yield f"{record.status} without a reason"
    if record.status in UNKNOWN and record.amount_usd is not None and record.status != "estimated":
        yield f"{record.status}, and yet an amount of {record.amount_usd}"
    if record.status in {"not_billed", "cache_hit"} and record.amount_usd != 0:
        yield f"{record.status} with an amount of {record.amount_usd}"
    if record.status == "cache_hit" and record.saved_usd not in {line.amount_usd for line in lines}:
        yield f"a cache hit that says it saved {record.saved_usd}"
    own = [line for line in lines if line.response_id and line.response_id == record.response_id]
    if record.status == "priced" and own and own[0].amount_usd != record.amount_usd:
        yield f"{record.response_id} was invoiced {own[0].amount_usd} and recorded as {record.amount_usd}"
    if (
        record.status == "unpriced"
        and own
        and (own[0].input_tokens, own[0].output_tokens)
        != (
            record.input_tokens,
            record.output_tokens,
        )
    ):
        yield f"{record.response_id}: tokens {record.input_tokens}/{record.output_tokens} are not those of the invoice"


def _amounts(amounts: Counter[Decimal]) -> str:
    return ", ".join(f"{amount} x {count}" for amount, count in amounts.items()) or "nothing"
