"""The ledger under other prices: exact, call by call, and never rewritten."""

from __future__ import annotations

import csv
import io
import json
import shutil
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from reports_bench import NOON, WriteLedger, make_call
from typer.testing import CliRunner

from farthing import Call, Usage
from farthing_reports.cli import app
from farthing_reports.in_force import prices_in_force
from farthing_reports.ledger import find_ledger
from farthing_reports.reprice import Repriced, reprice

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


def run(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["reprice", *(str(argument) for argument in arguments)])


def priced(provider: str, model: str, usage: Usage, **context: Any) -> Call:
    """Give a call as farthing itself would have recorded it."""
    at = context.pop("at", NOON)
    cost = prices_in_force().book.price(provider, model, usage, at=at, **context)
    tier = context.get("tier")
    return make_call(provider=provider, request_model=model, usage=usage, service_tier=tier, started_at=at).model_copy(
        update={"cost": cost, "price_context": context.get("context", {})}
    )


def repriced(folder: Path, **bounds: datetime) -> dict[str, Repriced]:
    """Price a ledger with the bundled book; give the calls by their id."""
    found: list[Repriced] = []
    reprice(find_ledger(folder), prices_in_force().book, found.append, **bounds)
    assert len({one.call_id for one in found}) == len(found)
    return {one.call_id: one for one in found}


CASES: list[tuple[str, str, Usage, dict[str, Any]]] = [
    ("openai", "gpt-4o", Usage(input_tokens=12345, output_tokens=678, cache_read_tokens=1000), {}),
    ("openai", "o3", Usage(input_tokens=1000, output_tokens=500), {"tier": "batch"}),
    ("openai", "o3", Usage(input_tokens=1000, output_tokens=500), {"at": datetime(2025, 6, 9, tzinfo=UTC)}),
    ("anthropic", "claude-sonnet-4-5", Usage(input_tokens=300_000, output_tokens=5, web_searches=3), {}),
    (
        "openai",
        "gpt-4o",
        Usage(input_tokens=10, output_tokens=5, web_searches=3),
        {"context": {"web_search": "preview"}},
    ),
    ("anthropic", "claude-opus-4-6", Usage(input_tokens=1000, output_tokens=50), {"context": {"inference_geo": "us"}}),
    ("gcp.vertex_ai", "claude-sonnet-4-5", Usage(input_tokens=1000), {"context": {"region": "europe-west1"}}),
    ("azure.ai.openai", "gpt-4o", Usage(input_tokens=1000), {"context": {"deployment": "datazone-eu"}}),
    ("openai", "no-such-model", Usage(input_tokens=10), {}),
    ("openrouter", "openai/gpt-4o", Usage(input_tokens=10, output_tokens=5), {"reported_usd": Decimal("0.07")}),
    ("openrouter", "no/such", Usage(input_tokens=10), {"reported_usd": Decimal("0.07")}),
    ("aws.bedrock", "amazon.nova-pro-v1:0", Usage(input_tokens=9), {"context": {"region": "us-gov-west-1"}}),
]


@pytest.mark.parametrize(("provider", "model", "usage", "context"), CASES)
def test_the_same_book_gives_the_same_cost(
    provider: str, model: str, usage: Usage, context: dict[str, Any], write_ledger: WriteLedger
) -> None:
    """Provider, model, tier, moment, region and reported cost are all taken from the line: nothing moves by itself."""
    call = priced(provider, model, usage, **context)
    (one,) = repriced(write_ledger([call])).values()
    assert (one.new_usd, one.new_status) == (call.cost.amount_usd, call.cost.status)
    assert one.difference_usd == (None if call.cost.amount_usd is None else 0)


def test_the_answering_model_goes_first(write_ledger: WriteLedger) -> None:
    """The model that answered decides; where the book does not know it, the one that was asked for."""
    usage = Usage(input_tokens=1_000_000)
    folder = write_ledger(
        [
            make_call(call_id="a", usage=usage, request_model="gpt-4o", response_model="gpt-4o-mini-2024-07-18"),
            make_call(call_id="b", usage=usage, request_model="gpt-4o", response_model="who-knows"),
            make_call(call_id="c", usage=usage, request_model=None),
        ]
    )
    found = repriced(folder)
    assert found["a"].new_usd == Decimal("0.15")
    assert found["b"].new_usd == Decimal("2.5")
    assert (found["c"].new_usd, found["c"].new_flags) == (None, ("no-model-name",))


def test_what_no_price_changes_is_kept(write_ledger: WriteLedger) -> None:
    """Cache hits, refused calls and calls without usage stay what they are."""
    folder = write_ledger(
        [
            make_call(call_id="hit", amount="0", status="cache_hit", saved="1"),
            make_call(call_id="refused", amount="0", status="not_billed", usage=None),
            make_call(call_id="silent", amount=None, status="unreported", usage=None),
        ]
    )
    assert {name: (one.new_usd, one.new_status) for name, one in repriced(folder).items()} == {
        "hit": (Decimal(0), "cache_hit"),
        "refused": (Decimal(0), "not_billed"),
        "silent": (None, "unreported"),
    }


