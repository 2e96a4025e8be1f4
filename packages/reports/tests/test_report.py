"""Sums: exact, grouped by anything, honest about what is unknown."""

from __future__ import annotations

import itertools
import tempfile
from datetime import UTC, datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reports_bench import NOON, WriteLedger, build_ledger, make_call

from farthing import Cost, Scope
from farthing_reports.keys import Key, Vocabulary
from farthing_reports.ledger import find_ledger
from farthing_reports.report import Report, aggregate, exact_sum, names_in, total

if TYPE_CHECKING:
    from farthing.envelope import CostStatus

EXACT = Context(prec=10_000)


def keys(*names: str, extra: tuple[str, ...] = ()) -> list[Key]:
    """Find keys by name."""
    vocabulary = Vocabulary(seen=extra)
    return [vocabulary.require(name, "--by") for name in names]


def report(folder: Path, *names: str, where: tuple[str, ...] = (), **bounds: Any) -> Report:
    """Aggregate a ledger by some names."""
    filters = Vocabulary().filters(where, "--where")
    return aggregate(find_ledger(folder), keys(*names), filters=filters, **bounds)


def costs(found: Report) -> dict[tuple[str | None, ...], Decimal]:
    """Give the cost by group."""
    return {tuple(row.dimensions.values()): row.cost_usd for row in found.rows}


def test_cost_is_added_by_feature_and_sorted(write_ledger: WriteLedger) -> None:
    """Calls of several files add up by feature, the dearest first, and a missing one is a group of its own."""
    folder = write_ledger(
        [make_call(amount="0.1", tags={"feature": "chat"}), make_call(amount="0.2", tags={"feature": "chat"})],
        [make_call(amount="5", tags={"feature": "mail"}), make_call(amount="0.05")],
    )
    found = report(folder, "feature")
    assert list(costs(found).items()) == [
        (("mail",), Decimal(5)),
        (("chat",), Decimal("0.3")),
        ((None,), Decimal("0.05")),
    ]
    assert [row.calls for row in found.rows] == [1, 2, 1]
    assert [row.input_tokens for row in found.rows] == [100, 200, 100]
    assert [row.output_tokens for row in found.rows] == [10, 20, 10]
    assert found.skipped == []


@pytest.mark.parametrize(
    "amounts",
    [
        ["1000000000", "0.000000000000000001"],
        ["999999999.99999999999999999999", "0.00000000000000000001"],
        ["0.000000000000000000000000000000000000001", "1"],
        ["123456789012345678901234567890", "0.000000000000000000000000000000123"],
        ["1000000000"] * 50 + ["0.000000000000000001"] * 50,
        ["123456789012345678901234567890.000000000000000000000000000000123"] * 7,
        ["-5.000000000000000001", "5"],
        ["0.1"] * 10,
    ],
)
def test_sums_are_exact(amounts: list[str], write_ledger: WriteLedger) -> None:
    """No digit is lost, however small, large or long the amounts: neither in DuckDB nor in Python."""
    folder = write_ledger([make_call(amount=amount, saved=amount) for amount in amounts])
    (row,) = report(folder, "provider").rows
    expected = Decimal(0)
    for amount in amounts:
        expected = EXACT.add(expected, Decimal(amount))
    assert row.cost_usd == expected
    assert row.saved_usd == expected
    assert row.calls == len(amounts)
    assert Decimal(str(row.flat()["cost_usd"])) == expected


def test_unknown_is_not_zero(write_ledger: WriteLedger) -> None:
    """Unpriced and unreported calls are counted beside the sum; cache hits and estimates are told apart."""
    folder = write_ledger(
        [
            make_call(amount="0.5"),
            make_call(amount=None, status="unpriced"),
            make_call(amount=None, status="unreported", usage=None),
            make_call(amount="0", status="cache_hit", saved="0.25"),
            make_call(amount="0.1", status="estimated"),
            make_call(amount="0", status="not_billed", usage=None, outcome="error"),
        ]
    )
    (row,) = report(folder, "provider").rows
    assert row.flat() == {
        "provider": "openai",
        "calls": 6,
        "input_tokens": 400,
        "output_tokens": 40,
        "cost_usd": "0.5",
        "unpriced_calls": 2,
        "unreported_calls": 1,
        "estimated_calls": 1,
        "estimated_usd": "0.1",
        "cache_hits": 1,
        "saved_usd": "0.25",
    }


