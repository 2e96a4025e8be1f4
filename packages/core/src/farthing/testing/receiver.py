"""A real OTLP/HTTP receiver on loopback, for tests of what actually leaves a process."""

from __future__ import annotations

import gzip
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

__all__ = ["OtlpReceiver", "ReceivedPoint", "ReceivedSpan"]

Value = str | int | float | bool | tuple["Value", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSpan:
    """A span as it arrived."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_span_id: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    resource: Mapping[str, Value]
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedPoint:
    """A data point of a metric as it arrived: a sum's value, or a histogram's sum and count."""

    metric: str
    unit: str
    attributes: Mapping[str, Value]
    value: float
    count: int
    resource: Mapping[str, Value]


@dataclass(slots=True)
class _Received:
    spans: list[ReceivedSpan] = field(default_factory=list[ReceivedSpan])
    points: list[list[ReceivedPoint]] = field(default_factory=list[list[ReceivedPoint]])
    bodies: list[bytes] = field(default_factory=list[bytes])
    headers: list[Mapping[str, str]] = field(default_factory=list["Mapping[str, str]"])


class OtlpReceiver:
    """Listens on 127.0.0.1 and keeps what arrives.

    Args:
        status: What to answer; anything but 200 plays a backend in trouble.
        port: 0 picks a free one.
        retry_after: The Retry-After header of an answer that is not 200.
        location: The Location header of an answer that is not 200.
        delay_seconds: How long each answer takes.
        answer: The body of every answer, and its content type.
        refuses: Says of a request whether it is answered with 400, as one that cannot be read.
    """

    def __init__(
        self,
        *,
        status: int = 200,
        port: int = 0,
        retry_after: str | None = None,
        location: str | None = None,
        delay_seconds: float = 0.0,
        answer: tuple[bytes, str] = (b"", "application/x-protobuf"),
        refuses: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.status = status
        self.retry_after = retry_after
        self.delay_seconds = delay_seconds
        self.answer = answer
        self.date: str | None = None
        """The Date header of answers; None is that of this machine's clock."""
        self.requests = 0
        """Requests so far, whatever the answer was."""
        self._received = _Received()
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                receiver.requests += 1
                if receiver.delay_seconds:
                    time.sleep(receiver.delay_seconds)
                status = 400 if refuses is not None and refuses(body) else receiver.status
                if status == 200:  # noqa: PLR2004 - HTTP
                    receiver._keep(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                self.send_response(status)
                told, kind = receiver.answer
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(told)))
                if receiver.retry_after is not None:
                    self.send_header("Retry-After", receiver.retry_after)
                if location is not None and status != 200:  # noqa: PLR2004 - HTTP
                    self.send_header("Location", location)
                self.end_headers()
                self.wfile.write(told)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return receiver.date or super().date_time_string(timestamp)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True

    @property
    def endpoint(self) -> str:
        """The base URL, as OTEL_EXPORTER_OTLP_ENDPOINT takes it."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def spans(self) -> tuple[ReceivedSpan, ...]:
        """All spans so far, in order of arrival."""
        with self._lock:
            return tuple(self._received.spans)

    @property
    def points(self) -> tuple[ReceivedPoint, ...]:
        """The data points of the last batch of metrics; they are cumulative."""
        with self._lock:
            return tuple(self._received.points[-1]) if self._received.points else ()

    @property
    def batches(self) -> tuple[tuple[ReceivedPoint, ...], ...]:
        """The data points of every batch of metrics, in order of arrival."""
        with self._lock:
            return tuple(tuple(points) for points in self._received.points)

    @property
    def bodies(self) -> tuple[bytes, ...]:
        """Every request body, unpacked, for searching what must not be in it."""
        with self._lock:
            return tuple(self._received.bodies)

    @property
    def headers(self) -> tuple[Mapping[str, str], ...]:
        """The headers of every request, their names in lower case."""
        with self._lock:
            return tuple(self._received.headers)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _keep(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        plain = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        with self._lock:
            self._received.bodies.append(plain)
            self._received.headers.append(headers)
            if path.endswith("/v1/traces"):
                self._received.spans.extend(_spans(ExportTraceServiceRequest.FromString(plain)))
            elif path.endswith("/v1/metrics"):
                self._received.points.append(list(_points(ExportMetricsServiceRequest.FromString(plain))))


def _spans(request: ExportTraceServiceRequest) -> Iterable[ReceivedSpan]:
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield ReceivedSpan(
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_span_id=span.parent_span_id.hex(),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    resource=resource,
                    failed=span.status.code == 2,  # noqa: PLR2004 - STATUS_CODE_ERROR
                )


def _points(request: ExportMetricsServiceRequest) -> Iterable[ReceivedPoint]:
    for resource_metrics in request.resource_metrics:
        resource = _attributes(resource_metrics.resource.attributes)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                yield from _metric_points(metric, resource)


def _metric_points(metric: Metric, resource: Mapping[str, Value]) -> Iterable[ReceivedPoint]:
    for number in (*metric.sum.data_points, *metric.gauge.data_points):
        yield ReceivedPoint(
            metric=metric.name,
            unit=metric.unit,
            attributes=_attributes(number.attributes),
            value=number.as_double if number.HasField("as_double") else float(number.as_int),
            count=1,
            resource=resource,
        )
    for histogram in metric.histogram.data_points:
        yield ReceivedPoint(
            metric=metric.name,
            unit=metric.unit,
            attributes=_attributes(histogram.attributes),
            value=histogram.sum,
            count=histogram.count,
            resource=resource,
        )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Value:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(item) for item in value.array_value.values)
    plain: Value = getattr(value, kind) if kind is not None else ""
    return plain
