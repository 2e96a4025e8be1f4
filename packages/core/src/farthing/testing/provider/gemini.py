"""Gemini generateContent: cached tokens inside the prompt count, thoughts beside the candidates count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farthing.testing.provider import sse
from farthing.testing.provider.plan import ANY_TOOL, Asked, Frame, Outgoing, Plan, Refusal, Tool, Wire
from farthing.testing.provider.wire_json import JSON, JSONObject, as_int, as_list, as_object, as_text, dump

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farthing.testing.provider.script import ReceivedRequest

# Statuses of google.rpc.Code by HTTP status.
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def read(request: ReceivedRequest) -> Asked:
    """Read a generateContent request, in camel or snake case; the path says whether it streams. Raises: nothing."""
    document = request.document
    config = as_object(_either(document, "generationConfig", "generation_config"))
    calling = as_object(
        _either(
            as_object(_either(document, "toolConfig", "tool_config")),
            "functionCallingConfig",
            "function_calling_config",
        )
    )
    allowed = as_list(_either(calling, "allowedFunctionNames", "allowed_function_names"))
    tools = [as_object(tool) for tool in as_list(document.get("tools"))]
    is_forced = (as_text(calling.get("mode")) or "").upper() == "ANY"
    return Asked(
        model=request.model or "",
        stream=":streamGenerateContent" in request.path,
        tools=tuple(_tools(tools)),
        tool_results=sum(
            _either(as_object(part), "functionResponse", "function_response") is not None
            for content in as_list(document.get("contents"))
            for part in as_list(as_object(content).get("parts"))
        ),
        forced_tool=(as_text(allowed[0]) if allowed else ANY_TOOL) if is_forced else None,
        schema=_schema(config),
        json_mode=_either(config, "responseMimeType", "response_mime_type") == "application/json",
        service_tier=as_text(_either(document, "serviceTier", "service_tier")),
        choices=as_int(_either(config, "candidateCount", "candidate_count")) or 1,
        web_search_tool="google_search"
        if any("googleSearch" in tool or "google_search" in tool for tool in tools)
        else None,
    )


def _either(node: JSONObject, camel: str, snake: str) -> JSON:
    return node[camel] if camel in node else node.get(snake)


def _tools(tools: list[JSONObject]) -> Iterator[Tool]:
    for tool in tools:
        for entry in as_list(_either(tool, "functionDeclarations", "function_declarations")):
            declaration = as_object(entry)
            schema = _either(declaration, "parametersJsonSchema", "parameters_json_schema")
            yield Tool(
                name=as_text(declaration.get("name")) or "",
                schema=as_object(schema if schema is not None else declaration.get("parameters")),
            )


def _schema(config: JSONObject) -> JSONObject | None:
    for camel, snake in (("responseJsonSchema", "response_json_schema"), ("responseSchema", "response_schema")):
        schema = as_object(_either(config, camel, snake))
        if schema:
            return schema
    return None


def usage(plan: Plan) -> JSONObject:
    """Report usage in Gemini's terms: thoughts are not in candidatesTokenCount. Raises: nothing."""
    counts = plan.counts
    fields: dict[str, JSON] = {
        "promptTokenCount": counts.input_tokens,
        "candidatesTokenCount": counts.output_tokens - counts.reasoning_tokens,
        "totalTokenCount": counts.input_tokens + counts.output_tokens,
        "promptTokensDetails": _by_modality(counts.input_tokens, counts.input_audio_tokens),
        "trafficType": _traffic(plan.tier),
    }
    if counts.cache_read_tokens:
        fields["cachedContentTokenCount"] = counts.cache_read_tokens
        fields["cacheTokensDetails"] = _by_modality(counts.cache_read_tokens, 0)
    if counts.reasoning_tokens:
        fields["thoughtsTokenCount"] = counts.reasoning_tokens
    if counts.output_audio_tokens:
        fields["candidatesTokensDetails"] = _by_modality(
            counts.output_tokens - counts.reasoning_tokens, counts.output_audio_tokens
        )
    return {**fields, **plan.reply.usage_extra}


def _traffic(tier: str) -> str:
    return {"flex": "ON_DEMAND_FLEX", "priority": "ON_DEMAND_PRIORITY", "standard": "ON_DEMAND"}.get(tier, tier)


def _by_modality(total: int, audio: int) -> JSON:
    details = (("TEXT", total - audio), ("AUDIO", audio))
    return [{"modality": modality, "tokenCount": count} for modality, count in details if count]


