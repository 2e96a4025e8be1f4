"""From LiteLLM's objects to plain values: pure, no I/O. The one module where `Any` lives.

LiteLLM's dict is live: it is reused, changed and passed around after the event. Nothing of it is kept but numbers and
names; its `api_key`, messages, headers and `previous_models` are never read.
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal, InvalidOperation
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard

import httpx
import litellm
from openai import APIConnectionError

from farthing.dimensions import canonical_name
from farthing.envelope import DIMENSIONS
from farthing.policy.document import Gateway
from farthing.propagation import HEADER, parse_tags
from farthing.runs import Finish
from farthing_litellm.recount import is_ambiguous, is_own_count

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Asked",
    "answered",
    "asked",
    "batch",
    "before_setup",
    "ended_ns",
    "failed",
    "first_chunk_ns",
    "is_async",
    "is_known",
    "is_mock",
    "is_proxied",
    "is_refusal",
    "must_recount",
    "operation_of",
    "raw_answer",
    "request_id",
    "retries",
    "started_ns",
    "trace_headers",
    "usage_was_withheld",
    "was_sent",
]

Kwargs = dict[str, Any]
Details = dict[str, str]
Units = dict[str, object] | None

_OPERATIONS: Final = {
    "completion": "chat",
    "responses": "chat",
    "anthropic_messages": "chat",
    "generate_content": "chat",
    "generate_content_stream": "chat",
    "text_completion": "text_completion",
    "embedding": "embeddings",
    "image_edit": "image_generation",
    "image_variation": "image_generation",
    "image_generation": "image_generation",
    "speech": "speech",
    "transcription": "transcription",
    "rerank": "rerank",
    "moderation": "moderation",
    "ocr": "ocr",
    "retrieve_batch": "batch",
}
"""LiteLLM's call types, without the `a` of the async ones, and `gen_ai.operation.name`."""

_NAMES: Final = {f"{a}{name}": operation for name, operation in _OPERATIONS.items() for a in ("", "a")}

_GATEWAY: Final = Gateway()
_KEY_OWNER: Final = "user_api_key"
"""What LiteLLM's proxy says of the virtual key starts with this, the key's hash among it."""
_NOT_TAGS: Final = frozenset({"tags", "requester_metadata", "spend_logs_metadata"})
_FROM_PROXY: Final = frozenset({"endpoint"})
"""What LiteLLM's proxy itself puts into the metadata under a name that is also a dimension's."""

_MAX_TAGS: Final = 64
_MAX_CHAIN: Final = 12
_NOT_TEXT: Final = ()
"""Stands in for a tag's value of a wrong type, so that the policy can refuse it; the value itself may be content."""

_CHARGE_THEMSELVES: Final = frozenset({"openrouter", "perplexity", "xai"})
"""Providers whose usage says what they charged; LiteLLM leaves their own fields in its object."""

_OWN_FIELDS: Final = _CHARGE_THEMSELVES | {"mistral", "deepseek"}


class Asked(NamedTuple):
    """What is known when a request goes out."""

    operation: str
    provider: str | None
    model: str | None
    tags: dict[str, object]
    weak_tags: dict[str, object]
    """What a proxy knows of the caller: used where nobody says better."""
    details: dict[str, str]
    streaming: bool
    tier: str | None


