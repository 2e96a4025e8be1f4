"""What the answer of an OTLP/HTTP receiver means.

It follows "OTLP/HTTP Response" of the OTLP specification, with two differences. An answer that a mended configuration
may change (401, 404, 500) is no reason to throw a bill away, so everything but a request that cannot be read is tried
again. And a success counts only where a receiver of OTLP may have said it: a login page comes with 200 too.
"""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

if TYPE_CHECKING:
    from email.message import Message

__all__ = ["MAX_ANSWER_BYTES", "Answer", "judged", "rejected_in"]

MAX_ANSWER_BYTES: Final = 65_536
_TAKEN: Final = range(200, 300)
_UNREADABLE: Final = frozenset({400, 422})
_TOO_LARGE: Final = 413
_WORDS: Final = frozenset({b"ok", b"success", b"accepted"})
"""What some receivers say instead of nothing."""
_NO_RECEIVER: Final = "a login page, a proxy or another service may be in front; everything is kept"

Verdict = Literal["taken", "later", "refused", "too-large"]


class Answer(NamedTuple):
    """What became of one request."""

    verdict: Verdict
    reason: str = ""
    """A status or the name of an error; never a text of the receiver's."""
    retry_after_seconds: float | None = None
    rejected: int = 0
    """Spans or data points that a receiver will not have, of a request that it took."""


def judged(status: int, headers: Message, body: bytes) -> Answer:
    """Say what an answer means.

    Args:
        status: Of HTTP.
        headers: Its headers.
        body: Its first `MAX_ANSWER_BYTES`.

    Raises:
        Nothing.
    """
    if status in _TAKEN:
        kind = headers.get_content_type() if "Content-Type" in headers else ""
        rejected = None if kind == "text/html" and body else rejected_in(body)
        if rejected is None:
            return Answer("later", f"HTTP {status} without an OTLP answer ({_kind(body, kind)}): {_NO_RECEIVER}")
        return Answer("taken", rejected=rejected)
    if status == _TOO_LARGE:
        return Answer("too-large", f"HTTP {status}")
    if status in _UNREADABLE:
        return Answer("refused", f"HTTP {status}")
    return Answer("later", f"HTTP {status}", _delay(headers))


def _kind(body: bytes, kind: str) -> str:
    """Name what a receiver answered with, in words of ours."""
    if kind == "text/html" or body.lstrip().startswith(b"<"):
        return "a web page"
    return "neither protobuf nor JSON"


def _delay(headers: Message) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3): seconds, or a date, by the receiver's own clock where it says its time."""
    text = (headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    moment = _seconds_of_date(text)
    if moment is None:
        return None
    now = _seconds_of_date(headers.get("Date") or "")
    return max(0.0, moment - (time.time() if now is None else now))


def _seconds_of_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def rejected_in(answer: bytes) -> int | None:
    """Count what a receiver rejects in an answer that is otherwise a success; None where it is no answer of OTLP.

    The answers for spans and for metrics are laid out alike. Some receivers answer in JSON whatever they are sent, and
    one too long to be read whole is taken at its word.

    Raises:
        Nothing.
    """
    if not answer or answer.strip().lower() in _WORDS:
        return 0
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - only where there is one
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415 - only where there is one
        ExportTraceServiceResponse,
    )

    try:
        return max(0, ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans)
    except DecodeError:
        pass
    if len(answer) >= MAX_ANSWER_BYTES and not answer.lstrip().startswith(b"<"):
        return 0
    try:
        told: object = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return _rejected_in_json(told)


def _rejected_in_json(told: object) -> int:
    """Read the partial success of an answer in JSON, where numbers of 64 bits are text."""
    partial = cast("dict[str, object]", told).get("partialSuccess") if isinstance(told, dict) else None
    if not isinstance(partial, dict):
        return 0
    found = cast("dict[str, object]", partial)
    number = found.get("rejectedSpans", found.get("rejectedDataPoints"))
    text = str(number)
    return int(text) if text.isascii() and text.isdigit() else 0