def write(plan: Plan) -> Outgoing:
    """Write the answer, as one body or as a stream of partial answers. Raises: nothing."""
    response_id = f"gemini-{plan.token}"
    if plan.asked.stream:
        frames = tuple(_frames(plan, response_id))
        return Outgoing(content_type=sse.CONTENT_TYPE, frames=frames, response_id=response_id)
    parts: list[JSON] = [{"text": plan.text}] if plan.text else []
    body = _response(plan, response_id, [*parts, *_call_parts(plan)], is_last=True)
    return Outgoing(body=dump(body), response_id=response_id)


def _response(plan: Plan, response_id: str, parts: list[JSON], *, is_last: bool) -> JSONObject:
    candidates: list[JSON] = []
    for index in range(plan.asked.choices):
        candidate: dict[str, JSON] = {"content": {"role": "model", "parts": parts}, "index": index}
        if is_last:
            candidate["finishReason"] = plan.reply.finish_reason or "STOP"
            if plan.counts.web_searches:
                candidate["groundingMetadata"] = {"webSearchQueries": ["example"] * plan.counts.web_searches}
        candidates.append(candidate)
    body: dict[str, JSON] = {"candidates": candidates, "modelVersion": plan.response_model, "responseId": response_id}
    if (is_last or plan.reply.usage_on_every_chunk) and not plan.reply.omit_usage:
        body["usageMetadata"] = usage(plan)
    elif not plan.reply.omit_usage:
        # Partial answers of Gemini already tell the prompt, and only the last one tells the candidates.
        told = {"promptTokenCount", "promptTokensDetails", "cachedContentTokenCount", "trafficType"}
        body["usageMetadata"] = {name: value for name, value in usage(plan).items() if name in told}
    return body


def _call_parts(plan: Plan) -> list[JSON]:
    return [{"functionCall": {"name": call.name, "args": call.arguments or {}}} for call in plan.tool_calls]


def _frames(plan: Plan, response_id: str) -> Iterator[Frame]:
    partial: list[list[JSON]] = [[{"text": piece}] for piece in sse.pieces(plan.text, count=plan.reply.chunks)]
    calls = _call_parts(plan)
    if calls:
        partial.append(calls)
    for parts in partial:
        yield sse.data_frame(_response(plan, response_id, parts, is_last=False), content=True)
    yield sse.data_frame(_response(plan, response_id, [{"text": ""}], is_last=True))


def refuse(refusal: Refusal) -> Outgoing:
    """Write an error the way Google does. Raises: nothing."""
    return Outgoing(status=refusal.status, body=dump(_error(refusal)))


def broken(refusal: Refusal) -> Frame:
    """Write the error that ends a Gemini stream. Raises: nothing."""
    return sse.data_frame(_error(refusal))


def _error(refusal: Refusal) -> JSONObject:
    status = refusal.code or _STATUSES.get(refusal.status, "INTERNAL")
    return {"error": {"code": refusal.status, "message": refusal.message, "status": status}}


def read_embedding(request: ReceivedRequest) -> Asked:
    """Read an embedContent or batchEmbedContents request. Raises: nothing."""
    batch = as_list(request.document.get("requests"))
    return Asked(model=request.model or "", inputs=len(batch) or 1, has_output=False)


def write_embedding(plan: Plan) -> Outgoing:
    """Write embeddings; the Gemini API reports no usage for them. Raises: nothing."""
    vector: JSON = {"values": [0.25, -0.5, 0.75]}
    is_batch = plan.request.path.endswith(":batchEmbedContents")
    body: JSON = {"embeddings": [vector] * plan.asked.inputs} if is_batch else {"embedding": vector}
    return Outgoing(body=dump(body), response_id=f"gemini-{plan.token}")


def write_count(plan: Plan) -> Outgoing:
    """Write the answer of countTokens. Raises: nothing."""
    return Outgoing(body=dump({"totalTokens": plan.counts.input_tokens}))


GENERATE = Wire(provider="gemini", endpoint="generateContent", read=read, write=write, refuse=refuse, broken=broken)
EMBED = Wire(
    provider="gemini",
    endpoint="embedContent",
    read=read_embedding,
    write=write_embedding,
    refuse=refuse,
    broken=broken,
)
COUNT_TOKENS = Wire(
    provider="gemini",
    endpoint="countTokens",
    read=read,
    write=write_count,
    refuse=refuse,
    broken=broken,
    is_billed=False,
)