def asked(kwargs: Kwargs, gateway: Gateway | None = None) -> Asked:
    """Read the dict of `log_pre_api_call`, or of the one event that a cache hit has.

    Args:
        kwargs: LiteLLM's.
        gateway: What a proxy takes from whom; None is the default.
    """
    provider = _provider(kwargs)
    litellm_params = _under(kwargs, "litellm_params")
    metadata = _under(litellm_params, "metadata")
    weak_tags: dict[str, object] = {}
    details: dict[str, str] = {}
    for found in (metadata, _under(litellm_params, "litellm_metadata")):
        if found:
            _routing(found, details)
            if "user_api_key" in found or "user_api_key_hash" in found:
                _key_owner(found, weak_tags, details)
    if provider == "litellm_proxy":
        details["gateway"] = "litellm-proxy"
    tags = _tags(kwargs, metadata, _under(litellm_params, "litellm_metadata"))
    if is_proxied(kwargs):
        _callers_tags(litellm_params, gateway or _GATEWAY, tags)
        _keep_locked(gateway or _GATEWAY, tags, weak_tags, details)
    return Asked(
        operation=operation_of(kwargs),
        provider=provider,
        model=_model(kwargs.get("model"), provider),
        tags=tags,
        weak_tags=weak_tags,
        details=details,
        streaming=bool(kwargs.get("stream")),
        tier=_text(_under(kwargs, "optional_params").get("service_tier")),
    )


def before_setup(arguments: Any) -> Kwargs:
    """Shape the arguments of a call, as its caller wrote them, like the dict that LiteLLM makes of them."""
    names = ("metadata", "litellm_metadata", "proxy_server_request")
    return {
        "litellm_params": {name: arguments.get(name) for name in names},
        "user": arguments.get("user"),
        "model": arguments.get("model"),
    }


def is_proxied(kwargs: Kwargs) -> bool:
    """Say whether LiteLLM's proxy makes the call, for one of its keys."""
    params = _under(kwargs, "litellm_params")
    return any("user_api_key" in _under(params, name) for name in ("metadata", "litellm_metadata"))


def operation_of(kwargs: Kwargs) -> str:
    """Give `gen_ai.operation.name`; a call type that we do not know keeps its own name."""
    call_type = kwargs.get("call_type")
    call_type = getattr(call_type, "value", call_type)
    return _NAMES.get(call_type, call_type) if isinstance(call_type, str) else "chat"


def is_known(kwargs: Kwargs) -> bool:
    """Say whether a call type is one that reaches a model; files, batches and vector stores have types of their own."""
    call_type = kwargs.get("call_type")
    return getattr(call_type, "value", call_type) in _NAMES


def is_async(kwargs: Kwargs) -> bool:
    """Say whether the caller awaits the call."""
    call_type = kwargs.get("call_type")
    name = getattr(call_type, "value", call_type)
    return isinstance(name, str) and name.startswith("a")


def is_mock(kwargs: Kwargs) -> bool:
    """Say whether `mock_response` answers: LiteLLM then reports a call with a key of this name and invented usage."""
    return bool(kwargs.get("api_key") == "mock-key")


def request_id(kwargs: Kwargs) -> str | None:
    """Give the Router's id of a request, shared by its attempts; None outside the Router."""
    metadata = _under(_under(kwargs, "litellm_params"), "metadata")
    if "model_group" not in metadata and "deployment" not in metadata:
        return None
    return _text(kwargs.get("litellm_trace_id"))


def retries(kwargs: Kwargs) -> bool:
    """Say whether the Router made other attempts before this one."""
    metadata = _under(_under(kwargs, "litellm_params"), "metadata")
    return bool(
        metadata.get("previous_models") or metadata.get("attempted_retries") or metadata.get("attempted_fallbacks")
    )


# Tags, in all the forms that people write.


def _tags(kwargs: Kwargs, *found: Kwargs) -> dict[str, object]:
    tags: dict[str, object] = {}
    for metadata in found:
        if metadata:
            _body_tags(_under(metadata, "requester_metadata"), tags)
            _body_tags(metadata, tags)
            if "user_api_key" in metadata:
                _header_tags(_under(metadata, "headers"), tags)
    user = kwargs.get("user")
    if user is not None and user != "":
        tags.setdefault("user_id", user if isinstance(user, str) else _NOT_TEXT)
    return tags


