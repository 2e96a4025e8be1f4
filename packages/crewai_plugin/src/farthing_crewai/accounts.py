"""A provider's answer to what decides its price. Pure: it reads counts and names, and nothing of what was answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from farthing.providers import canonical_provider
from farthing.usage import billed_calls, grounding_calls, preview_tools

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NO_ACCOUNT", "Account", "account_of", "shape_of"]


class Account(NamedTuple):
    """What a provider itself said of a call."""

    usage: Mapping[str, object] | None = None
    """Its usage object, or None where it is not known."""
    shape: str = ""
    model: str | None = None
    tier: str | None = None
    pieces: int = 0
    """How many answers with usage there were in the call: in a stream, how many of its chunks told it."""


NO_ACCOUNT: Final = Account()


def account_of(answer: Any, shape: str) -> Account | None:
    """Read a provider's answer: its usage, and what else decides the price; None where it has no usage.

    Args:
        answer: The object of the provider's SDK: a whole answer or the chunk that has the usage.
        shape: Of its usage.
    """
    found: Any = getattr(answer, "usage", None) or getattr(answer, "usage_metadata", None)
    if not found:
        return None
    dump: Any = getattr(found, "model_dump", None) or getattr(found, "as_dict", None)
    usage: dict[str, object] = dict(dump(mode="json", exclude_none=True) if hasattr(found, "model_dump") else dump())
    model: Any = getattr(answer, "model", None) or getattr(answer, "model_version", None)
    calls = billed_calls(getattr(answer, "output", None)) + grounding_calls(_queries(answer), model)
    tier: Any = getattr(answer, "service_tier", None)
    if calls:
        usage = {"usage": usage, "output": calls, "tools": preview_tools(getattr(answer, "tools", None))}
    return Account(usage, shape, _name(model), _name(tier))


def _queries(answer: Any) -> list[object]:
    """Give what Gemini searched for, to ground its answer."""
    grounds = [getattr(each, "grounding_metadata", None) for each in getattr(answer, "candidates", None) or ()]
    return [query for ground in grounds for query in getattr(ground, "web_search_queries", None) or ()]


def shape_of(account: Account, provider: str | None) -> str:
    """Know OpenRouter's usage, which says what it charged; CrewAI asks it as any other that speaks as OpenAI does."""
    is_openrouter = account.shape == "openai_chat" and canonical_provider(provider) == "openrouter"
    return "openrouter" if is_openrouter else account.shape


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
