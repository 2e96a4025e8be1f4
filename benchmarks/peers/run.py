"""The peers over the same matrix, beside the provider's invoice: who is right where. `make peers` writes docs/peers.md.

Each peer has an environment of its own, with the frameworks at the versions of ours, and is set up as its README says.
Each cell is one request, or a few, in one situation, and one plain request after it. A peer that says what a call cost
is held to that; for one that says tokens, we price them with all that it says about them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from report import Result, write

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
UV = Path(sys.executable).with_name("uv")
PAGE = ROOT / "docs" / "peers.md"
SECONDS = 1_500
ROWS = ("litellm", "router", "langchain-openai", "langchain-anthropic", "langchain-litellm", "crewai-openai")
SHARED = (
    *(
        "litellm",
        "langchain",
        "langchain-core",
        "langgraph",
        "langchain-openai",
        "langchain-anthropic",
        "langchain-aws",
    ),
    *("langchain-google-genai", "langchain-litellm", "openai", "anthropic", "crewai"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """What is installed for a peer, and which frameworks it can watch; without packages it runs in our environment."""

    packages: tuple[str, ...] = ()
    frameworks: frozenset[str] = field(default_factory=frozenset)


ADAPTERS = {
    "farthing": Adapter(frameworks=frozenset({"litellm", "langchain", "crewai"})),
    "openinference": Adapter(
        packages=tuple(f"openinference-instrumentation-{name}" for name in ("langchain", "litellm", "crewai")),
        frameworks=frozenset({"litellm", "langchain", "crewai"}),
    ),
    "traceloop": Adapter(
        packages=tuple(
            f"opentelemetry-instrumentation-{name}" for name in ("langchain", "litellm", "crewai", "openai")
        ),
        frameworks=frozenset({"litellm", "langchain", "crewai"}),
    ),
    "genai-langchain": Adapter(
        packages=("opentelemetry-instrumentation-genai-langchain",), frameworks=frozenset({"langchain"})
    ),
    "langfuse": Adapter(packages=("langfuse",), frameworks=frozenset({"litellm", "langchain"})),
    "litellm response_cost": Adapter(frameworks=frozenset({"litellm"})),
}


def python_of(peer: str) -> Path:
    """Give the interpreter of a peer's environment, making the environment where it is missing."""
    packages = ADAPTERS[peer].packages
    if not packages:
        return Path(sys.executable)
    folder = ROOT / ".venvs" / f"peers-{peer}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        print(f"  making an environment for {peer} ...", flush=True)
        pinned = [f"{name}=={version(name)}" for name in SHARED if name != "crewai"]
        crewai = f"crewai[litellm,anthropic,bedrock,google-genai]=={version('crewai')}"
        ours = [
            "pytest",
            "mcp<2",
            "pydantic",
            "platformdirs",
            "opentelemetry-sdk",
            "opentelemetry-exporter-otlp-proto-http",
        ]
        subprocess.run([UV, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        install = [UV, "pip", "install", "--quiet", "--python", python]
        subprocess.run([*install, *pinned, crewai, *ours, *packages], check=True)
        ready.touch()
    return python


def versions_of(peer: str) -> dict[str, str]:
    """Ask a peer's environment what is installed."""
    names = [*ADAPTERS[peer].packages, *SHARED, "opentelemetry-sdk"]
    code = (
        "import json,sys;from importlib.metadata import version as v;print(json.dumps({n:v(n) for n in sys.argv[1:]}))"
    )
    done = subprocess.run([python_of(peer), "-c", code, *names], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def known_rows() -> dict[str, dict[str, object]]:
    """Ask our own environment which rows the matrix has, with their frameworks and cells."""
    done = subprocess.run([sys.executable, HERE / "worker.py", "--list"], capture_output=True, text=True, check=True)
    found: dict[str, dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(peer: str, row: str, situations: list[str]) -> list[Result]:
    """Run one peer through one row; a cell that takes the process along is a crash, and the next process goes on."""
    results: list[Result] = []
    while len(results) < len(situations):
        command = [python_of(peer), HERE / "worker.py", "--peer", peer, "--row", row, "--skip", str(len(results))]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
                env={**os.environ, "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"},
            )
            out, log, is_whole = done.stdout, done.stderr, "\nDONE" in done.stdout
        except subprocess.TimeoutExpired as late:
            out = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
            log, is_whole = f"no end after {SECONDS} s", False
        cells = [json.loads(line[5:]) for line in out.splitlines() if line.startswith("CELL ")]
        results += {cell["situation"]: Result(peer=peer, row=row, **cell) for cell in cells}.values()
        if not is_whole and len(results) < len(situations):
            tail = log[-1_500:]
            results.append(
                Result(peer=peer, row=row, situation=situations[len(results)], verdict="crash", figures="", log=tail)
            )
    counts = {word: sum(each.verdict == word for each in results) for word in dict.fromkeys(r.verdict for r in results)}
    print(f"  {peer:<22} {row:<20} {counts}", flush=True)
    return results


def main() -> None:
    """Run all and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", choices=ADAPTERS, nargs="*", help="peers to run (default all)")
    parser.add_argument("--row", nargs="*", help="rows of the matrix (default: those of the page)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (default 2)")
    parser.add_argument("--raw", type=Path, default=ROOT / ".venvs" / "peers.json", help="where the results are kept")
    parser.add_argument("--page", action="store_true", help="only write the page again, from the results kept")
    given = parser.parse_args()
    rows = known_rows()
    peers = given.peer or list(ADAPTERS)
    kept: list[Result] = []
    if given.raw.exists():
        kept = [Result(**each) for each in json.loads(given.raw.read_text(encoding="utf-8"))]
    if not given.page:
        wanted = [row for row in given.row or ROWS if row in rows]
        todo = [
            (peer, row)
            for row in wanted
            for peer in peers
            if ADAPTERS[peer].frameworks & set(rows[row]["frameworks"])  # type: ignore[call-overload]
        ]
        for peer in peers:
            python_of(peer)
        kept = [each for each in kept if (each.peer, each.row) not in todo]
        with ThreadPoolExecutor(given.jobs) as pool:
            jobs = [pool.submit(run, peer, row, rows[row]["situations"]) for peer, row in todo]  # type: ignore[arg-type]
            for job in jobs:
                kept += job.result()
                given.raw.write_text(json.dumps([each.document() for each in kept], indent=1), encoding="utf-8")
    PAGE.parent.mkdir(exist_ok=True)
    versions = {peer: versions_of(peer) for peer in ADAPTERS}
    titles = {name: (str(row["title"]), row["says"]) for name, row in rows.items()}
    PAGE.write_text(write(kept, versions=versions, titles=titles, adapters=ADAPTERS, on=datetime.now(UTC).date()))
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