def _body_tags(metadata: Kwargs, tags: dict[str, object]) -> None:
    """Add the tags of one metadata dict; what is there already is stronger, and `tags` is stronger than the rest."""
    if (written := metadata.get("tags")) is not None:
        _written_tags(written, tags)
    proxied = "user_api_key" in metadata
    for name, value in metadata.items():
        if len(tags) >= _MAX_TAGS:
            return
        if str(name).startswith(_KEY_OWNER) or name in _NOT_TAGS or name in tags or (proxied and name in _FROM_PROXY):
            continue
        _put(name, value, tags)


def _header_tags(headers: Kwargs, tags: dict[str, object]) -> None:
    """Add the request headers that the proxy's `extra_spend_tag_headers` names; no other header is read."""
    for name in _listed(getattr(litellm, "extra_spend_tag_headers", None)):
        value = headers.get(name) if isinstance(name, str) else None
        if isinstance(value, str) and (tag := name.lower().removeprefix("x-")) not in tags:
            tags[tag] = value


def _written_tags(written: Any, tags: dict[str, object]) -> None:
    if _is_dict(written):
        for name, value in list(written.items())[:_MAX_TAGS]:
            if name not in tags:
                _put(name, value, tags)
        return
    if isinstance(written, str):
        written = written.split(",")
    for tag in _listed(written)[:_MAX_TAGS]:
        if not isinstance(tag, str):
            continue
        name, colon, value = tag.partition(":")
        # `extra_spend_tag_headers` of the proxy writes a request header as "x-feature: search"
        name = name.strip().removeprefix("x-")
        if colon and name and name not in tags:
            tags[name] = value.strip()


def _put(name: Any, value: Any, tags: dict[str, object]) -> None:
    if not isinstance(name, str):
        return
    if value is None or isinstance(value, (str, int, float, Decimal)):
        tags[name] = value
    elif canonical_name(name) in DIMENSIONS:
        inner = getattr(value, "value", None)  # an Enum's member
        tags[name] = inner if isinstance(inner, (str, int)) else _scalar(value)


def _scalar(value: Any) -> object:
    return str(value) if type(value).__name__ == "UUID" else _NOT_TEXT


def _routing(metadata: Kwargs, details: dict[str, str]) -> None:
    if group := _text(metadata.get("model_group")):
        details["model_group"] = group
    info = metadata.get("model_info")
    if _is_dict(info) and (deployment := _text(info.get("id"))):
        details["deployment"] = deployment


def trace_headers(kwargs: Kwargs) -> dict[str, str]:
    """Give the W3C trace headers of the request that a proxy serves."""
    headers = _headers(_under(kwargs, "litellm_params")) if is_proxied(kwargs) else {}
    return {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}


def _headers(litellm_params: Kwargs) -> dict[str, str]:
    """Give a proxy's request headers; nothing but named ones may be taken from them."""
    found = _under(_under(litellm_params, "proxy_server_request"), "headers")
    return {str(name).lower(): value for name, value in found.items() if isinstance(value, str)}


def _callers_tags(litellm_params: Kwargs, gateway: Gateway, tags: dict[str, object]) -> None:
    """Add what a proxy's caller says outside of the metadata's top: spend-logs metadata, then headers, if trusted."""
    for name in ("metadata", "litellm_metadata"):
        spend = _under(_under(litellm_params, name), "spend_logs_metadata")
        for key, value in spend.items():
            if key not in tags and len(tags) < _MAX_TAGS:
                _put(key, value, tags)
    if not gateway.trust_headers:
        return
    headers = _headers(litellm_params)
    for header, dimension in gateway.headers.items():
        if header in headers:
            tags.setdefault(dimension, headers[header])
    for name, value in parse_tags(headers.get(HEADER)).items():
        tags.setdefault(name, value)


