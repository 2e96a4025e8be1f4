"""In and out of LiteLLM's callback lists, all of them, by way of its own manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

import litellm

if TYPE_CHECKING:
    from litellm.integrations.custom_logger import CustomLogger

__all__ = ["hooked", "register", "remain", "standing", "tracing", "unregister"]

_LISTS: Final = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "_async_success_callback",
    "_async_failure_callback",
)


_TRACING: Final = frozenset(
    {"otel", "langfuse_otel", "weave_otel", "arize", "arize_phoenix", "logfire", "langtrace", "traceloop", "levo"}
)
_OTEL_MODULE: Final = "litellm.integrations.opentelemetry"


class _Manager(Protocol):
    def add_litellm_input_callback(self, callback: CustomLogger) -> None: ...
    def add_litellm_success_callback(self, callback: CustomLogger) -> None: ...
    def add_litellm_failure_callback(self, callback: CustomLogger) -> None: ...
    def add_litellm_async_success_callback(self, callback: CustomLogger) -> None: ...
    def add_litellm_async_failure_callback(self, callback: CustomLogger) -> None: ...
    def remove_callback_from_list_by_object(
        self, callback_list: object, obj: CustomLogger, *, require_self: bool
    ) -> None: ...


def _manager() -> _Manager:
    return cast("_Manager", litellm.logging_callback_manager)


def register(callback: CustomLogger) -> None:
    """Add a callback to every list, where LiteLLM itself puts what it finds in `litellm.callbacks` at the first call.

    Raises:
        Nothing: a list that is full refuses with a warning of LiteLLM's.
    """
    manager = _manager()
    manager.add_litellm_input_callback(callback)
    manager.add_litellm_success_callback(callback)
    manager.add_litellm_failure_callback(callback)
    manager.add_litellm_async_success_callback(callback)
    manager.add_litellm_async_failure_callback(callback)


def remain(callback: CustomLogger) -> None:
    """Put a callback that is called before a request back into the lists of the ends, should it be missing there.

    CrewAI's `LLM(callbacks=[...])` takes every callback of the same class out of two of them, for good.

    Raises:
        Nothing.
    """
    success = cast("list[object]", litellm.success_callback)  # pyright: ignore[reportUnknownMemberType]
    later = cast("list[object]", litellm._async_success_callback)  # pyright: ignore[reportUnknownMemberType, reportPrivateUsage]  # noqa: SLF001 - where LiteLLM keeps it
    if not (any(each is callback for each in success) and any(each is callback for each in later)):
        register(callback)


def hooked(kind: type[CustomLogger]) -> bool:
    """Say whether a callback of a class stands in `litellm.callbacks`."""
    callbacks = cast("list[object]", litellm.callbacks)  # pyright: ignore[reportUnknownMemberType]
    return any(isinstance(callback, kind) for callback in callbacks)


def unregister(callback: CustomLogger) -> None:
    """Take a callback out of every list.

    Raises:
        Nothing.
    """
    manager = _manager()
    for name in _LISTS:
        manager.remove_callback_from_list_by_object(getattr(litellm, name, None), callback, require_self=False)


def tracing() -> list[str]:
    """Name the callbacks of LiteLLM's own that write spans with the same token counts.

    Raises:
        Nothing.
    """
    found: dict[str, None] = {}
    for each in (entry for name in _LISTS for entry in cast("list[object]", getattr(litellm, name, ()))):
        if isinstance(each, str):
            found |= {f"litellm's callback {each}": None} if each in _TRACING else {}
        elif any(base.__module__.startswith(_OTEL_MODULE) for base in type(each).__mro__):
            found[f"litellm's callback {type(each).__name__}"] = None
    return list(found)


def standing() -> list[object]:
    """Give what stands in LiteLLM's lists of callbacks, each once.

    Raises:
        Nothing.
    """
    lists: list[list[object]] = [getattr(litellm, name, []) for name in ("callbacks", "input_callback")]
    return [*{id(each): each for entries in lists for each in entries}.values()]
