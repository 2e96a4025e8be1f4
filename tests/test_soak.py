"""A small soak: the large one is `make soak`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

RUN: Final = Path(__file__).parents[1] / "benchmarks" / "soak" / "run.py"


def test_every_request_is_one_call(tmp_path: Path) -> None:
    """Calls that only go wrong beside other calls would be lost, doubled, or given to somebody else."""
    asked = ["--calls", "300", "--seed", "20", "--phases", "2", "--threads", "8", "--tasks", "8"]
    # CrewAI never ends a call that is cancelled: it is closed by its age, for which a test has no time.
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, RUN, *asked, "--skip", "crewai async, cancelled", "--keep", tmp_path / "kept"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "No difference." in done.stdout
