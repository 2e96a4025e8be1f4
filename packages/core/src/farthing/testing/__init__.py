"""For tests of applications that use farthing: capture what it records, receive what it sends, fake who is paid.

`capture()` gives the Calls of a block; `farthing.testing.receiver.OtlpReceiver` is a real OTLP endpoint on loopback;
`farthing.testing.provider.FakeProvider` speaks the providers' wire formats and keeps its own invoice.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from farthing import setup
from farthing.counting import counters
from farthing.envelope import Call

if TYPE_CHECKING:
    from collections.abc import Generator

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from farthing.counting import Health

__all__ = ["Captured", "capture", "read_calls"]


def read_calls(folder: Path) -> list[Call]:
    """Read every Call of a ledger folder, in the order of their start.

    Raises:
        pydantic.ValidationError: A line is no Call; in a test that is a finding.
    """
    lines = [line for path in sorted(folder.glob("calls-*.jsonl")) for line in path.read_bytes().splitlines()]
    return sorted((Call.model_validate_json(line) for line in lines), key=lambda call: (call.started_at, call.call_id))


class Captured:
    """What farthing recorded inside a `capture()` block."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder

    @property
    def calls(self) -> list[Call]:
        """Flush, then give the Calls so far."""
        setup.flush(timeout=10)
        return read_calls(self.folder)

    @property
    def health(self) -> Health:
        """Give the health of the process."""
        return setup.health()


@contextlib.contextmanager
def capture(
    *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None, **settings: object
) -> Generator[Captured]:
    """Configure farthing afresh with a ledger of its own for the length of a block.

    Args:
        tracer_provider: As for `farthing.configure`.
        meter_provider: As for `farthing.configure`.
        settings: As for `farthing.configure`; `ledger` is taken.

    Raises:
        ConfigurationError: A setting cannot be used.
    """
    setup.shutdown(timeout=10)
    counters.reset()
    with tempfile.TemporaryDirectory(prefix="farthing-", ignore_cleanup_errors=True) as folder:
        settings["ledger"] = folder
        setup.configure(tracer_provider=tracer_provider, meter_provider=meter_provider, **settings)
        try:
            yield Captured(Path(folder))
        finally:
            setup.shutdown(timeout=10)
            counters.reset()