def _keep_locked(gateway: Gateway, tags: dict[str, object], weak_tags: dict[str, object], details: Details) -> None:
    """Take back what a caller claims about dimensions that only its key and team may set."""
    locked = {canonical_name(name) for name in gateway.locked}
    forged: set[str] = set()
    for written in [name for name in tags if canonical_name(name) in locked]:
        name = canonical_name(written)
        true = {value for key, value in weak_tags.items() if canonical_name(key) == name}
        if tags.pop(written) not in true:
            forged.add(name)
    if forged:
        details["forged"] = ",".join(sorted(forged))


def _key_owner(metadata: Kwargs, weak_tags: dict[str, object], details: dict[str, str]) -> None:
    """Read what the proxy knows of the virtual key: its metadata, its team, its user. The key itself is not read."""
    for source in ("user_api_key_metadata", "user_api_key_team_metadata", "user_api_key_auth_metadata"):
        _body_tags(_under(metadata, source), weak_tags)
    for dimension, names in (
        ("team", ("user_api_key_team_alias", "user_api_key_team_id")),
        ("user_id", ("user_api_key_end_user_id", "user_api_key_user_id")),
    ):
        value = next((found for name in names if (found := _text(metadata.get(name)))), None)
        if value is not None:
            weak_tags.setdefault(dimension, value)
    if alias := _text(metadata.get("user_api_key_alias")):
        details["key_alias"] = alias


# Answers.


def answered(kwargs: Kwargs, response: Any, *, ended: int, first_chunk: int | None = None) -> Finish:
    """Read the response of a success event or of the deployment hook."""
    hidden: Any = getattr(response, "_hidden_params", None)
    hidden = hidden if _is_dict(hidden) else {}
    provider = _provider(kwargs) or _text(hidden.get("custom_llm_provider"))  # a cached embedding has it there alone
    operation = operation_of(kwargs)
    shape, usage = _usage(operation, response, kwargs, provider)
    if _is_list(_get(response, "choices")):
        usage = _as_told(kwargs, hidden, response, usage)
    reply = _get(response, "model")
    return Finish(
        ended_ns=ended,
        usage=usage,
        usage_shape=shape,
        has_content=True,
        provider=provider,
        response_model=_model(hidden.get("provider_response_model") or reply, provider),
        response_id=_text(_get(response, "id")),
        service_tier=_text(_get(response, "service_tier")),
        finish_reason=_finish_reason(response),
        first_chunk_ns=first_chunk,
        cache_hit=kwargs.get("cache_hit") is True,
        billed=False if _is_free(operation, provider) else None,
        reported_usd=_charged(provider, hidden),
        price_context=_price_context(kwargs, provider, hidden),
    )


def _usage(operation: str, response: Any, kwargs: Kwargs, provider: str | None) -> tuple[str, Units]:
    """Give the usage object and its shape."""
    if _is_dict(response):
        # The Messages API's own body, which LiteLLM hands to the hook untranslated: input without cache tokens.
        return "anthropic" if operation == "chat" else "litellm", _plain(response.get("usage"))
    usage = _plain(getattr(response, "usage", None))
    measure = _UNITS.get(operation)
    if measure is not None and not _counts_anything(usage):
        return "litellm", measure(response, kwargs)
    if usage is not None and (tools := _billed_tools(getattr(response, "output", None))):
        return "litellm", {"usage": usage, "output": tools}
    return provider if provider in _CHARGE_THEMSELVES else "litellm", usage


def _rerank_units(response: Any, _: Kwargs) -> Units:
    meta = _get(response, "meta")
    billed = _plain(_get(meta, "billed_units")) or {}
    if billed.get("search_units"):
        return {"billed_units": billed}
    tokens = billed.get("total_tokens") or (_plain(_get(meta, "tokens")) or {}).get("input_tokens")
    return {"prompt_tokens": tokens} if tokens else None


def _seconds(response: Any, _: Kwargs) -> Units:
    seconds = getattr(response, "duration", None)
    return None if seconds is None else {"type": "duration", "seconds": seconds}


