"""From a request and a scripted reply to a plan: every number, id and text decided before a byte is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from farthing.testing.provider.plan import ANY_TOOL, Asked, Counts, Plan, ProviderName
from farthing.testing.provider.schema import example_of
from farthing.testing.provider.script import ReceivedRequest, Reply, ToolCall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farthing.testing.provider.price_table import PriceTable

_DEFAULT_INPUT_TOKENS = 100
_DEFAULT_OUTPUT_TOKENS = 10
_DEFAULT_WORDS = ("This", "is", "what", "the", "fake", "provider", "says.")

_DEFAULT_TIERS: dict[ProviderName, str] = {"openai": "default", "azure": "default", "gemini": "ON_DEMAND"}
_AUTO_TIERS = {"auto", "default", "standard", "standard_only", "standard-only"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a plan needs besides the request and the reply."""

    provider: ProviderName
    token: str
    created: int
    prices: PriceTable


def plan_of(request: ReceivedRequest, asked: Asked, reply: Reply, *, setting: Setting) -> Plan:
    """Decide the answer to a request. Raises: nothing."""
    calls = _tool_calls(asked, reply)
    return Plan(
        number=request.number,
        token=setting.token,
        created=setting.created,
        asked=asked,
        reply=reply,
        counts=_counts(request.number, asked, reply),
        response_model=(
            setting.prices.snapshot_of(setting.provider, asked.model)
            if reply.response_model is None
            else reply.response_model
        ),
        tier=reply.service_tier or _served_tier(asked, setting),
        text=reply.text if reply.text is not None else _text(request, asked, reply, calls),
        tool_calls=calls,
        request=request,
    )


def _counts(number: int, asked: Asked, reply: Reply) -> Counts:
    """Decide the billed units: unique per request unless scripted, so that a mix-up of two requests shows."""
    if not asked.is_token_billed:
        return Counts(
            images=asked.images,
            characters=asked.characters,
            audio_seconds=reply.audio_seconds if asked.has_audio else 0,
            rerank_searches=asked.rerank_searches,
        )
    given_input, given_output = reply.input_tokens, reply.output_tokens
    counts = Counts(
        input_tokens=_DEFAULT_INPUT_TOKENS + number + reply.input_parts if given_input is None else given_input,
        cache_read_tokens=reply.cache_read_tokens,
        cache_write_5m_tokens=reply.cache_write_5m_tokens,
        cache_write_1h_tokens=reply.cache_write_1h_tokens,
        input_audio_tokens=reply.input_audio_tokens,
        web_searches=reply.web_searches,
        web_search_tool=asked.web_search_tool,
        code_containers=min(1, reply.code_runs),
        images=asked.images,
        rerank_searches=asked.rerank_searches,
    )
    if not asked.has_output:
        return counts
    return replace(
        counts,
        output_tokens=_DEFAULT_OUTPUT_TOKENS + number + reply.output_parts if given_output is None else given_output,
        reasoning_tokens=reply.reasoning_tokens,
        output_audio_tokens=reply.output_audio_tokens,
    )


def _served_tier(asked: Asked, setting: Setting) -> str:
    """Serve the tier that was asked for where the model has one; otherwise the provider's ordinary tier."""
    wanted = asked.service_tier
    if wanted and wanted not in _AUTO_TIERS and setting.prices.has_tier(setting.provider, asked.model, wanted):
        return wanted
    return _DEFAULT_TIERS.get(setting.provider, "standard")


def _tool_calls(asked: Asked, reply: Reply) -> tuple[ToolCall, ...]:
    chosen: Sequence[ToolCall] = reply.tool_calls
    if not chosen and reply.text is None and asked.tools:
        if asked.forced_tool is not None:
            chosen = (ToolCall(name=_forced_name(asked)),)
        elif asked.tool_results < reply.tool_rounds:
            chosen = (ToolCall(name=asked.tools[0].name),)
    return tuple(_with_arguments(call, asked) for call in chosen)


def _forced_name(asked: Asked) -> str:
    forced = asked.forced_tool
    return asked.tools[0].name if forced is None or forced == ANY_TOOL else forced


def _with_arguments(call: ToolCall, asked: Asked) -> ToolCall:
    if call.arguments is not None:
        return call
    for tool in asked.tools:
        if tool.name == call.name:
            built = example_of(tool.schema)
            return ToolCall(name=call.name, arguments=built if isinstance(built, dict) else {})
    return ToolCall(name=call.name, arguments={})


def _text(request: ReceivedRequest, asked: Asked, reply: Reply, calls: Sequence[ToolCall]) -> str:
    if calls:
        return ""
    if asked.schema is not None:
        return json.dumps(example_of(asked.schema))
    if asked.json_mode:
        return json.dumps({"reply": request.number})
    words = [*_DEFAULT_WORDS, *("more",) * (reply.chunks - len(_DEFAULT_WORDS))]
    text = f"Reply {request.number}. " + " ".join(words)
    # A ReAct prompt (CrewAI without native tools) fails on any text that does not follow its format.
    if b"Final Answer:" in request.body:
        return f"Thought: I now can give a great answer\nFinal Answer: {text}"
    return text
