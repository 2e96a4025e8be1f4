"""The one entrance: a raw usage object and the name of its shape in, a canonical `Usage` or the reason for none out."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal  # noqa: TC003 - part of a public annotation
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from farthing.envelope import Usage
from farthing.usage import frameworks, providers
from farthing.usage.raw import Facts, Raw
from farthing.usage.tools import counted_calls, preview_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SHAPES", "UsageReading", "read_usage"]

_ADAPTERS: Final[dict[str, Callable[[Raw], Facts]]] = {
    "openai_chat": providers.openai,
    "openai_responses": providers.openai,
    "azure": providers.openai,
    "groq": providers.openai,
    "anthropic": providers.read_anthropic,
    "bedrock_converse": providers.read_bedrock,
    "gemini": providers.gemini,
    "mistral": providers.mistral,
    "deepseek": providers.deepseek,
    "cohere": providers.cohere,
    "openrouter": providers.openrouter,
    "perplexity": providers.perplexity,
    "xai": providers.xai,
    "litellm": frameworks.litellm,
    "langchain": frameworks.langchain,
    "crewai:openai": frameworks.crewai_openai,
    "crewai:anthropic": frameworks.crewai_anthropic,
    "crewai:anthropic_raw": frameworks.crewai_anthropic_raw,
    "crewai:gemini": frameworks.crewai_gemini,
    "crewai:bedrock": frameworks.crewai_bedrock,
    "crewai:azure": frameworks.crewai_azure,
    "crewai:litellm": frameworks.crewai_litellm,
}

SHAPES: Final = tuple(_ADAPTERS)
"""The shapes that `read_usage` knows."""

_NESTED: Final = ("usage", "usageMetadata", "usage_metadata", "usage_info")


@dataclass(frozen=True, slots=True)
class UsageReading:
    """What a raw usage object says."""

    usage: Usage | None
    """None when it is missing or cannot be true."""
    flags: tuple[str, ...]
    """usage-missing, usage-zero, usage-impossible, ...: why there is none, and what a careful reader should know."""
    service_tier: str | None
    """The tier the provider says it served, in its own word."""
    reported_usd: Decimal | None
    """The provider's own charge, for who bills by it."""
    context: Mapping[str, str] = field(default_factory=dict[str, str])
    """What else in it decides the price: inference_geo, web_search."""


def read_usage(shape: str, raw: Mapping[str, object] | None, *, has_content: bool = False) -> UsageReading:
    """Read a usage object.

    Args:
        shape: One of `SHAPES`; an unknown one is read as OpenAI's and flagged.
        raw: The usage object itself, or the response body that holds it; None when there was none.
        has_content: Whether the model answered anything, so that a usage of zero cannot be true.

    Returns:
        The usage in canonical inclusive counts, or None with the flag that says why.

    Raises:
        Nothing.
    """
    adapter = _ADAPTERS.get(shape)
    extra = () if adapter or not raw else ("usage-shape-unknown",)
    try:
        return _read(adapter or providers.openai, raw, extra, has_content=has_content)
    except Exception:  # noqa: BLE001 - a framework object may raise anything from an attribute; the flag says it
        return UsageReading(None, (*extra, "usage-impossible"), None, None)


def _read(
    adapter: Callable[[Raw], Facts], raw: Mapping[str, object] | None, extra: tuple[str, ...], *, has_content: bool
) -> UsageReading:
    body = Raw(raw)
    if not body:
        return UsageReading(None, (*extra, "usage-missing"), None, None)
    inner = body.under(*_NESTED)
    source = inner or body
    facts = adapter(source)
    if inner:
        _from_body(facts, body)
    flags = [*extra, *facts.flags]

    def reading(usage: Usage | None, flag: str | None = None) -> UsageReading:
        listed = tuple(flags) if flag is None else (*flags, flag)
        return UsageReading(usage, listed, facts.service_tier, facts.reported_usd, facts.context)

    if source.faults:
        return reading(None, "usage-impossible")
    counts = {name: count for name, count in facts.counts.items() if count is not None}
    if facts.seconds is None and not counts.keys() - _PARTS:
        return reading(None, "usage-missing")
    fault = _fault(counts, facts)
    if fault is not None and (has_content or fault != "usage-zero"):
        return reading(None, fault)
    try:
        return reading(_usage(counts, facts.seconds), fault)
    except ValidationError:
        return reading(None, "usage-impossible")


def _fault(counts: Mapping[str, int], facts: Facts) -> str | None:
    """Tell what is wrong with counts that could be read: nothing was used, or the prompt went missing on the way."""
    if not any(counts.values()) and not facts.seconds:
        return "usage-zero"
    prompt_lost = bool(counts.get("output_tokens")) and not counts.get("input_tokens")
    if prompt_lost and not facts.seconds and facts.reported_usd is None:
        return "usage-input-missing"
    return None


_PARTS: Final = frozenset({"cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens"})
"""Details that say nothing without their whole."""


def _usage(counts: dict[str, int], seconds: Decimal | None) -> Usage:
    return Usage(**counts, audio_seconds=seconds)


def _from_body(facts: Facts, body: Raw) -> None:
    """Add what stands beside the usage object in a response body: the tier, and tool calls that are billed."""
    facts.service_tier = body.text("service_tier", "serviceTier") or facts.service_tier
    if facts.service_tier is None:
        facts.service_tier = body.under("serviceTier").text("type")
    for name, count in counted_calls(body.data.get("output")).items():
        facts.counts[name] = (facts.counts.get(name) or 0) + count
    if facts.counts.get("web_searches") and preview_tools(body.data.get("tools")):
        facts.context["web_search"] = "preview"