def _images(response: Any, _: Kwargs) -> Units:
    images = getattr(response, "data", None)
    return {"output_images": len(images)} if _is_list(images) else None


def _characters(_: Any, kwargs: Kwargs) -> Units:
    text = kwargs.get("input")
    return {"input_characters": len(text)} if isinstance(text, str) else None


def _pages(response: Any, _: Kwargs) -> Units:
    return _plain(getattr(response, "usage_info", None))


_UNITS: Final[dict[str, Callable[[Any, Kwargs], Units]]] = {
    "rerank": _rerank_units,
    "transcription": _seconds,
    "image_generation": _images,
    "speech": _characters,
    "ocr": _pages,
}
"""What is not billed by tokens: the units that are known, for who reports no tokens."""


def _plain(usage: Any) -> dict[str, object] | None:
    """Copy the first level of a usage object; the worker opens the rest, which nobody changes any more."""
    if usage is None or _is_dict(usage):
        return None if usage is None else dict(usage)
    fields: Any = getattr(usage, "__dict__", None)
    if not _is_dict(fields):
        return None
    extra = getattr(usage, "__pydantic_extra__", None)
    return {**fields, **extra} if _is_dict(extra) else dict(fields)


def _counts_anything(usage: dict[str, object] | None) -> bool:
    return usage is not None and any(isinstance(value, int) and value for value in usage.values())


def _billed_tools(output: Any) -> list[object]:
    """Name the provider-side tool calls of a Responses answer: they stand on the bill, not in the usage."""
    if not _is_list(output):
        return []
    kinds = (_text(_get(item, "type")) for item in output)
    return [{"type": kind} for kind in kinds if kind in {"web_search_call", "file_search_call"}]


def _as_told(kwargs: Kwargs, hidden: Kwargs, response: Any, usage: Units) -> Units:
    """Give the usage that the provider told of a stream; None where LiteLLM counted the tokens itself.

    litellm up to 1.100 keeps what the chunks said in `_hidden_params["usage"]`, even where its own count stands in the
    response. An answer of no tokens is a stream that was cut before it was counted.
    """
    if not kwargs.get("stream") or usage is None:
        return usage
    told = _plain(hidden.get("usage"))
    if told is not None and not _counts_anything(told):
        return None
    if usage.get("completion_tokens") == 0 or _was_cut(_provider(kwargs), usage):
        return None
    if not is_ambiguous(kwargs, usage):
        return usage
    if told is not None:
        return told
    return None if is_own_count(kwargs, response, usage) else usage


def _was_cut(provider: str | None, usage: dict[str, object]) -> bool:
    """Say whether Anthropic's stream ended before its last count: the details then still hold the one it began with."""
    details = _plain(usage.get("completion_tokens_details")) if provider == "anthropic" else None
    text, whole = (details or {}).get("text_tokens"), usage.get("completion_tokens")
    if not isinstance(text, int) or not isinstance(whole, int):
        return False
    reasoning = (details or {}).get("reasoning_tokens")
    return text + (reasoning if isinstance(reasoning, int) else 0) < whole


def must_recount(kwargs: Kwargs, response: Any) -> bool:
    """Say whether reading this response takes a tokenizer, which is no work for an event loop."""
    hidden: Any = getattr(response, "_hidden_params", None)
    told = _plain(hidden.get("usage")) if _is_dict(hidden) else None
    return (
        told is None and _is_list(_get(response, "choices")) and is_ambiguous(kwargs, _plain(_get(response, "usage")))
    )


def _asked_for_usage(kwargs: Kwargs) -> bool:
    options = _under(_under(kwargs, "optional_params"), "stream_options")
    return bool(options.get("include_usage"))


def usage_was_withheld(kwargs: Kwargs, finish: Finish) -> bool:
    """Say whether a stream came without usage because nobody asked for it."""
    if not kwargs.get("stream") or _counts_anything(dict(finish.usage) if finish.usage else None):
        return False
    return not _asked_for_usage(kwargs)


