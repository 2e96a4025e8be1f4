"""Anthropic messages: input tokens are reported without the cached ones, output with the thinking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farthing.testing.provider import sse
from farthing.testing.provider.plan import ANY_TOOL, Asked, Frame, Outgoing, Plan, Refusal, Tool, Wire
from farthing.testing.provider.wire_json import JSON, JSONObject, as_list, as_object, as_text, dump

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farthing.testing.provider.script import ReceivedRequest

_NOTHING: JSONObject = {}

# Error types: https://platform.claude.com/docs/en/api/errors
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def read(request: ReceivedRequest) -> Asked:
    """Read a messages request. Raises: nothing."""
    document = request.document
    entries = [as_object(entry) for entry in as_list(document.get("tools"))]
    server_tools = [as_text(entry.get("type")) or "" for entry in entries if "input_schema" not in entry]
    return Asked(
        model=request.model or "",
        stream=document.get("stream") is True,
        tools=tuple(
            Tool(name=as_text(entry.get("name")) or "", schema=as_object(entry.get("input_schema")))
            for entry in entries
            if "input_schema" in entry
        ),
        tool_results=sum(
            as_object(block).get("type") == "tool_result"
            for message in as_list(document.get("messages"))
            for block in as_list(as_object(message).get("content"))
        ),
        forced_tool=_forced_tool(as_object(document.get("tool_choice"))),
        schema=_schema(document),
        service_tier=as_text(document.get("service_tier")),
        web_search_tool=next((name for name in server_tools if name.startswith("web_search")), None),
    )


def _forced_tool(choice: JSONObject) -> str | None:
    if choice.get("type") == "any":
        return ANY_TOOL
    return as_text(choice.get("name")) if choice.get("type") == "tool" else None


def _schema(document: JSONObject) -> JSONObject | None:
    # `output_config.format` is the general one, `output_format` what the beta was called.
    for output in (as_object(document.get("output_config")).get("format"), document.get("output_format")):
        if as_object(output).get("type") == "json_schema":
            return as_object(as_object(output).get("schema"))
    return None


def usage(plan: Plan) -> dict[str, JSON]:
    """Report usage in Anthropic's terms: input_tokens is what no cache gave and none took. Raises: nothing."""
    counts = plan.counts
    fields: dict[str, JSON] = {
        "input_tokens": counts.fresh_input_tokens,
        "cache_creation_input_tokens": counts.cache_write_tokens,
        "cache_read_input_tokens": counts.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": counts.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": counts.cache_write_1h_tokens,
        },
        "output_tokens": counts.output_tokens,
        "service_tier": plan.tier,
    }
    if counts.reasoning_tokens:
        fields["output_tokens_details"] = {"thinking_tokens": counts.reasoning_tokens}
    if counts.web_searches:
        fields["server_tool_use"] = {"web_search_requests": counts.web_searches}
    return {**fields, **plan.reply.usage_extra}


def write(plan: Plan) -> Outgoing:
    """Write the message, as one body or as a stream. Raises: nothing."""
    response_id = f"msg_{plan.token}"
    headers = {"request-id": f"req_{plan.token}"}
    if plan.asked.stream:
        return Outgoing(
            content_type=sse.CONTENT_TYPE,
            frames=tuple(_frames(plan, response_id)),
            response_id=response_id,
            headers=headers,
        )
    message = _message(plan, response_id)
    message["content"] = [*_search_blocks(plan), *_text_blocks(plan), *_tool_blocks(plan)]
    message["stop_reason"] = _stop_reason(plan)
    if not plan.reply.omit_usage:
        message["usage"] = usage(plan)
    return Outgoing(body=dump(message), response_id=response_id, headers=headers)


