"""Tags as a handler is given them: for everything, and for nodes and agents by name."""

from __future__ import annotations

from typing import cast

from farthing.dimensions import canonical_name
from farthing.errors import ConfigurationError

__all__ = ["checked_registry", "checked_tags"]


def checked_tags(argument: str, tags: object) -> dict[str, object]:
    """Give tags by the names of their dimensions.

    Raises:
        ConfigurationError: They are no dict.
    """
    if tags is None:
        return {}
    if not isinstance(tags, dict):
        kind = type(tags).__name__
        raise ConfigurationError(
            f'FarthingHandler: {argument} must be a dict like {{"feature": "chatbot"}}, not {kind}'
        )
    return {canonical_name(str(name)): value for name, value in cast("dict[object, object]", tags).items()}


def checked_registry(argument: str, named: object) -> dict[str, dict[str, object]]:
    """Give the tags that some things are declared with, by the names of the things.

    Raises:
        ConfigurationError: They are no dict of dicts.
    """
    if named is None:
        return {}
    if not isinstance(named, dict):
        kind = type(named).__name__
        raise ConfigurationError(
            f'FarthingHandler: {argument} must be a dict like {{"writer": {{"feature": "drafting"}}}}, not {kind}'
        )
    items = cast("dict[object, object]", named).items()
    return {str(name): checked_tags(f"{argument}[{name!r}]", tags) for name, tags in items}