def test_an_estimate_is_never_in_the_total(write_ledger: WriteLedger) -> None:
    """Estimates of calls without usage stand beside the bill, exact among themselves, however large or small."""
    estimates = ["0.000000000000000000000001", "1000000000", "0.25"]
    folder = write_ledger(
        [make_call(amount="1")]
        + [
            make_call(
                usage=None,
                cost=Cost(amount_usd=None, status="estimated", estimated_usd=Decimal(each)),
                outcome="cancelled",
            )
            for each in estimates
        ]
    )
    (row,) = report(folder, "provider").rows
    assert (row.cost_usd, row.unpriced_calls, row.estimated_calls) == (Decimal(1), 0, 3)
    assert row.estimated_usd == Decimal("1000000000.250000000000000000000001")


def test_use_tells_what_was_paid_for_nothing(write_ledger: WriteLedger) -> None:
    """Attempts are judged by their whole operation, also where the report is cut to a part of it."""
    operations: list[list[tuple[str, str | None, CostStatus, str]]] = [
        [("error", "1", "priced", "chat"), ("error", None, "unreported", "chat"), ("success", "2", "priced", "mail")],
        [("success", "4", "priced", "chat"), ("success", "8", "priced", "chat")],
        [("error", "16", "priced", "chat"), ("error", "0", "not_billed", "chat")],
        [("cancelled", None, "unreported", "chat")],
        [("abandoned", None, "unreported", "chat")],
        [("success", "0", "cache_hit", "chat")],
    ]
    calls = [
        make_call(
            amount=amount, status=status, outcome=outcome, operation_id=f"op-{number}", attempt=attempt,
            tags={"feature": feature}, after_seconds=attempt,
        )
        for number, operation in enumerate(operations)
        for attempt, (outcome, amount, status, feature) in enumerate(operation, start=1)
    ]  # fmt: skip
    folder = write_ledger(calls)
    found = {row.dimensions["use"]: (row.cost_usd, row.calls, row.unpriced_calls) for row in report(folder, "use").rows}
    assert found == {
        "useful": (Decimal(10), 2, 0),
        "superseded": (Decimal(5), 3, 1),
        "failed": (Decimal(16), 2, 0),
        "cancelled": (Decimal(0), 1, 1),
        "abandoned": (Decimal(0), 1, 1),
        "cached": (Decimal(0), 1, 0),
    }
    cut = report(folder, "use", where=("feature=chat",), until=NOON.replace(second=2))
    assert costs(cut)[("superseded",)] == Decimal(5)
    assert costs(report(folder, "feature", where=("use=superseded",))) == {("chat",): Decimal(5)}


def test_a_copied_file_counts_once(write_ledger: WriteLedger) -> None:
    """A call that stands in two files is one call: sums, groups and damage are those of one file, and it is said."""
    calls = [make_call(amount="0.1", tags={"feature": name}) for name in ("chat", "chat", "mail")]
    folder = write_ledger(calls, [make_call(amount="5", tags={"feature": "mail"})])
    once = report(folder, "feature")
    first = min(folder.iterdir(), key=lambda path: path.stat().st_size)
    large = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    (folder / "calls-copy.jsonl").write_bytes(large.read_bytes() * 2 + first.read_bytes() + b"noise\nnoise\n")
    found = report(folder, "feature")
    assert found.rows == once.rows
    assert (once.repeated_lines, found.repeated_lines) == (0, 7)
    assert [(each.file, each.damaged_lines) for each in found.skipped] == [("calls-copy.jsonl", 2)]
    assert report(folder, "feature", where=("feature=mail",)).repeated_lines == 3


def test_every_name_groups(write_ledger: WriteLedger) -> None:
    """Dimensions, spellings, names of the envelope, times, scopes and details are all groups."""
    scopes = (
        Scope(kind="workflow", name="crew", span_id="1" * 16, started_at=NOON),
        Scope(kind="agent", name="planner", span_id="2" * 16, started_at=NOON),
        Scope(kind="agent", name="writer", span_id="3" * 16, started_at=NOON),
    )
    folder = write_ledger(
        [
            make_call(
                tags={"feature": "chat", "user_id": "u1", "session_id": "s1", "job_id": "j1", "cost_center": "cc-7"},
                response_model="gpt-4o-2024-08-06",
                service_tier="flex",
                scopes=scopes,
                details={"node": "retrieve"},
            )
        ]
    )
    expected = {
        "feature": "chat",
        "user": "u1",
        "session": "s1",
        "job": "j1",
        "attribution.cost_center": "cc-7",
        "model": "gpt-4o-2024-08-06",
        "request_model": "gpt-4o",
        "response_model": "gpt-4o-2024-08-06",
        "provider": "openai",
        "framework": "langchain",
        "operation": "chat",
        "outcome": "success",
        "status": "priced",
        "day": "2026-11-20",
        "hour": "2026-11-20T12:00Z",
        "month": "2026-11",
        "service_tier": "flex",
        "agent": "writer",
        "workflow": "crew",
        "details.node": "retrieve",
        "streaming": "false",
        "error_type": None,
    }
    (row,) = report(folder, *expected).rows
    assert list(row.dimensions.values()) == list(expected.values())
    assert set(names_in(find_ledger(folder))) >= {"attribution.cost_center", "details.node"}
    extra = ("attribution.cost_center", "details.node")
    (row,) = aggregate(find_ledger(folder), keys("cost-center", "node", extra=extra)).rows
    assert row.dimensions == {"cost_center": "cc-7", "node": "retrieve"}


