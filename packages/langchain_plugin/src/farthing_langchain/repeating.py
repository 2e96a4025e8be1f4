"""Streams that tell their usage again with each piece, as vLLM's `continuous_usage_stats` and some gateways do.

LangChain adds up what the pieces tell (`AIMessageChunk.__add__`, langchain-core 1.3 to 1.8), which is right where each
tells its own share (Anthropic, Gemini), and counts the prompt once a piece where each tells the whole so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farthing.runs import Finish

__all__ = ["Told"]

_SHAPE: Final = "langchain"


class Told:
    """What the pieces of one stream told of its usage."""

    __slots__ = ("_again", "_usage")

    def __init__(self) -> None:
        self._usage: Mapping[str, Any] | None = None
        self._again = False

    def note(self, chunk: Any) -> None:
        """Keep what a piece tells of the usage, and whether an earlier one had told the same prompt.

        Args:
            chunk: A ChatGenerationChunk, or None; its text is not read.
        """
        usage: Any = getattr(getattr(chunk, "message", None), "usage_metadata", None)
        if not usage or not (asked := usage.get("input_tokens")):
            return
        if self._usage is not None and self._usage.get("input_tokens") == asked:
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
