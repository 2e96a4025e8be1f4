"""Adapters for the providers' own usage objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from farthing.usage.raw import Facts

if TYPE_CHECKING:
    from decimal import Decimal

    from farthing.usage.raw import Raw

__all__ = [
    "cohere",
    "deepseek",
    "exclusive_cache",
    "gemini",
    "mistral",
    "openai",
    "openrouter",
    "perplexity",
    "read_anthropic",
    "read_bedrock",
    "reasoning_beside",
]


def openai(raw: Raw) -> Facts:
    """OpenAI and all who copy it, chat and responses names alike: cached is inside input, reasoning inside output.

    Source: OpenAI API reference, `CompletionUsage` and `ResponseUsage`; transcription reports tokens or a duration.
    """
    facts = Facts()
    facts.put("input_tokens", raw.count("prompt_tokens", "input_tokens"))
    facts.put("output_tokens", raw.count("completion_tokens", "output_tokens"))
    into = raw.under("prompt_tokens_details", "input_tokens_details", "input_token_details")
    out = raw.under("completion_tokens_details", "output_tokens_details", "output_token_details")
    facts.put("cache_read_tokens", into.count("cached_tokens"))
    facts.put_positive("cache_write_tokens", into.count("cache_write_tokens", "cache_creation_tokens"))
    facts.put_positive("input_audio_tokens", into.count("audio_tokens"))
    facts.put_positive("input_image_tokens", into.count("image_tokens"))
    facts.put_positive("input_video_tokens", into.count("video_tokens"))
    cached = into.under("cached_tokens_details")
    facts.put("cache_read_audio_tokens", cached.count("audio_tokens"))
    facts.put("cache_read_image_tokens", cached.count("image_tokens"))
    facts.put("output_reasoning_tokens", out.count("reasoning_tokens"))
    facts.put_positive("output_audio_tokens", out.count("audio_tokens"))
    facts.put_positive("output_image_tokens", out.count("image_tokens"))
    facts.seconds = raw.number("seconds") if raw.text("type") == "duration" else None
    facts.service_tier = raw.text("service_tier")
    reasoning_beside(raw, facts)
    return facts


def reasoning_beside(raw: Raw, facts: Facts) -> None:
    """Move reasoning into output where the provider counts it beside (xAI): its own total says so."""
    reasoning = facts.counts.get("output_reasoning_tokens") or 0
    total = raw.count("total_tokens")
    into, out = facts.counts.get("input_tokens"), facts.counts.get("output_tokens")
    if reasoning and total is not None and into is not None and out is not None and total == into + out + reasoning:
        facts.counts["output_tokens"] = out + reasoning
        facts.flags.append("reasoning-beside-output")


def exclusive_cache(facts: Facts, *, fresh: int | None, read: int | None, written: int | None) -> None:
    """Fold cache tokens into the input, for who counts them beside it."""
    if fresh is not None:
        facts.put("input_tokens", fresh + (read or 0) + (written or 0))
    facts.put("cache_read_tokens", read)
    facts.put("cache_write_tokens", written)


def cache_lifetimes(facts: Facts, raw: Raw, general: int | None) -> int | None:
    """Note the 5 minute and 1 hour parts of a cache write; give the whole write.

    Some report the whole beside the parts, some zero it: the whole is the larger of it and their sum.
    """
    short = raw.count("ephemeral_5m_input_tokens")
    long = raw.count("ephemeral_1h_input_tokens")
    if short is None and long is None:
        return general
    facts.put("cache_write_5m_tokens", short)
    facts.put("cache_write_1h_tokens", long)
    return max(general or 0, (short or 0) + (long or 0))


def read_anthropic(raw: Raw) -> Facts:
    """Anthropic's own: `input_tokens` is only what no cache was involved in.

    Source: Anthropic API reference, prompt caching: total input = input_tokens + cache_read + cache_creation.
    """
    facts = Facts()
    written = cache_lifetimes(facts, raw.under("cache_creation"), raw.count("cache_creation_input_tokens"))
    exclusive_cache(facts, fresh=raw.count("input_tokens"), read=raw.count("cache_read_input_tokens"), written=written)
    facts.put("output_tokens", raw.count("output_tokens"))
    facts.put_positive("output_reasoning_tokens", raw.under("output_tokens_details").count("thinking_tokens"))
    facts.put_positive("web_searches", raw.under("server_tool_use").count("web_search_requests"))
    facts.put_positive("code_executions", raw.under("server_tool_use").count("code_execution_requests"))
    anthropic_context(facts, raw)
    return facts


def anthropic_context(facts: Facts, raw: Raw) -> None:
    """Note the tier, the speed and the place of inference that Anthropic's usage states."""
    facts.service_tier = raw.text("service_tier")
    speed = raw.text("speed")
    if speed == "fast" and facts.service_tier in {None, "standard"}:
        facts.service_tier = "fast"
    if geo := raw.text("inference_geo"):
        facts.context["inference_geo"] = geo


