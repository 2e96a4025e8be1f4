"""Compaction keeps every byte, counts nothing twice whenever it is interrupted, and leaves the living alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from typer.testing import CliRunner

from farthing.envelope import Attribution, Call, Cost, Usage
from farthing.sinks.ledger import LedgerSink
from farthing.testing.receiver import OtlpReceiver
from farthing_reports.cli import app
from farthing_reports.compact import compact
from farthing_reports.keys import Vocabulary
from farthing_reports.ledger import find_ledger
from farthing_reports.report import aggregate

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
YESTERDAY = NOW - timedelta(days=1)


def call(number: int, amount: str | None = "0.000123450000000001") -> Call:
    """Make a call of yesterday."""
    return Call(
        call_id=f"c{number}",
        operation_id=f"c{number}",
        trace_id=f"{number + 1:032x}",
        span_id=f"{number + 1:016x}",
        started_at=YESTERDAY + timedelta(seconds=number),
        ended_at=YESTERDAY + timedelta(seconds=number + 1),
        framework="x",
        operation="chat",
        provider="openai",
        request_model="gpt-4o",
        attribution=Attribution.model_validate({"feature": f"f{number % 3}", "team": "grün"}),
        usage=Usage(input_tokens=10, output_tokens=5),
        cost=Cost(amount_usd=None if amount is None else Decimal(amount), status="priced" if amount else "unpriced"),
        outcome="success",
        service_name="shop",
    )


def segment(folder: Path, name: str, *numbers: int, tail: str = "") -> Path:
    """Write a segment that its process has finished."""
    path = folder / f"calls-{YESTERDAY:%Y-%m-%d}-{name}.jsonl"
    path.write_text("".join(f"{call(number).model_dump_json()}\n" for number in numbers) + tail)
    return path


def rows(folder: Path) -> list[dict[str, Any]]:
    """Report by feature."""
    key = Vocabulary(("feature",), {}).require("feature", "--by")
    return [row.flat() for row in aggregate(find_ledger(folder), [key]).rows]


def query(sql: str, path: Path) -> list[tuple[Any, ...]]:
    """Ask DuckDB alone, as somebody would who does not use our reports."""
    with duckdb.connect() as database:
        return database.execute(sql, [str(path)]).fetchall()


def test_a_report_is_the_same_before_and_after(tmp_path: Path) -> None:
    """Compaction that changed a total by a digit would change an invoice."""
    segment(tmp_path, "1-a", *range(500))
    segment(tmp_path, "2-b", *range(500, 700))
    before = rows(tmp_path)
    done = compact(tmp_path, now=NOW)
    assert (done.files, done.segments, done.lines) == (1, 2, 700)
    assert rows(tmp_path) == before
    assert not list(tmp_path.glob("*.jsonl"))
    assert done.bytes_after < done.bytes_before / 4
    assert compact(tmp_path, now=NOW).segments == 0
    (parquet,) = tmp_path.glob("*.parquet")
    assert parquet.stat().st_mode & 0o077 == 0
    (found,) = query("SELECT count(*), sum(amount_usd), min(started_at) FROM read_parquet(?)", parquet)
    assert found == (700, Decimal("0.000123450000000001") * 700, YESTERDAY.replace(tzinfo=None))


def test_every_byte_of_a_line_is_kept_damaged_ones_too(tmp_path: Path) -> None:
    """A torn line is evidence of a crash; it stays counted as such."""
    path = segment(tmp_path, "1-a", 1, 2, tail='{"schema":"farthing.call/1","call_id":"to')
    lines = path.read_text().splitlines()
    key = Vocabulary(("feature",), {}).require("feature", "--by")
    before = aggregate(find_ledger(tmp_path), [key])
    compact(tmp_path, now=NOW)
    (parquet,) = tmp_path.glob("*.parquet")
    assert query("SELECT line FROM read_parquet(?) ORDER BY number", parquet) == [(line,) for line in lines]
    after = aggregate(find_ledger(tmp_path), [key])
    assert after.rows == before.rows
    assert [skipped.damaged_lines for skipped in after.skipped] == [1]


def test_what_is_no_text_stays_and_is_named(tmp_path: Path) -> None:
    """One bad segment must not stop the others, nor be deleted."""
    segment(tmp_path, "1-a", 1)
    bad = tmp_path / f"calls-{YESTERDAY:%Y-%m-%d}-2-b.jsonl"
    bad.write_bytes(b"\xff\xfe\0binary\n")
    done = compact(tmp_path, now=NOW)
    assert (done.segments, list(done.left)) == (1, [bad.name])
    assert bad.exists()


def test_what_is_no_file_is_named_and_the_rest_compacted(tmp_path: Path) -> None:
    """A pipe by the name of a segment must not hold up the night's job for ever."""
    first = segment(tmp_path, "1-a", 1, 2)
    others = [first.with_name(first.name.replace("1-a", name)) for name in ("2-b", "3-c", "4-d")]
    os.mkfifo(others[0])
    others[1].mkdir()
    others[2].symlink_to(first)
    done = compact(tmp_path, now=NOW)
    assert (done.files, done.lines, done.busy) == (1, 2, 0)
    assert list(done.left) == [path.name for path in others]


