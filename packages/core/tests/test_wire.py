"""Our own encoding of spans says the same, byte for byte, as the SDK's encoder would of the same span."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from farthing.sinks.wire import WireSpan, WireTracer, encode_request, encode_span, envelope_of

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

RESOURCE = Resource({"service.name": "shop", "service.instance.id": "i"})
VALUES = st.one_of(
    st.text(max_size=300),
    st.booleans(),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(st.text(max_size=20), max_size=4).map(tuple),
)


@given(
    attributes=st.dictionaries(st.text(min_size=1, max_size=40), VALUES, max_size=30),
    name=st.text(max_size=200),
    kind=st.sampled_from([SpanKind.CLIENT, SpanKind.INTERNAL]),
    ids=st.tuples(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 2**64 - 1)),
    times=st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)),
    failed=st.booleans(),
    remote=st.booleans(),
    state=st.sampled_from([None, TraceState([("a", "1"), ("b", "2")])]),
)
def test_it_says_what_the_sdk_would_say(  # noqa: PLR0917 - hypothesis names them
    attributes: dict[str, AttributeValue],
    name: str,
    kind: SpanKind,
    ids: tuple[int, int, int],
    times: tuple[int, int],
    failed: bool,
    remote: bool,
    state: TraceState | None,
) -> None:
    """A field that differs would be read by a backend as something else, or not at all."""
    trace_id, span_id, parent_id = ids
    own = SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(0), trace_state=state)
    parent = SpanContext(trace_id, parent_id, is_remote=remote)
    span = WireSpan(
        name, own=own, parent=parent, kind=kind, attributes=attributes, started_ns=times[0], finish=lambda _: None
    )
    if failed:
        span.set_status(Status(StatusCode.ERROR))
    span.ended_ns = times[1]
    mine = ExportTraceServiceRequest.FromString(
        encode_request(envelope_of(RESOURCE, "farthing", "1"), [encode_span(span)])
    )
    theirs = encode_spans(
        [
            ReadableSpan(
                name=name,
                context=own,
                parent=parent if parent_id else None,
                resource=RESOURCE,
                attributes=attributes,
                kind=kind,
                status=Status(StatusCode.ERROR) if failed else Status(),
                start_time=times[0],
                end_time=times[1],
                instrumentation_scope=InstrumentationScope("farthing", "1"),
            )
        ]
    )
    for request in (mine, theirs):
        made = request.resource_spans[0].scope_spans[0].spans[0]
        made.ClearField("flags")  # older encoders leave the trace flags out
        made.attributes.sort(key=lambda pair: pair.key)
    assert mine == theirs


def test_samplers_decide_as_they_would_for_the_sdk() -> None:
    """OTEL_TRACES_SAMPLER holds for our spans too, and a child follows its parent."""
    ended: list[WireSpan] = []

    def start(tracer: WireTracer, parent: SpanContext | None = None) -> trace.Span:
        context = None if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(parent))
        return tracer.start_span("s", context=context, kind=SpanKind.CLIENT, attributes={}, start_time=1)

    ratio = WireTracer(TracerProvider(sampler=ParentBased(TraceIdRatioBased(0.5))), ended.append)
    for _ in range(400):
        start(ratio).end(2)
    assert 100 < len(ended) < 300
    sampled = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1))
    child = start(ratio, sampled)
    assert child.is_recording()
    assert child.get_span_context().trace_id == 7
    assert not start(ratio, SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(0))).is_recording()
    off = start(WireTracer(TracerProvider(sampler=ALWAYS_OFF), ended.append))
    assert not off.is_recording()
    assert off.get_span_context().is_valid
