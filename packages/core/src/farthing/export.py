"""Where spans and metrics go: the application's own providers, or private ones when OTEL_* names an endpoint.

The providers made here are never installed globally: an application that has none keeps having none.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from importlib import import_module
from math import inf, isfinite
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind

from farthing.guard import report_fault, report_problem
from farthing.otlp import BadEndpointError, Destination, endpoint_from_environment
from farthing.shipping import Shipper

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider as ApiMeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import TracerProvider as ApiTracerProvider

    from farthing.counting import Counters
    from farthing.sinks.metrics import InstrumentMaker
    from farthing.sinks.points import PointMeter
    from farthing.sinks.segments import Kind
    from farthing.sinks.spans import SpanStarter
    from farthing.sinks.spool import Spool
    from farthing.sinks.wire import WireSpan

__all__ = ["Telemetry"]

# CrewAI up to 1.15.14 makes its own telemetry provider the global one; spans given to it would leave for its vendor.
_FOREIGN_SERVICES: Final = frozenset({"crewAI-telemetry"})
_VERSION: Final = "0.1.0"
_REQUEST_SPANS: Final = 512
_PAUSE_SECONDS: Final = 2.0


@runtime_checkable
class _Flushable(Protocol):
    def force_flush(self) -> object: ...


class Telemetry:
    """Finds or makes the tracer and the meter.

    Args:
        endpoint: Base URL of an OTLP/HTTP receiver, or None for the OTEL_* variables.
        service_name: `service.name`, or None for OTEL_SERVICE_NAME.
        instance_id: `service.instance.id` of this process.
        counters: Where export results are counted.
        given: The tracer and meter providers that the application handed over; they go before all others.
        spool: Makes the spool of the destination with a tag; None keeps what waits in memory alone.
    """

    def __init__(
        self,
        *,
        endpoint: str | None,
        service_name: str | None,
        instance_id: str,
        counters: Counters,
        given: tuple[ApiTracerProvider | None, ApiMeterProvider | None] = (None, None),
        spool: Callable[[str], Spool] | None = None,
    ) -> None:
        self.given = given
        self._endpoint = endpoint.rstrip("/") if endpoint else None
        self.service_name: Final = service_name or os.environ.get("OTEL_SERVICE_NAME")
        self._instance_id = instance_id
        self._counters = counters
        self._lock = threading.Lock()
        self._provider: ApiTracerProvider | None = None
        self._tracer: SpanStarter | None = None
        self._meter_provider: ApiMeterProvider | None = None
        self._meter: InstrumentMaker | None = None
        self._own_tracing: TracerProvider | None = None
        self._own_meter: PointMeter | None = None
        self._failed: dict[str, float] = {}
        self._make_spool = spool
        self._ended: deque[WireSpan] = deque()
        self._envelope: tuple[bytes, bytes] = (b"", b"")
        self._own_tracer: SpanStarter | None = None
        self._looked = False
        self._spans: Shipper | None = None
        self._metrics: Shipper | None = None
        if self.destination("TRACES") is not None:
            # The SDK imports this, and it refuses to be imported once the process is ending: a script that is over
            # before the worker had its turn would export nothing. Where it is ending already, there is the ledger.
            with suppress(RuntimeError, OSError):
                import_module("concurrent.futures.thread")

    def destination(self, signal: str) -> str | None:
        """Give the URL that our own exporter sends a signal to, or None where we have none."""
        if self._endpoint is not None:
            return f"{self._endpoint}/v1/{signal.lower()}"
        return endpoint_from_environment(signal)

    def tracer(self) -> SpanStarter | None:
        """Give the tracer to use now, or None where nobody listens; looked for once a batch."""
        if self._looked:
            return self._tracer
        self._looked = True
        found: ApiTracerProvider | None = self.given[0] or trace.get_tracer_provider()
        if not _is_application_provider(found):
            found = self._private_tracing()
        if found is not self._provider:
            self._provider = found
            own = self._own_tracer if found is self._own_tracing else None
            self._tracer = own or (None if found is None else found.get_tracer("farthing", _VERSION))
        return self._tracer

    def meter(self) -> InstrumentMaker | None:
        """Give the meter to use now, or None where nobody listens."""
        found: ApiMeterProvider = self.given[1] or metrics.get_meter_provider()
        if not _is_application_provider(found):
            return self._private_meter()
        if found is not self._meter_provider:
            self._meter_provider = found
            self._meter = found.get_meter("farthing", _VERSION)
        return self._meter

    def ready(self) -> bool:
        """Say whether every exporter that is wanted is made, or never can be; they are made where they are not.

        Raises:
            Nothing.
        """
        self.tracer()
        self.meter()
        return not any(isfinite(until) for until in self._failed.values())

    def collect(self) -> None:
        """Hand the spans that ended since to the sending thread, and have the sums on disk; called after a batch.

        Raises:
            Nothing.
        """
        self._looked = False
        if self._ended:
            self._encode()
        if self._metrics is not None:
            self._metrics.keep()

    def watch(self) -> None:
        """Look after the sending threads; called about once a second on the worker."""
        for shipper in self._shippers():
            shipper.cut_if_stuck()

    def waiting_spans(self) -> int:
        """Count the spans that no receiver has taken yet."""
        return (0 if self._spans is None else self._spans.waiting) + len(self._ended)

    def oldest_ns(self) -> int | None:
        """Give the time at which the oldest of them was handed over, in nanoseconds since the epoch."""
        return None if self._spans is None else self._spans.oldest_ns

    def flush(self, timeout: float) -> bool:
        """Send what our own pipeline holds and flush the application's provider, within seconds.

        What the application's provider did with it is not said here: `force_flush` of the SDK answers True when every
        export failed.

        Returns:
            Whether receivers took all that our own pipeline had.
        """
        deadline = time.monotonic() + timeout
        tickets = [(shipper, shipper.ask()) for shipper in self._shippers()]
        foreign = self._foreign_providers()
        done = True
        if foreign:
            done = _within(timeout, lambda: [provider.force_flush() for provider in foreign])
        for shipper, ticket in tickets:
            done = shipper.wait(ticket, max(0.0, deadline - time.monotonic())) and done
        return done and not self._failed

    def close(self, timeout: float) -> bool:
        """Flush, then let go of everything, within seconds, whatever the backend does."""
        done = self.flush(timeout)
        for shipper in self._shippers():
            shipper.close()
        return done

    def abandon(self) -> None:
        """Let go of the parent's files in a forked child."""
        for shipper in self._shippers():
            shipper.abandon()

    def _shippers(self) -> list[Shipper]:
        return [shipper for shipper in (self._spans, self._metrics) if shipper is not None]

    def _foreign_providers(self) -> list[_Flushable]:
        used = (self._provider, self._meter_provider)
        return [each for each in used if each is not self._own_tracing and isinstance(each, _Flushable)]

    def _encode(self) -> None:
        """Make bills and structure requests of their own, so that the spool can part with one before the other."""
        from farthing.sinks.wire import encode_request, encode_span  # noqa: PLC0415 - loaded by those who export

        bills: list[bytes] = []
        structure: list[bytes] = []
        while self._ended:
            span = self._ended.popleft()
            try:
                (bills if span.kind is SpanKind.CLIENT else structure).append(encode_span(span))
            except Exception as error:  # noqa: BLE001 - one span's fault must not take the others along
                self._counters.add("exported", "spans:lost")
                report_fault("farthing.export.encode", error, self._counters)
        kinds: tuple[tuple[Kind, list[bytes]], ...] = (("bills", bills), ("structure", structure))
        for kind, spans in kinds:
            for start in range(0, len(spans), _REQUEST_SPANS):
                chunk = spans[start : start + _REQUEST_SPANS]
                if self._spans is not None:
                    self._spans.put(kind, encode_request(self._envelope, chunk), len(chunk))

    def _resource(self) -> Resource:
        from opentelemetry.sdk.resources import (  # noqa: PLC0415 - the SDK is loaded when first needed
            OTELResourceDetector,
            Resource,
        )

        attributes = {"service.instance.id": self._instance_id}
        if self.service_name is not None:
            attributes["service.name"] = self.service_name
        try:
            return Resource.create(attributes)
        except RuntimeError:
            # It asks its detectors in a pool of threads, and there are none any more in a script that is over before
            # the worker had its turn. What the variables say is known without.
            told = OTELResourceDetector().detect()
            return Resource({"service.name": "unknown_service"}).merge(told).merge(Resource(attributes))

    def _private_tracing(self) -> TracerProvider | None:
        url = self.destination("TRACES")
        if url is None or self._is_given_up("traces"):
            return None
        with self._lock:
            if self._own_tracing is None:
                try:
                    self._own_tracing = self._make_tracing(url)
                    self._failed.pop("traces", None)
                except Exception as error:  # noqa: BLE001 - a broken exporter must not take the ledger along
                    self._give_up("traces", error)
            return self._own_tracing

    def _make_tracing(self, url: str) -> TracerProvider:
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - on demand

        from farthing.sinks.wire import WireTracer, envelope_of  # noqa: PLC0415 - on demand

        destination = Destination.of("TRACES", url)
        provider = TracerProvider(resource=self._resource(), shutdown_on_exit=False)
        self._envelope = envelope_of(provider.resource, "farthing", _VERSION)
        self._own_tracer = WireTracer(provider, self._ended.append)
        self._spans = Shipper(destination, word="spans", spool=self._spool(destination), counters=self._counters)
        self._spans.start()
        return provider

    def _spool(self, destination: Destination) -> Spool | None:
        return None if self._make_spool is None else self._make_spool(destination.tag)

    def _private_meter(self) -> PointMeter | None:
        url = self.destination("METRICS")
        if url is None or self._is_given_up("metrics"):
            return None
        with self._lock:
            if self._own_meter is None:
                try:
                    self._own_meter = self._make_meter(url)
                    self._failed.pop("metrics", None)
                except Exception as error:  # noqa: BLE001 - see above
                    self._give_up("metrics", error)
            return self._own_meter

    def _give_up(self, signal: str, error: Exception) -> None:
        """Send nothing of a signal whose URL cannot be used, in words that say what to write; try all else again."""
        never = isinstance(error, BadEndpointError)
        self._failed[signal] = inf if never else time.monotonic() + _PAUSE_SECONDS
        if never:
            report_problem(f"farthing.export.{signal}", str(error), self._counters)
        else:
            report_fault(f"farthing.export.{signal}", error, self._counters)

    def _is_given_up(self, signal: str) -> bool:
        return time.monotonic() < self._failed.get(signal, 0.0)

    def _make_meter(self, url: str) -> PointMeter:
        from farthing.sinks.points import PointMeter  # noqa: PLC0415 - on demand

        # Cumulative whatever the variables say: the sums of an interval that could not be sent would be lost for good.
        destination = Destination.of("METRICS", url)
        meter = PointMeter(resource=self._resource(), scope_name="farthing", scope_version=_VERSION)
        self._metrics = Shipper(
            destination,
            word="metrics",
            spool=self._spool(destination),
            counters=self._counters,
            sums=meter,
            interval_seconds=_metric_interval_seconds(),
        )
        self._metrics.start()
        return meter


