"""Metrics of OpenTelemetry with bounded labels: cumulative counters for money, histograms for shapes.

They are recorded from Calls, not derived from spans, so that sampling takes nothing away from a sum.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Protocol

from farthing import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.util.types import AttributeValue

    from farthing.envelope import Attribution, Call

    Observe = Callable[[CallbackOptions], Iterable[Observation]]

__all__ = ["OTHER", "InstrumentMaker", "MetricSink"]

OTHER: Final = "__other__"
"""Stands for the values of a dimension beyond its limit; sums stay whole, only the split is lost."""

_MAX_VALUES: Final = 200
_MAX_SERIES: Final = 4_096
_TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
_DURATION_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
_COST_BUCKETS: Final = tuple(factor * 10.0**power for power in range(-6, 2) for factor in (1, 2.5, 5))

Labels = tuple[tuple[str, str], ...]


class Counter(Protocol):
    """A sum that only grows."""

    def add(self, amount: float, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        """Add."""
        ...


class Histogram(Protocol):
    """Counts by size."""

    def record(self, amount: float, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        """Count one in."""
        ...


class InstrumentMaker(Protocol):
    """What makes instruments: a meter of the application's, or our own."""

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Counter:
        """Make a sum that only grows."""
        ...

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> Histogram:
        """Make a histogram with these boundaries."""
        ...

    def create_observable_counter(
        self, name: str, callbacks: Sequence[Observe] | None = None, unit: str = "", description: str = ""
    ) -> object:
        """Make a sum that is asked for when points are collected."""
        ...

    def create_observable_gauge(
        self, name: str, callbacks: Sequence[Observe] | None = None, unit: str = "", description: str = ""
    ) -> object:
        """Make a level that is asked for when points are collected."""
        ...


class _Series:
    """The labels of one series in the forms that its instruments take."""

    __slots__ = ("attribution", "input", "labels", "output", "plain")

    def __init__(self, attribution: Attribution, labels: Labels) -> None:
        self.attribution = attribution
        self.labels = labels
        self.plain = dict(labels)
        self.input = {**self.plain, semconv.TOKEN_TYPE: "input"}
        self.output = {**self.plain, semconv.TOKEN_TYPE: "output"}


