"""What came back: usage in its shape, model, ids and what the provider says it charged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from farthing.runs import Finish
from farthing.usage import billed_calls, preview_tools
from farthing_litellm.extract.access import (
    Kwargs,
    Units,
    as_counts,
    as_text,
    counts_anything,
    get,
    is_dict,
    is_list,
    model_name,
    provider_of,
    under,
)
from farthing_litellm.extract.asking import operation_of
from farthing_litellm.recount import is_ambiguous, is_own_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from farthing_litellm.extract.told import Told

__all__ = ["answered", "batch", "must_recount", "raw_answer", "tier_of", "usage_was_withheld"]

_CHARGE_THEMSELVES: Final = frozenset({"openrouter", "perplexity", "xai"})
"""Providers whose usage says what they charged; LiteLLM leaves their own fields in its object.

LiteLLM's `response_cost` is an opinion and is never read, nor is `x-litellm-response-cost`, which a proxy may write.
"""


_OWN_FIELDS: Final = _CHARGE_THEMSELVES | {"mistral", "deepseek"}


def answered(
    kwargs: Kwargs, response: Any, *, ended: int, first_chunk: int | None = None, told: Told | None = None
) -> Finish:
    """Read the response of a success event or of the deployment hook, and what the chunks of a stream told."""
    hidden: Any = getattr(response, "_hidden_params", None)
    hidden = hidden if is_dict(hidden) else {}
    provider = provider_of(kwargs) or as_text(
        hidden.get("custom_llm_provider")
    )  # a cached embedding has it there alone
    operation = operation_of(kwargs)
    shape, usage = _usage(operation, response, kwargs, provider)
    is_chat = is_list(get(response, "choices"))
    if is_chat:
        usage = _as_told(kwargs, hidden, response, usage) if told is None else _as_heard(usage, told)
    if shape == "openrouter" and kwargs.get("stream") and not (is_chat and told is not None):
        shape = "litellm"  # with `include_cost_in_streaming_usage` the cost there is LiteLLM's own, and would be billed
    reply = get(response, "model")
    return Finish(
        ended_ns=ended,
        usage=usage,
        usage_shape=shape,
        has_content=True,
        provider=provider,
        response_model=model_name(hidden.get("provider_response_model") or reply, provider),
        response_id=as_text(get(response, "id")),
        service_tier=as_text(get(response, "service_tier")),
        finish_reason=_finish_reason(response),
        first_chunk_ns=first_chunk,
        cache_hit=kwargs.get("cache_hit") is True,
        billed=False if _is_free(operation, provider) else None,
        price_context=_price_context(kwargs, provider, hidden),
    )


def _usage(operation: str, response: Any, kwargs: Kwargs, provider: str | None) -> tuple[str, Units]:
    """Give the usage object and its shape."""
    if is_dict(response):
        # The Messages API's own body, which LiteLLM hands to the hook untranslated: input without cache tokens.
        return "anthropic" if operation == "chat" else "litellm", as_counts(response.get("usage"))
    usage = as_counts(getattr(response, "usage", None))
    measure = _UNITS.get(operation)
    if measure is not None and not counts_anything(usage):
        return "litellm", measure(response, kwargs)
    if usage is not None and (calls := billed_calls(getattr(response, "output", None))):
        return "litellm", {"usage": usage, "output": calls, "tools": preview_tools(getattr(response, "tools", None))}
    return provider if provider in _CHARGE_THEMSELVES else "litellm", usage


def _rerank_units(response: Any, _: Kwargs) -> Units:
    meta = get(response, "meta")
    billed = as_counts(get(meta, "billed_units")) or {}
    if billed.get("search_units"):
        return {"billed_units": billed}
    tokens = billed.get("total_tokens") or (as_counts(get(meta, "tokens")) or {}).get("input_tokens")
    return {"prompt_tokens": tokens} if tokens else None


def _seconds(response: Any, _: Kwargs) -> Units:
    seconds = getattr(response, "duration", None)
    return None if seconds is None else {"type": "duration", "seconds": seconds}


def _images(response: Any, _: Kwargs) -> Units:
    images = getattr(response, "data", None)
    return {"output_images": len(images)} if is_list(images) else None


def _characters(_: Any, kwargs: Kwargs) -> Units:
    text = kwargs.get("input")
    return {"input_characters": len(text)} if isinstance(text, str) else None


def _pages(response: Any, _: Kwargs) -> Units:
    return as_counts(getattr(response, "usage_info", None))


_UNITS: Final[dict[str, Callable[[Any, Kwargs], Units]]] = {
    "rerank": _rerank_units,
    "transcription": _seconds,
    "image_generation": _images,
    "speech": _characters,
    "ocr": _pages,
}
"""What is not billed by tokens: the units that are known, for who reports no tokens."""


def _as_told(kwargs: Kwargs, hidden: Kwargs, response: Any, usage: Units) -> Units:
    """Give the usage that the provider told of a stream; None where LiteLLM counted the tokens itself.

    litellm up to 1.100 keeps what the chunks said in `_hidden_params["usage"]`, even where its own count stands in the
    response; where it puts that count there as well (async, chunks without a model's name), it proves nothing. An
    answer of no tokens is a stream that was cut before it was counted.
    """
    if not kwargs.get("stream") or usage is None:
        return usage
    told = as_counts(hidden.get("usage"))
    if told is not None and not counts_anything(told):
        return None
    if usage.get("completion_tokens") == 0:
        return None
    if not is_ambiguous(kwargs, usage):
        return usage
    if told is not None and told != usage:
        return told
    return None if is_own_count(kwargs, response, usage) else usage


def _as_heard(built: Units, told: Told) -> Units:
    """Give the usage that the chunks of a stream told; None where it was cut before they told how long it became."""
    usage = told.instead_of(built) if told.is_whole else None
    return usage if usage is not None and usage.get("completion_tokens") else None


def must_recount(kwargs: Kwargs, response: Any) -> bool:
    """Say whether reading this response takes a tokenizer, which is no work for an event loop."""
    hidden: Any = getattr(response, "_hidden_params", None)
    told = as_counts(hidden.get("usage")) if is_dict(hidden) else None
    usage = as_counts(get(response, "usage"))
    return (told is None or told == usage) and is_list(get(response, "choices")) and is_ambiguous(kwargs, usage)


def _asked_for_usage(kwargs: Kwargs) -> bool:
    options = under(under(kwargs, "optional_params"), "stream_options")
    return bool(options.get("include_usage"))


def usage_was_withheld(kwargs: Kwargs, finish: Finish, told: Told | None) -> bool:
    """Say whether a stream came without usage because nobody asked for it, and not because it was cut."""
    if told is not None and (told.is_anything or told.is_raw):
        return False
    if not kwargs.get("stream") or counts_anything(dict(finish.usage) if finish.usage else None):
        return False
    return not _asked_for_usage(kwargs)


def tier_of(piece: Any) -> str | None:
    """Read the service tier that a piece of a stream names; `auto` is what was asked for, and none that is served."""
    tier = as_text(get(piece, "service_tier"))
    return None if tier == "auto" else tier


def _is_free(operation: str, provider: str | None) -> bool:
    """Know OpenAI's moderations, which are free of charge and report no usage (platform.openai.com/docs/pricing)."""
    return operation == "moderation" and provider == "openai"


def _price_context(kwargs: Kwargs, provider: str | None, hidden: Kwargs) -> dict[str, str] | None:
    """Name the region where it decides the price."""
    if provider not in {"bedrock", "vertex_ai", "bedrock_converse", "vertex_ai_beta"}:
        return None
    optional_params = under(kwargs, "optional_params")
    for region in (
        hidden.get("region_name"),
        optional_params.get("aws_region_name"),
        optional_params.get("vertex_location"),
        optional_params.get("vertex_ai_location"),
    ):
        if text := as_text(region):
            return {"region": text}
    return None


def _finish_reason(response: Any) -> str | None:
    choices = get(response, "choices")
    if is_list(choices) and choices:
        return as_text(get(choices[0], "finish_reason"))
    return as_text(get(response, "stop_reason") or get(response, "status"))


def batch(kwargs: Kwargs, response: Any, *, ended: int) -> tuple[str, Finish] | None:
    """Give the id and the bill of a batch that is done; LiteLLM reports it anew each time that it is retrieved."""
    batch_id = as_text(get(response, "id"))
    if batch_id is None or get(response, "status") != "completed":
        return None
    logged = under(kwargs, "standard_logging_object")
    usage = as_counts(get(response, "usage")) or as_counts(under(logged, "metadata").get("usage_object"))
    hidden: Any = getattr(response, "_hidden_params", None) or {}
    models = hidden.get("batch_models") or [kwargs.get("model")]
    provider = provider_of(kwargs)
    return batch_id, Finish(
        ended_ns=ended,
        usage=usage if counts_anything(usage) else None,
        usage_shape="litellm",
        has_content=True,
        provider=provider,
        response_model=model_name(models[0], provider) if len(set(models)) == 1 else None,
        response_id=batch_id,
        service_tier="batch",
    )


def raw_answer(kwargs: Kwargs, *, ended: int) -> Finish | None:
    """Read the provider's own body, which LiteLLM shows before it parses it; None when it is no answer with usage."""
    text = kwargs.get("original_response")
    if not isinstance(text, str) or not text.startswith("{"):
        return None
    try:
        body = json.loads(text)
    except ValueError:
        return None
    if not is_dict(body):
        return None
    provider = provider_of(kwargs)
    shape, usage = _raw_usage(body, provider)
    if not usage:
        return None
    return Finish(
        ended_ns=ended,
        usage=usage,
        usage_shape=shape,
        has_content=True,
        provider=provider,
        response_model=model_name(body.get("model") or body.get("modelVersion"), provider),
        response_id=as_text(body.get("id") or body.get("responseId")),
        service_tier=as_text(body.get("service_tier")),
        finish_reason=_finish_reason(body),
        price_context=_price_context(kwargs, provider, {}),
    )


def _raw_usage(body: Kwargs, provider: str | None) -> tuple[str, Kwargs]:
    """Tell whose body it is by the body: one provider of LiteLLM's may serve models of several makers."""
    if "usageMetadata" in body:
        return "gemini", under(body, "usageMetadata")
    usage = under(body, "usage")
    if body.get("type") == "message":
        return "anthropic", usage
    if "inputTokens" in usage:
        return "bedrock_converse", usage
    if "billed_units" in usage or "billed_units" in under(body, "meta"):
        return "cohere", usage or under(body, "meta")
    return provider if provider in _OWN_FIELDS else "openai_chat", usage
