"""Bedrock Converse: usage beside the cached tokens, streams in AWS's binary event framing."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from farthing.testing.provider import sse
from farthing.testing.provider.plan import ANY_TOOL, Asked, Frame, Outgoing, Plan, Refusal, Tool, Wire
from farthing.testing.provider.wire_json import JSON, JSONObject, as_list, as_object, as_text, dump

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from farthing.testing.provider.script import ReceivedRequest

STREAM_TYPE = "application/vnd.amazon.eventstream"
_STRING_HEADER = 7

# Exceptions of the service model (bedrock-runtime 2023-09-30) by HTTP status.
_EXCEPTIONS = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


def read(request: ReceivedRequest) -> Asked:
    """Read a Converse request; the path says whether it streams. Raises: nothing."""
    document = request.document
    config = as_object(document.get("toolConfig"))
    choice = as_object(config.get("toolChoice"))
    return Asked(
        model=request.model or "",
        stream=request.path.endswith("/converse-stream"),
        tools=tuple(_tools(config)),
        tool_results=sum(
            "toolResult" in as_object(block)
            for message in as_list(document.get("messages"))
            for block in as_list(as_object(message).get("content"))
        ),
        forced_tool=ANY_TOOL if "any" in choice else as_text(as_object(choice.get("tool")).get("name")),
        service_tier=as_text(as_object(document.get("serviceTier")).get("type")),
    )


def _tools(config: JSONObject) -> Iterator[Tool]:
    for entry in as_list(config.get("tools")):
        spec = as_object(as_object(entry).get("toolSpec"))
        name = as_text(spec.get("name"))
        if name is not None:
            yield Tool(name=name, schema=as_object(as_object(spec.get("inputSchema")).get("json")))


def usage(plan: Plan) -> JSONObject:
    """Report usage in Converse terms: inputTokens leaves the cached ones out, totalTokens has them. Raises: nothing."""
    counts = plan.counts
    details: list[JSON] = [
        {"ttl": ttl, "inputTokens": written}
        for ttl, written in (("5m", counts.cache_write_5m_tokens), ("1h", counts.cache_write_1h_tokens))
        if written
    ]
    fields: dict[str, JSON] = {
        "inputTokens": counts.fresh_input_tokens,
        "outputTokens": counts.output_tokens,
        "totalTokens": counts.input_tokens + counts.output_tokens,
        "cacheReadInputTokens": counts.cache_read_tokens,
        "cacheWriteInputTokens": counts.cache_write_tokens,
    }
    if details:
        fields["cacheDetails"] = details
    return {**fields, **plan.reply.usage_extra}


def write(plan: Plan) -> Outgoing:
    """Write the answer, as one body or as a stream; its only id is the request id in a header. Raises: nothing."""
    response_id = f"bedrock-{plan.token}"
    headers = {"x-amzn-requestid": response_id}
    if plan.asked.stream:
        frames = tuple(_frames(plan))
        return Outgoing(content_type=STREAM_TYPE, frames=frames, response_id=response_id, headers=headers)
    text: list[JSON] = [{"text": plan.text}] if plan.text else []
    calls: list[JSON] = [
        {
            "toolUse": {
                "toolUseId": plan.tool_call_id("tooluse_", index),
                "name": call.name,
                "input": call.arguments or {},
            }
        }
        for index, call in enumerate(plan.tool_calls)
    ]
    body: dict[str, JSON] = {
        "output": {"message": {"role": "assistant", "content": [*text, *calls]}},
        "stopReason": _stop_reason(plan),
        "metrics": {"latencyMs": 5},
        "serviceTier": {"type": _tier(plan)},
    }
    if not plan.reply.omit_usage:
        body["usage"] = usage(plan)
    return Outgoing(body=dump(body), response_id=response_id, headers=headers)


def _tier(plan: Plan) -> str:
    return "default" if plan.tier == "standard" else plan.tier


def _stop_reason(plan: Plan) -> str:
    return plan.reply.finish_reason or ("tool_use" if plan.tool_calls else "end_turn")


def _frames(plan: Plan) -> Iterator[Frame]:
    yield _event("messageStart", {"role": "assistant"})
    index = 0
    if plan.text:
        for piece in sse.pieces(plan.text, count=plan.reply.chunks):
            delta: JSON = {"text": piece}
            yield _event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}, content=True)
        yield _event("contentBlockStop", {"contentBlockIndex": index})
        index += 1
    for at, call in enumerate(plan.tool_calls):
        opening: JSON = {"toolUse": {"toolUseId": plan.tool_call_id("tooluse_", at), "name": call.name}}
        yield _event("contentBlockStart", {"contentBlockIndex": index, "start": opening})
        for piece in sse.pieces(dump(call.arguments or {}).decode(), count=plan.reply.chunks):
            part: JSON = {"toolUse": {"input": piece}}
            yield _event("contentBlockDelta", {"contentBlockIndex": index, "delta": part}, content=True)
        yield _event("contentBlockStop", {"contentBlockIndex": index})
        index += 1
    yield _event("messageStop", {"stopReason": _stop_reason(plan)})
    metadata: dict[str, JSON] = {"metrics": {"latencyMs": 5}, "serviceTier": {"type": _tier(plan)}}
    if not plan.reply.omit_usage:
        metadata["usage"] = usage(plan)
    yield _event("metadata", metadata)


def _event(name: str, payload: JSONObject, *, content: bool = False) -> Frame:
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return Frame(data=encode_message(headers, dump(payload)), content=content)


def encode_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Frame one message of an event stream: prelude, its CRC32, headers, payload, CRC32 of it all.

    Format: https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html ("Event stream encoding").
    Raises: nothing.
    """
    encoded = b"".join(_header(name, value) for name, value in headers.items())
    total = 4 + 4 + 4 + len(encoded) + len(payload) + 4
    prelude = struct.pack(">II", total, len(encoded))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + encoded + payload
    return head + struct.pack(">I", zlib.crc32(head))


def _header(name: str, value: str) -> bytes:
    raw_name, raw_value = name.encode(), value.encode()
    return struct.pack(">B", len(raw_name)) + raw_name + struct.pack(">BH", _STRING_HEADER, len(raw_value)) + raw_value


def write_count(plan: Plan) -> Outgoing:
    """Write the answer of count-tokens. Raises: nothing."""
    return Outgoing(body=dump({"inputTokens": plan.counts.input_tokens}))


def refuse(refusal: Refusal) -> Outgoing:
    """Write an error the way AWS does: its type is a header. Raises: nothing."""
    headers = {"x-amzn-ErrorType": _exception(refusal), "x-amzn-requestid": f"bedrock-{refusal.token}"}
    return Outgoing(status=refusal.status, body=dump({"message": refusal.message}), headers=headers)


def broken(refusal: Refusal) -> Frame:
    """Write the exception message that ends an event stream. Raises: nothing."""
    name = _exception(refusal)
    headers = {
        ":exception-type": name[0].lower() + name[1:],
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return Frame(data=encode_message(headers, dump({"message": refusal.message})))


def _exception(refusal: Refusal) -> str:
    fallback = "InternalServerException" if refusal.is_server_fault else "ValidationException"
    return refusal.code or _EXCEPTIONS.get(refusal.status, fallback)


CONVERSE = Wire(provider="bedrock", endpoint="converse", read=read, write=write, refuse=refuse, broken=broken)
COUNT_TOKENS = Wire(
    provider="bedrock",
    endpoint="count-tokens",
    read=read,
    write=write_count,
    refuse=refuse,
    broken=broken,
    is_billed=False,
)
