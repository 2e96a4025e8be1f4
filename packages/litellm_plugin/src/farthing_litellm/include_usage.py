"""Streams that come without usage, and what asks for it: `stream_options={"include_usage": True}`.

Only where the setting `ask_for_usage` is on. Some servers that speak OpenAI's protocol refuse the option with a 400 or
422 (Mistral's own, Databricks in front of Bedrock), and a caller who asked for something else is not overruled.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

import litellm

from farthing.guard import guarded, log
from farthing_litellm.extract import before_setup, is_proxied
from farthing_litellm.extract.access import under
from farthing_litellm.first_step import MODEL_AT

__all__ = ["ask", "forget_told", "tell_how"]

_ASKABLE: Final = frozenset({"completion", "acompletion", "text_completion", "atext_completion"})
_MOST_TOLD: Final = 100

_told: Final[set[tuple[str, str, str]]] = set()


@guarded
def ask(function: str, args: tuple[Any, ...], arguments: dict[str, Any]) -> None:
    """Have a stream bring its usage, where LiteLLM knows the option for its provider and the caller has not said.

    Args:
        function: The name of LiteLLM's function.
        args: The positional arguments of `function_setup` behind it: the model may be one of them.
        arguments: Those of the call, to be changed.
    """
    if function not in _ASKABLE or arguments.get("stream") is not True or "stream_options" in arguments:
        return
    if is_proxied(before_setup(arguments)):
        return  # LiteLLM's proxy asks by itself, and takes the usage out again where its client has not asked
    lite: Any = litellm
    try:
        model, provider, _, _ = lite.get_llm_provider(
            model=arguments.get("model", args[MODEL_AT] if len(args) > MODEL_AT else None),
            custom_llm_provider=arguments.get("custom_llm_provider"),
            api_base=arguments.get("api_base") or arguments.get("base_url"),
        )
        known: Any = lite.get_supported_openai_params(model=model, custom_llm_provider=provider) or ()
    except Exception:  # noqa: BLE001 - LiteLLM says itself, to its caller, what it makes of such a model
        return
    if "stream_options" in known:
        arguments["stream_options"] = {"include_usage": True}


def tell_how(provider: str | None, model: str | None, kwargs: dict[str, Any]) -> None:
    """Say, once for each provider, model and host, how to learn what such a stream costs."""
    key = (provider or "the provider", model or "", _host(under(kwargs, "litellm_params").get("api_base")))
    if key in _told or len(_told) >= _MOST_TOLD:
        return
    _told.add(key)
    named = " ".join(part for part in key if part)
    log.warning(
        "farthing: a stream of %s came without usage, so its cost is unknown; "
        'pass stream_options={"include_usage": True} to LiteLLM, or set FARTHING_ASK_FOR_USAGE=true to have it done. '
        "Later ones are only counted.",
        named,
    )


def _host(base: object) -> str:
    try:
        return (urlsplit(base).hostname or "") if isinstance(base, str) else ""
    except ValueError:
        return ""


def forget_told() -> None:
    """Warn once more: for tests."""
    _told.clear()
