"""How an answer goes out, faults included: pure cutting and breaking of what a wire wrote."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farthing.testing.provider.invoice import InvoiceLine
    from farthing.testing.provider.plan import Frame, Outgoing, Refusal, Wire
    from farthing.testing.provider.script import Fault

Ending: TypeAlias = Literal["complete", "disconnect", "silence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One answer ready to be sent.

    `ending` is "complete", "disconnect" (close after what is here, the body unfinished) or "silence" (close without
    a byte). `line` is billed before the first byte goes out, None when the answer is free.
    """

    number: int
    outgoing: Outgoing
    ending: Ending = "complete"
    delay_seconds: float = 0.0
    chunk_delay_seconds: float = 0.0
    line: InvoiceLine | None = None


def broken(outgoing: Outgoing, fault: Fault, *, wire: Wire, refusal: Refusal) -> tuple[Outgoing, Ending]:
    """Break a good answer the way the fault says. Raises: nothing."""
    if fault.status is not None:
        return _refused(fault, wire, refusal), "complete"
    if fault.malformed_json:
        return _malformed(outgoing), "complete"
    if fault.cut_stream_after is not None:
        return _cut(outgoing, fault, fault.cut_stream_after, wire, refusal)
    return outgoing, "silence"


def _refused(fault: Fault, wire: Wire, refusal: Refusal) -> Outgoing:
    error = wire.refuse(refusal)
    if fault.retry_after_seconds is None:
        return error
    # Retry-After is whole seconds in HTTP; the SDKs read the finer retry-after-ms first, as OpenAI sends it.
    headers = {
        **error.headers,
        "Retry-After": str(int(-(-fault.retry_after_seconds // 1))),
        "retry-after-ms": str(int(fault.retry_after_seconds * 1000)),
    }
    return replace(error, headers=headers)


def _malformed(outgoing: Outgoing) -> Outgoing:
    if not outgoing.frames:
        return replace(outgoing, body=outgoing.body[: len(outgoing.body) // 2])
    frames = list(outgoing.frames)
    at = next((index for index, frame in enumerate(frames) if frame.content), 0)
    half = frames[at].data[: len(frames[at].data) // 2]
    frames[at] = replace(frames[at], data=half.rstrip(b"\n") + b"\n\n")
    return replace(outgoing, frames=frames)


def _cut(outgoing: Outgoing, fault: Fault, after: int, wire: Wire, refusal: Refusal) -> tuple[Outgoing, Ending]:
    if not outgoing.frames:
        return replace(outgoing, body=outgoing.body[: len(outgoing.body) // 2]), "disconnect"
    kept = _until_content(outgoing.frames, after)
    if fault.cut_with == "error":
        error = wire.broken(refusal)
        return replace(outgoing, frames=[*kept, error] if error else kept), "complete"
    return replace(outgoing, frames=kept), "complete" if fault.cut_with == "end" else "disconnect"


def _until_content(frames: Sequence[Frame], count: int) -> list[Frame]:
    """Keep what comes before the content chunk that is one too many; never the closing frames."""
    at_content = [index for index, frame in enumerate(frames) if frame.content]
    if not at_content:
        return list(frames[:-1])
    if count == 0:
        return list(frames[: at_content[0]])
    return list(frames[: at_content[min(count, len(at_content)) - 1] + 1])
