"""Every shape of usage becomes the one inclusive form, or says why it cannot."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.envelope import Usage
from farthing.usage import SHAPES, billed_calls, read_usage

OPENAI = {
    "prompt_tokens": 1000,
    "completion_tokens": 200,
    "total_tokens": 1200,
    "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 50, "audio_tokens": 0},
}
RESPONSES = {
    "input_tokens": 1000,
    "output_tokens": 200,
    "total_tokens": 1200,
    "input_tokens_details": {"cached_tokens": 400},
    "output_tokens_details": {"reasoning_tokens": 50},
}
PLAIN = Usage(input_tokens=1000, output_tokens=200, cache_read_tokens=400, output_reasoning_tokens=50)

ANTHROPIC = {
    "input_tokens": 100,
    "cache_read_input_tokens": 700,
    "cache_creation_input_tokens": 200,
    "cache_creation": {"ephemeral_5m_input_tokens": 150, "ephemeral_1h_input_tokens": 50},
    "output_tokens": 40,
    "service_tier": "standard",
}
CACHED = Usage(
    input_tokens=1000,
    output_tokens=40,
    cache_read_tokens=700,
    cache_write_tokens=200,
    cache_write_5m_tokens=150,
    cache_write_1h_tokens=50,
)
CACHED_UNSPLIT = Usage(input_tokens=1000, output_tokens=40, cache_read_tokens=700, cache_write_tokens=200)

TABLE: list[tuple[str, str, dict[str, Any], Usage]] = [
    ("openai chat", "openai_chat", OPENAI, PLAIN),
    ("openai responses", "openai_responses", RESPONSES, PLAIN),
    ("azure", "azure", OPENAI, PLAIN),
    ("groq", "groq", OPENAI, PLAIN),
    ("a whole response body", "openai_chat", {"id": "x", "usage": OPENAI}, PLAIN),
    (
        "embedding",
        "openai_chat",
        {"prompt_tokens": 8, "total_tokens": 8},
        Usage(input_tokens=8),
    ),
    (
        "openai audio",
        "openai_chat",
        {
            "prompt_tokens": 100,
            "completion_tokens": 60,
            "prompt_tokens_details": {"audio_tokens": 80, "cached_tokens": 0},
            "completion_tokens_details": {"audio_tokens": 50, "reasoning_tokens": 0},
        },
        Usage(
            input_tokens=100,
            output_tokens=60,
            cache_read_tokens=0,
            output_reasoning_tokens=0,
            input_audio_tokens=80,
            output_audio_tokens=50,
        ),
    ),
    (
        "realtime, with the split of what was cached",
        "openai_responses",
        {
            "input_tokens": 100,
            "output_tokens": 60,
            "input_token_details": {
                "cached_tokens": 50,
                "audio_tokens": 80,
                "cached_tokens_details": {"text_tokens": 10, "audio_tokens": 40},
            },
            "output_token_details": {"audio_tokens": 50, "text_tokens": 10},
        },
        Usage(
            input_tokens=100,
            output_tokens=60,
            cache_read_tokens=50,
            cache_read_audio_tokens=40,
            input_audio_tokens=80,
            output_audio_tokens=50,
        ),
    ),
    (
        "transcription by duration",
        "openai_chat",
        {"type": "duration", "seconds": 12.5},
        Usage(audio_seconds=Decimal("12.5")),
    ),
    ("anthropic", "anthropic", ANTHROPIC, CACHED),
    (
        "anthropic, stream without lifetimes",
        "anthropic",
        {key: count for key, count in ANTHROPIC.items() if key != "cache_creation"},
        CACHED_UNSPLIT,
    ),
    (
        "anthropic web search",
        "anthropic",
        {
            "input_tokens": 10,
            "output_tokens": 5,
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 9},
        },
        Usage(input_tokens=10, output_tokens=5, web_searches=2),
    ),
    (
        "anthropic thinking",
        "anthropic",
        {"input_tokens": 10, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 3}},
        Usage(input_tokens=10, output_tokens=5, output_reasoning_tokens=3),
    ),
    (
        "bedrock",
        "bedrock_converse",
        {
            "inputTokens": 100,
            "outputTokens": 40,
            "totalTokens": 1040,
            "cacheReadInputTokens": 700,
            "cacheWriteInputTokens": 200,
            "cacheDetails": [{"ttl": "5m", "inputTokens": 150}, {"ttl": "1h", "inputTokens": 50}],
        },
        CACHED,
    ),
    (
        "bedrock without details",
        "bedrock_converse",
        {"inputTokens": 100, "outputTokens": 40, "cacheReadInputTokens": 700, "cacheWriteInputTokens": 200},
        CACHED_UNSPLIT,
    ),
    (
        "gemini: thoughts beside, tool prompt beside",
        "gemini",
        {
            "promptTokenCount": 900,
            "toolUsePromptTokenCount": 100,
            "candidatesTokenCount": 150,
            "thoughtsTokenCount": 50,
            "cachedContentTokenCount": 400,
            "totalTokenCount": 1200,
        },
        PLAIN.model_copy(update={"input_tool_tokens": 100}),
    ),
    (
        "gemini: thoughts inside, as its total says",
        "gemini",
        {
            "promptTokenCount": 1000,
            "candidatesTokenCount": 200,
            "thoughtsTokenCount": 50,
            "cachedContentTokenCount": 400,
            "totalTokenCount": 1200,
        },
        PLAIN,
    ),
    (
        "gemini modalities",
        "gemini",
        {
            "promptTokenCount": 1000,
            "candidatesTokenCount": 200,
            "cachedContentTokenCount": 400,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 600}, {"modality": "TEXT", "tokenCount": 400}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 300}, {"modality": "TEXT", "tokenCount": 100}],
            "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 200}],
        },
        Usage(
            input_tokens=1000,
            output_tokens=200,
            cache_read_tokens=400,
            input_audio_tokens=600,
            cache_read_audio_tokens=300,
            cache_read_image_tokens=0,
        ),
    ),
    (
        "gemini in the SDK's spelling, counts as text",
        "gemini",
        {"prompt_token_count": "1000", "candidates_token_count": 150, "thoughts_token_count": 50},
        Usage(input_tokens=1000, output_tokens=200, output_reasoning_tokens=50),
    ),
    (
        "mistral: what the server had in memory is not what is billed as cached",
        "mistral",
        {"prompt_tokens": 70, "completion_tokens": 12, "total_tokens": 82, "num_cached_tokens": 69},
        Usage(input_tokens=70, output_tokens=12),
    ),
    ("mistral pages", "mistral", {"pages_processed": 7, "doc_size_bytes": 9}, Usage(document_pages=7)),
    (
        "deepseek",
        "deepseek",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 200,
            "prompt_cache_hit_tokens": 400,
            "prompt_cache_miss_tokens": 600,
            "completion_tokens_details": {"reasoning_tokens": 50},
        },
        PLAIN,
    ),
    (
        "cohere bills less than it counts",
        "cohere",
        {"billed_units": {"input_tokens": 5, "output_tokens": 40}, "tokens": {"input_tokens": 71, "output_tokens": 40}},
        Usage(input_tokens=5, output_tokens=40),
    ),
    ("cohere rerank", "cohere", {"billed_units": {"search_units": 3}}, Usage(rerank_searches=3)),
    ("openrouter", "openrouter", {**OPENAI, "cost": 0.0021}, PLAIN),
    (
        "perplexity: reasoning and citations beside",
        "perplexity",
        {
            "prompt_tokens": 10,
            "completion_tokens": 100,
            "reasoning_tokens": 400,
            "citation_tokens": 50,
            "num_search_queries": 2,
        },
        Usage(
            input_tokens=10,
            output_tokens=550,
            output_reasoning_tokens=400,
            output_citation_tokens=50,
            web_searches=2,
        ),
    ),
    (
        "xai: reasoning beside, as its total says",
        "xai",
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 115,
            "completion_tokens_details": {"reasoning_tokens": 100},
        },
        Usage(input_tokens=10, output_tokens=105, output_reasoning_tokens=100),
    ),
    (
        "langchain over xai: its total says that reasoning is beside",
        "langchain",
        {"input_tokens": 10, "output_tokens": 400, "total_tokens": 710, "output_token_details": {"reasoning": 300}},
        Usage(input_tokens=10, output_tokens=700, output_reasoning_tokens=300),
    ),
    (
        "crewai over xai: the same in its flat names",
        "crewai:openai",
        {"prompt_tokens": 10, "completion_tokens": 400, "total_tokens": 710, "reasoning_tokens": 300},
        Usage(input_tokens=10, output_tokens=700, output_reasoning_tokens=300),
    ),
    (
        "litellm over anthropic: its three spellings of cache writes are one",
        "litellm",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 40,
            "prompt_tokens_details": {
                "cached_tokens": 700,
                "cache_creation_tokens": 200,
                "cache_write_tokens": 200,
                "text_tokens": 100,
                "cache_creation_token_details": {"ephemeral_5m_input_tokens": 150, "ephemeral_1h_input_tokens": 50},
            },
            "cache_creation_input_tokens": 200,
            "cache_read_input_tokens": 700,
        },
        CACHED,
    ),
    (
        "litellm 1.74 stream: writes left out of the prompt",
        "litellm",
        {
            "prompt_tokens": 800,
            "completion_tokens": 40,
            "prompt_tokens_details": {"cached_tokens": 700},
            "cache_creation_input_tokens": 200,
        },
        CACHED_UNSPLIT,
    ),
    ("litellm over openai", "litellm", OPENAI, PLAIN),
    (
        "langchain over openai",
        "langchain",
        {
            "input_tokens": 1000,
            "output_tokens": 200,
            "total_tokens": 1200,
            "input_token_details": {"audio": 0, "cache_read": 400},
            "output_token_details": {"audio": 0, "reasoning": 50},
        },
        PLAIN,
    ),
    (
        "langchain over openai in flex: renamed details",
        "langchain",
        {
            "input_tokens": 1000,
            "output_tokens": 200,
            "total_tokens": 1200,
            "input_token_details": {"audio": 0, "flex_cache_read": 400, "flex": 600},
            "output_token_details": {"audio": 0, "flex_reasoning": 50, "flex": 150},
        },
        PLAIN,
    ),
    (
        "langchain priority with cache writes (langchain 40668)",
        "langchain",
        {
            "input_tokens": 2304,
            "output_tokens": 50,
            "total_tokens": 2354,
            "input_token_details": {"priority_cache_read": 256, "priority_cache_creation": 1024, "priority": 2048},
        },
        Usage(input_tokens=2304, output_tokens=50, cache_read_tokens=256, cache_write_tokens=1024),
    ),
    (
        "langchain-anthropic 1.2.0: the whole beside its parts",
        "langchain",
        {
            "input_tokens": 1000,
            "output_tokens": 40,
            "input_token_details": {
                "cache_read": 700,
                "cache_creation": 200,
                "ephemeral_5m_input_tokens": 150,
                "ephemeral_1h_input_tokens": 50,
            },
        },
        CACHED,
    ),
    (
        "langchain-anthropic 1.7.7: the whole zeroed",
        "langchain",
        {
            "input_tokens": 1000,
            "output_tokens": 40,
            "input_token_details": {
                "cache_read": 700,
                "cache_creation": 0,
                "ephemeral_5m_input_tokens": 150,
                "ephemeral_1h_input_tokens": 50,
            },
        },
        CACHED,
    ),
    (
        "langchain-anthropic stream: only the whole",
        "langchain",
        {
            "input_tokens": 1000,
            "output_tokens": 40,
            "input_token_details": {"cache_creation": 200, "cache_read": 700},
        },
        CACHED_UNSPLIT,
    ),
    (
        "crewai openai",
        "crewai:openai",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 200,
            "total_tokens": 1200,
            "cached_prompt_tokens": 400,
            "reasoning_tokens": 50,
        },
        PLAIN,
    ),
    (
        "crewai anthropic from 1.15.13",
        "crewai:anthropic",
        {
            "input_tokens": 1000,
            "output_tokens": 40,
            "total_tokens": 1040,
            "cached_prompt_tokens": 700,
            "cache_creation_tokens": 200,
        },
        CACHED_UNSPLIT,
    ),
    (
        "crewai anthropic up to 1.15.12",
        "crewai:anthropic_raw",
        {"input_tokens": 100, "output_tokens": 40, "cached_prompt_tokens": 700, "cache_creation_tokens": 200},
        CACHED_UNSPLIT,
    ),
    (
        "crewai gemini",
        "crewai:gemini",
        {
            "prompt_token_count": 1000,
            "candidates_token_count": 150,
            "completion_tokens": 200,
            "total_token_count": 1200,
            "total_tokens": 1200,
            "cached_prompt_tokens": 400,
            "reasoning_tokens": 50,
        },
        PLAIN,
    ),
    (
        "crewai gemini before completion_tokens",
        "crewai:gemini",
        {
            "prompt_token_count": 1000,
            "candidates_token_count": 150,
            "cached_prompt_tokens": 400,
            "reasoning_tokens": 50,
        },
        PLAIN,
    ),
    (
        "crewai bedrock",
        "crewai:bedrock",
        {
            "inputTokens": 100,
            "outputTokens": 40,
            "totalTokens": 1040,
            "cacheReadInputTokens": 700,
            "cacheWriteInputTokens": 200,
        },
        CACHED_UNSPLIT,
    ),
    (
        "crewai azure never tells what was cached",
        "crewai:azure",
        {"prompt_tokens": 1000, "completion_tokens": 200, "cached_prompt_tokens": 0, "reasoning_tokens": 0},
        Usage(input_tokens=1000, output_tokens=200),
    ),
    ("crewai litellm", "crewai:litellm", {**OPENAI, "cached_prompt_tokens": 400, "reasoning_tokens": 50}, PLAIN),
]


@pytest.mark.parametrize(("shape", "raw", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_shape_becomes_canonical(shape: str, raw: dict[str, Any], expected: Usage) -> None:
    """A shape read otherwise would bill cached or reasoning tokens twice, or not at all."""
    assert read_usage(shape, raw).usage == expected


def test_every_shape_has_a_case() -> None:
    """A shape nobody tested is a shape nobody knows."""
    assert {row[1] for row in TABLE} == set(SHAPES)


@pytest.mark.parametrize(
    ("shape", "raw", "content", "flag"),
    [
        ("openai_chat", None, True, "usage-missing"),
        ("openai_chat", {}, True, "usage-missing"),
        ("crewai:openai", {"total_tokens": 0}, True, "usage-missing"),
        ("langchain", {"total_cost": 0}, True, "usage-missing"),
        ("litellm", {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, True, "usage-zero"),
        ("openai_chat", {"prompt_tokens": -1, "completion_tokens": 5}, True, "usage-impossible"),
        ("openai_chat", {"prompt_tokens": True, "completion_tokens": 5}, True, "usage-impossible"),
        ("openai_chat", {"prompt_tokens": 1.5, "completion_tokens": 5}, True, "usage-impossible"),
        ("openai_chat", {"prompt_tokens": float("nan"), "completion_tokens": 5}, True, "usage-impossible"),
        ("openai_chat", {"prompt_tokens": "many", "completion_tokens": 5}, True, "usage-impossible"),
        ("openai_chat", {"prompt_tokens": 10**15, "completion_tokens": 5}, True, "usage-impossible"),
        (
            "openai_chat",
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 11}},
            True,
            "usage-impossible",
        ),
        (
            "openai_chat",
            {"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 6}},
            True,
            "usage-impossible",
        ),
        ("langchain", {"input_tokens": 0, "output_tokens": 40, "input_token_details": {}}, True, "usage-input-missing"),
        ("openai_chat", {"completion_tokens": 40}, True, "usage-input-missing"),
        ("crewai:openai", {"completion_tokens": 40, "total_tokens": 40}, True, "usage-input-missing"),
    ],
)
def test_what_cannot_be_true_is_not_priced(shape: str, raw: dict[str, Any] | None, *, content: bool, flag: str) -> None:
    """Missing, zero with content and contradictory usage must say so, never become a cost of zero."""
    reading = read_usage(shape, raw, has_content=content)
    assert reading.usage is None
    assert flag in reading.flags


def test_nothing_answered_and_nothing_used_is_zero_and_says_so() -> None:
    """A failed call reports zeros; that is no contradiction, but no silent zero either."""
    reading = read_usage("litellm", {"prompt_tokens": 0, "completion_tokens": 0})
    assert reading.usage == Usage(input_tokens=0, output_tokens=0)
    assert reading.flags == ("usage-zero",)


def test_an_unknown_shape_is_read_as_openai_and_flagged() -> None:
    """A plugin that names a shape wrongly must not lose the usage."""
    reading = read_usage("new-thing", OPENAI)
    assert reading.usage == PLAIN
    assert reading.flags == ("usage-shape-unknown",)


def test_no_usage_has_no_shape() -> None:
    """A call that was closed without an end would be flagged as if something of it had been read."""
    assert read_usage("", None).flags == ("usage-missing",)


@pytest.mark.parametrize(
    ("shape", "raw", "tier"),
    [
        ("openai_chat", {"service_tier": "flex", "usage": OPENAI}, "flex"),
        ("anthropic", ANTHROPIC, "standard"),
        ("anthropic", {**ANTHROPIC, "speed": "fast"}, "fast"),
        ("anthropic", {**ANTHROPIC, "service_tier": "batch"}, "batch"),
        ("bedrock_converse", {"usage": {"inputTokens": 1, "outputTokens": 1}, "serviceTier": {"type": "flex"}}, "flex"),
        (
            "gemini",
            {"promptTokenCount": 1, "candidatesTokenCount": 1, "trafficType": "ON_DEMAND_PRIORITY"},
            "ON_DEMAND_PRIORITY",
        ),
        ("langchain", {"input_tokens": 1, "output_tokens": 1, "input_token_details": {"priority": 1}}, "priority"),
        ("openai_chat", {"service_tier": "defaultdefaultdefault", "usage": OPENAI}, "default"),
    ],
)
def test_the_served_tier_is_read(shape: str, raw: dict[str, Any], tier: str) -> None:
    """The tier decides the rate; one that is overlooked bills double or half."""
    assert read_usage(shape, raw).service_tier == tier


@pytest.mark.parametrize(
    ("shape", "raw", "reported"),
    [
        ("openrouter", {**OPENAI, "cost": 0.0021}, "0.0021"),
        (
            "openrouter",
            {**OPENAI, "cost": 0.95, "is_byok": True, "cost_details": {"upstream_inference_cost": 19}},
            "19.95",
        ),
        ("perplexity", {**OPENAI, "cost": {"total_cost": 0.006}}, "0.006"),
        ("xai", {**OPENAI, "cost_in_usd_ticks": 12_345_678}, "0.0012345678"),
    ],
)
def test_the_charge_of_who_bills_by_it_is_read(shape: str, raw: dict[str, Any], reported: str) -> None:
    """The provider's own charge is a fact that reconciliation needs."""
    assert read_usage(shape, raw).reported_usd == Decimal(reported)


