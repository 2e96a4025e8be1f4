"""Spans of OpenTelemetry: one CLIENT span a model call, INTERNAL spans for the work around it.

Spans are made on the worker with explicit times; no context is ever attached, so nothing can leak into the application.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Protocol

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from farthing import semconv
from farthing.envelope import DIMENSIONS, Attribution, Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

__all__ = ["OpenSpan", "Rollup", "SpanSink", "SpanStarter"]

_MAX_NAMED: Final = 4_096
_UNSAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_VERSION: Final = "0.1.0"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ERROR: Final = Status(StatusCode.ERROR)


class SpanStarter(Protocol):
    """What starts spans: a tracer of the application's, or our own."""

    def start_span(
        self,
        name: str,
        *,
        context: Context | None,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        start_time: int,
    ) -> Span:
        """Start a span."""
        ...


class OpenSpan:
    """A span under way: its ids, and the context in which spans below it start."""

    __slots__ = ("context", "parent_span_id", "span", "span_id", "trace_id")

    def __init__(self, span: Span, parent: SpanContext) -> None:
        own = span.get_span_context()
        self.span = span
        self.trace_id = f"{own.trace_id:032x}"
        self.span_id = f"{own.span_id:016x}"
        self.parent_span_id = f"{parent.span_id:016x}" if parent.span_id else None
        self.context: Context | None = None

    def child_context(self) -> Context:
        """Give the context for spans below this one."""
        if self.context is None:
            self.context = trace.set_span_in_context(self.span)
        return self.context


class Rollup:
    """Totals of the calls below a scope; never written under a name that a sum over spans would add up."""

    __slots__ = ("calls", "cost_usd", "input_tokens", "output_tokens", "unknown")

    def __init__(self) -> None:
        self.calls = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_usd = Decimal(0)
        self.unknown = 0

    def add(self, call: Call) -> None:
        """Count one call in."""
        self.calls += 1
        if call.usage is not None:
            self.input_tokens += call.usage.input_tokens or 0
            self.output_tokens += call.usage.output_tokens or 0
        if call.cost.amount_usd is None:
            self.unknown += 1
        else:
            self.cost_usd += call.cost.amount_usd


