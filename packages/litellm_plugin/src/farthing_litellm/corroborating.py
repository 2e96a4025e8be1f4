"""Writing the tags of a call into its request, for the providers that `[policy.corroboration]` names.

LiteLLM's deployment hook is there for changing a request, but only async calls pass it, and without the arguments that
were given by position. So tags are written where refusing stands as well (see `refusing`), and in the hook for the
proxy, whose deployment is chosen later. What a caller has written for the provider stays as it is, and where LiteLLM
would make it a part of its cache's key nothing is written.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import litellm

from farthing.corroboration import Endpoint, tags_for, wanted
from farthing.guard import guarded
from farthing.providers import canonical_provider
from farthing_litellm.extract.access import is_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farthing.rules import Tagged

__all__ = ["corroborated", "is_wanted"]

_BASES: Final = {
    "openai": (("api_base", "base_url"), ("OPENAI_BASE_URL", "OPENAI_API_BASE")),
    "anthropic": (("api_base", "base_url"), ("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL")),
    "aws.bedrock": (("aws_bedrock_runtime_endpoint", "api_base", "base_url"), ("AWS_BEDROCK_RUNTIME_ENDPOINT",)),
    "gcp.vertex_ai": (("api_base", "base_url"), ("VERTEXAI_API_BASE", "VERTEX_API_BASE")),
}
"""Arguments and variables that send a provider's requests elsewhere (litellm 1.100 to 1.110)."""

is_wanted: Final = wanted


@guarded
def corroborated(arguments: Mapping[str, Any], call_type: str, *, tagged: Tagged) -> dict[str, Any] | None:
    """Give a call's arguments with its tags in them; None where there is nothing to write.

    Args:
        arguments: As its caller gave them, `model` among them.
        call_type: LiteLLM's, with or without the `a` of async ones.
        tagged: Whose tags they are.

    Raises:
        Nothing.
    """
    if any(arguments.get(key) for key in _MAY_GO_ELSEWHERE) or getattr(litellm, "model_fallbacks", None):
        return None  # the attempts come by here themselves, or go to another provider with these arguments
    found = _provider(arguments)
    name = None if found is None else canonical_provider(found[1])
    if found is None or name not in _BASES or arguments.get("mock_response") is not None:
        return None
    call_type = call_type if call_type.startswith("anthropic") else call_type.removeprefix("a")
    operation = _operation(name, call_type, found)
    if operation is None or _has_own(name, operation, arguments) or _splits_cache(name, arguments):
        return None
    endpoint = Endpoint(name, operation, host=_host(name, arguments, found[3]), stored=arguments.get("store"))
    tags = tags_for(endpoint, tagged=tagged)
    return None if not tags else {**arguments, **_written(name, call_type, tags, arguments)}


def _provider(arguments: Mapping[str, Any]) -> tuple[str, str, object, str | None] | None:
    model = arguments.get("model")
    if not isinstance(model, str):
        return None
    ask: Any = litellm.get_llm_provider  # pyright: ignore[reportUnknownMemberType] - LiteLLM's types are partial
    base = arguments.get("api_base") or arguments.get("base_url")
    try:
        return ask(model=model, custom_llm_provider=arguments.get("custom_llm_provider"), api_base=base)
    except Exception:  # noqa: BLE001 - LiteLLM will say itself what is wrong with the model's name
        return None


def _operation(name: str, call_type: str, found: tuple[str, str, object, str | None]) -> str | None:
    """Give the endpoint that a call goes to; None where it takes no tags."""
    model = found[0]
    if name == "openai":
        return {"completion": "chat", "responses": "responses"}.get(call_type)
    if name == "anthropic":
        return "messages" if call_type in {"completion", "anthropic_messages"} else None
    if call_type != "completion":
        return None
    if name == "gcp.vertex_ai":
        return "generate_content" if model.startswith("gemini") else None
    return "converse" if _goes_by_converse(model) and not getattr(litellm, _OWNED, None) else None


_MAY_GO_ELSEWHERE: Final = ("fallbacks", "context_window_fallback_dict")
_OWNED: Final = "bedrock_request_metadata_fields"
"""LiteLLM's own way of writing Bedrock's request metadata; who uses it has decided."""


def _goes_by_converse(model: str) -> bool:
    bedrock: Any = importlib.import_module("litellm.llms.bedrock.common_utils")  # only where Bedrock is used
    return bedrock.BedrockModelInfo.get_bedrock_route(model) == "converse"


def _host(name: str, arguments: Mapping[str, Any], resolved: str | None) -> str | None:
    """Give the host that a request goes to; None is the provider's own."""
    keys, variables = _BASES[name]
    client: object = getattr(arguments.get("client"), "base_url", None)
    candidates = [client, *(arguments.get(key) for key in keys), resolved, getattr(litellm, "api_base", None)]
    candidates += [os.environ.get(variable) for variable in variables]
    base = next((str(each) for each in candidates if each), None)
    return None if base is None else (urlsplit(base).hostname or base)


def _has_own(name: str, operation: str, arguments: Mapping[str, Any]) -> bool:
    """Say whether the caller has written something for the provider in the same place."""
    metadata: Any = arguments.get("metadata")
    if name == "openai":
        body: Any = arguments.get("extra_body")
        sent = metadata if operation == "responses" or getattr(litellm, "enable_preview_features", False) else None
        return bool(sent) or (body is not None and (not is_dict(body) or "metadata" in body))
    if name == "anthropic":
        if metadata is not None and not is_dict(metadata):
            return True
        return bool(arguments.get("user") or (metadata and metadata.get("user_id")))
    return bool(arguments.get("labels" if name == "gcp.vertex_ai" else "requestMetadata"))


def _splits_cache(name: str, arguments: Mapping[str, Any]) -> bool:
    """Say whether LiteLLM's cache would answer fewer calls for the tags: `user` is a part of its keys."""
    if getattr(litellm, "cache", None) is None or arguments.get("caching") is False:
        return False
    return name == "anthropic" or bool(getattr(litellm, "enable_caching_on_provider_specific_optional_params", False))


def _written(name: str, call_type: str, tags: dict[str, str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    if name == "openai":
        return {"extra_body": {**(arguments.get("extra_body") or {}), "metadata": tags}}
    if name == "anthropic":
        if call_type == "anthropic_messages":
            return {"metadata": {**(arguments.get("metadata") or {}), **tags}}
        return {"user": tags["user_id"]}
    return {"labels": tags} if name == "gcp.vertex_ai" else {"requestMetadata": tags}