def test_agent_of_the_details_goes_first(write_ledger: WriteLedger) -> None:
    """A framework that names the agent itself is believed before the scopes."""
    folder = write_ledger([make_call(details={"agent": "named"})])
    assert costs(report(folder, "agent", "workflow")) == {("named", None): Decimal("0.01")}


def test_bounds_are_half_open(write_ledger: WriteLedger) -> None:
    """A call that starts at --since is in, one that starts at --until is out."""
    folder = write_ledger([make_call(amount=str(second), after_seconds=second) for second in range(5)])
    found = report(folder, "provider", since=NOON.replace(second=1), until=NOON.replace(second=3))
    assert costs(found) == {("openai",): Decimal(1 + 2)}
    fine = NOON.replace(second=1, microsecond=1)
    assert costs(report(folder, "provider", since=fine)) == {("openai",): Decimal(2 + 3 + 4)}


def test_filters(write_ledger: WriteLedger) -> None:
    """Conditions on several names hold together, values of one name are alternatives, none is a value."""
    folder = write_ledger(
        [
            make_call(amount="1", tags={"team": "growth-team", "tenant": "acme"}),
            make_call(amount="2", tags={"team": "core"}),
            make_call(amount="4", tags={"tenant": "acme"}, outcome="error"),
        ]
    )

    def summed(*where: str) -> Decimal:
        return total(report(folder, "team", where=where).rows).cost_usd

    assert summed("team=growth-team") == 1
    assert summed("team=Growth Team") == 1  # as the policy would have written it
    assert summed("team_id=growth-team", "team=core") == 3
    assert summed("team!=core") == 5
    assert summed("team=") == 4
    assert summed("team=(none)", "tenant=acme") == 4
    assert summed("team!=") == 3
    assert summed("outcome=error") == 4
    assert summed('team=it\'s "quoted"; DROP TABLE lines') == 0


def test_foreign_offsets_are_the_same_moment(write_ledger: WriteLedger) -> None:
    """A line that another tool rewrote with an offset is grouped by its UTC day."""
    folder = write_ledger([make_call()])
    (file,) = folder.iterdir()
    text = file.read_text(encoding="utf-8")
    assert '"2026-11-20T12:00:00Z"' in text
    file.write_text(text.replace('"2026-11-20T12:00:00Z"', '"2026-11-21T01:00:00+13:00"'), encoding="utf-8")
    assert costs(report(folder, "day", "hour")) == {("2026-11-20", "2026-11-20T12:00Z"): Decimal("0.01")}


amounts = st.one_of(
    st.none(),
    st.decimals(min_value=0, max_value=10**12, allow_nan=False, allow_infinity=False),
    st.integers(0, 10**6).map(lambda units: Decimal(units).scaleb(-18)),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(amounts, st.sampled_from(["a", "b", None]), st.sampled_from(["x", "y"]), st.integers(0, 200_000)),
        max_size=25,
    )
)
def test_any_grouping_adds_up_to_the_total(spent: list[tuple[Decimal | None, str | None, str, int]]) -> None:
    """However the calls are grouped, costs, tokens and counts add up to those of all of them, to the last digit."""
    calls = [
        make_call(
            amount=amount,
            status="priced" if amount is not None else "unpriced",
            tags={} if team is None else {"team": team},
            request_model=model,
            after_seconds=second,
        )
        for amount, team, model, second in spent
    ]
    known = [amount for amount, *_ in spent if amount is not None]
    with tempfile.TemporaryDirectory() as name:
        folder = build_ledger(Path(name), calls[::2], calls[1::2])
        for chosen in itertools.chain.from_iterable(
            itertools.combinations(("team", "model", "day"), n) for n in (1, 3)
        ):
            whole = total(report(folder, *chosen).rows)
            assert whole.cost_usd == exact_sum(known)
            assert whole.calls == len(calls)
            assert whole.input_tokens == 100 * len(calls)
            assert whole.unpriced_calls == len(calls) - len(known)


def test_moments_keep_their_microseconds(write_ledger: WriteLedger) -> None:
    """A bound far from the epoch is compared without the error of a float."""
    moment = datetime(2099, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    folder = write_ledger([make_call(started_at=moment, ended_at=moment)])
    assert total(report(folder, "provider", since=moment).rows).calls == 1
    assert total(report(folder, "provider", until=moment).rows).calls == 0
