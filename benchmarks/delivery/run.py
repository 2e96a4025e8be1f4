"""How much delivery takes and keeps, beside the stock SDK's pipeline and langfuse's client, in one run: `make bench`.

Every variant sends to the same counting backend on loopback. What to look at are the ratios and what arrived.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Generator

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
UV = Path(sys.executable).with_name("uv")
VARIANTS = ("farthing", "stock SDK", "langfuse")
SCENARIOS = ("throughput", "processes", "overload", "outage", "memory")


def python_of(variant: str) -> Path:
    """Give the interpreter of a variant's environment, making the environment where it is missing."""
    if variant != "langfuse":
        return Path(sys.executable)
    folder = ROOT / ".venvs" / "bench-langfuse"
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        print("  making an environment for langfuse ...", flush=True)
        subprocess.run([UV, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([UV, "pip", "install", "--quiet", "--python", python, "langfuse"], check=True)
        ready.touch()
    return python


def start(variant: str, scenario: str, calls: int, port: int, per_second: float = 0.0) -> subprocess.Popen[str]:
    """Start one worker."""
    command = [python_of(variant), HERE / "worker.py", "--variant", variant, "--scenario", scenario]
    command += ["--calls", str(calls), "--per-second", str(per_second), "--endpoint", f"http://127.0.0.1:{port}"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )


def figures_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Read what a worker measured."""
    out, _ = process.communicate()
    if not out.strip():
        sys.exit(f"a worker failed: {process.args}")
    figures: dict[str, Any] = json.loads(out.splitlines()[-1])
    return figures


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def backend(port: int) -> Generator[None]:
    """Run the counting backend."""
    process = subprocess.Popen([sys.executable, HERE / "sink.py", str(port)])
    try:
        while True:
            try:
                arrived(port)
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def arrived(port: int) -> int:
    """Ask the backend for its count."""
    with urlopen(f"http://127.0.0.1:{port}/count") as answer:
        return int(answer.read())


def throughput(calls: int) -> None:
    """One process, calls as fast as they come."""
    print(f"\nOne process, {calls:,} calls as fast as they come (ledger: farthing without an endpoint)")
    print(f"  {'':<12}{'calls/s':>10}{'ratio':>8}{'CPU a call':>13}{'caller':>10}{'arrived':>18}")
    base = None
    for variant in ("stock SDK", "langfuse", "farthing", "ledger"):
        port = free_port()
        with backend(port):
            figures = figures_of(start(variant, "throughput", calls, port))
            count = arrived(port)
        base = base or figures["calls_per_second"]
        ends = figures.get("ledger") if variant == "ledger" else count
        print(
            f"  {variant:<12}{figures['calls_per_second']:>10,.0f}{figures['calls_per_second'] / base:>7.2f}x"
            f"{figures['cpu_us']:>10.0f} us{figures['caller_cpu_us']:>7.1f} us{ends:>10,} of {calls + 200:,}"
        )


def processes(calls: int) -> None:
    """Several processes that share the machine and the ledger's folder."""
    cores = os.cpu_count() or 1
    print(f"\nFarthing in 1, 2 and 4 processes on {cores} cores, ledger only, {calls:,} calls each")
    base = None
    for count in (1, 2, 4):
        running = [start("ledger", "throughput", calls, 9) for _ in range(count)]
        total = sum(figures_of(process)["calls_per_second"] for process in running)
        base = base or total
        print(f"  {count} processes {total:>10,.0f} calls/s {total / base:>6.2f}x")


def overload(calls: int) -> None:
    """A burst of ten times what a queue of 10,000 holds."""
    print(f"\nOverload: {calls:,} calls at once; farthing's queue holds 10,000, the others' are as they come")
    for variant in VARIANTS:
        port = free_port()
        with backend(port):
            figures = figures_of(start(variant, "overload", calls, port))
            count = arrived(port)
        told = f"counted as dropped {figures['dropped']:,}" if "dropped" in figures else "says nothing of the rest"
        print(
            f"  {variant:<12}arrived {count:>8,} of {calls + 200:,}; {told}; "
            f"caller {figures['caller_cpu_us']:.1f} us a call"
        )


def outage(calls: int, per_second: float) -> None:
    """The backend is away for the first two thirds of the run."""
    seconds = calls / per_second
    print(f"\nOutage: {calls:,} calls at {per_second:.0f} a second, backend down for the first {seconds * 2 / 3:.0f} s")
    for variant in VARIANTS:
        port = free_port()
        process = start(variant, "outage", calls, port, per_second)
        time.sleep(seconds * 2 / 3 + 1.5)
        with backend(port):
            figures = figures_of(process)
            time.sleep(0.5)
            print(
                f"  {variant:<12}arrived {arrived(port):>7,} of {calls:,}; "
                f"caller p50 {figures['p50_us']:.0f} us, p99 {figures['p99_us']:.0f} us"
            )


def memory(calls: int) -> None:
    """Memory over many calls, with the backend up and the ledger on."""
    print(f"\nMemory over {calls:,} calls, exported and in the ledger")
    port = free_port()
    with backend(port):
        figures = figures_of(start("farthing", "memory", calls, port))
    print(
        f"  farthing    {figures['warm_mb']:.1f} MB when warm, growth {figures['growth_mb']:+.1f} MB, "
        f"peak {figures['peak_mb']:.1f} MB; ledger {figures['ledger']:,}, dropped {figures['dropped']}"
    )


def main() -> None:
    """Measure all and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SCENARIOS, nargs="*", help="scenarios to run (default all)")
    parser.add_argument("--calls", type=int, default=20_000, help="for throughput (default 20,000)")
    parser.add_argument("--memory-calls", type=int, default=1_000_000)
    given = parser.parse_args()
    wanted = given.only or SCENARIOS
    if "throughput" in wanted:
        throughput(given.calls)
    if "processes" in wanted:
        processes(given.calls)
    if "overload" in wanted:
        overload(100_000)
    if "outage" in wanted:
        outage(1_500, 50)
    if "memory" in wanted:
        memory(given.memory_calls)


if __name__ == "__main__":
    main()