def _message(plan: Plan, response_id: str) -> dict[str, JSON]:
    return {
        "id": response_id,
        "type": "message",
        "role": "assistant",
        "model": plan.response_model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _search_blocks(plan: Plan) -> list[JSON]:
    """Give what the provider's own searches leave in the content: each call and its result."""
    blocks: list[JSON] = []
    for index in range(plan.counts.web_searches):
        name = plan.tool_call_id("srvtoolu_", index)
        blocks.append({"type": "server_tool_use", "id": name, "name": "web_search", "input": {"query": "example"}})
        found: JSON = {
            "type": "web_search_result",
            "title": "Example",
            "url": "https://example.com",
            "encrypted_content": "",
            "page_age": None,
        }
        blocks.append({"type": "web_search_tool_result", "tool_use_id": name, "content": [found]})
    return blocks


def _text_blocks(plan: Plan) -> list[JSON]:
    return [{"type": "text", "text": plan.text}] if plan.text else []


def _tool_blocks(plan: Plan) -> list[JSON]:
    return [
        {"type": "tool_use", "id": plan.tool_call_id("toolu_", index), "name": call.name, "input": call.arguments or {}}
        for index, call in enumerate(plan.tool_calls)
    ]


def _stop_reason(plan: Plan) -> str:
    return plan.reply.finish_reason or ("tool_use" if plan.tool_calls else "end_turn")


def _frames(plan: Plan, response_id: str) -> Iterator[Frame]:
    message = _message(plan, response_id)
    if not plan.reply.omit_usage:
        # The count of output grows during the stream; the first event tells of the few tokens that exist by then.
        first = min(plan.reply.first_output_tokens, plan.counts.output_tokens)
        message["usage"] = {**usage(plan), "output_tokens": first}
    yield sse.named_frame("message_start", {"type": "message_start", "message": message})
    blocks = [*_search_blocks(plan), *_text_blocks(plan), *_tool_blocks(plan)]
    for index, block in enumerate(blocks):
        yield from _block_frames(index, as_object(block), plan.reply.chunks)
        if index == 0:
            yield sse.named_frame("ping", {"type": "ping"})
    delta: dict[str, JSON] = {
        "type": "message_delta",
        "delta": {"stop_reason": _stop_reason(plan), "stop_sequence": None},
    }
    if not plan.reply.omit_usage:
        delta["usage"] = _delta_usage(plan)
    yield sse.named_frame("message_delta", delta)
    yield sse.named_frame("message_stop", {"type": "message_stop"})


def _delta_usage(plan: Plan) -> JSONObject:
    if plan.reply.bare_message_delta:
        return {"output_tokens": plan.counts.output_tokens}
    # message_delta repeats the input counts, but neither the split of the cache writes nor the tier.
    unsaid = {"cache_creation", "service_tier"}
    return {name: value for name, value in usage(plan).items() if name not in unsaid}


def _block_frames(index: int, block: JSONObject, chunks: int) -> Iterator[Frame]:
    if block.get("type") == "web_search_tool_result":
        opening, kind, field, whole, chunks = block, "", "", "", 0
    elif block.get("type") == "text":
        opening, kind, field = {**block, "text": ""}, "text_delta", "text"
        whole = as_text(block.get("text")) or ""
    else:
        opening, kind, field = {**block, "input": _NOTHING}, "input_json_delta", "partial_json"
        whole = dump(block.get("input")).decode()
    yield sse.named_frame(
        "content_block_start", {"type": "content_block_start", "index": index, "content_block": opening}
    )
    for piece in sse.pieces(whole, count=chunks) if whole else ():
        delta: JSON = {"type": kind, field: piece}
        yield sse.named_frame(
            "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}, content=True
        )
    yield sse.named_frame("content_block_stop", {"type": "content_block_stop", "index": index})


def write_count(plan: Plan) -> Outgoing:
    """Write the answer of count_tokens. Raises: nothing."""
    return Outgoing(body=dump({"input_tokens": plan.counts.input_tokens}))


def refuse(refusal: Refusal) -> Outgoing:
    """Write an error the way Anthropic does. Raises: nothing."""
    return Outgoing(status=refusal.status, body=dump(_error(refusal)), headers={"request-id": f"req_{refusal.token}"})


def broken(refusal: Refusal) -> Frame:
    """Write the error event that ends an Anthropic stream. Raises: nothing."""
    return sse.named_frame("error", _error(refusal))


def _error(refusal: Refusal) -> JSONObject:
    kind = _ERROR_TYPES.get(refusal.status, "api_error" if refusal.is_server_fault else "invalid_request_error")
    return {
        "type": "error",
        "error": {"type": refusal.code or kind, "message": refusal.message},
        "request_id": f"req_{refusal.token}",
    }


MESSAGES = Wire(provider="anthropic", endpoint="messages", read=read, write=write, refuse=refuse, broken=broken)
COUNT_TOKENS = Wire(
    provider="anthropic",
    endpoint="messages.count_tokens",
    read=read,
    write=write_count,
    refuse=refuse,
    broken=broken,
    is_billed=False,
)