def test_two_at_once_and_a_writer_count_nothing_twice(tmp_path: Path) -> None:
    """Cron jobs overlap, and services go on writing; whoever comes second says so and leaves."""
    for number in range(40):
        segment(tmp_path, f"{number}-a", number)
    compacting = [sys.executable, "-c", "from farthing_reports.cli import main; main()", "ledger", "compact"]
    command = [*compacting, "--ledger", str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]  # noqa: S603 - ours
    living = LedgerSink(tmp_path)
    for number in range(40, 80):
        living.write([call(number)])
    for process in both:
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0 or "another farthing ledger compact is at work" in told
    living.close()
    assert aggregate(find_ledger(tmp_path), []).rows[0].calls == 80
    assert len(list(tmp_path.glob("*.parquet"))) == 1


def test_the_living_are_left_alone_and_so_is_today(tmp_path: Path) -> None:
    """A process that writes would go on writing into a file without a name."""
    writing = LedgerSink(tmp_path)
    writing.write([call(1)])
    (path,) = tmp_path.glob("*.jsonl")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert compact(tmp_path, now=datetime.now(UTC)).busy == 0
    assert compact(tmp_path, now=tomorrow).busy == 1
    writing.close()
    assert path.exists()
    assert compact(tmp_path, now=datetime.now(UTC), today_too=True).segments == 1


@pytest.mark.parametrize("moment", ["planned", "renamed", "half deleted"])
def test_an_interruption_counts_nothing_twice(tmp_path: Path, moment: str) -> None:
    """Power fails at the worst moment: readers see each call once, and the next run finishes."""
    segment(tmp_path, "1-a", *range(10))
    segment(tmp_path, "2-b", *range(10, 20))
    before = rows(tmp_path)
    saved = tmp_path / "saved"
    saved.mkdir()
    names = [path.name for path in tmp_path.glob("*.jsonl")]
    for name in names:
        shutil.copy(tmp_path / name, saved)
    compact(tmp_path, now=NOW)
    (parquet,) = tmp_path.glob("*.parquet")
    kept = names if moment != "half deleted" else names[:1]
    for name in kept:
        shutil.copy(saved / name, tmp_path)
    (tmp_path / ".compact-0.json").write_text(json.dumps({"target": parquet.name, "segments": names}))
    if moment == "planned":
        parquet.rename(tmp_path / ".calls-x.tmp")
    assert rows(tmp_path) == before
    compact(tmp_path, now=NOW)
    assert rows(tmp_path) == before
    assert not list(tmp_path.glob("*.jsonl"))
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".compact.lock"]


