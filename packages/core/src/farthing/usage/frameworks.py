"""Adapters for usage as frameworks hand it on: LiteLLM's `Usage`, LangChain's usage_metadata, CrewAI's dicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farthing.usage.providers import (
    anthropic_context,
    cache_lifetimes,
    exclusive_cache,
    openai,
    read_bedrock,
    reasoning_beside,
)
from farthing.usage.raw import Facts

if TYPE_CHECKING:
    from farthing.usage.raw import Raw

__all__ = [
    "crewai_anthropic",
    "crewai_anthropic_raw",
    "crewai_azure",
    "crewai_bedrock",
    "crewai_gemini",
    "crewai_litellm",
    "crewai_openai",
    "langchain",
    "litellm",
]


def litellm(raw: Raw) -> Facts:
    """LiteLLM's `Usage`: inclusive for every provider; its top-level cache counts repeat those in the details.

    `usage.cost` is LiteLLM's own figure on streams, so it proves nothing and is not read.
    """
    facts = openai(raw)
    into = raw.under("prompt_tokens_details")
    if "cache_read_tokens" not in facts.counts:
        facts.put_positive("cache_read_tokens", raw.count("cache_read_input_tokens", "cached_prompt_tokens"))
    general = facts.counts.get("cache_write_tokens") or raw.count("cache_creation_input_tokens")
    details = into.under("cache_creation_token_details") or raw.under("cache_creation")
    facts.put_positive("cache_write_tokens", cache_lifetimes(facts, details, general))
    if "output_reasoning_tokens" not in facts.counts:
        facts.put_positive("output_reasoning_tokens", raw.count("reasoning_tokens"))
    searches = max(
        raw.under("server_tool_use").count("web_search_requests") or 0, into.count("web_search_requests") or 0
    )
    facts.put_positive("web_searches", searches)
    facts.put_positive("rerank_searches", raw.count("search_units") or raw.under("billed_units").count("search_units"))
    facts.put_positive("document_pages", raw.count("pages_processed"))
    # What LiteLLM's own usage has no word for, its plugin counts in the fields of `Usage`.
    facts.put_positive("output_images", raw.count("output_images"))
    facts.put_positive("input_characters", raw.count("input_characters"))
    anthropic_context(facts, raw)
    _old_litellm_stream(facts)
    return facts


def _old_litellm_stream(facts: Facts) -> None:
    """Add cache writes to the input where an old LiteLLM left them out on Anthropic streams (1.74.9: 500, not 800)."""
    whole = facts.counts.get("input_tokens")
    read = facts.counts.get("cache_read_tokens") or 0
    written = facts.counts.get("cache_write_tokens") or 0
    if whole is not None and written and read <= whole < read + written:
        facts.counts["input_tokens"] = whole + written
        facts.flags.append("cache-write-beside-input")


def _prefixed(raw: Raw, name: str) -> int | None:
    """Read a detail under its plain name or under the one that langchain-openai gives it in a service tier."""
    return raw.count(name, f"flex_{name}", f"priority_{name}")


def langchain(raw: Raw) -> Facts:
    """LangChain's usage_metadata: inclusive; langchain-openai renames details in flex and priority.

    langchain-anthropic 1.2.0 gives cache_creation beside its lifetimes, later versions zero it (langchain PR #35845).
    The keys `flex` and `priority` hold fresh and written tokens together (langchain #40668) and are not read.
    """
    facts = Facts()
    into, out = raw.under("input_token_details"), raw.under("output_token_details")
    facts.put("input_tokens", raw.count("input_tokens"))
    facts.put("output_tokens", raw.count("output_tokens"))
    facts.put("cache_read_tokens", _prefixed(into, "cache_read"))
    general = _prefixed(into, "cache_creation")
    facts.put_positive("cache_write_tokens", cache_lifetimes(facts, into, general or into.count("cache_write")))
    facts.put_positive("input_audio_tokens", _prefixed(into, "audio"))
    facts.put_positive("input_image_tokens", into.count("image"))
    facts.put_positive("input_video_tokens", into.count("video"))
    facts.put_positive("input_tool_tokens", into.count("tool_use"))
    facts.put("output_reasoning_tokens", _prefixed(out, "reasoning"))
    facts.put_positive("output_audio_tokens", _prefixed(out, "audio"))
    facts.put_positive("output_image_tokens", out.count("image"))
    names = (*into.data, *out.data)
    for tier in ("flex", "priority"):
        if any(name == tier or name.startswith(f"{tier}_") for name in names):
            facts.service_tier = tier
    if raw.has("total_cost"):
        facts.flags.append("framework-cache-hit")
    reasoning_beside(raw, facts)
    return facts


def crewai_openai(raw: Raw) -> Facts:
    """CrewAI's OpenAI, Responses and DeepSeek: flat, inclusive."""
    facts = openai(raw)
    if "cache_read_tokens" not in facts.counts:
        facts.put("cache_read_tokens", raw.count("cached_prompt_tokens"))
    if "output_reasoning_tokens" not in facts.counts:
        facts.put("output_reasoning_tokens", raw.count("reasoning_tokens"))
        reasoning_beside(raw, facts)
    return facts


def crewai_azure(raw: Raw) -> Facts:
    """CrewAI's Azure: as OpenAI, but it always says 0 cached tokens, whatever Azure said."""
    facts = crewai_openai(raw)
    if not facts.counts.get("cache_read_tokens"):
        facts.counts.pop("cache_read_tokens", None)
        facts.flags.append("cache-not-reported")
    if not facts.counts.get("output_reasoning_tokens"):
        facts.counts.pop("output_reasoning_tokens", None)
    return facts


def crewai_anthropic(raw: Raw) -> Facts:
    """CrewAI's Anthropic from 1.15.13 on: input includes cache reads and writes; the lifetimes are lost."""
    facts = Facts()
    facts.put("input_tokens", raw.count("input_tokens"))
    facts.put("output_tokens", raw.count("output_tokens"))
    facts.put("cache_read_tokens", raw.count("cached_prompt_tokens", "cache_read_input_tokens"))
    facts.put("cache_write_tokens", raw.count("cache_creation_tokens", "cache_creation_input_tokens"))
    return facts


def crewai_anthropic_raw(raw: Raw) -> Facts:
    """CrewAI's Anthropic up to 1.15.12: input is what no cache was involved in."""
    facts = Facts()
    exclusive_cache(
        facts,
        fresh=raw.count("input_tokens"),
        read=raw.count("cached_prompt_tokens", "cache_read_input_tokens"),
        written=raw.count("cache_creation_tokens", "cache_creation_input_tokens"),
    )
    facts.put("output_tokens", raw.count("output_tokens"))
    return facts


def crewai_gemini(raw: Raw) -> Facts:
    """CrewAI's Gemini: `completion_tokens` has the thoughts inside; old versions lack it and have candidates only."""
    facts = Facts()
    facts.put("input_tokens", raw.count("prompt_token_count", "prompt_tokens"))
    reasoning = raw.count("reasoning_tokens")
    output = raw.count("completion_tokens")
    if output is None:
        candidates = raw.count("candidates_token_count")
        output = None if candidates is None else candidates + (reasoning or 0)
    facts.put("output_tokens", output)
    facts.put("output_reasoning_tokens", reasoning)
    facts.put("cache_read_tokens", raw.count("cached_prompt_tokens"))
    return facts


def crewai_bedrock(raw: Raw) -> Facts:
    """CrewAI's Bedrock: Converse's own object, input without cache."""
    return read_bedrock(raw)


def crewai_litellm(raw: Raw) -> Facts:
    """CrewAI over LiteLLM: LiteLLM's object with flat copies beside."""
    return litellm(raw)
