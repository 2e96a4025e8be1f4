"""One request as a tree."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from reports_bench import NOON, WriteLedger, make_call
from rich.console import Console

from farthing import Scope
from farthing_reports.faults import CommandError
from farthing_reports.ledger import find_ledger
from farthing_reports.trace import Node, build_trace, find_trace, known_cost
from farthing_reports.trace_view import trace_tree

if TYPE_CHECKING:
    from pathlib import Path

    from farthing import Call

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def scope(number: int, kind: str, name: str) -> Scope:
    """Build a scope that started some seconds after noon."""
    return Scope(kind=kind, name=name, span_id=f"{number:016x}", started_at=NOON + timedelta(seconds=number))


CHAIN = scope(1, "workflow", "chain")
AGENT = scope(2, "agent", "planner")


def call(**fields: Any) -> Call:
    """Build a call of the one trace."""
    values: dict[str, Any] = {"trace_id": TRACE, "tags": {"feature": "chat"}}
    return make_call(**(values | fields))


def request() -> list[Call]:
    """Give a request with everything that a tree can show."""
    return [
        call(amount="0.1", after_seconds=1.5, scopes=(CHAIN,)),
        call(
            amount="0",
            status="not_billed",
            after_seconds=3,
            scopes=(CHAIN, AGENT),
            operation_id="again",
            outcome="error",
            error_type="RateLimitError",
            usage=None,
        ),
        call(amount="0.2", after_seconds=4, scopes=(CHAIN, AGENT), operation_id="again", attempt=2),
        call(amount=None, status="unreported", usage=None, after_seconds=5, scopes=(CHAIN, AGENT), outcome="abandoned"),
        call(amount="0", status="cache_hit", saved="0.3", after_seconds=6, scopes=(CHAIN,)),
        call(
            amount="0.000000000000000001",
            after_seconds=7,
            tags={"feature": "chat", "team": "growth"},
            streaming=True,
            time_to_first_chunk_seconds=0.25,
        ),
    ]


def shape(node: Node) -> Any:
    """Give a tree as nested lists of names."""
    if node.call is not None:
        return node.call.cost.status
    name = node.scope.name if node.scope is not None else "attempts"
    return [name, *(shape(child) for child in node.children)]


def drawn(calls: list[Call], width: int = 200) -> str:
    """Draw the tree of some calls as text."""
    console = Console(file=StringIO(), width=width, no_color=True)
    console.print(trace_tree(build_trace(calls)))
    return console.file.getvalue()  # type: ignore[attr-defined] - a StringIO


def test_calls_hang_under_their_scopes_in_the_order_of_time() -> None:
    """Whatever order the ledger has them in, calls are under their scopes and attempts under one operation."""
    expected = [
        "attempts",
        ["chain", "priced", ["planner", ["attempts", "not_billed", "priced"], "unreported"], "cache_hit"],
        "priced",
    ]
    calls = request()
    assert shape(build_trace(calls).root) == expected
    assert shape(build_trace(calls[::-1]).root) == expected


def test_totals_are_exact_and_count_the_unknown() -> None:
    """The root's cost is the sum of the known ones, to the last digit."""
    assert known_cost(build_trace(request()).root.calls()) == (Decimal("0.300000000000000001"), 1)


def test_tree_shows_what_a_reader_asks_for() -> None:
    """Totals, scopes, attempts, models, outcomes, tags and streams are all in the drawing."""
    text = drawn(request())
    for part in (
        f"trace {TRACE}  2026-11-20 12:00:01Z  7.00 s\nfeature=chat\n",
        "6 calls, 400 in, 40 out, ≥ $0.300000000000000001 (1 call of unknown cost)",
        "├── workflow chain  5 calls, 300 in, 30 out, ≥ $0.3 (1 call of unknown cost)",
        "agent planner  3 calls",
        "2 attempts at one operation  2 calls, 100 in, 10 out, $0.2",
        "chat gpt-4o  $0 (not billed)  1.50 s  error RateLimitError",
        "chat gpt-4o  100 in, 10 out  $0.2  1.50 s  attempt 2",
        "cost unknown (unreported)  1.50 s  abandoned",
        "cache hit, saved $0.3",
        "streamed, first chunk after 0.25 s  team=growth",
    ):
        assert part in text


def test_names_cannot_steer_the_terminal() -> None:
    """Markup and escape sequences in names are shown as they are, or not at all."""
    text = drawn([call(request_model="[red]m[/red]\x1b[2J", scopes=(scope(1, "agent", "a\x07[b]"),))])
    assert "[red]m[/red]\N{REPLACEMENT CHARACTER}[2J" in text
    assert "[b]" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_long_branches_are_cut_with_their_sum() -> None:
    """A scope with hundreds of calls shows the first of them and adds up the rest."""
    text = drawn([call(amount="0.01", after_seconds=number) for number in range(130)])
    assert text.count("chat gpt-4o") == 50
    assert "more: 80 calls, 8,000 in, 800 out, $0.80" in text


def test_narrow_terminal_loses_nothing() -> None:
    """At 40 columns the lines wrap."""
    text = drawn(request(), width=40)
    assert max(len(line) for line in text.splitlines()) <= 40
    assert "".join(text.split()).count("planner") == 1


@pytest.fixture
def folder(write_ledger: WriteLedger) -> Path:
    """Give a ledger with the request between others."""
    first, *rest = request()
    return write_ledger([make_call(after_seconds=-9), first], [*rest, make_call(trace_id="4bf9" + "0" * 28)])


@pytest.mark.parametrize("wanted", [TRACE, TRACE.upper(), "4bf92f", " 4bf92 ", "again", None])
def test_trace_is_found(wanted: str | None, folder: Path) -> None:
    """By its id, the beginning of it, the id of an operation, or as the latest request."""
    trace, damaged = find_trace(find_ledger(folder), wanted)
    assert (trace.trace_id, len(trace.root.calls()), damaged) == (TRACE, 6, 0)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("4bf9", "fits 2 traces .*write more"),
        ("4bf", "too short"),
        ("ffff", "no call of trace 'ffff'"),
        ("'; --", "no call of trace"),
    ],
)
def test_trace_is_not_found(wanted: str, reason: str, folder: Path) -> None:
    """A wrong or ambiguous id is refused in a sentence that says what to do."""
    with pytest.raises(CommandError, match=reason):
        find_trace(find_ledger(folder), wanted)


def test_damaged_line_of_the_trace_is_counted(folder: Path) -> None:
    """A line of the trace that is no valid call is left out, and that is said."""
    (folder / "calls-x.jsonl").write_text(f'{{"schema":"farthing.call/1","trace_id":"{TRACE}"}}\n', encoding="utf-8")
    trace, damaged = find_trace(find_ledger(folder), TRACE)
    assert (len(trace.root.calls()), damaged) == (6, 1)


def test_nothing_recorded_yet(tmp_path: Path) -> None:
    """An empty ledger has no latest request."""
    with pytest.raises(CommandError, match="no calls yet"):
        find_trace(find_ledger(tmp_path), None)
