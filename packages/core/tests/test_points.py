"""Our own sums say the same as the SDK's would of the same measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import Observation
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from farthing.sinks.points import PointMeter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.metrics import CallbackOptions, Meter

RESOURCE = Resource({"service.name": "shop", "service.instance.id": "i"})
BOUNDS = (0.1, 1.0, 2.5, 10.0)
LABELS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y"]), max_size=3)
AMOUNTS = st.one_of(st.integers(0, 20), st.floats(0, 1e9), st.sampled_from(BOUNDS))
Measurements = list[tuple[float, dict[str, str]]]


def measured(meter: Meter | PointMeter, counted: Measurements, shaped: Measurements) -> None:
    """Make one instrument of each kind, and use it."""

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(7, {"kind": "seen"}), Observation(8.5, {"kind": "heard"})]

    meter.create_observable_counter("events", callbacks=[observe], unit="{event}", description="What happened.")
    meter.create_observable_gauge("waiting", callbacks=[observe], unit="{item}", description="What waits.")
    counter = meter.create_counter("cost", unit="USD", description="Cost so far.")
    histogram = meter.create_histogram("size", unit="s", explicit_bucket_boundaries_advisory=BOUNDS)
    for amount, labels in counted:
        counter.add(amount, labels)
    for amount, labels in shaped:
        histogram.record(amount, labels)


def told(encoded: bytes) -> dict[str, Any]:
    """Read a request, without its times and in an order of its own."""
    request = ExportMetricsServiceRequest.FromString(encoded)
    (resource,) = request.resource_metrics
    (scope,) = resource.scope_metrics
    found: dict[str, Any] = {"resource": str(resource.resource), "scope": str(scope.scope)}
    for metric in scope.metrics:
        kind = metric.WhichOneof("data")
        assert kind is not None
        data = getattr(metric, kind)
        for point in data.data_points:
            assert point.time_unix_nano >= point.start_time_unix_nano
            point.ClearField("time_unix_nano")
            point.ClearField("start_time_unix_nano")
            attributes = sorted(point.attributes, key=lambda pair: pair.key)
            del point.attributes[:]
            point.attributes.extend(attributes)
        points = sorted(str(point) for point in data.data_points)
        del data.data_points[:]
        found[metric.name] = (str(metric), points)
    return found


@given(st.lists(st.tuples(AMOUNTS, LABELS), max_size=20), st.lists(st.tuples(AMOUNTS, LABELS), max_size=20))
def test_they_say_what_the_sdk_would_say(counted: Measurements, shaped: Measurements) -> None:
    """A bucket, a label or a kind that differs would be another metric to a backend."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], resource=RESOURCE, shutdown_on_exit=False)
    measured(provider.get_meter("farthing", "1"), counted, shaped)
    data = reader.get_metrics_data()
    assert data is not None
    ours = PointMeter(resource=RESOURCE, scope_name="farthing", scope_version="1")
    measured(ours, counted, shaped)
    encoded = ours.encoded()
    assert encoded is not None
    assert told(encoded) == told(encode_metrics(data).SerializeToString())


def test_nothing_measured_is_nothing_to_send() -> None:
    """An empty request is a needless one."""
    made = PointMeter(resource=RESOURCE, scope_name="farthing", scope_version="1")
    made.create_counter("cost")
    made.create_histogram("size")
    assert made.encoded() is None


def test_series_beyond_the_limit_fold_into_one_and_keep_the_sum() -> None:
    """A label that is an id after all must cost neither memory without bound nor a cent of the sum."""
    made = PointMeter(resource=RESOURCE, scope_name="farthing", scope_version="1")
    counter = made.create_counter("cost")
    histogram = made.create_histogram("size", explicit_bucket_boundaries_advisory=BOUNDS)
    for number in range(2_500):
        counter.add(1, {"id": str(number)})
        histogram.record(1, {"id": str(number)})
    request = ExportMetricsServiceRequest.FromString(made.encoded() or b"")
    cost, size = request.resource_metrics[0].scope_metrics[0].metrics
    assert len(cost.sum.data_points) == len(size.histogram.data_points) == 2_000
    assert sum(point.as_int or point.as_double for point in cost.sum.data_points) == 2_500
    assert sum(point.count for point in size.histogram.data_points) == 2_500
    (rest,) = [point for point in cost.sum.data_points if point.attributes[0].key == "otel.metric.overflow"]
    assert (rest.as_int or rest.as_double) == 501