def test_bounds_are_half_open(write_ledger: WriteLedger) -> None:
    """A call that starts at --since is in, one that starts at --until is out."""
    folder = write_ledger([make_call(call_id=str(second), after_seconds=second) for second in range(4)])
    assert set(repriced(folder, since=NOON.replace(second=1), until=NOON.replace(second=3))) == {"1", "2"}


@pytest.fixture
def folder(write_ledger: WriteLedger) -> Path:
    """Give a ledger whose amounts are not those of the price book, beside damage and a copied file."""
    usage = Usage(input_tokens=1_000_000)
    folder = write_ledger(
        [
            make_call(call_id="more", usage=usage, amount="2.000000000000000000000000000001"),
            make_call(call_id="new", usage=usage, amount=None, status="unpriced"),
            make_call(call_id="gone", usage=usage, amount="7", request_model="no-such-model"),
        ],
        [make_call(call_id="late", usage=usage, amount="1", after_seconds=86_400)],
    )
    first = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    shutil.copy(first, folder / "calls-copy.jsonl")
    (folder / "calls-noise.jsonl").write_bytes(b'noise\n{"schema":"farthing.call/1"}\n' + b"x" * (1 << 25) + b"\n")
    return folder


def test_csv_and_summary(folder: Path, tmp_path: Path) -> None:
    """The file holds exact amounts and differences, the table sums by model, and the ledger stays as it was."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    out = tmp_path / "out.csv"
    result = run("--ledger", folder, "--until", "2026-11-21", "--out", out)
    assert result.exit_code == 0, result.stderr
    rows = {row["call_id"]: row for row in csv.DictReader(io.StringIO(out.read_text(encoding="utf-8")))}
    wanted = ("old_amount_usd", "new_amount_usd", "difference_usd", "old_status", "new_status", "new_flags")
    assert {name: tuple(row[key] for key in wanted) for name, row in rows.items()} == {
        "more": (
            "2.000000000000000000000000000001",
            "2.5",
            "0.499999999999999999999999999999",
            "priced",
            "priced",
            "",
        ),
        "new": ("", "2.5", "", "unpriced", "priced", ""),
        "gone": ("7", "", "", "priced", "unpriced", "unknown-model"),
    }
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["no-such-model", "1", "7.0000", "≥", "0.0000", "-7.0000", "1"] in lines
    assert ["gpt-4o", "2", "≥", "2.0000", "5.0000", "+3.0000", "1"] in lines
    assert "Old: ≥ $9.000000000000000000000000000001. New: ≥ $5." in result.stdout
    assert "Difference: -$4.000000000000000000000000000001 for 3 calls." in result.stdout
    assert "1 call that had no price and 1 call that lost it." in result.stdout
    assert "3 lines left out, with a call_id" in result.stderr
    assert "3 lines skipped" in result.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_json_lines_on_standard_output(folder: Path) -> None:
    """A script reads one object a line; the summary is on stderr."""
    result = run("--ledger", folder, "--since", "2026-11-21", "--out", "-")
    (record,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert (record["call_id"], record["started_at"]) == ("late", "2026-11-21T12:00:00Z")
    assert (record["old_amount_usd"], record["new_amount_usd"], record["difference_usd"]) == ("1", "2.5", "1.5")
    assert "Difference: +$1.5 for 1 call." in result.stderr


def test_another_price_file(folder: Path, tmp_path: Path) -> None:
    """--prices prices by that file, which is not put in force; one that is damaged is refused before any output."""
    from test_prices import with_rate  # noqa: PLC0415 - shared by these two tests only

    prices = tmp_path / "other.prices"
    prices.write_bytes(with_rate("input", "4"))
    result = run("--ledger", folder, "--since", "2026-11-21", "--prices", prices, "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["new_amount_usd"] == "4"
    assert "Prices: file " in result.stdout
    prices.write_bytes(b"broken")
    assert run("--ledger", folder, "--prices", prices, "--out", tmp_path / "no.csv").exit_code == 2
    assert not (tmp_path / "no.csv").exists()


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("result.txt", "neither .jsonl nor .csv"),
        ("ledger/calls-mine.jsonl", "never rewritten"),
        ("absent/out.csv", "cannot be written"),
    ],
)
def test_output_that_is_refused(out: str, reason: str, folder: Path) -> None:
    """An unknown format, a place in the ledger and a folder that is not there are one sentence each."""
    before = sorted(folder.iterdir())
    result = run("--ledger", folder, "--out", folder.parent / out)
    assert (result.exit_code, reason in result.stderr) == (2, True), result.stderr
    assert sorted(folder.iterdir()) == before


def test_nothing_to_price(folder: Path, tmp_path: Path) -> None:
    """A range without calls gives an empty file and a sentence; bounds the wrong way round are refused."""
    result = run("--ledger", folder, "--since", "2027-01-01", "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 0
    assert "no call of that time" in result.stderr
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    swapped = run("--ledger", folder, "--since", "2026-02-01", "--until", "2026-01-01", "--out", "-")
    assert "swap them" in swapped.stderr
