"""Metrics that go to OTLP and nowhere else, summed up here.

The SDK cleans, copies, sorts and hashes the labels of every measurement: a third of all that an exported call cost us.
Ours are known to be sound and few, and they are always cumulative. Points leave by the SDK's public classes and its
encoder.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, TypeVar

from opentelemetry.metrics import CallbackOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.metrics.export import DataT, HistogramDataPoint, NumberDataPoint
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.util.types import AttributeValue

    from farthing.sinks.metrics import Observe

__all__ = ["PointMeter"]

Attributes = frozenset[tuple[str, "AttributeValue"]]
Series = TypeVar("Series")

_MAX_SERIES: Final = 2_000
"""Of one instrument, as the SDK has it: "Metrics SDK, Cardinality limits" of the OpenTelemetry specification."""
_OVERFLOW: Final[Attributes] = frozenset({("otel.metric.overflow", True)})


class PointMeter:
    """Makes the instruments of a process that has no provider, and encodes what they hold.

    Args:
        resource: Whose metrics these are.
        scope_name: Who measures.
        scope_version: Its version.
    """

    def __init__(self, *, resource: Resource, scope_name: str, scope_version: str) -> None:
        self._resource = resource
        self._scope: Final = (scope_name, scope_version)
        self._state: Final = _State()
        self._started_ns: Final = time.time_ns()
        self._instruments: list[_Counter | _Histogram | _Observed] = []

    @property
    def changes(self) -> int:
        """Grows with every measurement."""
        return self._state.changes

    def create_counter(self, name: str, unit: str = "", description: str = "") -> _Counter:
        """Make a sum that only grows."""
        return self._keep(_Counter((name, description, unit), self._state))

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> _Histogram:
        """Make a histogram with these boundaries."""
        bounds = tuple(explicit_bucket_boundaries_advisory or ())
        return self._keep(_Histogram((name, description, unit), self._state, bounds))

    def create_observable_counter(
        self, name: str, callbacks: Sequence[Observe] | None = None, unit: str = "", description: str = ""
    ) -> object:
        """Make a sum that is asked for when points are collected."""
        return self._keep(_Observed((name, description, unit), tuple(callbacks or ()), cumulative=True))

    def create_observable_gauge(
        self, name: str, callbacks: Sequence[Observe] | None = None, unit: str = "", description: str = ""
    ) -> object:
        """Make a level that is asked for when points are collected."""
        return self._keep(_Observed((name, description, unit), tuple(callbacks or ()), cumulative=False))

    def encoded(self) -> bytes | None:
        """Give the present state as an export request, or None where nothing was measured."""
        from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics  # noqa: PLC0415 - on demand
        from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415 - on demand
            Metric,
            MetricsData,
            ResourceMetrics,
            ScopeMetrics,
        )
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 - on demand

        times = (self._started_ns, max(self._started_ns, time.time_ns()))
        metrics = [
            Metric(name=name, description=description, unit=unit, data=data)
            for instrument in tuple(self._instruments)
            if (data := instrument.data(times)) is not None
            for name, description, unit in (instrument.named,)
        ]
        if not metrics:
            return None
        scope = ScopeMetrics(scope=InstrumentationScope(*self._scope), metrics=metrics, schema_url="")
        found = ResourceMetrics(resource=self._resource, scope_metrics=[scope], schema_url=self._resource.schema_url)
        return encode_metrics(MetricsData(resource_metrics=[found])).SerializeToString()

    def _keep(self, instrument: Instrument) -> Instrument:
        self._instruments.append(instrument)
        return instrument


class _State:
    """What the instruments of a meter share."""

    __slots__ = ("changes", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.changes = 0


class _Counter:
    """A sum that only grows."""

    def __init__(self, named: tuple[str, str, str], state: _State) -> None:
        self.named: Final = named
        self._state = state
        self._sums: dict[Attributes, float] = {}

    def add(self, amount: float, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        """Add."""
        with self._state.lock:
            self._state.changes += 1
            key = _admitted(self._sums, frozenset((attributes or {}).items()))
            self._sums[key] = self._sums.get(key, 0) + amount

    def data(self, times: tuple[int, int]) -> DataT | None:
        """Give the sums."""
        with self._state.lock:
            sums = list(self._sums.items())
        return _sum([(dict(key), value) for key, value in sums], times)


class _Shape:
    """What a histogram knows of one series."""

    __slots__ = ("buckets", "count", "largest", "smallest", "total")

    def __init__(self, buckets: int) -> None:
        self.buckets = [0] * buckets
        self.count = 0
        self.total: float = 0
        self.smallest = float("inf")
        self.largest = float("-inf")


class _Histogram:
    """Counts by size."""

    def __init__(self, named: tuple[str, str, str], state: _State, bounds: tuple[float, ...]) -> None:
        self.named: Final = named
        self._state = state
        self._bounds: Final = bounds
        self._shapes: dict[Attributes, _Shape] = {}

    def record(self, amount: float, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        """Count one in."""
        key = frozenset((attributes or {}).items())
        with self._state.lock:
            self._state.changes += 1
            shape = self._shapes.get(key)
            if shape is None:
                key = _admitted(self._shapes, key)
                shape = self._shapes.setdefault(key, _Shape(len(self._bounds) + 1))
            shape.buckets[bisect_left(self._bounds, amount)] += 1
            shape.count += 1
            shape.total += amount
            shape.smallest = min(shape.smallest, amount)
            shape.largest = max(shape.largest, amount)

    def data(self, times: tuple[int, int]) -> DataT | None:
        """Give the counts."""
        from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415 - on demand
            AggregationTemporality,
            Histogram,
            HistogramDataPoint,
        )

        with self._state.lock:
            points: list[HistogramDataPoint] = [
                HistogramDataPoint(
                    attributes=dict(key),
                    start_time_unix_nano=times[0],
                    time_unix_nano=times[1],
                    count=shape.count,
                    sum=shape.total,
                    bucket_counts=tuple(shape.buckets),
                    explicit_bounds=self._bounds,
                    min=shape.smallest,
                    max=shape.largest,
                )
                for key, shape in self._shapes.items()
            ]
        if not points:
            return None
        return Histogram(data_points=points, aggregation_temporality=AggregationTemporality.CUMULATIVE)


class _Observed:
    """What is asked for when points are collected."""

    def __init__(self, named: tuple[str, str, str], callbacks: tuple[Observe, ...], *, cumulative: bool) -> None:
        self.named: Final = named
        self._callbacks: Final = callbacks
        self._cumulative: Final = cumulative

    def data(self, times: tuple[int, int]) -> DataT | None:
        """Ask."""
        options = CallbackOptions()
        seen = [
            (dict(observation.attributes or {}), observation.value)
            for callback in self._callbacks
            for observation in callback(options)
        ]
        if self._cumulative or not seen:
            return _sum(seen, times)
        from opentelemetry.sdk.metrics.export import Gauge  # noqa: PLC0415 - on demand

        return Gauge(data_points=_numbers(seen, (0, times[1])))


Instrument = TypeVar("Instrument", _Counter, _Histogram, _Observed)


def _admitted(known: Mapping[Attributes, Series], key: Attributes) -> Attributes:
    """Fold the series beyond the limit into one, so that sums stay whole."""
    return key if key in known or len(known) < _MAX_SERIES - 1 else _OVERFLOW


def _sum(values: Sequence[tuple[Mapping[str, AttributeValue], float]], times: tuple[int, int]) -> DataT | None:
    from opentelemetry.sdk.metrics.export import AggregationTemporality, Sum  # noqa: PLC0415 - on demand

    if not values:
        return None
    return Sum(
        data_points=_numbers(values, times),
        aggregation_temporality=AggregationTemporality.CUMULATIVE,
        is_monotonic=True,
    )


def _numbers(
    values: Sequence[tuple[Mapping[str, AttributeValue], float]], times: tuple[int, int]
) -> list[NumberDataPoint]:
    from opentelemetry.sdk.metrics.export import NumberDataPoint  # noqa: PLC0415 - on demand

    return [
        NumberDataPoint(attributes=attributes, start_time_unix_nano=times[0], time_unix_nano=times[1], value=value)
        for attributes, value in values
    ]
