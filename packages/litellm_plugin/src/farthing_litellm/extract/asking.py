"""What was asked for: operation, provider, model, tier and tags at the start of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from farthing.providers import known_provider
from farthing_litellm.extract.access import Kwargs, as_text, model_name, provider_of, under
from farthing_litellm.extract.tags import (
    NO_POLICY,
    add_callers_tags,
    add_key_owner,
    add_routing,
    is_proxied,
    keep_locked,
    tags_of,
)

if TYPE_CHECKING:
    from farthing.policy import Policy


__all__ = [
    "Asked",
    "asked",
    "is_async",
    "is_handed_on",
    "is_known",
    "is_mock",
    "operation_of",
    "request_id",
    "retries",
]

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


_HANDED_ON: Final = frozenset({"anthropic_messages", "generate_content_stream", "agenerate_content_stream"})


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


def asked(kwargs: Kwargs, policy: Policy | None = None) -> Asked:
    """Read the dict of `log_pre_api_call`, or of the one event that a cache hit has.

    Args:
        kwargs: LiteLLM's.
        policy: Says what a proxy takes from whom; None is the default.
    """
    provider = provider_of(kwargs) or _provider_written(kwargs.get("model"))
    litellm_params = under(kwargs, "litellm_params")
    metadata = under(litellm_params, "metadata")
    weak_tags: dict[str, object] = {}
    details: dict[str, str] = {}
    for found in (metadata, under(litellm_params, "litellm_metadata")):
        if found:
            add_routing(found, details)
            if "user_api_key" in found or "user_api_key_hash" in found:
                add_key_owner(found, weak_tags, details)
    if provider == "litellm_proxy":
        details["gateway"] = "litellm-proxy"
    tags = tags_of(kwargs, metadata, under(litellm_params, "litellm_metadata"))
    if is_proxied(kwargs):
        add_callers_tags(litellm_params, (policy or NO_POLICY).document.gateway, tags)
        keep_locked(policy or NO_POLICY, tags, weak_tags, details)
    return Asked(
        operation=operation_of(kwargs),
        provider=provider,
        model=model_name(kwargs.get("model"), provider),
        tags=tags,
        weak_tags=weak_tags,
        details=details,
        streaming=bool(kwargs.get("stream")),
        tier=as_text(under(kwargs, "optional_params").get("service_tier")),
    )


def _provider_written(model: object) -> str | None:
    """Give the provider that a caller wrote before a model's name: a hit of LiteLLM's cache names it nowhere else."""
    prefix, slash, _ = model.partition("/") if isinstance(model, str) else ("", "", "")
    return prefix if slash and known_provider(prefix) else None


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


def is_handed_on(kwargs: Kwargs) -> bool:
    """Say whether LiteLLM hands a stream on in the provider's own events."""
    call_type = kwargs.get("call_type")
    return bool(kwargs.get("stream")) and getattr(call_type, "value", call_type) in _HANDED_ON


def is_mock(kwargs: Kwargs) -> bool:
    """Say whether `mock_response` answers: LiteLLM then reports a call with a key of this name and invented usage."""
    return bool(kwargs.get("api_key") == "mock-key")


def request_id(kwargs: Kwargs) -> str | None:
    """Give the Router's id of a request, shared by its attempts; None outside the Router."""
    metadata = under(under(kwargs, "litellm_params"), "metadata")
    if "model_group" not in metadata and "deployment" not in metadata:
        return None
    return as_text(kwargs.get("litellm_trace_id"))


def retries(kwargs: Kwargs) -> bool:
    """Say whether the Router made other attempts before this one."""
    metadata = under(under(kwargs, "litellm_params"), "metadata")
    return bool(
        metadata.get("previous_models") or metadata.get("attempted_retries") or metadata.get("attempted_fallbacks")
    )
