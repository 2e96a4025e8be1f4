"""The command as a person or a script runs it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from reports_bench import NOON, WriteLedger, make_call
from typer.testing import CliRunner

from farthing import Call, Cost
from farthing_reports.cli import app

if TYPE_CHECKING:
    from typer.testing import Result

FARTHING = Path(sys.executable).with_name("farthing")


def run(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ran(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command as a process."""
    import os  # noqa: PLC0415 - only here

    command = [str(FARTHING), *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environ)  # noqa: S603 - ours


@pytest.fixture
def folder(write_ledger: WriteLedger) -> Path:
    """Give a ledger with three features and two unknowns."""
    return write_ledger(
        [
            make_call(amount="1.000000000000000001", tags={"feature": "chat", "team": "growth"}),
            make_call(amount="0.5", tags={"feature": "mail", "team": "core"}, request_model="claude-haiku-4-5"),
            make_call(amount=None, status="unpriced", tags={"feature": "mail", "team": "core"}),
            make_call(amount=None, status="unreported", usage=None, after_seconds=86400),
        ]
    )


def test_table(folder: Path) -> None:
    """The table has a line for each feature, shares, and a total that says what it does not know."""
    result = run("report", "--ledger", folder)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["feature", "calls", "input", "output", "cost", "USD", "unknown", "share"]
    assert lines[1] == ["chat", "1", "100", "10", "1.0000", "██████", "67%"]
    assert lines[2] == ["mail", "2", "200", "20", "≥", "0.5000", "1", "███", "33%"]
    assert lines[3] == ["(none)", "1", "0", "0", "≥", "0.0000", "1", "0%"]
    assert lines[4] == ["total", "4", "300", "30", "≥", "1.5000", "2"]
    assert "Total: ≥ $1.500000000000000001 (2 calls of unknown cost, of 4 calls)." in result.stdout
    assert "Unknown: 1 no price known, 1 usage never reported." in result.stdout
    assert result.stderr == ""


def test_json(folder: Path) -> None:
    """JSON holds the dimensions, the counts and exact decimal strings."""
    result = run("report", "--by", "feature,model", "--where", "feature=chat", "--ledger", folder, "--format", "json")
    assert json.loads(result.stdout) == [
        {
            "feature": "chat",
            "model": "gpt-4o",
            "calls": 1,
            "input_tokens": 100,
            "output_tokens": 10,
            "cost_usd": "1.000000000000000001",
            "unpriced_calls": 0,
            "unreported_calls": 0,
            "estimated_calls": 0,
            "estimated_usd": "0",
            "cache_hits": 0,
            "saved_usd": "0",
        }
    ]


def test_use_is_told_in_sentences(write_ledger: WriteLedger) -> None:
    """What was paid for nothing is added up, with what is not known and what is an estimate beside it."""
    folder = write_ledger(
        [
            make_call(amount="1", outcome="error", operation_id="one", attempt=1),
            make_call(amount="3", operation_id="one", attempt=2),
            make_call(amount=None, status="unreported", outcome="cancelled", usage=None),
            make_call(
                outcome="abandoned",
                usage=None,
                cost=Cost(amount_usd=None, status="estimated", estimated_usd=Decimal("0.25")),
            ),
        ]
    )
    shown = run("report", "--by", "use", "--ledger", folder).stdout
    assert "Estimated, not in the total: $0.25 for 1 call." in shown
    assert "Useful: $3 for 1 call." in shown
    assert (
        "Waste: ≥ $1 for 3 calls, 1 of unknown cost, estimated besides: $0.25 (25% of what is known): "
        "superseded $1 for 1 call; cancelled ≥ $0 for 1 call, 1 of unknown cost; "
        "abandoned ≥ $0 for 1 call, estimated besides: $0.25."
    ) in shown
    assert shown.splitlines()[0].split()[-3:] == ["unknown", "estimated", "share"]
    assert "superseded" in run("report", "--help").stdout
    (useful,) = json.loads(
        run("report", "--by", "use", "--where", "use=useful", "--ledger", folder, "--format", "json").stdout
    )
    assert (useful["use"], useful["cost_usd"]) == ("useful", "3")


