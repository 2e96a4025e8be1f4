"""What a stream's own chunks told of its usage, before LiteLLM makes one usage of them, and whether they told its end.

LiteLLM (seen with 1.100) makes the total anew, fills a missing count with one of its own, drops in async what stands on
a chunk with a finish reason, and gives a stream that was cut the count so far, with a finish reason of its own. So the
chunks are asked themselves: those of OpenAI's client, whoever serves them, the events of Anthropic and of Gemini, and
those of OpenRouter, which keep what it charged.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import litellm

from farthing_litellm.extract.access import Kwargs, Units, as_counts, as_list, get, is_dict, under

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Told", "hear", "hear_body", "hear_gemini"]

_OPENAI: Final = "openai.types."
_ANTHROPIC: Final = "litellm.llms.anthropic."
_INPUT: Final = (
    "prompt_tokens",
    "input_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "promptTokenCount",
)
_OUTPUT: Final = ("completion_tokens", "output_tokens", "candidatesTokenCount", "thoughtsTokenCount")
_COUNTS: Final = (*_INPUT, *_OUTPUT, "total_tokens", "totalTokenCount")
_TELLING: Final = (b'"usage', b'"finishReason"')
_lite: Final[Any] = litellm


class Told:
    """The usage that the chunks of one stream told.

    Args:
        in_parts: Whether LiteLLM's putting together is needed to read it, since each chunk tells a part or in the
            provider's own words, and only the provider's last word makes it whole.
        is_raw: Whether it is heard from the provider's own events, so that what LiteLLM makes of them tells no more.
    """

    __slots__ = ("_alone", "_ended", "_in_parts", "_input", "_last", "_pieces", "is_raw")

    def __init__(self, *, in_parts: bool, is_raw: bool = False) -> None:
        self._in_parts: Final = in_parts
        self.is_raw: Final = is_raw
        self._last: Any = None
        self._input = False
        self._ended = False
        self._alone = False
        self._pieces = 0

    @property
    def is_plain(self) -> bool:
        """Whether each usage is of all chunks up to there, and in words that are read without LiteLLM."""
        return not self._in_parts

    @property
    def is_anything(self) -> bool:
        """Whether any usage was told."""
        return self._last is not None

    @property
    def is_whole(self) -> bool:
        """Whether the provider told the end, or a usage that can only be the last: it may name no finish reason."""
        return self._ended or (self._alone and not self._in_parts)

    def end(self) -> None:
        """Know that the provider said why it is done, and how long the answer became."""
        self._ended = True

    def note(self, usage: Any, *, beside: bool = False) -> None:
        """Take a later usage for a better one, unless it tells nothing at all.

        Args:
            usage: As a chunk has it; None where it has none.
            beside: Whether a piece of the answer stands on the same chunk. A running count stands beside each; one
                that is told once, after other pieces and before none, is the last.
        """
        counts = as_counts(usage) or {}
        if any(counts.get(name) for name in _COUNTS):
            self._alone = not beside or (self._last is None and self._pieces > 0)
            self._last = usage
            self._input = self._input or any(counts.get(name) for name in _INPUT)
        elif beside:
            self._alone = False
        self._pieces += beside

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


def _has_output(usage: Any) -> bool:
    """Say whether Anthropic's usage counts the answer; the one that a stream begins with is of its first tokens."""
    counts = as_counts(usage) or {}
    return any(counts.get(name) for name in _OUTPUT)


def hear(told: Told | None, chunk: Any, events: Any, provider: object) -> Told | None:
    """Note what one more chunk tells.

    Args:
        told: By the chunks before it; None for the first.
        chunk: As LiteLLM's stream gets it.
        events: What LiteLLM's stream gets it from.
        provider: As LiteLLM names it.

    Returns:
        None for a stream whose chunks are not understood here.
    """
    if told is None:
        plain = type(chunk).__module__.startswith(_OPENAI)
        known = plain or provider in {"anthropic", "openrouter"} or type(events).__module__.startswith(_ANTHROPIC)
        if not known:
            return None
        told = Told(in_parts=not plain and provider != "openrouter")
    if not told.is_raw:
        choices, usage = as_list(get(chunk, "choices")), get(chunk, "usage")
        told.note(usage, beside=bool(choices))
        if any(get(choice, "finish_reason") for choice in choices) and (told.is_plain or _has_output(usage)):
            told.end()
    return told


def hear_gemini(told: Told | None, event: Any) -> Told:
    """Note what one more event of Gemini tells: LiteLLM gives each a finish reason of its own.

    Args:
        told: By the events before it; None for the first.
        event: As it stood on the wire.
    """
    told = told or Told(in_parts=True, is_raw=True)
    if is_dict(event):
        told.note(event.get("usageMetadata"))
        if any(get(each, "finishReason") for each in as_list(event.get("candidates"))):
            told.end()
    return told


def hear_body(body: bytes) -> Told | None:
    """Read a whole stream that LiteLLM handed on as it came, such as those of `anthropic.messages`.

    Returns:
        None where its events are neither Anthropic's nor Gemini's.
    """
    told: Told | None = None
    for event in _events(body):
        if "usageMetadata" in event or "candidates" in event:
            told = hear_gemini(told, event)
        elif event.get("type") == "message_start":
            told = told or Told(in_parts=True, is_raw=True)
            told.note(under(event, "message").get("usage"))
        elif event.get("type") == "message_delta":
            told = told or Told(in_parts=True, is_raw=True)
            told.note(event.get("usage"))
            if _has_output(event.get("usage")):
                told.end()
    return told


def _events(body: bytes) -> Iterable[Kwargs]:
    """Give the events that may tell something; the pieces of the answer, which are most of them, are not read."""
    for line in body.splitlines():
        if not line.startswith(b"data:") or not any(name in line for name in _TELLING):
            continue
        try:
            event = json.loads(line.removeprefix(b"data:"))
        except ValueError:
            continue
        if is_dict(event):
            yield event
