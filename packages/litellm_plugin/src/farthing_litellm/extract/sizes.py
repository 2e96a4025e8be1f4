"""How large what was asked and received is, for estimates; only numbers leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farthing.estimating import prompt_bytes, text_bytes
from farthing_litellm.extract.access import get, is_list, under

if TYPE_CHECKING:
    from farthing_litellm.extract.access import Kwargs

__all__ = ["answer_bytes", "asked_bytes", "piece_bytes"]


def asked_bytes(kwargs: Kwargs) -> int | None:
    """Give the size of a prompt and its tools; None for what is no text, such as sound and pictures."""
    asked: Any = kwargs.get("messages") or kwargs.get("input") or kwargs.get("prompt")
    if not isinstance(asked, str) and not is_list(asked):
        return None
    params = under(kwargs, "optional_params")
    return prompt_bytes(asked, params.get("tools"), params.get("system"), params.get("instructions"))


def piece_bytes(piece: Any) -> int:
    """Give the size of the text in a chunk of a chat or a text completion."""
    choices = get(piece, "choices")
    if not is_list(choices):
        return 0
    return sum(_said(get(choice, "delta")) + text_bytes(get(choice, "text")) for choice in choices)


def answer_bytes(response: Any) -> int | None:
    """Give the size of a whole answer; None where it is none of choices."""
    choices = get(response, "choices")
    if not is_list(choices):
        return None
    return sum(_said(get(choice, "message")) + text_bytes(get(choice, "text")) for choice in choices)


def _said(message: Any) -> int:
    if message is None:
        return 0
    return text_bytes([get(message, name) for name in ("content", "reasoning_content", "tool_calls")])
