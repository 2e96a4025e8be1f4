"""Each distribution alone in an empty environment: it installs, imports, and brings no other framework along.

The frameworks themselves come from the package registry; `uv` of this environment installs them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")
FRAMEWORKS = {"litellm", "langchain_core", "crewai"}


def python_of(environment: Path) -> Path:
    """Give the interpreter of an environment."""
    return environment / "bin" / "python"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build all five wheels, as a release would."""
    folder = tmp_path_factory.mktemp("wheels")
    for package in sorted((ROOT / "packages").iterdir()):
        options = ["--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", folder]
        subprocess.run([UV, "build", *options, package], check=True)  # noqa: S603 - our own build
    return folder


@pytest.mark.parametrize(
    ("distribution", "module", "own"),
    [
        ("farthing", "farthing", None),
        ("farthing-litellm", "farthing_litellm", "litellm"),
        ("farthing-langchain", "farthing_langchain", "langchain_core"),
        ("farthing-crewai", "farthing_crewai", "crewai"),
        ("farthing-reports", "farthing_reports", None),
    ],
)
def test_a_wheel_installs_alone_and_imports_only_its_own_framework(
    distribution: str, module: str, own: str | None, wheels: Path, tmp_path: Path
) -> None:
    """A missing dependency or data file shows only where nothing else is installed."""
    environment = tmp_path / "environment"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, environment], check=True)  # noqa: S603 - uv
    subprocess.run(  # noqa: S603 - as above
        [UV, "pip", "install", "--quiet", "--python", python_of(environment), "--find-links", wheels, distribution],
        check=True,
    )
    script = f"""
import sys, {module}, farthing
from datetime import datetime, UTC
usage = farthing.Usage(input_tokens=12345, output_tokens=678)
print(farthing.price("openai", "gpt-4o", usage, at=datetime(2026, 1, 1, tzinfo=UTC)).amount_usd)
print(*sorted({{"litellm", "langchain_core", "crewai"}} & set(sys.modules)))
"""
    done = subprocess.run(  # noqa: S603 - our own script
        [python_of(environment), "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    amount, *loaded = done.stdout.split()
    assert amount == "0.0376425"
    assert set(loaded) <= ({own} if own else set())
    listed = subprocess.run(  # noqa: S603 - uv
        [UV, "pip", "list", "--python", python_of(environment), "--format", "freeze"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = {line.partition("==")[0].replace("-", "_") for line in listed.splitlines()}
    assert names & FRAMEWORKS == ({own} if own else set())
    assert "genai_prices" not in names
