"""The runtime: everything that one configuration needs, from the meter to the sinks, put together once."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from farthing import export
from farthing.billing import Billing
from farthing.counting import Counters, counters
from farthing.delivery import Delivery
from farthing.endings import is_ending
from farthing.files import make_private_folder, open_regular
from farthing.guard import report_fault
from farthing.meter import Meter
from farthing.neighbours import Lookout
from farthing.policy import Layer
from farthing.pricing.installed import BookInForce
from farthing.reloading import PolicyWatch
from farthing.rules import Rules, policy_of
from farthing.runs import RunMap
from farthing.settings import RELOADED, Settings, load_settings, settings_file
from farthing.sinks.ledger import LedgerSink
from farthing.sinks.metrics import MetricSink
from farthing.sinks.segments import segments
from farthing.sinks.spans import SpanSink
from farthing.sinks.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from farthing.delivery import Event

__all__ = ["Runtime", "ledger_folder", "process_defaults", "settlers", "spool_folder"]

settlers: Final[list[Callable[[float], None]]] = []
"""Functions of plugins that let their framework deliver late events, given seconds; called before a flush."""

_NOT_ARRIVED: Final = frozenset({"lost", "refused", "rejected", "damaged"})
_LATE_SECONDS: Final = 1.0
_MAX_LINES: Final = 10_000
_MAX_NOTED: Final = 100_000
_POLL_SECONDS: Final = 0.005


class Runtime:
    """Everything that one configuration needs, built once.

    Args:
        settings: Validated settings.
        explicit: Whether configure() asked for it.
        providers: The tracer and meter providers that were given.
        arguments: What configure() was given, for when the file is read again.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        explicit: bool,
        providers: tuple[TracerProvider | None, MeterProvider | None] = (None, None),
        arguments: Mapping[str, object] | None = None,
    ) -> None:
        self._lines: deque[tuple[str, Mapping[str, object]]] = deque()
        self._noted: set[int] = set()
        self.settings = settings
        self.arguments: Final = dict(arguments or {})
        self.explicit = explicit
        """Whether configure() was called; what configured itself may still be replaced."""
        self.instance_id: Final = str(uuid4())
        self.counters: Final[Counters] = counters
        self._earlier: Final = counters.snapshot()
        self.runs: Final = RunMap(max_open=settings.max_open_calls)
        self.ledger: Final = make_ledger(settings)
        self.telemetry: Final = export.Telemetry(
            endpoint=settings.otlp_endpoint,
            service_name=settings.service_name,
            instance_id=self.instance_id,
            counters=self.counters,
            given=providers,
            spool=spool_maker(settings, self.counters),
        )
        prefix = settings.attribution_prefix
        spans = SpanSink(tracer=self.telemetry.tracer, prefix=prefix)
        metrics = MetricSink(
            meter=self.telemetry.meter,
            dimensions=settings.metric_dimensions,
            prefix=prefix,
            events=self.events,
            levels=self.levels,
        )
        sinks = {"metrics": metrics.write}
        if self.ledger is not None:
            sinks["ledger"] = self.ledger.write
        self.prices: Final = BookInForce(settings.prices)
        self.rules: Final = Rules(
            policy=policy_of(settings),
            weakest=_weakest(settings),
            enforce=settings.enforce,
            counters=self.counters,
            on_refusal=lambda: self.delivery.begin(),  # noqa: PLW0108 - made below
        )
        self.watch: Final = PolicyWatch(settings_file(), reload=self._reload, counters=self.counters)
        self._lookout: Final = Lookout(self.counters)
        billing = Billing(
            rules=self.rules,
            book=self.prices.book,
            spans=spans,
            sinks=sinks,
            runs=self.runs,
            counters=self.counters,
            ready=lambda: self.prices.loads() and self.telemetry.ready(),
            run_timeout_seconds=settings.call_timeout_seconds,
            service=(self.telemetry.service_name, self.instance_id),
        )
        self._billing: Final = billing
        self.delivery: Final = Delivery(
            handle=self._handle,
            tick=self._tick,
            max_queue=settings.queue_size,
            counters=self.counters,
            at_once=is_ending(),
        )
        self.meter: Final = Meter(
            runs=self.runs,
            submit=self.delivery.submit,
            counters=self.counters,
            rules=self.rules,
            estimating=settings.estimate_unreported,
            asks_for_usage=settings.ask_for_usage,
        )

    def resume(self) -> None:
        """Begin to send what an earlier process left, if there is anything and somewhere to send it.

        Raises:
            Nothing.
        """
        folder = spool_folder(self.settings)
        if folder is not None and self.telemetry.destination("TRACES") is not None and segments(folder):
            self.delivery.begin()

    def note_line(self, name: str, line: Mapping[str, object]) -> None:
        """Have the worker add a line to a file beside the ledger, once; without a ledger it is kept nowhere.

        Raises:
            Nothing.
        """
        if self.ledger is None:
            return
        key = hash((name, repr(line)))
        if key in self._noted:
            return
        if len(self._lines) >= _MAX_LINES:
            self.counters.add("dropped", "note")
            return
        if len(self._noted) >= _MAX_NOTED:
            self._noted.clear()
        self._noted.add(key)
        self._lines.append((name, line))

    def _write_lines(self) -> None:
        folder = ledger_folder(self.settings)
        while self._lines:
            name, line = self._lines[0]
            make_private_folder(folder)
            descriptor = open_regular(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            with os.fdopen(descriptor, "a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._lines.popleft()  # only now: a disk that is full for a while must not cost the line

    def _reload(self) -> None:
        """Read the file again and put in force what may change without a restart."""
        loaded = load_settings(self.arguments, path=self.watch.path)
        settings = self.settings.model_copy(update={key: getattr(loaded, key) for key in RELOADED})
        self.rules.replace(policy_of(settings), _weakest(settings), enforce=settings.enforce)
        self.settings = settings

    def _handle(self, events: list[Event]) -> None:
        """On the worker: events become Calls in the ledger first, and then requests in the spool."""
        try:
            self._billing.handle(events)
        finally:
            self.telemetry.collect()

    def _tick(self, final: bool) -> None:  # noqa: FBT001 - the worker's protocol
        self.watch.check()
        try:
            self._write_lines()
        except OSError as error:
            report_fault("farthing.runtime.note_line", error, self.counters)
        try:
            self._billing.tick(final)
            if not final:
                self.prices.look()
        finally:
            self._tend_ledger(now=final)
            self.telemetry.collect()
            self.telemetry.watch()
        if not final:
            self.telemetry.meter()  # with it begins to be sent what other processes left, also without a call here
            if self.telemetry.tracer() is not None:
                self._lookout.look()

    def _tend_ledger(self, *, now: bool) -> None:
        if self.ledger is None:
            return
        try:
            if now:
                self.ledger.retry()
            self.ledger.roll()
        except OSError as error:
            report_fault("farthing.sinks.ledger", error, self.counters)

    def events(self) -> dict[tuple[str, str], int]:
        """Give everything that was counted since this configuration began, by name and reason: the metrics are this.

        The counters are the process's, and so is health(). Metrics are of an instance, which every configuration is
        anew: whoever adds instances up would count twice what an earlier one told.
        """
        counted = {
            key: more
            for key, count in self.counters.snapshot().items()
            if (more := count - self._earlier.get(key, 0)) > 0
        }
        if self.ledger is not None:
            counted["ledger", "written"] = self.ledger.written
            counted["ledger", "failed"] = self.ledger.failed
        return counted

    def levels(self) -> dict[str, float]:
        """Give what goes up and down: what waits, and for how long."""
        oldest_ns = self.telemetry.oldest_ns()
        return {
            "queued": len(self.delivery),
            "open_runs": len(self.runs),
            "spooled": self.telemetry.waiting_spans(),
            "ledger_waiting": self.ledger.waiting if self.ledger is not None else 0,
            "lag_seconds": 0.0 if oldest_ns is None else max(0.0, (time.time_ns() - oldest_ns) / 1e9),
        }

    def flush(self, timeout: float) -> bool:
        """Deliver what is known so far; see `farthing.flush`."""
        deadline = time.monotonic() + timeout
        for settle in settlers:
            try:
                settle(max(0.0, deadline - time.monotonic()))
            except Exception as error:  # noqa: BLE001 - a framework's fault is not the application's
                report_fault("farthing.runtime.settlers", error)
        late_until = min(deadline, time.monotonic() + _LATE_SECONDS)
        while self.late_runs() and time.monotonic() < late_until:
            time.sleep(_POLL_SECONDS)
        return self.deliver(deadline) and not self.late_runs()

    def late_runs(self) -> bool:
        """Say whether a call has returned whose framework still owes its report."""
        return self.runs.any_late()

    def deliver(self, deadline: float) -> bool:
        """Empty the queue, then the sending threads."""
        failed = self.failures()
        done = self.delivery.flush(deadline - time.monotonic())
        exported = self.telemetry.flush(max(0.0, deadline - time.monotonic()))
        waiting = self.ledger.waiting if self.ledger is not None else 0
        return done and exported and not waiting and self.failures() == failed

    def failures(self) -> int:
        """Count what did not arrive so far, and will not."""
        exported = self.counters.by_reason("exported")
        refused = sum(count for reason, count in exported.items() if reason.partition(":")[2] in _NOT_ARRIVED)
        return refused + self.counters.total("dropped") + (self.ledger.failed if self.ledger is not None else 0)

    def close(self, timeout: float) -> bool:
        """End: open calls are written as abandoned, then everything is delivered, within the timeout."""
        deadline = time.monotonic() + timeout
        for run in self.runs.older_than(0):
            self.meter.abandon(run, "process-ended")
        done = self.delivery.stop(deadline - time.monotonic())
        closed = self.telemetry.close(max(0.0, deadline - time.monotonic()))
        if self.ledger is not None:
            self.ledger.give_up()
            self.ledger.close()
        return done and closed

    def abandon(self) -> None:
        """Let go of the parent's files in a forked child."""
        self.telemetry.abandon()
        if self.ledger is not None:
            self.ledger.close()


def ledger_folder(settings: Settings) -> Path:
    """Give the folder of the ledger: the setting, else the platform's per-user state folder."""
    if settings.ledger is not None:
        return settings.folder(settings.ledger)
    from platformdirs import user_state_path  # noqa: PLC0415 - only where the default is used

    return user_state_path("farthing", appauthor=False) / "ledger"


def make_ledger(settings: Settings) -> LedgerSink | None:
    """Make the ledger that the settings ask for, or None where it is off."""
    if settings.ledger == "off":
        return None
    return LedgerSink(
        ledger_folder(settings),
        segment_bytes=settings.ledger_segment_megabytes << 20,
        segment_seconds=settings.ledger_segment_minutes * 60,
        fsync=settings.ledger_fsync,
        retention_days=settings.ledger_retention_days,
    )


def spool_folder(settings: Settings) -> Path | None:
    """Give the folder of the spool; None where it is off, or the ledger is and no other folder is named."""
    if settings.spool is not None:
        return None if settings.spool == "off" else settings.folder(settings.spool)
    return None if settings.ledger == "off" else ledger_folder(settings) / "spool"


def spool_maker(settings: Settings, counted: Counters) -> Callable[[str], Spool] | None:
    """Give what makes the spool of a destination, by the destination's tag."""
    folder = spool_folder(settings)
    if folder is None:
        return None

    def make(tag: str) -> Spool:
        return Spool(
            folder,
            tag=tag,
            max_bytes=settings.spool_max_megabytes << 20,
            max_age_seconds=settings.spool_max_age_hours * 3_600,
            counters=counted,
        )

    return make


def _weakest(settings: Settings) -> tuple[Layer, ...]:
    return (Layer("process", process_defaults(settings), strict=True),)


def process_defaults(settings: Settings) -> dict[str, str]:
    """Give the process's own tags: the setting `defaults`, and the environment that OTEL_RESOURCE_ATTRIBUTES names."""
    found: dict[str, str] = {}
    for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, _, value = pair.partition("=")
        if name.strip() in {"deployment.environment.name", "deployment.environment"} and value.strip():
            found["environment"] = value.strip()
    return found | settings.defaults
