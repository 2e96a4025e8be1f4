"""`farthing policy`: what a person reads, and what a script sees."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from farthing_reports.cli import app

POLICY = """
[policy.environments.production]
required = ["feature", "team"]
when_missing = "reject"
[policy.environments."*".defaults]
team = "platform-sandbox"
[policy.dimensions.environment.aliases]
prod = "production"
[policy.dimensions.team]
values = ["growth", "platform-sandbox"]
when_unlisted = "warn"
"""


def run(*arguments: str, code: int = 0) -> str:
    """Run the command and give all that it printed."""
    result = CliRunner().invoke(app, ["policy", *arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_init_writes_a_policy_that_can_be_used() -> None:
    """The first policy of every user is this one."""
    assert "written" in run("init")
    said = run("check")
    assert "In production a call without feature or team is marked." in said
    assert "Elsewhere team is 'platform-sandbox' by default." in said
    assert "exists already" in run("init", code=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[policy.environments.production]\nwhen_missing = "reject"', "when_missing = 'reject' does nothing"),
        ('[policy.dimensions.team]\nwhen_unlisted = "reject"', "when_unlisted = 'reject' does nothing"),
        ('[[policy.routes]]\npattern = "api/*"', "On routes api/* nothing more is required"),
    ],
)
def test_a_rule_that_does_nothing_is_said_to(text: str, said: str) -> None:
    """Who wrote "reject" believes from then on that something is refused."""
    Path("farthing.toml").write_text(text, encoding="utf-8")
    assert said in run("check")


def test_every_line_of_the_template_can_be_switched_on() -> None:
    """An example that does not parse once its # is gone teaches the wrong thing."""
    run("init")
    path = Path("farthing.toml")
    lines = path.read_text(encoding="utf-8").splitlines()
    on = [line[2:] if line.startswith("# ") and ("=" in line or line.startswith("# [")) else line for line in lines]
    path.write_text("\n".join(line for line in on if not line.startswith("`")), encoding="utf-8")
    assert "as keyed hashes" in run("check")


def test_check_names_file_key_and_fix() -> None:
    """Policy errors are read by a person who did not write farthing."""
    Path("farthing.toml").write_text('[policy.environments.production]\nrequired = ["teem"]', encoding="utf-8")
    said = " ".join(run("check", code=2).split())
    assert "policy.environments.production.required: 'teem' is no dimension, did you mean 'team'?" in said
    assert "is no file" in run("check", "missing.toml", code=2)
    Path("farthing.toml").unlink()
    assert "farthing policy init" in run("check", code=2)


def test_explain_shows_what_becomes_of_tags() -> None:
    """Before a rule says reject, somebody must be able to see whom it would hit."""
    Path("farthing.toml").write_text(POLICY, encoding="utf-8")
    said = run("explain", "feature=Email Generator", "env=dev", "owner=groth")
    for part in ("email-generator", "development" if "development" in said else "dev", "did you mean 'growth'?"):
        assert part in said
    assert "The call goes out." in said
    said = run("explain", "environment=prod", code=1)
    assert "feature is missing; [policy.environments.production] requires it" in said
    assert "The call is refused" in said
    found = json.loads(run("explain", "environment=prod", "feature=a", "--json", code=1))
    assert found["tags"] == {"feature": "a", "environment": "production"}
    assert found["violations"] == ["team:missing"]
    assert "is no tag" in run("explain", "feature", code=2)


@pytest.mark.parametrize(("text", "valid"), [(POLICY, True), ('[policy.dimensions.team]\nvalues = "growth"', False)])
def test_the_schema_accepts_what_farthing_accepts(text: str, valid: bool) -> None:
    """An editor that underlines good lines is switched off."""
    schema = json.loads(run("schema"))
    checker = jsonschema.Draft202012Validator(schema)  # pyright: ignore[reportUnknownMemberType]
    assert checker.is_valid(tomllib.loads(text)) is valid  # pyright: ignore[reportUnknownMemberType]
