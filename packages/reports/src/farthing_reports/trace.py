"""One request as a tree: the scopes that its calls name as their ancestors, and the calls as leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from farthing.envelope import Call, Scope
from farthing_reports.faults import CommandError
from farthing_reports.report import MOMENT_SQL, exact_sum

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from decimal import Decimal

    from farthing_reports.ledger import Ledger

__all__ = ["Node", "Trace", "build_trace", "find_trace"]

SHORTEST_PREFIX: Final = 4
MOST_CALLS: Final = 10_000
_LISTED: Final = 5


@dataclass(slots=True)
class Node:
    """A place in the tree: the request itself, a scope, an operation with several attempts, or a call."""

    started_at: datetime
    scope: Scope | None = None
    call: Call | None = None
    children: list[Node] = field(default_factory=list["Node"])

    def calls(self) -> list[Call]:
        """Give all calls from here on, in the order of the tree."""
        own = [] if self.call is None else [self.call]
        return [*own, *(call for child in self.children for call in child.calls())]


@dataclass(frozen=True, slots=True)
class Trace:
    """All calls of one trace."""

    trace_id: str
    root: Node
    tags: tuple[tuple[str, str], ...]
    """What all calls have in common."""

    def own_tags(self, call: Call) -> list[tuple[str, str]]:
        """Give the tags that set a call apart from the others."""
        return [tag for tag in call.attribution.items() if tag not in self.tags]


def known_cost(calls: Iterable[Call]) -> tuple[Decimal, int]:
    """Add up the known costs, to the last digit, and count the unknown ones."""
    amounts = [call.cost.amount_usd for call in calls]
    return exact_sum(amount for amount in amounts if amount is not None), amounts.count(None)


def find_trace(ledger: Ledger, wanted: str | None) -> tuple[Trace, int]:
    """Read one trace.

    Args:
        ledger: Where to look.
        wanted: The beginning of a trace id, or a whole call, operation or response id; None is the latest request.

    Returns:
        The trace, and the number of its lines that are no valid calls.

    Raises:
        CommandError: There is no such trace, or there are several.
    """
    traces = _trace_ids(ledger, wanted)
    if not traces:
        raise CommandError(_nothing(ledger, wanted))
    if len(traces) > 1:
        listed = ", ".join(traces[:_LISTED]) + (", ..." if len(traces) > _LISTED else "")
        raise CommandError(f"{wanted!r} fits {len(traces)} traces ({listed}); write more of the id")
    rows, _ = ledger.query(
        f"SELECT json::VARCHAR FROM lines WHERE json_extract_string(json, '$.trace_id') = $1 LIMIT {MOST_CALLS + 1}",  # noqa: S608 - a constant
        {},
        traces,
    )
    calls: list[Call] = []
    for (line,) in rows:
        try:
            calls.append(Call.model_validate_json(line))
        except ValidationError:
            continue
    if len(rows) > MOST_CALLS:
        raise CommandError(
            f"trace {traces[0]} has more than {MOST_CALLS:,} calls, too many to draw; "
            f"add them up with: farthing report --by operation,model --where trace_id={traces[0]}"
        )
    if not calls:
        raise CommandError(f"{ledger.folder}: no line of trace {traces[0]} is a valid call; the files are damaged")
    return build_trace(calls), len(rows) - len(calls)


def build_trace(calls: Sequence[Call]) -> Trace:
    """Arrange the calls of one trace under the scopes that they name.

    Args:
        calls: At least one, all of the same trace, in any order.
    """
    unique = {call.call_id: call for call in calls}.values()  # a file that was copied holds its calls twice
    ordered = sorted(unique, key=lambda call: (call.started_at, call.attempt, call.call_id))
    root = Node(ordered[0].started_at)
    scopes: dict[str, Node] = {}
    for call in ordered:
        parent = root
        for scope in call.scopes:
            if scope.span_id not in scopes:
                scopes[scope.span_id] = Node(scope.started_at, scope=scope)
                parent.children.append(scopes[scope.span_id])
            parent = scopes[scope.span_id]
        parent.children.append(Node(call.started_at, call=call))
    for node in (root, *scopes.values()):
        node.children = _with_attempts(node.children)
    common = [tag for tag in ordered[0].attribution.items() if all(tag in call.attribution.items() for call in ordered)]
    return Trace(ordered[0].trace_id, root, tuple(common))


def _with_attempts(children: list[Node]) -> list[Node]:
    """Put calls that are attempts at the same operation under one node, and everything in the order of time."""
    operations: dict[str, list[Node]] = {}
    found: list[Node] = []
    for child in children:
        if child.call is None:
            found.append(child)
        else:
            operations.setdefault(child.call.operation_id, []).append(child)
    found += [
        attempts[0] if len(attempts) == 1 else Node(attempts[0].started_at, children=attempts)
        for attempts in operations.values()
    ]
    return sorted(found, key=lambda node: node.started_at)


def _trace_ids(ledger: Ledger, wanted: str | None) -> list[str]:
    """Find the traces that an id can mean."""
    names = ("schema", "trace_id", "started_at", "call_id", "operation_id", "response_id")
    columns: dict[str, str] = dict.fromkeys(names, "VARCHAR")
    if wanted is None:
        rows, _ = ledger.query(
            f"SELECT arg_max(trace_id, {MOMENT_SQL}) FROM lines WHERE starts_with(schema, 'farthing.call/')",  # noqa: S608 - a constant
            columns,
        )
        return [str(trace_id) for (trace_id,) in rows if trace_id is not None]
    wanted = wanted.strip()
    beginning = wanted.lower() if len(wanted) >= SHORTEST_PREFIX else "-"
    rows, _ = ledger.query(
        """SELECT DISTINCT trace_id FROM lines WHERE starts_with(schema, 'farthing.call/')
        AND trace_id IS NOT NULL AND (starts_with(trace_id, $1) OR $2 IN (call_id, operation_id, response_id))""",
        columns,
        [beginning, wanted],
    )
    found = sorted(str(trace_id) for (trace_id,) in rows)
    return [beginning] if beginning in found else found


def _nothing(ledger: Ledger, wanted: str | None) -> str:
    if wanted is None:
        return f"{ledger.folder}: no calls yet; run your application with farthing, or name a folder: --ledger"
    if len(wanted.strip()) < SHORTEST_PREFIX:
        return f"TRACE_ID: {wanted!r} is too short; write at least {SHORTEST_PREFIX} digits, or --last"
    return f"{ledger.folder}: no call of trace {wanted!r}; try farthing trace --last, or another --ledger"
