"""One handler for the whole process, without passing it anywhere: also where LangChain passes none on."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from langchain_core.tracers.context import register_configure_hook

from farthing_langchain.handler import FarthingHandler

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["install"]

_installed: list[FarthingHandler] = []


def install(
    *,
    default_tags: Mapping[str, object] | None = None,
    nodes: Mapping[str, Mapping[str, object]] | None = None,
    agents: Mapping[str, Mapping[str, object]] | None = None,
    **dimensions: object,
) -> FarthingHandler:
    """Record every LangChain model call of this process, with these tags as its weakest.

    Covers what a handler in a config cannot: threads that a step starts itself, and a bare `model.invoke`. A handler
    passed explicitly wins over it. A second call gives back the first one's handler.

    Args:
        default_tags: As for `FarthingHandler`.
        nodes: As for `FarthingHandler`.
        agents: As for `FarthingHandler`.
        dimensions: As for `FarthingHandler`.

    Raises:
        ConfigurationError: As for `FarthingHandler`.
    """
    if not _installed:
        handler = FarthingHandler(default_tags=default_tags, nodes=nodes, agents=agents, **dimensions)
        hook: ContextVar[FarthingHandler | None] = ContextVar("farthing_langchain", default=handler)
        register_configure_hook(hook, inheritable=True)
        _installed.append(handler)
    return _installed[0]