class MetricSink:
    """Writes Calls as metrics.

    Args:
        meter: Gives the meter to use now, or None where nobody listens.
        dimensions: The dimensions that become labels.
        prefix: What attribution labels start with; empty for bare names.
        events: What happened inside farthing, by name and reason; read when metrics are collected.
        levels: What waits inside farthing, by name; as `events`.
    """

    def __init__(
        self,
        *,
        meter: Callable[[], InstrumentMaker | None],
        dimensions: Iterable[str],
        prefix: str,
        events: Callable[[], Mapping[tuple[str, str], int]],
        levels: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._meter = meter
        self._labels: Final = {name: semconv.dimension_attribute(name, prefix=prefix) for name in dimensions}
        self._events = events
        self._levels = levels
        self._known: dict[str, set[str]] = defaultdict(set)
        self._made: dict[tuple[int, str, str | None, str | None], _Series] = {}
        self._made_for: InstrumentMaker | None = None
        self.overflowed = 0
        """Values that were folded into OTHER."""

    def write(self, calls: Iterable[Call]) -> None:
        """Record a batch.

        Raises:
            Nothing of its own.
        """
        meter = self._meter()
        if meter is None:
            return
        if meter is not self._made_for:
            self._make(meter)
        costs: defaultdict[Labels, Decimal] = defaultdict(Decimal)
        estimates: defaultdict[Labels, Decimal] = defaultdict(Decimal)
        counts: defaultdict[Labels, int] = defaultdict(int)
        for call in calls:
            series = self._series(call)
            self._record(call, series)
            if call.cost.amount_usd is not None:
                costs[series.labels] += call.cost.amount_usd
            if call.cost.estimated_usd is not None:
                estimates[series.labels] += call.cost.estimated_usd
            counts[*series.labels, (semconv.OUTCOME, call.outcome), (semconv.COST_STATUS, call.cost.status)] += 1
        for labels, amount in costs.items():
            self._cost.add(float(amount), dict(labels))
        for labels, amount in estimates.items():
            self._estimated.add(float(amount), dict(labels))
        for labels, count in counts.items():
            self._calls.add(count, dict(labels))

    def _record(self, call: Call, series: _Series) -> None:
        plain = series.plain
        seconds = (call.ended_at - call.started_at).total_seconds()
        self._duration.record(
            seconds if seconds > 0 else 0.0,
            plain if call.error_type is None else {**plain, semconv.ERROR_TYPE: call.error_type},
        )
        usage = call.usage
        if usage is not None:
            if usage.input_tokens is not None:
                self._tokens.record(usage.input_tokens, series.input)
            if usage.output_tokens is not None:
                self._tokens.record(usage.output_tokens, series.output)
        if call.time_to_first_chunk_seconds is not None:
            self._first_chunk.record(call.time_to_first_chunk_seconds, plain)
        if call.cost.amount_usd is not None:
            self._cost_histogram.record(float(call.cost.amount_usd), plain)

    def _series(self, call: Call) -> _Series:
        """Find the labels of a call, made once for each set of tags: the policy gives equal tags as one object."""
        key = (id(call.attribution), call.operation, call.provider, call.request_model)
        known = self._made.get(key)
        if known is None or known.attribution is not call.attribution:
            known = _Series(call.attribution, self._call_labels(call))
            if len(self._made) >= _MAX_SERIES:
                self._made.clear()
            self._made[key] = known
        return known

    def _call_labels(self, call: Call) -> Labels:
        labels = [(semconv.OPERATION_NAME, call.operation)]
        if call.provider is not None:
            labels.append((semconv.PROVIDER_NAME, call.provider))
        if call.request_model is not None:
            labels.append((semconv.REQUEST_MODEL, self._bounded(semconv.REQUEST_MODEL, call.request_model)))
        for name, value in call.attribution.items():
            label = self._labels.get(name)
            if label is not None:
                labels.append((label, self._bounded(name, value)))
        return tuple(labels)

    def _bounded(self, name: str, value: str) -> str:
        known = self._known[name]
        if value in known:
            return value
        if len(known) >= _MAX_VALUES:
            self.overflowed += 1
            return OTHER
        known.add(value)
        return value

    def _make(self, meter: InstrumentMaker) -> None:
        """Create the instruments.

        The default buckets of the SDK would put every cost of a call into one bucket, so ours are advised where the
        API can take the advice (1.30 and newer).
        """
        self._made_for = meter
        self._duration = meter.create_histogram(
            semconv.METRIC_DURATION,
            unit="s",
            description="Duration of GenAI operations.",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS,
        )
        self._tokens = meter.create_histogram(
            semconv.METRIC_TOKENS,
            unit="{token}",
            description="Input and output tokens used, as billed.",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        )
        self._first_chunk = meter.create_histogram(
            semconv.METRIC_FIRST_CHUNK,
            unit="s",
            description="Time until the first chunk of a streamed reply.",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS,
        )
        self._cost_histogram = meter.create_histogram(
            semconv.USAGE_COST,
            unit="USD",
            description="Cost of single calls.",
            explicit_bucket_boundaries_advisory=_COST_BUCKETS,
        )
        self._cost = meter.create_counter(
            semconv.METRIC_COST, unit="USD", description="Known cost so far; see farthing.calls for what is not known."
        )
        self._estimated = meter.create_counter(
            semconv.METRIC_ESTIMATED,
            unit="USD",
            description="What calls without usage may have cost, by estimate; not in farthing.cost.",
        )
        self._calls = meter.create_counter(
            semconv.METRIC_CALLS, unit="{call}", description="Provider attempts by outcome and cost status."
        )
        meter.create_observable_counter(
            semconv.METRIC_EVENTS,
            callbacks=[self._observe],
            unit="{event}",
            description="What happened inside farthing: drops, duplicates, faults, exports.",
        )
        meter.create_observable_gauge(
            semconv.METRIC_WAITING,
            callbacks=[self._observe_waiting],
            unit="{item}",
            description="What waits inside farthing: queued events, open runs, spooled spans, unwritten ledger lines.",
        )
        meter.create_observable_gauge(
            semconv.METRIC_LAG,
            callbacks=[self._observe_lag],
            unit="s",
            description="The age of the oldest span that no receiver has taken.",
        )

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        from opentelemetry.metrics import Observation  # noqa: PLC0415 - only where metrics are collected

        return [
            Observation(count, {"farthing.event": name, "farthing.reason": reason})
            for (name, reason), count in self._events().items()
        ]

    def _observe_waiting(self, _options: CallbackOptions) -> Iterable[Observation]:
        from opentelemetry.metrics import Observation  # noqa: PLC0415 - only where metrics are collected

        return [
            Observation(value, {"farthing.waiting.for": name})
            for name, value in self._levels().items()
            if name != "lag_seconds"
        ]

    def _observe_lag(self, _options: CallbackOptions) -> Iterable[Observation]:
        from opentelemetry.metrics import Observation  # noqa: PLC0415 - only where metrics are collected

        return [Observation(self._levels().get("lag_seconds", 0.0))]
