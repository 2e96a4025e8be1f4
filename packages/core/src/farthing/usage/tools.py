"""Tools that a provider runs itself: which of their calls stand on the bill. The usage object does not count them.

OpenAI's Responses API tells of them in the output of an answer, one item a call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, cast

from farthing.usage.raw import collapse_text

__all__ = ["billed_calls", "counted_calls", "grounding_calls", "preview_tools"]

_COUNTS: Final = {
    "web_search_call": "web_searches",
    "file_search_call": "file_searches",
    "code_interpreter_call": "code_executions",
}
"""Types of output items, and the count of a `Usage` that each adds to.

Code runs in a container, which OpenAI bills by size and session ($0.03 for 1 GB): how many sessions the runs of an
answer began, it does not tell. They are counted, so that the cost says what it lacks.
"""

_SEARCHES: Final = (None, "search")
"""The actions of a web search call that are billed; older answers name none.

A page opened or searched through (`open_page`, `find_in_page`) costs its tokens alone. Source: OpenAI, web search
guide, "Output and citations": search actions incur a tool call cost.
"""

_BY_PROMPT: Final = ("gemini-1.", "gemini-2.")

_PREVIEW: Final = "web_search_preview"
"""The first version of the search tool, also by its date (`web_search_preview_2025_03_11`), which has its own price."""


def billed_calls(output: object) -> list[Mapping[str, str]]:
    """Give the billed calls among the output items of an answer, by their types alone; nothing else of them is kept.

    Args:
        output: The items, as dicts or as objects of a provider's SDK; of each only its type and action are read.

    Raises:
        Nothing of its own.
    """
    items = cast("Iterable[object]", output) if isinstance(output, (list, tuple)) else ()
    return [{"type": kind} for item in items if (kind := _billed(item)) is not None]


def counted_calls(output: object) -> dict[str, int]:
    """Count the billed calls among the output items of an answer, by the names of `Usage`.

    Args:
        output: As for `billed_calls`, or what that gave.

    Raises:
        Nothing of its own.
    """
    counts: dict[str, int] = {}
    for call in billed_calls(output):
        name = _COUNTS[call["type"]]
        counts[name] = counts.get(name, 0) + 1
    return counts


def preview_tools(tools: object) -> list[Mapping[str, str]]:
    """Give the preview versions of the search tool among those that a request offers, by their types alone.

    Args:
        tools: Those of a request, or of the answer, which repeats them.

    Raises:
        Nothing of its own.
    """
    items = cast("Iterable[object]", tools) if isinstance(tools, (list, tuple)) else ()
    kinds = (_field(item, "type") for item in items)
    return [{"type": kind} for kind in kinds if isinstance(kind, str) and kind.startswith(_PREVIEW)]


def grounding_calls(queries: object, model: object) -> list[Mapping[str, str]]:
    """Give the searches of a Gemini answer that are billed, in the shape of `billed_calls`.

    Source: Google AI pricing, "Grounding with Google Search": for Gemini 1 and 2 by the prompt, later by the search.

    Args:
        queries: `web_search_queries` of the answer's grounding metadata; a stream's may hold one once a piece.
        model: The one that answered.

    Raises:
        Nothing of its own.
    """
    found = len(set(cast("list[object]", queries))) if isinstance(queries, list) else 0
    name = collapse_text(model).rpartition("/")[2] if isinstance(model, str) else ""
    return [{"type": "web_search_call"}] * (min(found, 1) if name.startswith(_BY_PROMPT) else found)


def _billed(item: object) -> str | None:
    kind = _field(item, "type")
    if not isinstance(kind, str) or kind not in _COUNTS:
        return None
    if kind == "web_search_call" and _field(_field(item, "action"), "type") not in _SEARCHES:
        return None
    return kind


def _field(item: object, name: str) -> object:
    if isinstance(item, Mapping):
        return cast("Mapping[str, object]", item).get(name)
    return getattr(item, name, None)