def test_csv(write_ledger: WriteLedger) -> None:
    """CSV quotes what needs it, and a missing value is an empty cell."""
    folder = write_ledger([make_call(tags={"feature": 'a,"b"', "tenant": "münchen"}), make_call(amount="0.5")])
    result = run("report", "--by", "feature,tenant", "--ledger", folder, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["feature"], row["tenant"], row["cost_usd"]) for row in rows] == [
        ("", "", "0.5"),
        ('a,"b"', "münchen", "0.01"),
    ]


def test_table_of_many_rows_adds_up_the_rest(write_ledger: WriteLedger) -> None:
    """--top cuts the table, never the total."""
    folder = write_ledger([make_call(amount=str(number), tags={"tenant": f"t{number}"}) for number in range(1, 8)])
    result = run("report", "--by", "tenant", "--top", "2", "--ledger", folder)
    lines = [line.split()[:3] for line in result.stdout.splitlines()[1:5]]
    assert lines == [["t7", "1", "100"], ["t6", "1", "100"], ["(5", "more)", "5"], ["total", "7", "700"]]
    assert "Total: $28 for 7 calls." in result.stdout


def test_table_fits_80_columns(write_ledger: WriteLedger) -> None:
    """Long names wrap, numbers do not, and nothing is cut."""
    tags = {"feature": "a-very-long-name-of-a-feature-" * 3, "team": "growth"}
    folder = write_ledger(
        [make_call(amount="123456789.123456789", tags=tags, request_model="claude-sonnet-4-5-20250929")]
    )
    result = run("report", "--by", "feature,team,model", "--ledger", folder)
    assert max(len(line) for line in result.stdout.splitlines() if not line.startswith("Total")) <= 80
    assert "123,456,789.12" in result.stdout
    assert "…" not in result.stdout


def test_copied_file_is_named_on_stderr(folder: Path) -> None:
    """Calls that stand there twice are counted once, in a report and in a trace, and standard output stays clean."""
    (source,) = folder.iterdir()
    traced = run("trace", "--ledger", folder).stdout
    (folder / "calls-copy.jsonl").write_bytes(source.read_bytes())
    result = run("report", "--ledger", folder)
    assert "(2 calls of unknown cost, of 4 calls)." in result.stdout
    assert result.stderr.startswith("4 lines left out, with a call_id that was counted already")
    assert run("trace", "--ledger", folder).stdout == traced


def test_damage_is_named_on_stderr(folder: Path) -> None:
    """Standard output stays what a script can parse."""
    (folder / "calls-x.jsonl").write_bytes(b'{"schema":"farthing.call/9"}\nnoise\n{"torn')
    result = run("report", "--ledger", folder, "--format", "json")
    assert len(json.loads(result.stdout)) == 3
    expected = "calls-x.jsonl: skipped 2 damaged lines, the last one torn, 1 line of schema 'farthing.call/9'\n"
    assert result.stderr == expected


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_to_report_is_helpful(exists: bool, tmp_path: Path) -> None:
    """An empty or missing ledger is no error: an empty list for scripts, a hint for people."""
    folder = tmp_path / "ledger"
    if exists:
        folder.mkdir()
    result = run("report", "--ledger", folder, "--format", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    result = run("report", "--ledger", folder)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        f"{folder}: no calls. Nothing has been recorded there yet. "
        "Run your application with farthing, or name a folder: --ledger\n"
    )


def test_nothing_matches_is_said(folder: Path) -> None:
    """Too narrow a question is told apart from an empty ledger."""
    result = run("report", "--ledger", folder, "--until", "2020-01-01")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no call matches --since, --until and --where" in result.stderr