def _is_free(operation: str, provider: str | None) -> bool:
    """Know OpenAI's moderations, which are free of charge and report no usage (platform.openai.com/docs/pricing)."""
    return operation == "moderation" and provider == "openai"


def _charged(provider: str | None, hidden: Kwargs) -> Decimal | None:
    """Read what OpenRouter said it charged; LiteLLM's own `response_cost` is an opinion and is never read."""
    if provider != "openrouter":
        return None
    headers = hidden.get("additional_headers")
    cost = headers.get("llm_provider-x-litellm-response-cost") if _is_dict(headers) else None
    try:
        return None if cost is None else Decimal(str(cost))
    except InvalidOperation:
        return None


def _price_context(kwargs: Kwargs, provider: str | None, hidden: Kwargs) -> dict[str, str] | None:
    """Name the region where it decides the price."""
    if provider not in {"bedrock", "vertex_ai", "bedrock_converse", "vertex_ai_beta"}:
        return None
    optional_params = _under(kwargs, "optional_params")
    for region in (
        hidden.get("region_name"),
        optional_params.get("aws_region_name"),
        optional_params.get("vertex_location"),
        optional_params.get("vertex_ai_location"),
    ):
        if text := _text(region):
            return {"region": text}
    return None


def _finish_reason(response: Any) -> str | None:
    choices = _get(response, "choices")
    if _is_list(choices) and choices:
        return _text(_get(choices[0], "finish_reason"))
    return _text(_get(response, "stop_reason") or _get(response, "status"))