def test_a_fee_alone_is_not_the_charge() -> None:
    """With a key of one's own OpenRouter charges a fee, often none: the upstream provider's bill would be missing."""
    reading = read_usage("openrouter", {**OPENAI, "cost": 0, "is_byok": True})
    assert (reading.reported_usd, reading.flags) == (None, ("byok-upstream-missing",))


def test_a_figure_of_litellm_is_not_the_providers() -> None:
    """LiteLLM writes its own cost into usage.cost on streams."""
    assert read_usage("litellm", {**OPENAI, "cost": 0.1}).reported_usd is None


def test_the_place_of_inference_is_kept() -> None:
    """inference_geo=us costs 10 % more."""
    assert read_usage("anthropic", {**ANTHROPIC, "inference_geo": "us"}).context == {"inference_geo": "us"}


def test_tool_calls_of_the_responses_api_are_counted() -> None:
    """Its usage object does not count web searches, which are billed."""
    body = {
        "usage": RESPONSES,
        "output": [{"type": "web_search_call"}, {"type": "message"}, {"type": "web_search_call"}],
    }
    usage = read_usage("openai_responses", body).usage
    assert usage is not None
    assert usage.web_searches == 2


@pytest.mark.parametrize(
    ("action", "searches"),
    [(None, 1), ({}, 1), ({"type": "search"}, 1), ({"type": "open_page"}, None), ({"type": "find_in_page"}, None)],
)
def test_only_search_actions_are_searches(action: dict[str, str] | None, searches: int | None) -> None:
    """A page that the tool opened or looked through was no search, and would be billed as one."""
    item = {"type": "web_search_call"} | ({} if action is None else {"action": action})
    for output in ([item], [SimpleNamespace(type="web_search_call", action=action and SimpleNamespace(**action))]):
        usage = read_usage("openai_responses", {"usage": RESPONSES, "output": output}).usage
        assert usage is not None
        assert usage.web_searches == searches


