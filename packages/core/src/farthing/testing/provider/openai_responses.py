"""OpenAI responses: output items in place of choices, named events in place of chunks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from farthing.testing.provider import sse
from farthing.testing.provider.openai_error import refuse
from farthing.testing.provider.plan import ANY_TOOL, Asked, Frame, Outgoing, Plan, Refusal, Tool, Wire
from farthing.testing.provider.wire_json import JSON, JSONObject, as_list, as_object, as_text, dump

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farthing.testing.provider.script import ReceivedRequest


def read(request: ReceivedRequest) -> Asked:
    """Read a responses request. Raises: nothing."""
    document = request.document
    entries = [as_object(entry) for entry in as_list(document.get("tools"))]
    output_format = as_object(as_object(document.get("text")).get("format"))
    kinds = [as_text(entry.get("type")) or "" for entry in entries]
    return Asked(
        model=request.model or "",
        stream=document.get("stream") is True,
        tools=tuple(
            Tool(name=as_text(entry.get("name")) or "", schema=as_object(entry.get("parameters")))
            for entry in entries
            if entry.get("type") == "function"
        ),
        tool_results=sum(
            as_object(item).get("type") == "function_call_output" for item in as_list(document.get("input"))
        ),
        forced_tool=_forced_tool(document.get("tool_choice")),
        schema=as_object(output_format.get("schema")) if output_format.get("type") == "json_schema" else None,
        json_mode=output_format.get("type") == "json_object",
        service_tier=as_text(document.get("service_tier")),
        web_search_tool=next((kind for kind in kinds if kind.startswith("web_search")), None),
    )


def _forced_tool(choice: JSON) -> str | None:
    if choice == "required":
        return ANY_TOOL
    return as_text(as_object(choice).get("name"))


def usage(plan: Plan) -> JSONObject:
    """Report usage in responses terms: cached tokens are a part of input_tokens. Raises: nothing."""
    counts = plan.counts
    return {
        "input_tokens": counts.input_tokens,
        "input_tokens_details": {
            "cached_tokens": counts.cache_read_tokens,
            "cache_write_tokens": counts.cache_write_tokens,
        },
        "output_tokens": counts.output_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
        "total_tokens": counts.input_tokens + counts.output_tokens,
        **plan.reply.usage_extra,
    }


def write(plan: Plan) -> Outgoing:
    """Write the response, as one body or as a stream. Raises: nothing."""
    response_id = f"resp_{plan.token}"
    if plan.asked.stream:
        numbered = [
            sse.named_frame(name, {"type": name, "sequence_number": number, **fields}, content=name in _CONTENT_EVENTS)
            for number, (name, fields) in enumerate(_events(plan, response_id))
        ]
        return Outgoing(content_type=sse.CONTENT_TYPE, frames=numbered, response_id=response_id)
    return Outgoing(body=dump(_response(plan, response_id, is_done=True)), response_id=response_id)


_CONTENT_EVENTS = {"response.output_text.delta", "response.function_call_arguments.delta"}


def _response(plan: Plan, response_id: str, *, is_done: bool) -> JSONObject:
    document = plan.request.document
    return {
        "id": response_id,
        "object": "response",
        "created_at": plan.created,
        "status": "completed" if is_done else "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": document.get("instructions"),
        "max_output_tokens": document.get("max_output_tokens"),
        "model": plan.response_model,
        "output": _items(plan) if is_done else [],
        "parallel_tool_calls": True,
        "previous_response_id": document.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": plan.tier if is_done else "auto",
        "store": document.get("store", True),
        "temperature": document.get("temperature", 1.0),
        "text": document.get("text", {"format": {"type": "text"}}),
        "tool_choice": document.get("tool_choice", "auto"),
        "tools": document.get("tools", []),
        "top_p": document.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": usage(plan) if is_done and not plan.reply.omit_usage else None,
        "metadata": document.get("metadata", {}),
    }


_SEARCH: Final[JSONObject] = {"type": "search", "query": "example"}
_PAGE_ACTIONS: Final[tuple[JSONObject, JSONObject]] = (
    {"type": "open_page", "url": "https://example.com"},
    {"type": "find_in_page", "url": "https://example.com", "pattern": "example"},
)


def _items(plan: Plan) -> list[JSON]:
    actions = [_SEARCH] * plan.counts.web_searches + [
        _PAGE_ACTIONS[index % 2] for index in range(plan.reply.pages_read)
    ]
    searches: list[JSON] = [
        {
            "id": plan.tool_call_id("ws_", index),
            "type": "web_search_call",
            "status": "completed",
            "action": action,
        }
        for index, action in enumerate(actions)
    ]
    runs: list[JSON] = [
        {
            "id": plan.tool_call_id("ci_", index),
            "type": "code_interpreter_call",
            "status": "completed",
            "code": "print(1)",
            "container_id": f"cntr_{plan.token}",
            "outputs": None,
        }
        for index in range(plan.reply.code_runs)
    ]
    message: list[JSON] = [_message(plan, [_text_part(plan.text)], "completed")] if plan.text else []
    calls: list[JSON] = [_call(plan, index, "completed") for index in range(len(plan.tool_calls))]
    return [*searches, *runs, *message, *calls]


def _message(plan: Plan, content: list[JSON], status: str) -> JSONObject:
    return {
        "id": f"msg_{plan.token}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _text_part(text: str) -> JSON:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _call(plan: Plan, index: int, status: str) -> JSONObject:
    call = plan.tool_calls[index]
    return {
        "id": plan.tool_call_id("fc_", index),
        "type": "function_call",
        "status": status,
        "arguments": json.dumps(call.arguments) if status == "completed" else "",
        "call_id": plan.tool_call_id("call_", index),
        "name": call.name,
    }


def _events(plan: Plan, response_id: str) -> Iterator[tuple[str, JSONObject]]:
    started = _response(plan, response_id, is_done=False)
    yield "response.created", {"response": started}
    yield "response.in_progress", {"response": started}
    for index, item in enumerate(map(as_object, _items(plan))):
        if item.get("type") == "message":
            yield from _message_events(plan, index, item)
        elif item.get("type") == "function_call":
            yield from _call_events(plan, index, item)
        else:
            yield "response.output_item.added", {"output_index": index, "item": {**item, "status": "in_progress"}}
            yield "response.output_item.done", {"output_index": index, "item": item}
    yield "response.completed", {"response": _response(plan, response_id, is_done=True)}


def _message_events(plan: Plan, index: int, item: JSONObject) -> Iterator[tuple[str, JSONObject]]:
    where: JSONObject = {"item_id": item.get("id"), "output_index": index, "content_index": 0}
    yield "response.output_item.added", {"output_index": index, "item": _message(plan, [], "in_progress")}
    yield "response.content_part.added", {**where, "part": _text_part("")}
    for piece in sse.pieces(plan.text, count=plan.reply.chunks):
        yield "response.output_text.delta", {**where, "delta": piece, "logprobs": []}
    yield "response.output_text.done", {**where, "text": plan.text, "logprobs": []}
    yield "response.content_part.done", {**where, "part": _text_part(plan.text)}
    yield "response.output_item.done", {"output_index": index, "item": item}


def _call_events(plan: Plan, index: int, item: JSONObject) -> Iterator[tuple[str, JSONObject]]:
    where: JSONObject = {"item_id": item.get("id"), "output_index": index}
    arguments = as_text(item.get("arguments")) or ""
    opening = {**item, "status": "in_progress", "arguments": ""}
    yield "response.output_item.added", {"output_index": index, "item": opening}
    for piece in sse.pieces(arguments, count=plan.reply.chunks):
        yield "response.function_call_arguments.delta", {**where, "delta": piece}
    yield "response.function_call_arguments.done", {**where, "name": item.get("name"), "arguments": arguments}
    yield "response.output_item.done", {"output_index": index, "item": item}


def broken(refusal: Refusal) -> Frame:
    """Write the error event that ends a responses stream. Raises: nothing."""
    fields: JSONObject = {
        "type": "error",
        "code": refusal.code or "server_error",
        "message": refusal.message,
        "param": None,
        "sequence_number": 0,
    }
    return sse.named_frame("error", fields)


RESPONSES = Wire(provider="openai", endpoint="responses", read=read, write=write, refuse=refuse, broken=broken)