def _metric_interval_seconds() -> float:
    """Read OTEL_METRIC_EXPORT_INTERVAL, in milliseconds; 60 seconds where it says nothing."""
    try:
        seconds = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "")) / 1000
    except ValueError:
        return 60.0
    return seconds if 0.1 <= seconds <= 86_400 else 60.0  # noqa: PLR2004 - a day


def _is_application_provider(found: object) -> bool:
    """Say whether somebody installed a provider; the API's own stand-ins are none."""
    if type(found).__name__ in {
        "ProxyTracerProvider",
        "NoOpTracerProvider",
        "_ProxyMeterProvider",
        "NoOpMeterProvider",
    }:
        return False
    resource: Resource | None = getattr(found, "resource", None)
    return resource is None or resource.attributes.get("service.name") not in _FOREIGN_SERVICES


def _within(seconds: float, step: Callable[[], object]) -> bool:
    """Run a step on a thread of its own and wait for it no longer than told."""
    done = threading.Event()

    def work() -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the SDK's faults are not the application's
            report_fault("farthing.export", error)
        finally:
            done.set()

    try:
        threading.Thread(target=work, name="farthing-flush", daemon=True).start()
    except RuntimeError:
        return True  # Python 3.12 and newer start no thread at exit, and the SDK flushes at exit by itself
    return done.wait(seconds)