@pytest.mark.parametrize(
    ("tool", "called", "context"),
    [
        ("web_search_preview", "web_search_call", {"web_search": "preview"}),
        ("web_search_preview_2025_03_11", "web_search_call", {"web_search": "preview"}),
        ("web_search", "web_search_call", {}),
        ("web_search_preview", "file_search_call", {}),
    ],
)
def test_the_preview_of_the_search_tool_is_noted_where_it_was_used(
    tool: str, called: str, context: dict[str, str]
) -> None:
    """Its searches have another price, and the answer's tools are all that says which one was used."""
    body = {"usage": RESPONSES, "output": [{"type": called}], "tools": [{"type": tool}, {"type": 1}, None]}
    assert read_usage("openai_responses", body).context == context


def test_code_that_the_provider_ran_is_counted() -> None:
    """Its container is billed, and a usage that says nothing of it would give a cost that looks whole."""
    body = {"usage": RESPONSES, "output": [{"type": "code_interpreter_call"}, {"type": "code_interpreter_call"}]}
    usage = read_usage("openai_responses", body).usage
    assert usage is not None
    assert usage.code_executions == 2


def test_billed_calls_name_nothing_but_their_type() -> None:
    """What was searched for must not travel on; and what was left out once may not come back when it is read again."""
    output = [
        {"type": "web_search_call", "action": {"type": "search", "query": "secret"}},
        {"type": "web_search_call", "action": {"type": "open_page", "url": "https://secret"}},
        {"type": "file_search_call", "queries": ["secret"]},
        {"type": ["odd"]},
        None,
    ]
    calls = billed_calls(output)
    assert calls == billed_calls(calls) == [{"type": "web_search_call"}, {"type": "file_search_call"}]
    assert billed_calls("web_search_call") == billed_calls(None) == []


