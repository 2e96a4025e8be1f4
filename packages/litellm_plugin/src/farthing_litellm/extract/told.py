"""What a stream's own chunks told of its usage, before LiteLLM makes one usage of them.

LiteLLM (seen with 1.100) makes the total anew, fills a missing count with one of its own, and drops in async what
stands on a chunk with a finish reason. So the chunks are asked themselves: those of OpenAI's client, whoever serves
them, those that LiteLLM makes one by one of Anthropic's events, and those of OpenRouter, which keep what it charged.
"""

from __future__ import annotations

from typing import Any, Final

import litellm

from farthing_litellm.extract.access import Units, as_counts, get, is_dict

__all__ = ["Told", "hear"]

_OPENAI: Final = "openai.types."
_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_lite: Final[Any] = litellm


class Told:
    """The usage that the chunks of one stream told.

    Args:
        in_parts: Whether each chunk tells a part of it, as Anthropic's do, and not the whole up to there.
    """

    __slots__ = ("_in_parts", "_input", "_last")

    def __init__(self, *, in_parts: bool) -> None:
        self._in_parts: Final = in_parts
        self._last: Any = None
        self._input = False

    def note(self, usage: Any) -> None:
        """Take a later usage for a better one, unless it tells nothing at all."""
        counts = as_counts(usage) or {}
        if any(counts.get(name) for name in _COUNTS):
            self._last = usage
            self._input = self._input or bool(counts.get("prompt_tokens"))

    def instead_of(self, built: Units) -> Units:
        """Give what the provider told, in LiteLLM's fields.

        Args:
            built: What LiteLLM made of it; it puts the parts of a usage together well.

        Returns:
            None where the provider told none. A count that it did not tell is 0 there, whatever LiteLLM filled in.
        """
        if self._last is None:
            return None
        if not self._in_parts:
            # One chunk's usage in LiteLLM's words (DeepSeek's cache hits), with the total that the provider told.
            fields = self._last if is_dict(self._last) else self._last.model_dump()
            try:
                return as_counts(_lite.Usage(**fields))
            except (TypeError, ValueError):  # counts that are none: whoever reads them says so
                return as_counts(fields)
        if built is None or self._input:
            return built
        return {**built, "prompt_tokens": 0, "total_tokens": built.get("completion_tokens")}


def hear(told: Told | None, chunk: Any, provider: object) -> Told | None:
    """Note what one more chunk tells.

    Args:
        told: By the chunks before it; None for the first.
        chunk: As LiteLLM's stream gets it.
        provider: As LiteLLM names it.

    Returns:
        None for a stream whose chunks are not understood here.
    """
    if told is None:
        plain = type(chunk).__module__.startswith(_OPENAI)
        if not plain and provider not in {"anthropic", "openrouter"}:
            return None
        told = Told(in_parts=not plain and provider == "anthropic")
    usage = get(chunk, "usage")
    if usage is not None:
        told.note(usage)
    return told