def test_default_ledger_is_the_configured_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --ledger the command reads where farthing writes."""
    monkeypatch.setenv("FARTHING_LEDGER", str(folder))
    assert run("ledger", "path").stdout == f"{folder}\n"
    assert len(json.loads(run("report", "--format", "json").stdout)) == 3
    monkeypatch.delenv("FARTHING_LEDGER")
    assert run("ledger", "path").stdout.rstrip().endswith(str(Path("state") / "farthing" / "ledger"))


def test_declared_and_found_dimensions(write_ledger: WriteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dimension of the settings or of the ledger is known without its prefix, and so are aliases."""
    folder = write_ledger([make_call(tags={"cost_center": "cc7"}, details={"node": "retrieve"})])
    result = run("report", "--by", "cost_center,node", "--ledger", folder, "--format", "json")
    assert json.loads(result.stdout)[0] | {"cost_center": "cc7", "node": "retrieve"} == json.loads(result.stdout)[0]
    monkeypatch.setenv("FARTHING_EXTRA_DIMENSIONS", "cost_center")
    monkeypatch.setenv("FARTHING_ALIASES", "kst=cost_center")
    assert (
        json.loads(run("report", "--by", "kst", "--ledger", folder, "--format", "json").stdout)[0]["cost_center"]
        == "cc7"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("report", "--by", "featur"),
            "--by: 'featur' is nothing that this ledger's calls can be grouped by, did you mean 'feature'?",
        ),
        (("report", "--by", ","), "--by: is empty"),
        (("report", "--since", "soon"), "--since: 'soon' is no date or time span"),
        (("report", "--until", "2026-01-01T00:00"), "--until: '2026-01-01T00:00' has no timezone"),
        (("report", "--since", "1d", "--until", "2d"), "--until: '2d' is not after --since '1d'"),
        (("report", "--where", "team"), "--where: 'team' is no condition"),
        (("report", "--where", "=x"), "--where: '=x' is no condition"),
        (("report", "--where", "colour=red"), "--where: 'colour' is nothing"),
        (("trace", "--last", "abcd"), "--last: means the latest request"),
        (("trace", "abcd"), "no call of trace 'abcd'"),
        (
            ("price", "openai", "gpt-4o", "--input", "1", "--tier", "gold"),
            "--tier: 'gold' is none; there are standard, ",
        ),
        (("price", "openai", "gpt-4o", "--input", "-1"), "--input: -1 is no count"),
        (("price", "openai", "gpt-4o", "--at", "noon"), "--at: 'noon' is no date"),
    ],
)
def test_faults_are_one_sentence(
    arguments: tuple[str, ...], sentence: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault names the option and the value, on stderr, with exit code 2 and without a traceback."""
    monkeypatch.setenv("FARTHING_LEDGER", str(folder))
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("farthing: ")
    assert result.stderr.count("\n") == 1
    assert sentence in result.stderr


@pytest.mark.parametrize("arguments", [("report",), ("trace",), ("price", "openai", "gpt-4o"), ("ledger", "path")])
def test_broken_settings_are_one_sentence(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in farthing.toml stops every command that needs it, with the file and the key."""
    Path("farthing.toml").write_text("ledgr = 1\n", encoding="utf-8")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "farthing.toml: unknown key 'ledgr', did you mean 'ledger'?" in result.stderr


def test_ledger_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no ledger is kept there is no folder to read, and that is said."""
    monkeypatch.setenv("FARTHING_LEDGER", "off")
    for arguments in (("report",), ("trace",), ("ledger", "path")):
        result = run(*arguments)
        assert result.exit_code == 2
        assert '"off"' in result.stderr


def test_trace(folder: Path) -> None:
    """The latest request and one by its id are drawn."""
    result = run("trace", "--ledger", folder)
    assert result.exit_code == 0
    assert "cost unknown (unreported)" in result.stdout
    assert result.stdout == run("trace", "--last", "--ledger", folder).stdout


def test_price() -> None:
    """A price is explained line by line, and as JSON it is the Cost itself."""
    arguments = ("price", "openai", "gpt-4o", "--input", "12345", "--output", "678", "--at", "2026-11-01")
    text = run(*arguments).stdout
    assert "0.0376425" in text  # 12,345 x 2.50 + 678 x 10.00 per million
    assert "catalog: the price catalogue" in text
    found = json.loads(run(*arguments, "--format", "json").stdout)
    assert (found["amount_usd"], found["status"]) == ("0.0376425", "priced")


@pytest.mark.parametrize(
    ("provider", "model", "meant"),
    [
        ("openai", "gpt4o", "gpt-4o, "),
        ("openai", "openai/gpt4o", "gpt-4o, "),
        ("azure", "gpt4o", "gpt-4o, "),
        ("antropic", "claude-sonnet-4-5", "anthropic"),
        ("nobody", "nothing", None),
        ("openai", "nothing-like-it", None),
    ],
)
def test_a_price_that_is_not_known(provider: str, model: str, meant: str | None) -> None:
    """A script must not take it for zero, and who mistyped a name would search for the right one elsewhere."""
    unknown = run("price", provider, model, "--input", "1")
    assert unknown.exit_code == 1
    assert "unknown is not zero" in unknown.stdout
    named = [line for line in unknown.stdout.splitlines() if line.startswith("did you mean:")]
    assert named == [] if meant is None else named[0].removeprefix("did you mean:").strip().startswith(meant)
    assert run("price", provider, model, "--input", "1", "--format", "json").exit_code == 1


def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 0 where nothing fails, 1 where something does; JSON for scripts."""
    assert run("doctor").exit_code == 0
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    result = run("doctor", "--format", "json")
    assert result.exit_code == 1
    failed: list[dict[str, Any]] = [check for check in json.loads(result.stdout) if check["state"] == "fail"]
    assert {check["name"] for check in failed} == {"traces", "metrics"}
    assert all(check["fix"] for check in failed)
    table = run("doctor")
    assert "-> " in table.stdout


def test_schema_describes_the_ledger(folder: Path) -> None:
    """Every line that the sink writes is valid under the published schema."""
    schema = json.loads(run("schema").stdout)
    for file in folder.iterdir():
        for line in file.read_text(encoding="utf-8").splitlines():
            jsonschema.validate(json.loads(line), schema)
            Call.model_validate_json(line)


@pytest.mark.parametrize("command", ["report", "trace", "doctor", "price"])
def test_help_teaches_by_example(command: str) -> None:
    """Every command's help shows how it is called."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"farthing {command}" in result.stdout


def test_process_pipes_without_colour(folder: Path) -> None:
    """In a pipe there is no colour, no progress and no cut line."""
    result = ran("report", "--ledger", folder, NO_COLOR="")
    assert result.returncode == 0
    assert "\x1b" not in result.stdout + result.stderr
    assert "Total: ≥ $1.500000000000000001" in result.stdout


def test_process_on_a_terminal_without_unicode(folder: Path) -> None:
    """A terminal that knows ASCII only gets the same figures."""
    result = ran("report", "--ledger", folder, PYTHONIOENCODING="ascii")
    assert result.returncode == 0
    assert "Total: >= $1.500000000000000001" in result.stdout
    result = ran("trace", "--ledger", folder, PYTHONIOENCODING="ascii")
    assert result.returncode == 0
    assert "cost unknown" in result.stdout


def test_process_whose_reader_leaves(folder: Path, write_ledger: WriteLedger) -> None:
    """`farthing report | head -1` ends without a complaint."""
    write_ledger([make_call(tags={"feature": f"f{number}"}, started_at=NOON) for number in range(5000)])
    command = f"'{FARTHING}' report --top 5000 --ledger '{folder}' | head -1"
    result = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert result.stdout.startswith("feature")
    assert result.stderr == ""


def test_process_faults_without_traceback(folder: Path) -> None:
    """The exit code of a fault is 2."""
    result = ran("report", "--by", "nothing", "--ledger", folder)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


def test_total_equals_the_lines(folder: Path) -> None:
    """What the report says is what the lines of the ledger hold, added up by hand."""
    rows = json.loads(run("report", "--by", "status", "--ledger", folder, "--format", "json").stdout)
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal("1.500000000000000001")
    assert sum(row["unpriced_calls"] for row in rows) == 2
