"""What a request says of its price and LangChain's answer does not, held until the call ends.

OpenAI's answer repeats the tools that were offered; langchain-openai 1.7 keeps nothing of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from farthing.usage import preview_tools
from farthing_langchain.lifetimes import asked_lifetime, with_lifetime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from farthing.runs import Finish

__all__ = ["Requested", "requested", "with_requested"]


class Requested(NamedTuple):
    """What one request says of its price."""

    cache_lifetime: str | None
    """How long all lives that it writes into a cache, where it says so."""
    tools: Sequence[Mapping[str, str]]
    """The tools it offers whose calls have a price of their own, by their types."""


def requested(provider: str | None, prompt: Any, params: Mapping[str, Any]) -> Requested | None:
    """Read what a request says of its price; None where it says nothing.

    Args:
        provider: As LangChain names it.
        prompt: What `on_chat_model_start` was given.
        params: The `invocation_params` of the call.
    """
    lifetime = asked_lifetime(prompt, params) if provider == "anthropic" else None
    tools = preview_tools(params.get("tools"))
    return Requested(lifetime, tools) if lifetime or tools else None


def with_requested(finish: Finish, said: Requested | None) -> Finish:
    """Give the end of a call with what its request said, where the answer's usage leaves it open."""
    if said is None:
        return finish
    finish = with_lifetime(finish, said.cache_lifetime)
    if said.tools and finish.usage is not None and "output" in finish.usage:
        finish = finish._replace(usage={**finish.usage, "tools": said.tools})
    return finish
