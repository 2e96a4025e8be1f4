"""Careful access to what LiteLLM hands over: dicts, pydantic models and plain objects alike."""

from __future__ import annotations

from typing import Any, TypeGuard

__all__ = [
    "Details",
    "Kwargs",
    "Units",
    "as_counts",
    "as_list",
    "as_text",
    "counts_anything",
    "get",
    "is_dict",
    "is_list",
    "model_name",
    "provider_of",
    "under",
]

Kwargs = dict[str, Any]


Details = dict[str, str]


Units = dict[str, object] | None


def as_counts(usage: Any) -> dict[str, object] | None:
    """Copy the first level of a usage object; the worker opens the rest, which nobody changes any more."""
    if usage is None or is_dict(usage):
        return None if usage is None else dict(usage)
    fields: Any = getattr(usage, "__dict__", None)
    if not is_dict(fields):
        return None
    extra = getattr(usage, "__pydantic_extra__", None)
    return {**fields, **extra} if is_dict(extra) else dict(fields)


def counts_anything(usage: dict[str, object] | None) -> bool:
    """Say whether a usage has any count above zero."""
    return usage is not None and any(isinstance(value, int) and value for value in usage.values())


def provider_of(kwargs: Kwargs) -> str | None:
    """Give the provider of a call as LiteLLM names it."""
    return as_text(kwargs.get("custom_llm_provider")) or as_text(
        under(kwargs, "litellm_params").get("custom_llm_provider")
    )


def is_dict(value: Any) -> TypeGuard[Kwargs]:
    """Say whether something is a dict."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Say whether something is a list."""
    return isinstance(value, list)


def under(thing: Kwargs, name: str) -> Kwargs:
    """Go into a nested dict; what is none counts as empty."""
    value = thing.get(name)
    return value if is_dict(value) else {}


def as_list(value: Any) -> list[Any]:
    """Give the entries of any plain collection; what is none is empty."""
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else []  # pyright: ignore[reportUnknownArgumentType]


def get(thing: Any, name: str) -> Any:
    """Read a name from a dict or an object; None where it has none."""
    if is_dict(thing):
        return thing.get(name)
    return getattr(thing, name, None)


def as_text(value: Any) -> str | None:
    """Let text through, and nothing else."""
    if isinstance(value, str):
        return value or None
    inner = getattr(value, "value", None)
    return inner if isinstance(inner, str) and inner else None


def model_name(model: Any, provider: str | None) -> str | None:
    """Take off the provider that LiteLLM's users write before a model's name."""
    name = as_text(model)
    return name.removeprefix(f"{provider}/") if name and provider else name
