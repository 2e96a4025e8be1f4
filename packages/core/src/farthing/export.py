"""Where spans and metrics go: the application's own providers, or private ones when OTEL_* names an endpoint.

The providers made here are never installed globally: an application that has none keeps having none.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from opentelemetry import metrics, trace

from farthing.guard import report_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.metrics import Meter
    from opentelemetry.metrics import MeterProvider as ApiMeterProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Tracer
    from opentelemetry.trace import TracerProvider as ApiTracerProvider

    from farthing.counting import Counters

__all__ = ["Telemetry", "endpoint_from_environment"]

# CrewAI up to 1.15.14 makes its own telemetry provider the global one; spans given to it would leave for its vendor.
_FOREIGN_SERVICES: Final = frozenset({"crewAI-telemetry"})
_VERSION: Final = "0.1.0"


def endpoint_from_environment(signal: str) -> str | None:
    """Give the OTLP endpoint that the standard variables name for a signal, or None where they name none.

    Args:
        signal: TRACES or METRICS.

    Raises:
        Nothing.
    """
    environ = os.environ
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get(f"OTEL_{signal}_EXPORTER") == "none":
        return None
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    if own:
        return own
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return f"{base.rstrip('/')}/v1/{signal.lower()}" if base else None


class Telemetry:
    """Finds or makes the tracer and the meter.

    Args:
        endpoint: Base URL of an OTLP/HTTP receiver, or None for the OTEL_* variables.
        service_name: `service.name`, or None for OTEL_SERVICE_NAME.
        instance_id: `service.instance.id` of this process.
        counters: Where export results are counted.
        given: The tracer and meter providers that the application handed over; they go before all others.
    """

    def __init__(
        self,
        *,
        endpoint: str | None,
        service_name: str | None,
        instance_id: str,
        counters: Counters,
        given: tuple[ApiTracerProvider | None, ApiMeterProvider | None] = (None, None),
    ) -> None:
        self.given = given
        self._endpoint = endpoint.rstrip("/") if endpoint else None
        self.service_name: Final = service_name or os.environ.get("OTEL_SERVICE_NAME")
        self._instance_id = instance_id
        self._counters = counters
        self._lock = threading.Lock()
        self._provider: ApiTracerProvider | None = None
        self._tracer: Tracer | None = None
        self._meter_provider: ApiMeterProvider | None = None
        self._meter: Meter | None = None
        self._own_tracing: TracerProvider | None = None
        self._own_metering: MeterProvider | None = None
        self._failed = False

    def destination(self, signal: str) -> str | None:
        """Give the URL that our own exporter sends a signal to, or None where we have none."""
        if self._endpoint is not None:
            return f"{self._endpoint}/v1/{signal.lower()}"
        return endpoint_from_environment(signal)

    def tracer(self) -> Tracer | None:
        """Give the tracer to use now, or None where nobody listens."""
        found: ApiTracerProvider | None = self.given[0] or trace.get_tracer_provider()
        if not _is_application_provider(found):
            found = self._private_tracing()
        if found is not self._provider:
            self._provider = found
            self._tracer = None if found is None else found.get_tracer("farthing", _VERSION)
        return self._tracer

    def meter(self) -> Meter | None:
        """Give the meter to use now, or None where nobody listens."""
        found: ApiMeterProvider | None = self.given[1] or metrics.get_meter_provider()
        if not _is_application_provider(found):
            found = self._private_metering()
        if found is not self._meter_provider:
            self._meter_provider = found
            self._meter = None if found is None else found.get_meter("farthing", _VERSION)
        return self._meter

    def flush(self, timeout: float) -> bool:
        """Send what our own providers hold, within seconds; say whether the time sufficed.

        What arrived is not said here: `force_flush` of the SDK answers True when every export failed, so the results
        are counted in the exporters.
        """
        return _within(timeout, self._flush_all)

    def close(self, timeout: float) -> bool:
        """Shut our own providers down, within seconds, whatever the backend does."""
        return _within(timeout, self._close_all)

    def _flush_all(self) -> None:
        for provider in (self._provider, self._meter_provider):
            force = getattr(provider, "force_flush", None)
            if force is not None:
                force()

    def _close_all(self) -> None:
        for provider in (self._own_tracing, self._own_metering):
            if provider is not None:
                provider.shutdown()

    def _resource(self) -> Resource:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - the SDK is loaded when first needed

        attributes = {"service.instance.id": self._instance_id}
        if self.service_name is not None:
            attributes["service.name"] = self.service_name
        return Resource.create(attributes)

    def _private_tracing(self) -> TracerProvider | None:
        url = self.destination("TRACES")
        if url is None or self._failed:
            return None
        with self._lock:
            if self._own_tracing is None:
                try:
                    self._own_tracing = self._make_tracing(url)
                except Exception as error:  # noqa: BLE001 - a broken exporter must not take the ledger along
                    self._failed = True
                    report_fault("farthing.export.traces", error, self._counters)
            return self._own_tracing

    def _make_tracing(self, url: str) -> TracerProvider:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - on demand
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - on demand
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - on demand

        provider = TracerProvider(resource=self._resource(), shutdown_on_exit=False)
        exporter = _counted_span_exporter(OTLPSpanExporter(endpoint=url), self._counters)
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=16_384, schedule_delay_millis=1_000))
        return provider

    def _private_metering(self) -> MeterProvider | None:
        url = self.destination("METRICS")
        if url is None or self._failed:
            return None
        with self._lock:
            if self._own_metering is None:
                try:
                    self._own_metering = self._make_metering(url)
                except Exception as error:  # noqa: BLE001 - see above
                    self._failed = True
                    report_fault("farthing.export.metrics", error, self._counters)
            return self._own_metering

    def _make_metering(self, url: str) -> MeterProvider:
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - on demand
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415 - on demand

        reader = PeriodicExportingMetricReader(_counted_metric_exporter(url, self._counters))
        return MeterProvider(metric_readers=[reader], resource=self._resource(), shutdown_on_exit=False)


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


def _within(seconds: float, step: Callable[[], None]) -> bool:
    """Run a step on a thread of its own and wait for it no longer than told."""
    done = threading.Event()

    def work() -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the SDK's faults are not the application's
            report_fault("farthing.export", error)
        finally:
            done.set()

    threading.Thread(target=work, name="farthing-export", daemon=True).start()
    return done.wait(seconds)


def _counted_span_exporter(inner: OTLPSpanExporter, counters: Counters) -> SpanExporter:
    """Wrap an exporter: the result of export() is the only truth about arrival that the SDK gives."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: PLC0415 - on demand

    class Counted(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = inner.export(spans)
            word = "sent" if result is SpanExportResult.SUCCESS else "failed"
            counters.add("exported", f"spans:{word}", len(spans))
            return result

        def shutdown(self) -> None:
            inner.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return inner.force_flush(timeout_millis)

    return Counted()


def _counted_metric_exporter(url: str, counters: Counters) -> MetricExporter:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 - on demand
    from opentelemetry.sdk.metrics.export import MetricExportResult  # noqa: PLC0415 - on demand

    class Counted(OTLPMetricExporter):
        def export(
            self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **_kwargs: object
        ) -> MetricExportResult:
            result = super().export(metrics_data, timeout_millis)
            word = "sent" if result is MetricExportResult.SUCCESS else "failed"
            counters.add("exported", f"metrics:{word}")
            return result

    return Counted(endpoint=url)
