"""Streams that tell their usage more than once, as vLLM's `continuous_usage_stats`, some gateways and Gemini do.

LangChain adds up what the pieces tell (`AIMessageChunk.__add__`, langchain-core 1.3 to 1.8). That is right where each
tells its own share: Anthropic's do, and langchain-google-genai takes from each what the one before told. In OpenAI's
protocol the usage of a chunk is that "for the entire request" (API reference, `stream_options`), so that one which is
told again replaces the one before, whatever either says of the prompt: servers correct it, or know it at the end only.
Of other packages it is not known; that the same prompt is told twice can only mean that the whole is told again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farthing.runs import Finish

__all__ = ["Told"]

_SHAPE: Final = "langchain"
_OPENAI_PROTOCOL: Final = frozenset({"azure", "deepseek", "openai", "xai"})
"""Providers whose models are of langchain-openai's class, by LangChain's names; most servers of others are `openai`."""
_GEMINI: Final = frozenset({"google_genai"})


class Told:
    """What the pieces of one stream told of its usage.

    Args:
        provider: LangChain's name of it.
    """

    __slots__ = ("_again", "_provider", "_times", "_usage")

    def __init__(self, provider: str | None = None) -> None:
        self._provider: Final = provider
        self._usage: Mapping[str, Any] | None = None
        self._again = False
        self._times = 0

    def note(self, chunk: Any) -> None:
        """Keep what a piece tells of the usage, and whether an earlier one had told the whole.

        Args:
            chunk: A ChatGenerationChunk, or None; its text is not read.
        """
        usage: Any = getattr(getattr(chunk, "message", None), "usage_metadata", None)
        if not usage:
            return
        self._times += 1
        if not (asked := usage.get("input_tokens")):
            # The last one to tell everything has the prompt; where it has none, the addition stands.
            self._again = self._again and self._provider not in _OPENAI_PROTOCOL
            return
        if self._provider in _OPENAI_PROTOCOL:
            self._again = self._times > 1
        elif self._usage is not None and self._usage.get("input_tokens") == asked:
            self._again = True
        self._usage = usage

    def corrected(self, finish: Finish) -> Finish:
        """Give the end of a stream with what its last piece told, where each told the whole; else as it is."""
        usage = finish.usage
        if not self._again or self._usage is None or usage is None or finish.usage_shape != _SHAPE:
            return finish
        told: dict[str, Any] = dict(self._usage)
        for name in ("input_token_details", "output_token_details"):
            if details := told.get(name):
                told[name] = dict(details)
        whole: dict[str, object] = {**usage, "usage_metadata": told} if "usage_metadata" in usage else told
        return finish._replace(usage=whole)

    def cut(self, finish: Finish) -> bool:
        """Say whether a stream ended before its answer did, so that what it told is not what is billed.

        Certain where the usage grows with the pieces and no reason to finish was given. A stream that told its usage
        once may come from a server that gives no reasons.
        """
        if finish.finish_reason is not None or finish.usage is None or finish.cache_hit:
            return False
        if self._provider in _GEMINI:
            return self._times > 0 and finish.has_content  # without an answer it was the prompt that was refused
        return self._provider in _OPENAI_PROTOCOL and self._times > 1
