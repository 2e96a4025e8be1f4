"""Run the matrix and the plugins' own tests at the lowest and the newest version of each framework.

    python tools/floors.py                  # all environments, one after the other
    python tools/floors.py litellm-floor    # one of them

Each has an environment of its own in .venvs, made anew where its requirements have changed. What fails is left for
reading in .venvs/<name>.log.
"""

# ruff: noqa: INP001, T201, S603 - a script, not a package; what it runs is our own

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from matrix.environments import ENVIRONMENTS, Environment  # noqa: E402 - the path first

FOLDER = ROOT / ".venvs"
UV = Path(sys.executable).with_name("uv")
SHARED = (
    "pytest",
    "pytest-asyncio",
    "pytest-cov",
    "pytest-socket",
    "pytest-xdist",
    "inline-snapshot",
    "hypothesis",
    "jsonschema",
    "opentelemetry-sdk",
)
_SUMMARY = re.compile(r"^(?:\d+ \w+(?:, )?)+ in .*$", re.MULTILINE)


class Outcome(NamedTuple):
    """What became of an environment."""

    name: str
    version: str
    said: str
    status: int


def prepare(environment: Environment) -> Path:
    """Make the environment, unless it stands, and give its interpreter.

    Raises:
        subprocess.CalledProcessError: It cannot be made.
    """
    place = FOLDER / environment.name
    python = place / "bin" / "python"
    ours = [option for name in ("core", *environment.packages) for option in ("-e", str(ROOT / "packages" / name))]
    wanted = [*environment.requirements, *SHARED, *ours]
    stamp = place / f".{hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]}"
    if not stamp.exists():
        subprocess.run([UV, "venv", "-q", "--clear", "--python", sys.executable, place], check=True)
        subprocess.run([UV, "pip", "install", "-q", "--python", python, *wanted], check=True)
        stamp.touch()
    return python


def run(environment: Environment) -> Outcome:
    """Run the environment's tests."""
    try:
        python = prepare(environment)
    except (OSError, subprocess.CalledProcessError) as error:
        return Outcome(environment.name, "", f"could not be made: {error}", 1)
    ask = f"from importlib.metadata import version; print(version({environment.shows!r}))"
    shown = subprocess.run([python, "-c", ask], check=False, capture_output=True, text=True).stdout.strip()
    command = [python, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-q", "--tb=short", *environment.tests]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    (FOLDER / f"{environment.name}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    said = _SUMMARY.findall(done.stdout)
    last = said[-1] if said else (done.stdout + done.stderr).strip().splitlines()[-1]
    return Outcome(environment.name, f"{environment.shows} {shown}", last, done.returncode)


def main() -> int:
    """Run what is named, or all."""
    known = {environment.name: environment for environment in ENVIRONMENTS}
    parser = argparse.ArgumentParser(
        description="Run the tests at the lowest and the newest version of each framework."
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(known)}; all of them when none is named")
    names = parser.parse_args().names or list(known)
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"no such environment: {', '.join(unknown)}. There are {', '.join(known)}")
    outcomes: list[Outcome] = []
    for name in names:
        outcomes.append(run(known[name]))
        one = outcomes[-1]
        print(f"{'ok  ' if not one.status else 'FAIL'} {one.name:<17} {one.version:<24} {one.said}", flush=True)
    return max(outcome.status for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
