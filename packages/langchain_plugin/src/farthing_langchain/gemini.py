"""What langchain-google-genai (1.0 to 4.2) leaves out of Gemini's usage, though its bill has it.

It reads the prompt, the candidates and the thoughts. What the provider's own tools put into the prompt stands in the
total alone, and the searches in the metadata of the answer. That a prompt held audio, which costs more, is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from farthing.usage import grounding_calls

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROVIDER", "searches", "with_tool_prompt"]

PROVIDER: Final = "google_genai"


def with_tool_prompt(usage: dict[str, Any]) -> dict[str, Any]:
    """Give a usage_metadata whose input has what tools put into the prompt. Source: Google AI API, `UsageMetadata`."""
    whole, into, out = (usage.get(name) for name in ("total_tokens", "input_tokens", "output_tokens"))
    if type(whole) is not int or type(into) is not int or type(out) is not int or whole <= into + out:
        return usage
    known: dict[str, Any] = usage.get("input_token_details") or {}
    details = {**known, "tool_use": whole - out - into}
    return {**usage, "input_tokens": whole - out, "input_token_details": details}


def searches(metadata: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """Give the searches of an answer that are billed, by its `response_metadata`."""
    grounding: Any = metadata.get("grounding_metadata")
    queries: Any = cast("dict[str, Any]", grounding).get("web_search_queries") if type(grounding) is dict else None
    return grounding_calls(queries, metadata.get("model_name"))
