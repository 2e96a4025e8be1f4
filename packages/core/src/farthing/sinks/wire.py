"""Spans that go to OTLP and nowhere else, written as protobuf at once.

The SDK's span checks and copies every attribute, and its encoder builds an object for each: half of all that a call
cost us. Ours are known to be sound. Sampling and ids stay the SDK's, by its public classes. The layout is
opentelemetry/proto/trace/v1/trace.proto.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, cast

from opentelemetry import trace
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from farthing import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.util.types import AttributeValue

__all__ = ["WireSpan", "WireTracer", "encode_request", "encode_span", "envelope_of"]

_KINDS: Final = {kind: bytes([6 << 3, kind.value + 1]) for kind in SpanKind}
_TIMES: Final = struct.Struct("<BQBQ")
_DOUBLE: Final = struct.Struct("<d")
_FLAGS: Final = struct.Struct("<HI")
_FAILED: Final = b"\x7a\x02\x18\x02"
_UNSET: Final = b"\x7a\x00"
_ONCE: Final = frozenset({semconv.CALL_ID, semconv.OPERATION_ID, semconv.RESPONSE_ID})
"""Values that do not come again: keeping their bytes would only push others out."""
_MAX_KEPT: Final = 8_192
_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200
_kept: dict[tuple[str, str], bytes] = {}


class WireSpan(Span):
    """A span of ours under way; used by the worker alone."""

    __slots__ = ("attributes", "ended_ns", "failed", "finish", "kind", "name", "own", "parent", "started_ns")

    def __init__(
        self,
        name: str,
        *,
        own: SpanContext,
        parent: SpanContext,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        started_ns: int,
        finish: Callable[[WireSpan], None],
    ) -> None:
        self.name = name
        self.own = own
        self.parent = parent
        self.kind = kind
        self.attributes = attributes
        self.started_ns = started_ns
        self.ended_ns = started_ns
        self.failed = False
        self.finish: Callable[[WireSpan], None] | None = finish

    def get_span_context(self) -> SpanContext:
        """Give the ids."""
        return self.own

    def is_recording(self) -> bool:
        """Say whether it is open."""
        return self.finish is not None

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Add attributes."""
        self.attributes.update(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Add an attribute."""
        self.attributes[key] = value

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:  # noqa: ARG002 - as the API has it
        """Note a failure; texts never leave."""
        code = status.status_code if isinstance(status, Status) else status
        self.failed = code is StatusCode.ERROR

    def update_name(self, name: str) -> None:
        """Rename it."""
        self.name = name

    def add_event(
        self, name: str, attributes: Mapping[str, AttributeValue] | None = None, timestamp: int | None = None
    ) -> None:
        """Do nothing: events may hold content, and none of ours leave."""

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, AttributeValue] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - the API's signature
    ) -> None:
        """Do nothing, as for events."""

    def end(self, end_time: int | None = None) -> None:
        """End it, once."""
        finish, self.finish = self.finish, None
        if finish is not None:
            self.ended_ns = end_time or self.started_ns
            finish(self)


class WireTracer:
    """Starts spans as the SDK's tracer of a provider would.

    Args:
        provider: Decides on sampling and makes ids.
        finish: Takes each span that ended.
    """

    def __init__(self, provider: TracerProvider, finish: Callable[[WireSpan], None]) -> None:
        self._sampler = provider.sampler
        self._ids = provider.id_generator
        self._finish = finish

    def start_span(
        self,
        name: str,
        *,
        context: Context | None,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        start_time: int,
    ) -> Span:
        """Start a span, or a stand-in with ids where the sampler drops it.

        Args:
            name: As the conventions form it.
            context: What to start in.
            kind: CLIENT for a model call, INTERNAL for the work around it.
            attributes: Those that the sampler may look at.
            start_time: Nanoseconds since the epoch.
        """
        parent = trace.get_current_span(context).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else self._ids.generate_trace_id()
        result = self._sampler.should_sample(context, trace_id, name, kind, attributes)
        sampled = result.decision.is_sampled()
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        state = result.trace_state
        own = SpanContext(trace_id, self._ids.generate_span_id(), is_remote=False, trace_flags=flags, trace_state=state)
        if not sampled:
            return trace.NonRecordingSpan(own)
        return WireSpan(
            name,
            own=own,
            parent=parent,
            kind=kind,
            attributes=attributes,
            started_ns=start_time,
            finish=self._finish,
        )


def encode_span(span: WireSpan) -> bytes:
    """Encode one span as a field of ScopeSpans."""
    own, parent = span.own, span.parent
    parts = [b"\x0a\x10", own.trace_id.to_bytes(16, "big"), b"\x12\x08", own.span_id.to_bytes(8, "big")]
    if own.trace_state:
        parts.append(_text(b"\x1a", own.trace_state.to_header()))
    flags = own.trace_flags | _HAS_IS_REMOTE
    if parent.span_id:
        parts += (b"\x22\x08", parent.span_id.to_bytes(8, "big"))
        flags |= _IS_REMOTE if parent.is_remote else 0
    parts.append(_text(b"\x2a", span.name))
    parts.append(_KINDS[span.kind])
    parts.append(_TIMES.pack(0x39, span.started_ns, 0x41, span.ended_ns))
    for key, value in span.attributes.items():
        if isinstance(value, str):
            encoded = _kept.get((key, value))
            if encoded is None:
                encoded = _attribute(key, value)
                if key not in _ONCE:
                    if len(_kept) >= _MAX_KEPT:
                        _kept.clear()
                    _kept[key, value] = encoded
            parts.append(encoded)
        else:
            parts.append(_attribute(key, value))
    parts.append(_FAILED if span.failed else _UNSET)
    parts.append(_FLAGS.pack(0x0185, flags))
    return _field(b"\x12", b"".join(parts))


def encode_request(envelope: tuple[bytes, bytes], spans: Sequence[bytes]) -> bytes:
    """Put encoded spans into an export request.

    Args:
        envelope: From `envelope_of`.
        spans: From `encode_span`.
    """
    resource, scope = envelope
    return _field(b"\x0a", resource + _field(b"\x12", scope + b"".join(spans)))


def envelope_of(resource: Resource, scope_name: str, scope_version: str) -> tuple[bytes, bytes]:
    """Encode what all spans of a process share: resource and scope, as the SDK's own encoder does it."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: PLC0415 - on demand
    from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - on demand
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 - on demand

    sample = ReadableSpan(
        name="sample",
        context=SpanContext(1, 1, is_remote=False),
        resource=resource,
        instrumentation_scope=InstrumentationScope(scope_name, scope_version),
        start_time=0,
        end_time=0,
    )
    encoded = encode_spans([sample]).resource_spans[0]
    del encoded.scope_spans[0].spans[:]
    scope = encoded.scope_spans[0].SerializeToString()
    del encoded.scope_spans[:]
    return encoded.SerializeToString(), scope


def _attribute(key: str, value: AttributeValue) -> bytes:
    return _field(b"\x4a", _text(b"\x0a", key) + _field(b"\x12", _value(value)))


def _value(value: object) -> bytes:
    if isinstance(value, str):
        return _text(b"\x0a", value)
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    if isinstance(value, float):
        return b"\x21" + _DOUBLE.pack(value)
    if isinstance(value, (tuple, list)):
        items = cast("Sequence[object]", value)
        return _field(b"\x2a", b"".join(_field(b"\x0a", _value(item)) for item in items))
    return _text(b"\x0a", str(value))


def _text(tag: bytes, text: str) -> bytes:
    return _field(tag, text.encode("utf-8", "replace"))


def _field(tag: bytes, data: bytes) -> bytes:
    length = len(data)
    return tag + (bytes((length,)) if length < 0x80 else _varint(length)) + data  # noqa: PLR2004 - one byte of a varint


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