def read_bedrock(raw: Raw) -> Facts:
    """Bedrock Converse: `inputTokens` excludes cache reads and writes; `cacheDetails` has the lifetimes.

    Source: AWS API reference, `TokenUsage` and `CacheDetail`.
    """
    facts = Facts()
    short = long = None
    for part in raw.items("cacheDetails", "cache_details"):
        count = part.count("inputTokens", "input_tokens")
        if part.text("ttl") == "1h":
            long = (long or 0) + (count or 0)
        else:
            short = (short or 0) + (count or 0)
    facts.put("cache_write_5m_tokens", short)
    facts.put("cache_write_1h_tokens", long)
    general = raw.count("cacheWriteInputTokens", "cacheWriteInputTokenCount", "cache_write_input_tokens")
    lifetimes = (short or 0) + (long or 0)
    written = max(general or 0, lifetimes) if short is not None or long is not None else general
    exclusive_cache(
        facts,
        fresh=raw.count("inputTokens", "input_tokens"),
        read=raw.count("cacheReadInputTokens", "cacheReadInputTokenCount", "cache_read_input_tokens"),
        written=written,
    )
    facts.put("output_tokens", raw.count("outputTokens", "output_tokens"))
    facts.service_tier = raw.text("serviceTier", "service_tier") or raw.under("serviceTier").text("type")
    return facts


_MODALITY_FIELDS: Final = {"AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video"}


def gemini(raw: Raw) -> Facts:
    """Gemini: cached content is inside the prompt; thoughts are beside the candidates, tool prompts beside the prompt.

    Source: Google AI API reference, `UsageMetadata`. Vertex has counted thoughts inside the candidates at times; the
    total then equals prompt + candidates (LiteLLM tells it the same way).
    """
    facts = Facts()
    prompt = raw.count("promptTokenCount", "prompt_token_count")
    tool = raw.count("toolUsePromptTokenCount", "tool_use_prompt_token_count")
    candidates = raw.count(
        "candidatesTokenCount", "candidates_token_count", "responseTokenCount", "response_token_count"
    )
    thoughts = raw.count("thoughtsTokenCount", "thoughts_token_count")
    total = raw.count("totalTokenCount", "total_token_count")
    if prompt is not None:
        facts.put("input_tokens", prompt + (tool or 0))
    if candidates is not None or thoughts is not None:
        inside = bool(thoughts) and total is not None and total == (prompt or 0) + (tool or 0) + (candidates or 0)
        facts.put("output_tokens", (candidates or 0) + (0 if inside else thoughts or 0))
    elif prompt is not None and total == prompt + (tool or 0):
        facts.put("output_tokens", 0)
    facts.put("cache_read_tokens", raw.count("cachedContentTokenCount", "cached_content_token_count"))
    facts.put("output_reasoning_tokens", thoughts)
    facts.put_positive("input_tool_tokens", tool)
    for names, prefix in (
        (("promptTokensDetails", "prompt_tokens_details"), "input"),
        (("toolUsePromptTokensDetails", "tool_use_prompt_tokens_details"), "input"),
        (("candidatesTokensDetails", "candidates_tokens_details", "responseTokensDetails"), "output"),
        (("cacheTokensDetails", "cache_tokens_details"), "cache_read"),
    ):
        _modalities(facts, raw.items(*names), prefix)
    facts.service_tier = raw.text("serviceTier", "service_tier", "trafficType", "traffic_type")
    return facts


