"""What the documents say: the README's code runs and prints what it shows, the examples run, the demo adds up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = re.compile(r"```python\n(# (?P<name>\w+\.py)\n.*?)```", re.DOTALL)
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a command as a reader would and give what it prints."""
    done = subprocess.run(  # noqa: S603 - our own documents
        command,
        cwd=cwd,
        env={**os.environ, "FARTHING_LEDGER": str(cwd / "ledger"), "COLUMNS": "100", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_readme_prints_what_it_shows(tmp_path: Path) -> None:
    """A README that is wrong in its first twelve lines is the first and last thing somebody reads."""
    for program in PROGRAM.finditer(README):
        (tmp_path / program["name"]).write_text(program[1], encoding="utf-8")
    commands = [found for block in CONSOLE.findall(README) for found in COMMAND.findall(block)]
    assert len(commands) >= 3
    for command, expected in commands:
        program, *arguments = command.split()
        shown = run(Path(sys.executable).with_name(program), *arguments, cwd=tmp_path)
        assert [line.rstrip() for line in shown.splitlines()] == [line.rstrip() for line in expected.splitlines()]


def test_there_is_an_example_for_each_plugin() -> None:
    """Each plugin shows itself once, in a file of its own."""
    assert {"langchain_chain.py", "litellm_completion.py", "crewai_crew.py"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_runs_offline(example: Path, tmp_path: Path) -> None:
    """The example is what people copy."""
    assert len(example.read_text(encoding="utf-8").splitlines()) < 40
    assert run(sys.executable, example, cwd=tmp_path).strip()


def test_the_demo_adds_up_to_the_invoice(tmp_path: Path) -> None:
    """`make demo` is the promise: three frameworks, one total, equal to what the provider billed."""
    shown = run(sys.executable, ROOT / "examples" / "shop" / "run.py", cwd=tmp_path)
    assert "equal to the last digit" in shown
    for word in ("chatbot", "email-generator", "research", "api/chat", "jobs/newsletter", "growth", "market-research"):
        assert word in shown
