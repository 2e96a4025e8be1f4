"""What farthing costs, beside doing nothing and beside its peers, in one run: `make bench`.

Each variant runs in a process and an environment of its own, in turn, several times over; figures are medians, and what
to look at are the ratios. "all in" is the CPU of the whole process with every span, metric, price and ledger line done.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
UV = Path(sys.executable).with_name("uv")
PEERS = {
    "openinference": ["openinference-instrumentation-langchain"],
    "otel-langchain": ["opentelemetry-instrumentation-langchain"],
}
SCENARIOS = {
    "sync": ("LangChain chain, sync, model replies at once", 400, ["none", "noop", "farthing", *PEERS]),
    "async": ("LangChain chain, async, model replies at once", 300, ["none", "noop", "farthing", *PEERS]),
    "sync-10ms": ("LangChain chain, sync, model takes 10 ms", 60, ["none", "noop", "farthing", *PEERS]),
    "async-10ms": ("LangChain chain, async, model takes 10 ms", 60, ["none", "noop", "farthing", *PEERS]),
    "litellm": ("litellm.completion over loopback HTTP", 60, ["none", "noop", "farthing"]),
    "meter": ("the Meter directly, beside the SDK's own span and metrics", 3_000, ["stock SDK", "farthing"]),
}


def python_of(variant: str) -> Path:
    """Give the interpreter of a variant's environment, making the environment where it is missing."""
    if variant not in PEERS:
        return Path(sys.executable)
    folder = ROOT / ".venvs" / f"bench-{variant}"
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if not ready.exists():
        print(f"  making an environment for {variant} ...", flush=True)
        subprocess.run([UV, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        wanted = ["opentelemetry-sdk", f"langchain-core=={version('langchain-core')}", "langchain", *PEERS[variant]]
        subprocess.run([UV, "pip", "install", "--quiet", "--python", python, *wanted], check=True)
        ready.touch()
    return python


def run(variant: str, scenario: str, calls: int) -> dict[str, float]:
    """Measure one variant once."""
    command = [python_of(variant), HERE / "worker.py", "--variant", variant, "--scenario", scenario]
    done = subprocess.run(
        [*command, "--calls", str(calls)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LANGSMITH_TRACING": "false", "PYTHONWARNINGS": "ignore"},
    )
    if done.returncode:
        sys.exit(f"{variant} in {scenario} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure all and print a table for each scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="processes for each figure (default 3)")
    parser.add_argument("--only", choices=SCENARIOS, nargs="*", help="scenarios to run (default all)")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the calls, one round: only checks that it runs"
    )
    given = parser.parse_args()
    for variant in PEERS:
        python_of(variant)
    for scenario in given.only or SCENARIOS:
        title, calls, variants = SCENARIOS[scenario]
        seen: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
        for _ in range(1 if given.quick else given.rounds):
            for variant in variants:
                seen[variant].append(run(variant, scenario, max(10, calls // 10) if given.quick else calls))
        show(title, seen)


def show(title: str, seen: dict[str, list[dict[str, float]]]) -> None:
    """Print one scenario: medians, and each variant's ratio to no handler at all."""

    def median(variant: str, figure: str) -> float:
        return statistics.median(figures[figure] for figures in seen[variant])

    print(f"\n{title}")
    print(f"  {'':<16}{'wall':>10}{'ratio':>8}{'caller CPU':>13}{'added':>9}{'all in':>10}{'added':>9}{'ratio':>8}")
    base = next((name for name in ("none", "stock SDK") if name in seen), None)
    for variant in seen:
        wall, caller, process = (median(variant, name) for name in ("wall_us", "caller_cpu_us", "process_cpu_us"))
        line = f"  {variant:<16}{wall:>7.0f} us"
        if base is None:
            print(f"{line}{'':>8}{caller:>10.1f} us{'':>9}{process:>7.1f} us")
            continue
        walls, callers, processes = (median(base, name) for name in ("wall_us", "caller_cpu_us", "process_cpu_us"))
        print(
            f"{line}{wall / walls:>7.2f}x{caller:>10.1f} us{caller - callers:>+9.1f}"
            f"{process:>7.1f} us{process - processes:>+9.1f}{process / processes:>7.2f}x"
        )


if __name__ == "__main__":
    main()
