"""The question of the soak: is every request of the invoice exactly one Call of the ledger, and is it right?"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from plans import PLANS
from work import tags_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from work import Seen, Way

    from farthing import Call

_BROKEN_OFF = frozenset({"left", "cancelled", "timeout", "error"})
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One call as the application saw it."""

    number: int
    way: Way
    plan: str
    seen: Seen
    error: str | None


@dataclass(slots=True)
class Findings:
    """What was found: differences, each with the call that shows it, and counts for the table."""

    differences: list[str] = field(default_factory=list)
    rows: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    billed_usd: Decimal = _ZERO
    """The lines of the invoice that a Call has the amount of."""
    unread_usd: Decimal = _ZERO
    """The lines whose usage no client was told."""

    def differ(self, done: Done | None, what: str) -> None:
        """Note a difference."""
        where = "" if done is None else f"call {done.number} ({done.way.name}, {done.plan}, {done.seen} {done.error}): "
        self.differences.append(where + what)


def check(done: Sequence[Done], requests: Sequence[Mapping[str, Any]], calls: Sequence[Call]) -> Findings:
    """Lay ledger and invoice side by side, call by call."""
    found = Findings()
    asked: defaultdict[int | None, list[Mapping[str, Any]]] = defaultdict(list)
    for request in requests:
        asked[request["call"]].append(request)
    booked: defaultdict[str | None, list[Call]] = defaultdict(list)
    for call in calls:
        booked[call.attribution.job_id].append(call)
    if strange := asked.pop(None, []):
        found.differ(None, f"{len(strange)} requests carry no call's number, the first {strange[0]}")
    for each in done:
        job = tags_of(each.number)["job_id"]
        _check_one(each, asked.pop(each.number, []), booked.pop(job, []), found)
    for job, left in booked.items():
        found.differ(None, f"{len(left)} Calls with the job_id {job!r}, the first {_short(left[0])}")
    for number, left in asked.items():
        found.differ(None, f"{len(left)} requests with the number {number}, which nobody asked")
    _check_ids(calls, found)
    return found


def _check_one(done: Done, requests: Sequence[Mapping[str, Any]], calls: Sequence[Call], found: Findings) -> None:
    row, plan = found.rows[done.way.name], PLANS[done.plan]
    lines = {request["response_id"]: request for request in requests if request["billed"]}
    ids = set(lines)
    row["calls"] += 1
    row["requests"] += len(requests)
    row["billed"] += len(lines)
    unknown: list[Call] = []
    for call in calls:
        row[call.cost.status] += 1
        _check_tags(done, call, found)
        if call.cost.status == "unreported":
            unknown.append(call)
        elif call.cost.status in {"cache_hit", "not_billed"}:
            if call.cost.amount_usd != _ZERO:
                found.differ(done, f"{call.cost.status} costs {call.cost.amount_usd}")
        else:
            _check_amount(done, call, lines, ids, found)
    unread = list(lines.values())
    found.unread_usd += sum((Decimal(line["amount_usd"]) for line in unread), _ZERO)
    _check_unknown(done, unread, unknown, requests, found)
    refused = len(requests) - sum(request["billed"] for request in requests)
    free = sum(call.cost.status == "not_billed" for call in calls)
    if not refused - done.way.may_hide <= free + max(0, len(unknown) - len(unread)) and done.plan != "drop":
        found.differ(done, f"{refused} requests were refused, {free} Calls say so")
    if free > refused:
        found.differ(done, f"{free} Calls say that they were refused, {refused} requests were")
    if done.seen == "answer" and plan.tells_usage and len(unread) > plan.unread:
        found.differ(done, f"the application was told the usage of {len(unread)} lines that no Call has: {unread}")
    if "cache" in done.way.name.split()[-1:] and sum(call.cost.status == "cache_hit" for call in calls) != 1:
        row["cache missed"] += 1
        if len(lines) + sum(call.cost.status == "priced" for call in calls) < 2:  # noqa: PLR2004 - it asks twice
            found.differ(done, "the answer from the cache is no Call")


def _check_amount(done: Done, call: Call, lines: dict[str, Mapping[str, Any]], ids: set[str], found: Findings) -> None:
    line = lines.pop(call.response_id or "", None)
    if line is None and call.response_id not in ids:
        # Embeddings have no id on the wire, LangChain loses that of a stream, and LiteLLM makes up Anthropic's: the
        # amount tells, which differs from request to request.
        same = [key for key, each in lines.items() if _amount(each) == call.cost.amount_usd]
        line = lines.pop(same[0]) if same else None
    if line is None:
        found.differ(done, f"a Call of {call.cost.amount_usd} without a line on the invoice: {_short(call)}")
        return
    if call.cost.amount_usd != _amount(line):
        found.differ(done, f"a Call of {call.cost.amount_usd}, and the line is {line}: {_short(call)}")
        return
    found.billed_usd += _amount(line)


def _amount(line: Mapping[str, Any]) -> Decimal:
    return Decimal(line["amount_usd"])


def _check_unknown(
    done: Done,
    unread: Sequence[Mapping[str, Any]],
    unknown: Sequence[Call],
    requests: Sequence[Mapping[str, Any]],
    found: Findings,
) -> None:
    """One Call for each line that nobody was told, with a reason; and none too many."""
    if len(unknown) < len(unread):
        found.differ(done, f"{len(unread)} lines and {len(unknown)} unreported Calls: {list(unread)}")
    free = sum(not request["billed"] for request in requests)
    never_sent = int(done.seen in _BROKEN_OFF and not requests)
    if len(unknown) > len(unread) + free + never_sent:
        shown = [_short(call) for call in unknown]
        found.differ(
            done, f"{len(unknown)} unreported Calls and {len(unread)} lines of {len(requests)} requests: {shown}"
        )
    found.rows[done.way.name]["unreported, refused or not sent"] += max(0, len(unknown) - len(unread))
    for call in unknown:
        if not call.cost.flags:
            found.differ(done, f"unreported without a reason: {_short(call)}")
        if done.seen == "answer" and call.outcome not in {"success", "error"} and PLANS[done.plan].tells_usage:
            found.differ(done, f"read to its end, and the Call says {call.outcome}: {_short(call)}")


def _check_tags(done: Done, call: Call, found: Findings) -> None:
    wanted = {**tags_of(done.number), "feature": done.way.family}
    for name, value in wanted.items():
        if getattr(call.attribution, name) != value:
            found.differ(done, f"{name} is {getattr(call.attribution, name)!r}, not {value!r}: {_short(call)}")
    if call.violations:
        found.differ(done, f"violations {call.violations}")


def _check_ids(calls: Iterable[Call], found: Findings) -> None:
    for name in ("call_id", "span_id"):
        counts = Counter(getattr(call, name) for call in calls)
        for value, count in counts.items():
            if count > 1:
                found.differ(None, f"{count} Calls have the {name} {value}")


def _short(call: Call) -> str:
    return (
        f"<{call.framework} {call.operation} {call.request_model} {call.outcome} {call.error_type} {call.cost.status} "
        f"{call.cost.amount_usd} {call.response_id} attempt {call.attempt} {call.call_id}>"
    )