def test_models_inside_a_dict_are_read_too() -> None:
    """LiteLLM leaves its own objects inside the dict it hands on."""

    class Details:
        def model_dump(self) -> dict[str, int]:
            return {"cached_tokens": 400}

    usage = read_usage("litellm", {**OPENAI, "prompt_tokens_details": Details()}).usage
    assert usage is not None
    assert usage.cache_read_tokens == 400


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**16) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            [
                "usage", "prompt_tokens", "input_tokens", "output_tokens", "completion_tokens", "inputTokens",
                "outputTokens", "promptTokenCount", "candidatesTokenCount", "prompt_tokens_details", "cached_tokens",
                "input_token_details", "cache_read", "cacheDetails", "billed_units", "cost", "server_tool_use",
                "output", "promptTokensDetails", "modality", "tokenCount", "ttl", "cache_creation", "service_tier",
            ]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=12,
)  # fmt: skip


@given(shape=st.sampled_from([*SHAPES, "other"]), raw=_JSON, content=st.booleans())
def test_nothing_that_a_provider_sends_raises(shape: str, raw: Any, *, content: bool) -> None:
    """A usage object of any form must not break the application, nor price what it does not say."""
    reading = read_usage(shape, raw, has_content=content)
    assert reading.usage is not None or reading.flags
