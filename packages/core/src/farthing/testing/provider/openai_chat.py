"""OpenAI chat completions, which Azure OpenAI and every OpenAI-compatible server speak too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from farthing.testing.provider import sse
from farthing.testing.provider.openai_error import broken, refuse
from farthing.testing.provider.plan import ANY_TOOL, Asked, Frame, Outgoing, Plan, Tool, Wire, drop_none
from farthing.testing.provider.wire_json import JSON, JSONObject, as_int, as_list, as_object, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from farthing.testing.provider.script import ReceivedRequest, ToolCall


def read(request: ReceivedRequest) -> Asked:
    """Read a chat completions request. Raises: nothing."""
    document = request.document
    tools = tuple(_tools(document))
    response_format = as_object(document.get("response_format"))
    return Asked(
        model=request.model or "",
        stream=document.get("stream") is True,
        tools=tools,
        tool_results=sum(
            as_object(message).get("role") in {"tool", "function"} for message in as_list(document.get("messages"))
        ),
        forced_tool=_forced_tool(document.get("tool_choice")),
        schema=_schema(response_format),
        json_mode=response_format.get("type") == "json_object",
        service_tier=as_text(document.get("service_tier")),
        include_usage=as_object(document.get("stream_options")).get("include_usage") is True,
        choices=as_int(document.get("n")) or 1,
        web_search_tool="web_search_preview" if "web_search_options" in document else None,
    )


def _tools(document: JSONObject) -> Iterator[Tool]:
    for entry in as_list(document.get("tools")):
        function = as_object(as_object(entry).get("function"))
        name = as_text(function.get("name"))
        if name is not None:
            yield Tool(name=name, schema=as_object(function.get("parameters")))


def _forced_tool(choice: JSON) -> str | None:
    if choice == "required":
        return ANY_TOOL
    return as_text(as_object(as_object(choice).get("function")).get("name"))


def _schema(response_format: JSONObject) -> JSONObject | None:
    if response_format.get("type") != "json_schema":
        return None
    return as_object(as_object(response_format.get("json_schema")).get("schema"))


def usage(plan: Plan) -> JSONObject:
    """Report usage in chat terms: cached and audio tokens are parts of prompt_tokens. Raises: nothing."""
    counts = plan.counts
    prompt_details: dict[str, JSON] = {
        "cached_tokens": counts.cache_read_tokens,
        "audio_tokens": counts.input_audio_tokens,
    }
    if counts.cache_write_tokens:
        prompt_details["cache_write_tokens"] = counts.cache_write_tokens
    return {
        "prompt_tokens": counts.input_tokens,
        "completion_tokens": counts.output_tokens,
        "total_tokens": counts.input_tokens + counts.output_tokens,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {
            "reasoning_tokens": counts.reasoning_tokens,
            "audio_tokens": counts.output_audio_tokens,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        **plan.reply.usage_extra,
    }


def write(plan: Plan) -> Outgoing:
    """Write the completion, as one body or as a stream. Raises: nothing."""
    response_id = f"chatcmpl-{plan.token}"
    if plan.asked.stream:
        frames = tuple(_frames(plan, response_id))
        return Outgoing(content_type=sse.CONTENT_TYPE, frames=frames, response_id=response_id)
    body: dict[str, JSON] = {
        **_head(plan, response_id, "chat.completion"),
        "choices": [_choice(plan, index) for index in range(plan.asked.choices)],
        "usage": None if plan.reply.omit_usage else usage(plan),
    }
    return Outgoing(body=json.dumps(drop_none(body)).encode(), response_id=response_id)


def _head(plan: Plan, response_id: str, kind: str) -> dict[str, JSON]:
    return {
        "id": response_id,
        "object": kind,
        "created": plan.created,
        "model": plan.response_model,
        "service_tier": plan.tier,
        "system_fingerprint": "fp_fake",
    }


def _choice(plan: Plan, index: int) -> JSONObject:
    message: dict[str, JSON] = {
        "role": "assistant",
        "content": plan.text or None,
        "refusal": None,
        "annotations": [],
    }
    if plan.tool_calls:
        message["tool_calls"] = [_tool_call(plan, call, at) for at, call in enumerate(plan.tool_calls)]
    return {"index": index, "message": message, "logprobs": None, "finish_reason": _finish_reason(plan)}


def _tool_call(plan: Plan, call: ToolCall, index: int) -> JSONObject:
    return {
        "id": plan.tool_call_id("call_", index),
        "type": "function",
        "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
    }


def _finish_reason(plan: Plan) -> str | None:
    if plan.reply.finish_reason is not None:
        return plan.reply.finish_reason or None
    return "tool_calls" if plan.tool_calls else "stop"


def _frames(plan: Plan, response_id: str) -> Iterator[Frame]:
    head = _head(plan, response_id, "chat.completion.chunk")
    wants_usage = plan.asked.include_usage and not plan.reply.omit_usage
    if plan.reply.usage_on_every_chunk:
        head["usage"] = usage(plan)
    elif wants_usage:
        head["usage"] = None  # OpenAI sends a null usage on every chunk but the last when usage was asked for
    for index in range(plan.asked.choices):
        first: JSONObject = {"service_tier": plan.reply.first_service_tier} if plan.reply.first_service_tier else {}
        opening: JSONObject = {"role": "assistant", "content": "" if plan.text else None, "refusal": None}
        yield _delta({**head, **first}, index, opening)
        for piece in sse.pieces(plan.text, count=plan.reply.chunks):
            yield _delta(head, index, {"content": piece}, content=True)
        for at, call in enumerate(plan.tool_calls):
            yield from _tool_deltas(head, index, at, _tool_call(plan, call, at), plan.reply.chunks)
        told: JSONObject = {"usage": usage(plan)} if wants_usage and plan.reply.usage_on_finish else {}
        yield _delta({**head, **told}, index, {}, finish_reason=_finish_reason(plan))
    if wants_usage and not plan.reply.usage_on_finish:
        yield sse.data_frame({**head, "choices": [], "usage": usage(plan)})
    yield sse.DONE


def _tool_deltas(head: JSONObject, choice: int, at: int, call: JSONObject, chunks: int) -> Iterator[Frame]:
    function = as_object(call.get("function"))
    opening: JSON = {**call, "index": at, "function": {"name": function.get("name"), "arguments": ""}}
    yield _delta(head, choice, {"tool_calls": [opening]})
    for piece in sse.pieces(as_text(function.get("arguments")) or "", count=chunks):
        part: Sequence[JSON] = [{"index": at, "function": {"arguments": piece}}]
        yield _delta(head, choice, {"tool_calls": part}, content=True)


def _delta(
    head: JSONObject, index: int, delta: JSONObject, *, finish_reason: str | None = None, content: bool = False
) -> Frame:
    choice: JSON = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return sse.data_frame({**head, "choices": [choice]}, content=content)


CHAT = Wire(provider="openai", endpoint="chat.completions", read=read, write=write, refuse=refuse, broken=broken)