def test_old_files_go_when_retention_says_so(tmp_path: Path) -> None:
    """A disk is finite; what is kept is the user's to say."""
    old = tmp_path / "calls-2020-01-01-1-a.jsonl"
    old.write_text("")
    compacted = tmp_path / "calls-2020-01-02-abc.parquet"
    compacted.write_text("")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    recent = tmp_path / f"calls-{yesterday:%Y-%m-%d}-1-a.jsonl"
    recent.write_text("")
    others = [tmp_path / "calls.txt", tmp_path / "calls-2020-99-99-1-a.jsonl"]
    for other in others:
        other.write_text("")
    sink = LedgerSink(tmp_path, retention_days=30)
    sink.write([call(1)])
    sink.close()
    assert not old.exists()
    assert not compacted.exists()
    assert all(path.exists() for path in (recent, *others))


def test_a_clock_that_jumps_ahead_takes_no_history_along(tmp_path: Path) -> None:
    """What was kept until yesterday would be gone within a second of a wrong clock."""
    kept = [tmp_path / f"calls-2020-01-{day:02}-1-a.jsonl" for day in (1, 20, 31)]
    for path in kept:
        path.write_text("")
    sink = LedgerSink(tmp_path, retention_days=20)
    sink.write([call(1)])  # years later, as far as the clock knows
    sink.close()
    assert [path.exists() for path in kept] == [False, True, True]


def test_size_and_age_begin_new_segments(tmp_path: Path) -> None:
    """A file without end can be neither compacted nor removed."""
    sink = LedgerSink(tmp_path, segment_bytes=3000, segment_seconds=0.0, fsync=True)
    for number in range(10):
        sink.write([call(number)])
    by_size = len(list(tmp_path.iterdir()))
    assert 3 <= by_size <= 6
    sink.roll()
    sink.write([call(11)])
    sink.close()
    assert len(list(tmp_path.iterdir())) == by_size + 1
    assert sink.written == 11


def test_replay_sends_the_same_spans_again(tmp_path: Path) -> None:
    """A backend that lost a day gets it back from the ledger, compacted or not, under the same ids."""
    segment(tmp_path, "1-a", *range(5))
    compact(tmp_path, now=NOW)
    segment(tmp_path, "2-b", *range(5, 1000))
    with OtlpReceiver() as receiver:
        since = (YESTERDAY + timedelta(seconds=2)).isoformat()
        command = ["replay", "--since", since, "--endpoint", receiver.endpoint, "--ledger", str(tmp_path)]
        first = CliRunner().invoke(app, command)
        assert (first.exit_code, first.stdout) == (0, "998 calls sent to the endpoint again.\n"), first.output
        spans = {span.span_id: span for span in receiver.spans}
        assert len(spans) == 998
        (span,) = [span for span in spans.values() if span.span_id == f"{3:016x}"]
        assert span.trace_id == f"{3:032x}"
        assert span.name == "chat gpt-4o"
        assert span.start_ns == int((YESTERDAY + timedelta(seconds=2)).timestamp()) * 10**9
        assert span.resource["service.name"] == "shop"
        assert span.attributes["attribution.cost.usd"] == "0.000123450000000001"
        CliRunner().invoke(app, command)
        assert {span.span_id for span in receiver.spans} == set(spans)


def test_repricing_reads_compacted_days(tmp_path: Path) -> None:
    """Last month's calls are compacted by the time somebody asks what they would cost elsewhere."""
    segment(tmp_path, "1-a", *range(5))
    command = ["reprice", "--ledger", str(tmp_path), "--out", "-"]
    before = CliRunner().invoke(app, command)
    compact(tmp_path, now=NOW)
    after = CliRunner().invoke(app, command)
    assert before.exit_code == 0, before.output
    assert after.stdout == before.stdout
    assert "c4" in after.stdout


def test_the_command_line_compacts(tmp_path: Path) -> None:
    """What cron runs."""
    path = tmp_path / "calls-2020-01-01-1-a.jsonl"
    path.write_text(call(1).model_dump_json() + "\n")
    command = ["ledger", "compact", "--ledger", str(tmp_path)]
    assert CliRunner().invoke(app, command).stdout.startswith("1 file with 1 line are now 1 Parquet file: ")
    assert CliRunner().invoke(app, command).stdout == "Nothing to compact.\n"