def _modalities(facts: Facts, parts: list[Raw], prefix: str) -> None:
    if prefix == "cache_read":
        if parts:
            for modality in ("audio", "image"):
                held = [part.count("tokenCount", "token_count") or 0 for part in parts if _modality(part) == modality]
                facts.put(f"cache_read_{modality}_tokens", sum(held))
        return
    for part in parts:
        modality = _modality(part)
        if modality is None:
            continue
        name = f"{prefix}_{modality}_tokens"
        facts.put_positive(name, (facts.counts.get(name) or 0) + (part.count("tokenCount", "token_count") or 0))


def _modality(part: Raw) -> str | None:
    return _MODALITY_FIELDS.get((part.text("modality") or "").upper())


def mistral(raw: Raw) -> Facts:
    """Mistral: OpenAI's names; audio is measured in seconds, documents in pages.

    `num_cached_tokens` is not read: it counts what the server did not compute anew (all but one token of every repeated
    prompt in recorded bodies), not what is billed as cached, which is in `prompt_tokens_details`.
    """
    facts = openai(raw)
    facts.put_positive("document_pages", raw.count("pages_processed"))
    seconds = raw.number("prompt_audio_seconds")
    facts.seconds = seconds or facts.seconds
    return facts


def deepseek(raw: Raw) -> Facts:
    """DeepSeek: OpenAI's names, and prompt_tokens = prompt_cache_hit_tokens + prompt_cache_miss_tokens."""
    facts = openai(raw)
    hit, miss = raw.count("prompt_cache_hit_tokens"), raw.count("prompt_cache_miss_tokens")
    if hit is not None:
        facts.put("cache_read_tokens", hit)
    if "input_tokens" not in facts.counts and hit is not None and miss is not None:
        facts.put("input_tokens", hit + miss)
    return facts


def cohere(raw: Raw) -> Facts:
    """Cohere: `billed_units` is what the bill has; `tokens` also counts the parts of the prompt that are not billed."""
    facts = Facts()
    billed = raw.under("billed_units")
    counted = billed or raw.under("tokens") or raw
    facts.put("input_tokens", counted.count("input_tokens", "prompt_tokens"))
    facts.put("output_tokens", counted.count("output_tokens", "completion_tokens"))
    facts.put_positive("cache_read_tokens", raw.count("cached_tokens"))
    facts.put_positive("rerank_searches", billed.count("search_units"))
    return facts


def openrouter(raw: Raw) -> Facts:
    """OpenRouter: OpenAI's names, and `cost`, what the account was charged, in US dollars.

    With a key of one's own there are two bills: the fee in `cost` and the upstream provider's; the attempt cost both,
    which is not known where only the fee is.
    """
    facts = openai(raw)
    cost = raw.number("cost")
    upstream = raw.under("cost_details").number("upstream_inference_cost")
    if cost is not None and raw.data.get("is_byok") is True:
        facts.flags.append("byok-upstream-missing" if upstream is None else "byok-upstream-included")
        cost = None if upstream is None else cost + upstream
    facts.reported_usd = cost
    facts.put_positive("web_searches", raw.under("server_tool_use").count("web_search_requests"))
    return facts


def perplexity(raw: Raw) -> Facts:
    """Perplexity: OpenAI's names, reasoning and citations beside the completion, searches, and its charge."""
    facts = openai(raw)
    reasoning, citations = raw.count("reasoning_tokens"), raw.count("citation_tokens")
    if reasoning or citations:
        facts.counts["output_tokens"] = (facts.counts.get("output_tokens") or 0) + (reasoning or 0) + (citations or 0)
        facts.put("output_reasoning_tokens", reasoning)
        facts.put("output_citation_tokens", citations)
    facts.put_positive("web_searches", raw.count("num_search_queries"))
    facts.reported_usd = raw.under("cost").number("total_cost")
    return facts


def xai(raw: Raw) -> Facts:
    """xAI: OpenAI's names, reasoning beside the completion; the charge in ten-billionths of a dollar or in dollars."""
    facts = openai(raw)
    reasoning = facts.counts.get("output_reasoning_tokens") or 0
    if reasoning and not raw.has("total_tokens") and raw.has("completion_tokens"):
        facts.counts["output_tokens"] = (facts.counts.get("output_tokens") or 0) + reasoning
        facts.flags.append("reasoning-beside-output")
    ticks = raw.number("cost_in_usd_ticks")
    facts.reported_usd = _ticks(ticks) if ticks is not None else raw.number("cost")
    return facts


def _ticks(ticks: Decimal) -> Decimal:
    return ticks.scaleb(-10)