def batch(kwargs: Kwargs, response: Any, *, ended: int) -> tuple[str, Finish] | None:
    """Give the id and the bill of a batch that is done; LiteLLM reports it anew each time that it is retrieved."""
    batch_id = _text(_get(response, "id"))
    if batch_id is None or _get(response, "status") != "completed":
        return None
    logged = _under(kwargs, "standard_logging_object")
    usage = _plain(_get(response, "usage")) or _plain(_under(logged, "metadata").get("usage_object"))
    hidden: Any = getattr(response, "_hidden_params", None) or {}
    models = hidden.get("batch_models") or [kwargs.get("model")]
    provider = _provider(kwargs)
    return batch_id, Finish(
        ended_ns=ended,
        usage=usage if _counts_anything(usage) else None,
        usage_shape="litellm",
        has_content=True,
        provider=provider,
        response_model=_model(models[0], provider) if len(set(models)) == 1 else None,
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
    if not _is_dict(body):
        return None
    provider = _provider(kwargs)
    shape, usage = _raw_usage(body, provider)
    if not usage:
        return None
    return Finish(
        ended_ns=ended,
        usage=usage,
        usage_shape=shape,
        has_content=True,
        provider=provider,
        response_model=_model(body.get("model") or body.get("modelVersion"), provider),
        response_id=_text(body.get("id") or body.get("responseId")),
        service_tier=_text(body.get("service_tier")),
        finish_reason=_finish_reason(body),
        price_context=_price_context(kwargs, provider, {}),
    )


def _raw_usage(body: Kwargs, provider: str | None) -> tuple[str, Kwargs]:
    """Tell whose body it is by the body: one provider of LiteLLM's may serve models of several makers."""
    if "usageMetadata" in body:
        return "gemini", _under(body, "usageMetadata")
    usage = _under(body, "usage")
    if body.get("type") == "message":
        return "anthropic", usage
    if "inputTokens" in usage:
        return "bedrock_converse", usage
    if "billed_units" in usage or "billed_units" in _under(body, "meta"):
        return "cohere", usage or _under(body, "meta")
    return provider if provider in _OWN_FIELDS else "openai_chat", usage


# Failures.


def failed(error: BaseException | None, *, ended: int, began: bool = False) -> Finish:
    """Describe a failed attempt; usage that LiteLLM gives for a broken stream is its own estimate and is not read.

    Args:
        error: What was raised; its text is not read.
        ended: Nanoseconds since the epoch.
        began: Whether the provider had begun to answer.
    """
    return Finish(
        ended_ns=ended,
        outcome="error",
        usage_shape="litellm",
        error_type=None if error is None else type(error).__name__,
        billed=False if error is not None and not began and is_refusal(error) else None,
    )


def is_refusal(error: BaseException) -> bool:
    """Say whether the provider answered with an HTTP error, which no provider bills."""
    return _decisive(error) == "refused"


def was_sent(error: BaseException) -> bool:
    """Say whether a request went out before an error: what LiteLLM refuses itself never does."""
    return _decisive(error) is not None


def _decisive(error: BaseException) -> str | None:
    """Find what happened on the wire: refused, broken, or None when nothing was on it.

    A `status_code` proves nothing: LiteLLM gives a broken connection 500 and a timeout 408. The exception behind its
    own does. The first that decides counts, since those of earlier attempts hang at the end of the chain.
    """
    step: BaseException | None = error
    for _ in range(_MAX_CHAIN):
        if step is None:
            return None
        if isinstance(step, httpx.HTTPStatusError):
            return "refused" if step.response.status_code >= httpx.codes.BAD_REQUEST else "broken"
        is_litellm = type(step).__module__.startswith("litellm.")
        if not is_litellm and isinstance(
            step, (httpx.TransportError, APIConnectionError, TimeoutError, JSONDecodeError)
        ):
            return "broken"
        step = step.__cause__ or step.__context__
    return None


# Time.


def started_ns(kwargs: Kwargs, start_time: Any, now: int) -> int:
    """Give the start of a call whose `log_pre_api_call` was not seen."""
    return now - _span_ns(start_time, kwargs.get("end_time"))


def ended_ns(attempt_ns: int, mark: Any, end_time: Any, now: int) -> int:
    """Give the end of an attempt: LiteLLM's two naive local times are only good for their difference."""
    if not isinstance(mark, datetime) or not isinstance(end_time, datetime):
        return now
    return min(now, attempt_ns + max(0, _span_ns(mark, end_time)))


def first_chunk_ns(kwargs: Kwargs, attempt_ns: int, mark: Any) -> int | None:
    """Give the time of a stream's first piece."""
    first = kwargs.get("completion_start_time")
    if not kwargs.get("stream") or not isinstance(first, datetime) or not isinstance(mark, datetime):
        return None
    return attempt_ns + max(0, _span_ns(mark, first))


def _span_ns(start: Any, end: Any) -> int:
    if (
        not isinstance(start, datetime)
        or not isinstance(end, datetime)
        or (start.tzinfo is None) != (end.tzinfo is None)
    ):
        return 0
    span = end - start
    return ((span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds) * 1_000


# Small things.


def _provider(kwargs: Kwargs) -> str | None:
    return _text(kwargs.get("custom_llm_provider")) or _text(
        _under(kwargs, "litellm_params").get("custom_llm_provider")
    )


def _is_dict(value: Any) -> TypeGuard[Kwargs]:
    return isinstance(value, dict)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _under(thing: Kwargs, name: str) -> Kwargs:
    """Go into a nested dict; what is none counts as empty."""
    value = thing.get(name)
    return value if _is_dict(value) else {}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else []  # pyright: ignore[reportUnknownArgumentType]


def _get(thing: Any, name: str) -> Any:
    if _is_dict(thing):
        return thing.get(name)
    return getattr(thing, name, None)


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    inner = getattr(value, "value", None)
    return inner if isinstance(inner, str) and inner else None


def _model(model: Any, provider: str | None) -> str | None:
    """Take off the provider that LiteLLM's users write before a model's name."""
    name = _text(model)
    return name.removeprefix(f"{provider}/") if name and provider else name
