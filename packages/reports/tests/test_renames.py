"""History by the names of today: old and new names add up, and the ledger keeps what was recorded."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from reports_bench import NOON, WriteLedger, make_call
from typer.testing import CliRunner

from farthing_reports.cli import app

if TYPE_CHECKING:
    from typer.testing import Result

POLICY = """
[policy.dimensions.team_id]
aliases = { grwth = "growth" }

[[policy.renames]]
dimension = "feature"
from = "mailer"
to = "email-generator"
on = 2026-11-21

[[policy.renames]]
dimension = "feature"
from = "email-generator"
to = "email-writer"
on = {later}
"""


def run(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["report", *(str(argument) for argument in arguments)])


def rows(*arguments: str | Path) -> dict[str | None, tuple[int, str]]:
    """Give calls and cost by the first dimension."""
    result = run(*arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return {next(iter(row.values())): (row["calls"], row["cost_usd"]) for row in found}


@pytest.fixture
def folder(write_ledger: WriteLedger) -> Path:
    """Give a ledger from before and after a rename, and a policy whose second rename has not begun."""
    tomorrow = date.today() + timedelta(days=1)  # noqa: DTZ011 - a day more or less of midnight is still to come
    Path("farthing.toml").write_text(POLICY.replace("{later}", str(tomorrow + timedelta(days=1))), encoding="utf-8")
    day = 86_400
    return write_ledger(
        [
            make_call(amount="1.000000000000000001", tags={"feature": "mailer", "team": "grwth"}),
            make_call(amount="2", tags={"feature": "email-generator", "team": "growth"}, after_seconds=2 * day),
            make_call(amount=None, status="unpriced", tags={"feature": "mailer", "team": "core"}),
            make_call(amount="4", tags={"feature": "chat", "team": "core"}, details={"feature": "mailer"}),
            make_call(amount="8", after_seconds=day),
        ]
    )


def test_old_and_new_names_are_one_row(folder: Path) -> None:
    """A feature that was renamed would seem to end, and another to begin, in every chart."""
    before = {path: path.read_bytes() for path in folder.glob("*")}
    assert rows("--ledger", folder) == {
        None: (1, "8"),
        "chat": (1, "4"),
        "email-generator": (3, "3.000000000000000001"),
    }
    assert rows("--ledger", folder, "--by", "team")["growth"] == (2, "3.000000000000000001")
    assert rows("--ledger", folder, "--by", "details.feature")["mailer"] == (1, "4")
    assert {path: path.read_bytes() for path in folder.glob("*")} == before


def test_a_rename_that_has_not_begun_changes_nothing(folder: Path) -> None:
    """A date in the file is a promise: until then reports and new calls must agree."""
    assert "email-writer" not in run("--ledger", folder).output


def test_the_report_says_what_it_did_and_can_be_told_not_to(folder: Path) -> None:
    """Who knows the old name would otherwise look for it in vain, or not know why a total moved."""
    table = run("--ledger", folder)
    assert "feature 'mailer' (2 calls) is counted as 'email-generator'" in " ".join(table.stdout.split())
    assert "--as-recorded" in table.stdout
    told = run("--ledger", folder, "--format", "csv")
    assert "counted as" in told.stderr
    assert "counted as" not in told.stdout
    plain = run("--ledger", folder, "--as-recorded")
    assert "counted as" not in plain.output
    assert rows("--ledger", folder, "--as-recorded")["mailer"] == (2, "1.000000000000000001")


@pytest.mark.parametrize("name", ["mailer", "email-generator", "Email Generator"])
def test_a_condition_on_any_name_means_all_of_them(folder: Path, name: str) -> None:
    """`--where feature=` with the name of today must not lose what was spent under the old one."""
    assert rows("--ledger", folder, "--where", f"feature={name}") == {"email-generator": (3, "3.000000000000000001")}
    assert set(rows("--ledger", folder, "--where", f"feature!={name}")) == {None, "chat"}


def test_groups_of_several_dimensions_and_times(folder: Path) -> None:
    """Merging must not merge what differs in another dimension."""
    result = run("--ledger", folder, "--by", "feature,day", "--format", "json")
    found = [(row["feature"], row["day"], row["calls"]) for row in json.loads(result.stdout)]
    first, third = (str((NOON + timedelta(days=days)).date()) for days in (0, 2))
    assert ("email-generator", third, 1) in found
    assert ("email-generator", first, 2) in found
    assert ("chat", first, 1) in found


def test_ten_thousand_other_names(write_ledger: WriteLedger) -> None:
    """A vocabulary grows for years, and a report must neither choke on it nor print all of it."""
    lines = ["[policy.dimensions.feature.aliases]", *(f'old-{number} = "new-{number % 7}"' for number in range(10_000))]
    Path("farthing.toml").write_text("\n".join(lines), encoding="utf-8")
    folder = write_ledger([make_call(amount="1", tags={"feature": f"old-{number}"}) for number in range(500)])
    found = rows("--ledger", folder)
    assert len(found) == 7
    assert sum(calls for calls, _ in found.values()) == 500
    assert "and 495 more" in run("--ledger", folder).stdout
    assert rows("--ledger", folder, "--where", "feature=new-3") == {"new-3": found["new-3"]}
