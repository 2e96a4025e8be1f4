"""A world for disasters: processes that spend, an invoice, and a backend that comes and goes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from farthing.testing import read_calls
from farthing.testing.receiver import OtlpReceiver

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

__all__ = ["PRELUDE", "WORKER", "World", "end"]

WORKER = Path(__file__).with_name("worker.py")
PRELUDE = f"""
import multiprocessing, os, signal, sys, time
sys.path.insert(0, {str(WORKER.parent)!r})
import farthing
from worker import spend
invoice = os.open(os.environ["INVOICE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
"""


class World:
    """A ledger, an invoice, a port for a backend that comes and goes, and all that it ever received."""

    def __init__(self, folder: Path) -> None:
        self.ledger = folder / "ledger"
        self.invoice = folder / "invoice"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.received: list[OtlpReceiver] = []

    @contextmanager
    def backend(self, **behaviour: object) -> Generator[OtlpReceiver]:
        """Run the backend for a while."""
        with OtlpReceiver(port=self.port, **behaviour) as receiver:  # pyright: ignore[reportArgumentType] - by name
            self.received.append(receiver)
            yield receiver

    def environment(self, **variables: str) -> dict[str, str]:
        """Give what a process of this world is started with."""
        return {
            **os.environ,
            "FARTHING_LEDGER": str(self.ledger),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "INVOICE": str(self.invoice),
            **variables,
        }

    def start(self, calls: int, per_second: float, threads: int = 1, **variables: str) -> subprocess.Popen[str]:
        """Start a process that spends."""
        command = [sys.executable, WORKER, self.invoice, calls, per_second, threads]
        return self._start([str(part) for part in command], variables)

    def start_script(self, script: str, **variables: str) -> subprocess.Popen[str]:
        """Start a process that does something else."""
        return self._start([sys.executable, "-c", PRELUDE + script], variables)

    def _start(self, command: Sequence[str], variables: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and scripts
            command, env=self.environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def drain(self) -> None:
        """Let one more process find what the others left."""
        with self.backend():
            end(self.start_script("spend(invoice, 0, 1, 0)\nfarthing.flush(20)\ntime.sleep(0.5)\nfarthing.flush(20)"))

    @property
    def invoiced(self) -> Counter[str]:
        """What the provider would charge for."""
        return Counter(self.invoice.read_text().split()) if self.invoice.exists() else Counter()

    @property
    def recorded(self) -> Counter[str]:
        """What the ledger holds."""
        return Counter(call.response_id or "" for call in read_calls(self.ledger))

    @property
    def arrived(self) -> Counter[str]:
        """What backends received, by response id; a span that came twice under its one id counts once."""
        spans = {span.span_id: span for receiver in self.received for span in receiver.spans}
        return Counter(str(span.attributes["gen_ai.response.id"]) for span in spans.values() if span.kind == 3)

    @property
    def metered(self) -> float:
        """The calls that the last cumulative state of every process adds up to."""
        last: dict[tuple[object, ...], float] = {}
        for receiver in self.received:
            for batch in receiver.batches:
                for point in batch:
                    if point.metric == "farthing.calls":
                        key = (point.resource["service.instance.id"], *sorted(point.attributes.items()))
                        last[key] = max(point.value, last.get(key, 0.0))
        return sum(last.values())

    def check(self) -> None:
        """Compare all three with the invoice."""
        assert self.recorded == self.invoiced
        assert self.arrived == self.invoiced
        assert self.metered == self.invoiced.total()


def end(process: subprocess.Popen[str], seconds: float = 60) -> str:
    """Wait for the end of a process; it must be a good one."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out
