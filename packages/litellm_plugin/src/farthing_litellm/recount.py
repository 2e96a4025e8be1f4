"""Whose count stands in a stream's usage: the provider's, or LiteLLM's own where the provider told none.

LiteLLM marks its own count nowhere (seen from 1.100 to 1.110), and its form is that of a server which tells three bare
numbers. Where nothing else decides, the count is made once more in LiteLLM's way, and what is equal was counted by it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["is_ambiguous", "is_own_count"]

_DETAILS: Final = ("prompt_tokens_details", "cache_read_input_tokens", "cache_creation_input_tokens")
_LONG: Final = 20_000
"""Characters of an answer above which its count is not repeated: that of the prompt decides alone."""


class _Counter(Protocol):
    def __call__(self, *, model: str, messages: object = None, text: object = None, **more: bool) -> int: ...


def is_ambiguous(kwargs: Mapping[str, Any], usage: Mapping[str, Any] | None) -> bool:
    """Say whether a stream's usage may be LiteLLM's own count: it has no detail of the prompt, which no count has."""
    return bool(kwargs.get("stream") and usage) and not any((usage or {}).get(name) for name in _DETAILS)


def is_own_count(kwargs: Mapping[str, Any], response: object, usage: Mapping[str, Any]) -> bool:
    """Say whether an ambiguous usage is LiteLLM's own count. Tokenizes: not for the event loop.

    Args:
        kwargs: Of the event; its messages are counted, and not kept.
        response: The stream put together.
        usage: As LiteLLM gives it, first level.

    Returns:
        True also where the count cannot be repeated: what is not known to be the provider's word is no bill.

    Raises:
        Nothing.
    """
    count = cast("_Counter", vars(import_module("litellm"))["token_counter"])
    asked = kwargs.get("messages")
    prompt: dict[str, object] = {"text": asked} if isinstance(asked, str) else {"messages": asked}
    text = _text_of(response)
    named = {str(model) for model in (getattr(response, "model", None), kwargs.get("model")) if model}
    models = (*named, "")  # LiteLLM counts by the model that the first chunk named, and that may be none
    try:
        for model in models:
            if usage.get("prompt_tokens") != count(model=model, **cast("dict[str, Any]", prompt)):
                continue
            if not text or len(text) > _LONG:
                return True
            if usage.get("completion_tokens") == count(model=model, text=text, count_response_tokens=True):
                return True
    except Exception:  # noqa: BLE001 - a tokenizer may refuse anything, and then nothing is proven
        return True
    return False


def _text_of(response: Any) -> str | None:
    """Give the answer where it is one plain text; tool calls and further choices are counted otherwise."""
    try:
        (choice,) = response.choices
        message = getattr(choice, "message", None)
        text = choice.text if message is None else None if message.tool_calls else message.content
    except (AttributeError, TypeError, ValueError):
        return None
    return text or None