class SpanSink:
    """Writes Calls and scopes as spans.

    Args:
        tracer: Gives the tracer to use now, or None where nobody listens.
        prefix: What attribution attributes start with; empty for bare names.
    """

    def __init__(self, *, tracer: Callable[[], SpanStarter | None], prefix: str) -> None:
        self._tracer = tracer
        self._prefix: Final = prefix
        self._cost_prefix: Final = f"{prefix}.cost" if prefix else "cost"
        self._named: dict[int, tuple[Attribution, dict[str, AttributeValue]]] = {}
        self._names = {name: semconv.dimension_attribute(name, prefix=prefix) for name in DIMENSIONS}

    def open(
        self,
        name: str,
        *,
        kind: SpanKind,
        started_ns: int,
        parent: Context | None,
        attributes: dict[str, AttributeValue],
    ) -> OpenSpan:
        """Start a span, or stand in for one with ids of our own where nobody listens.

        Args:
            name: As the conventions form it.
            kind: CLIENT for a model call, INTERNAL for the work around it.
            started_ns: Nanoseconds since the epoch.
            parent: The context to start in.
            attributes: Those that a sampler may look at.

        Raises:
            Nothing of its own.
        """
        above = trace.get_current_span(parent).get_span_context()
        tracer = self._tracer()
        if tracer is not None:
            span = tracer.start_span(name, context=parent, kind=kind, attributes=attributes, start_time=started_ns)
            if span.get_span_context().is_valid:
                return OpenSpan(span, above)
        trace_id = above.trace_id or random.getrandbits(128)
        own = SpanContext(trace_id, random.getrandbits(64) or 1, is_remote=False, trace_flags=_UNSAMPLED)
        return OpenSpan(NonRecordingSpan(own), above)

    def close_call(self, opened: OpenSpan, call: Call, *, ended_ns: int) -> None:
        """Complete the span of a model call."""
        span = opened.span
        try:
            if span.is_recording():
                span.set_attributes(self._call_attributes(call))
                if call.outcome == "error":
                    span.set_status(_ERROR)
        finally:
            span.end(end_time=ended_ns)

    def close_scope(
        self,
        opened: OpenSpan,
        *,
        attribution: Attribution,
        rollup: Rollup | None,
        error_type: str | None,
        failed: bool,
        ended_ns: int,
    ) -> None:
        """Complete the span of a scope; roll-ups are for the outermost one only."""
        span = opened.span
        try:
            if span.is_recording():
                attributes = self._attribution(attribution)
                if rollup is not None:
                    above = f"{self._prefix}.rollup" if self._prefix else "rollup"
                    attributes[f"{above}.calls"] = rollup.calls
                    attributes[f"{above}.input_tokens"] = rollup.input_tokens
                    attributes[f"{above}.output_tokens"] = rollup.output_tokens
                    attributes[f"{above}.cost_usd"] = format(rollup.cost_usd, "f")
                    attributes[f"{above}.unknown_cost_calls"] = rollup.unknown
                if error_type is not None:
                    attributes[semconv.ERROR_TYPE] = error_type
                span.set_attributes(attributes)
                if failed:
                    span.set_status(_ERROR)
        finally:
            span.end(end_time=ended_ns)

    def replayed(self, call: Call, resource: Resource) -> ReadableSpan:
        """Make the span of a call that is over, with its own ids and times, as it was made then.

        Args:
            call: From the ledger.
            resource: The service that made the call.

        Raises:
            ValueError: An id of the call is no hexadecimal number.
        """
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - the SDK is loaded when first needed
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 - see above

        trace_id, parent_id = int(call.trace_id, 16), int(call.parent_span_id or "0", 16)
        attributes: dict[str, AttributeValue] = {semconv.OPERATION_NAME: call.operation}
        if call.provider is not None:
            attributes[semconv.PROVIDER_NAME] = call.provider
        if call.request_model is not None:
            attributes[semconv.REQUEST_MODEL] = call.request_model
        return ReadableSpan(
            name=f"{call.operation} {call.request_model}" if call.request_model else call.operation,
            context=SpanContext(trace_id, int(call.span_id, 16), is_remote=False, trace_flags=_SAMPLED),
            parent=SpanContext(trace_id, parent_id, is_remote=False) if parent_id else None,
            resource=resource,
            attributes=attributes | self._call_attributes(call),
            kind=SpanKind.CLIENT,
            status=_ERROR if call.outcome == "error" else Status(),
            start_time=_nanoseconds(call.started_at),
            end_time=_nanoseconds(call.ended_at),
            instrumentation_scope=InstrumentationScope("farthing", _VERSION),
        )

    def _attribution(self, attribution: Attribution) -> dict[str, AttributeValue]:
        """Name the tags, once for each set of tags: the policy gives equal tags as one object."""
        known = self._named.get(id(attribution))
        if known is None or known[0] is not attribution:
            names = self._names
            named: dict[str, AttributeValue] = {
                names.get(name) or semconv.dimension_attribute(name, prefix=self._prefix): value
                for name, value in attribution.items()
            }
            known = (attribution, named)
            if len(self._named) >= _MAX_NAMED:
                self._named.clear()
            self._named[id(attribution)] = known
        return dict(known[1])

    def _call_attributes(self, call: Call) -> dict[str, AttributeValue]:
        cost = call.cost
        attributes = self._attribution(call.attribution)
        attributes[semconv.CALL_ID] = call.call_id
        attributes[semconv.OPERATION_ID] = call.operation_id
        attributes[semconv.ATTEMPT] = call.attempt
        attributes[semconv.FRAMEWORK] = call.framework
        attributes[semconv.OUTCOME] = call.outcome
        attributes[f"{self._cost_prefix}.status"] = cost.status
        if cost.amount_usd is not None:
            attributes[semconv.USAGE_COST] = float(cost.amount_usd)
            attributes[f"{self._cost_prefix}.usd"] = format(cost.amount_usd, "f")
        optional: tuple[tuple[str, AttributeValue | None], ...] = (
            (f"{self._cost_prefix}.source", cost.source),
            (f"{self._cost_prefix}.flags", cost.flags or None),
            (f"{self._cost_prefix}.saved_usd", None if cost.saved_usd is None else format(cost.saved_usd, "f")),
            (f"{self._cost_prefix}.estimated_usd", None if (e := cost.estimated_usd) is None else format(e, "f")),
            (semconv.RESPONSE_ID, call.response_id),
            (semconv.RESPONSE_MODEL, call.response_model),
            (semconv.RESPONSE_FINISH_REASONS, (call.finish_reason,) if call.finish_reason else None),
            (semconv.REQUEST_STREAM, call.streaming or None),
            (semconv.RESPONSE_TIME_TO_FIRST_CHUNK, call.time_to_first_chunk_seconds),
            (semconv.SERVICE_TIER, call.service_tier),
            (semconv.ERROR_TYPE, call.error_type),
            (semconv.VIOLATIONS, call.violations or None),
        )
        for key, value in optional:
            if value is not None:
                attributes[key] = value
        self._add_provenance(attributes, call)
        if (guessed := call.estimated_usage) is not None:  # never under the names that backends add up
            attributes[semconv.ESTIMATED_INPUT_TOKENS] = guessed.input_tokens or 0
            attributes[semconv.ESTIMATED_OUTPUT_TOKENS] = guessed.output_tokens or 0
        usage = call.usage
        if usage is not None:
            for key, count in (
                (semconv.USAGE_INPUT_TOKENS, usage.input_tokens),
                (semconv.USAGE_OUTPUT_TOKENS, usage.output_tokens),
                (semconv.USAGE_CACHE_READ, usage.cache_read_tokens),
                (semconv.USAGE_CACHE_CREATION, usage.cache_write_tokens),
                (semconv.USAGE_REASONING, usage.output_reasoning_tokens),
            ):
                if count is not None:
                    attributes[key] = count
        for name, value in call.details.items():
            attributes[f"farthing.{name}"] = value
        return attributes

    def _add_provenance(self, attributes: dict[str, AttributeValue], call: Call) -> None:
        provenance = call.cost.provenance
        if provenance is None:
            return
        attributes[f"{self._cost_prefix}.engine"] = f"{provenance.engine} {provenance.engine_version}"
        if provenance.data_version is not None:
            attributes[f"{self._cost_prefix}.price_version"] = provenance.data_version
        if provenance.effective_from is not None:
            attributes[f"{self._cost_prefix}.effective_from"] = provenance.effective_from


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
