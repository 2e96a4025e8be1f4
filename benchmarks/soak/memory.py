"""What the process and farthing hold, looked at whenever all is quiet."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from pathlib import Path
from typing import Final, NamedTuple

import farthing
from farthing import setup
from farthing_crewai import listener
from farthing_langchain.lineage import lineage
from farthing_litellm.attempts import left

_PAGE: Final = 4096
_BOUND_BYTES: Final = 8 << 20
"""What farthing's bounded maps may come to hold when full: finished keys, first attempts, CrewAI's places."""
_PER_CALL_BYTES: Final = 64
"""Growth of farthing's own between the last phases, beyond which it is no noise."""


class Sample(NamedTuple):
    """What was seen at one quiet moment."""

    calls: int
    rss: int
    threads: int
    held: dict[str, int]
    traced: int


class Memory:
    """Looks at memory, and says whether it grows."""

    def __init__(self, *, trace: bool) -> None:
        self._samples: list[Sample] = []
        self._trace = trace
        if trace:
            tracemalloc.start(1)

    def look(self, calls: int) -> str:
        """Take a sample; gives a line to print."""
        gc.collect()
        sample = Sample(calls, _rss(), threading.active_count(), _held(), self._traced())
        self._samples.append(sample)
        traced = f", farthing's own {sample.traced / 1e6:.2f} MB" if self._trace else ""
        held = ", ".join(f"{name} {count}" for name, count in sample.held.items())
        return f"RSS {sample.rss / 1e6:.0f} MB{traced}, {sample.threads} threads; {held}"

    def _traced(self) -> int:
        if not self._trace:
            return 0
        filters = [tracemalloc.Filter(inclusive=True, filename_pattern=f"{Path(farthing.__file__).parents[3]}/*")]
        return sum(each.size for each in tracemalloc.take_snapshot().filter_traces(filters).statistics("lineno"))

    def differences(self) -> list[str]:
        """Give what is held when nothing should be, and what grows on and on."""
        found: list[str] = []
        for sample in self._samples:
            found += [f"after {sample.calls} calls {name} holds {n}" for name, n in sample.held.items() if n]
        if self._trace and self._samples[-1].traced > _BOUND_BYTES:
            found.append(f"farthing holds {self._samples[-1].traced} bytes")
        return found

    def report(self) -> str:
        """Say how memory went from the middle to the end."""
        middle, end = self._samples[len(self._samples) // 2], self._samples[-1]
        grown = (end.rss - middle.rss) / max(1, end.calls - middle.calls)
        line = f"  RSS {middle.rss / 1e6:.0f} MB after {middle.calls} calls, {end.rss / 1e6:.0f} MB after {end.calls}"
        line += f": {grown:+.0f} bytes a call"
        if self._trace:
            own = (end.traced - middle.traced) / max(1, end.calls - middle.calls)
            line += f"; farthing's own {middle.traced} and {end.traced} bytes: {own:+.0f} a call"
        return line


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _held() -> dict[str, int]:
    """Count what is open: all of it must be 0 when all is quiet."""
    return {
        "open runs": len(setup.runtime().runs),
        "LangChain": len(lineage),
        "CrewAI": len(listener._bridge.tracker),  # noqa: SLF001 - there is no other way to look inside
        "LiteLLM": len(left),
    }
