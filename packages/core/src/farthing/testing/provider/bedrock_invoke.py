"""Bedrock InvokeModel with Anthropic's models: their messages, and what is billed in headers or the last event."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING

from farthing.testing.provider import anthropic, bedrock
from farthing.testing.provider.plan import Asked, Frame, Outgoing, Plan, Wire
from farthing.testing.provider.wire_json import JSON, as_object, dump, parse

if TYPE_CHECKING:
    from farthing.testing.provider.script import ReceivedRequest


def read(request: ReceivedRequest) -> Asked:
    """Read a request: the body is Anthropic's, the path has the model and whether it streams. Raises: nothing."""
    asked = anthropic.read(request)
    return replace(asked, model=request.model or "", stream=request.path.endswith("/invoke-with-response-stream"))


def write(plan: Plan) -> Outgoing:
    """Write the answer, as one body or as a stream. Raises: nothing."""
    answer = anthropic.write(plan)
    headers = {"x-amzn-requestid": f"bedrock-{plan.token}"}
    if plan.asked.stream:
        frames = tuple(_chunk(frame, plan) for frame in answer.frames)
        return replace(answer, content_type=bedrock.STREAM_TYPE, frames=frames, headers=headers)
    if not plan.reply.omit_usage:
        headers |= {f"x-amzn-bedrock-{name}-token-count": str(count) for name, count in _counts(plan).items()}
    return replace(answer, headers=headers)


def _counts(plan: Plan) -> dict[str, int]:
    """Count as InvokeModel does: the input leaves the cached tokens out."""
    return {
        "input": plan.counts.fresh_input_tokens,
        "output": plan.counts.output_tokens,
        "cache-read-input": plan.counts.cache_read_tokens,
        "cache-write-input": plan.counts.cache_write_tokens,
    }


def _chunk(frame: Frame, plan: Plan) -> Frame:
    """Put one of Anthropic's events into AWS's framing; the last one also has the invocation's metrics."""
    event: dict[str, JSON] = dict(as_object(parse(frame.data.partition(b"data: ")[2])))
    if event.get("type") == "message_stop" and not plan.reply.omit_usage:
        counts = _counts(plan)
        event["amazon-bedrock-invocationMetrics"] = {
            "inputTokenCount": counts["input"],
            "outputTokenCount": counts["output"],
            "cacheReadInputTokenCount": counts["cache-read-input"],
            "cacheWriteInputTokenCount": counts["cache-write-input"],
            "invocationLatency": 5,
            "firstByteLatency": 2,
        }
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    payload = dump({"bytes": base64.b64encode(dump(event)).decode()})
    return Frame(data=bedrock.encode_message(headers, payload), content=frame.content)


INVOKE = Wire(
    provider="bedrock", endpoint="invoke", read=read, write=write, refuse=bedrock.refuse, broken=bedrock.broken
)
