"""Run the contract matrix and, when every cell held, write docs/matrix.md."""

# ruff: noqa: INP001, T201 - a script, not a package

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))


def run(report: Path) -> int:
    """Run all cells, and leave a report of them."""
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-q", "tests/matrix"]
    # The page is about to be written; whether it is in step is not the question here.
    options = [
        "--deselect",
        "tests/matrix/test_page.py::test_the_page_is_in_step_with_the_cells",
        f"--junitxml={report}",
    ]
    return subprocess.run([*command, *options], cwd=ROOT, check=False).returncode  # noqa: S603 - our own tests


def not_run(report: Path) -> list[str]:
    """Name the tests that were skipped: what was not run is not known to hold."""
    cases = ET.parse(report).iter("testcase")  # noqa: S314 - pytest's own report, written a moment ago
    return [str(case.get("name")) for case in cases if case.find("skipped") is not None]


def main() -> int:
    """Run, and write."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        status = run(report)
        skipped = not_run(report) if report.exists() else []
    if status or skipped:
        print(f"docs/matrix.md stays as it is: pytest ended with {status}, {len(skipped)} cells were not run")
        return status or 1
    from matrix import quiet  # noqa: F401, PLC0415 - before any framework
    from matrix.page import PAGE, render, render_versions  # noqa: PLC0415 - needs the frameworks

    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render() + render_versions(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
