"""What the documents say: the README's code runs and prints what it shows, the examples run, the demo adds up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n+```text\n(?P<output>.*?)```", re.DOTALL)
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


@pytest.mark.parametrize("block", BLOCK.finditer(README), ids=lambda found: found["code"].splitlines()[0][:40])
def test_the_readme_prints_what_it_shows(block: re.Match[str], tmp_path: Path) -> None:
    """A README that is wrong in its first twelve lines is the first and last thing somebody reads."""
    (tmp_path / "snippet.py").write_text(block["code"], encoding="utf-8")
    shown = run(sys.executable, "snippet.py", cwd=tmp_path)
    assert [line.rstrip() for line in shown.strip().splitlines()] == [
        line.rstrip() for line in block["output"].strip().splitlines()
    ]


def test_the_readme_has_code_to_run() -> None:
    """The test above would pass on an empty README."""
    assert len(BLOCK.findall(README)) >= 1


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
