"""What pricing costs: microseconds a call and resident memory, ours beside genai-prices, measured in the same run.

    python benchmarks/pricing.py

Each engine runs in a process of its own, three rounds, and the best round counts. CPU time, not wall time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 3
CALLS = 20_000

CASES = [
    ("openai", "gpt-4o-2024-08-06", 12_345, 678, 10_000),
    ("anthropic", "claude-sonnet-4-5-20250929", 250_000, 1_000, 240_000),
    ("aws", "us.anthropic.claude-haiku-4-5-20251001-v1:0", 5_000, 300, 0),
    ("google", "gemini-2.5-flash", 9_000, 400, 3_000),
    ("openrouter", "openai/gpt-4o", 1_000, 100, 0),
]


def resident_mb() -> float:
    """Give the resident memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def ours() -> dict[str, float]:
    """Measure farthing: importing, loading, the first call, warm calls, unknown models."""
    import pydantic  # noqa: F401, PLC0415 - both engines stand on it; its memory is nobody's

    from farthing.envelope import Usage  # noqa: PLC0415

    before, began = resident_mb(), time.process_time()
    from datetime import UTC, datetime  # noqa: PLC0415

    from farthing.pricing import default_book  # noqa: PLC0415

    imported = time.process_time()
    book = default_book()
    now = datetime.now(UTC)
    usages = [
        Usage(input_tokens=tokens, output_tokens=output, cache_read_tokens=read) for *_, tokens, output, read in CASES
    ]
    for (provider, model, *_), usage in zip(CASES, usages, strict=True):
        book.price(provider, model, usage, at=now)
    first = time.process_time()
    pairs = list(zip(CASES, usages, strict=True))
    for _ in range(CALLS // len(CASES)):
        for (provider, model, *_), usage in pairs:
            book.price(provider, model, usage, at=now)
    warm = time.process_time()
    for _ in range(CALLS // 10):
        book.price("openrouter", "nobody/knows-this", usages[0], at=now)
    unknown = time.process_time()
    book.catalog.load_everything()
    return {
        "import s": imported - began,
        "load and first calls s": first - imported,
        "warm us/call": (warm - first) / CALLS * 1e6,
        "unknown us/call": (unknown - warm) / (CALLS // 10) * 1e6,
        "memory MB": resident_mb() - before,
    }


def theirs() -> dict[str, float]:
    """Measure genai-prices in the same way."""
    import pydantic  # noqa: F401, PLC0415 - as above

    from farthing.envelope import Usage as _Usage  # noqa: F401, PLC0415 - the same start for both

    before, began = resident_mb(), time.process_time()
    from datetime import UTC, datetime  # noqa: PLC0415

    from genai_prices import Usage, calc_price  # noqa: PLC0415

    imported = time.process_time()
    now = datetime.now(UTC)
    usages = [
        Usage(input_tokens=tokens, output_tokens=output, cache_read_tokens=read) for *_, tokens, output, read in CASES
    ]
    pairs = list(zip(CASES, usages, strict=True))
    for (provider, model, *_), usage in pairs:
        calc_price(usage, model, provider_id=provider, genai_request_timestamp=now)
    first = time.process_time()
    for _ in range(CALLS // len(CASES)):
        for (provider, model, *_), usage in pairs:
            calc_price(usage, model, provider_id=provider, genai_request_timestamp=now)
    warm = time.process_time()
    for _ in range(CALLS // 10):
        try:
            calc_price(usages[0], "nobody/knows-this", provider_id="openrouter", genai_request_timestamp=now)
        except LookupError:
            continue
    unknown = time.process_time()
    return {
        "import s": imported - began,
        "load and first calls s": first - imported,
        "warm us/call": (warm - first) / CALLS * 1e6,
        "unknown us/call": (unknown - warm) / (CALLS // 10) * 1e6,
        "memory MB": resident_mb() - before,
    }


def best(engine: str) -> dict[str, float]:
    """Run one engine a few times, each in a new process, and keep its best figures."""
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        done = subprocess.run([sys.executable, __file__, engine], check=True, capture_output=True, text=True)
        rounds.append(json.loads(done.stdout))
    return {name: min(one[name] for one in rounds) for name in rounds[0]}


def main() -> None:
    """Print both, and how they compare."""
    if len(sys.argv) > 1:
        print(json.dumps({"farthing": ours, "genai-prices": theirs}[sys.argv[1]]()))
        return
    farthing, library = best("farthing"), best("genai-prices")
    print(f"{'':24}{'farthing':>12}{'genai-prices':>14}{'ratio':>8}")
    for name, figure in farthing.items():
        print(f"{name:24}{figure:12.2f}{library[name]:14.2f}{figure / library[name]:8.2f}")


if __name__ == "__main__":
    main()
