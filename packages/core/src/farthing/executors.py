"""Pools whose work keeps the tags of who submitted it."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from farthing.context import carry

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CarryingExecutor"]

P = ParamSpec("P")
R = TypeVar("R")


class CarryingExecutor(Executor):
    """Wraps an executor so that what is submitted runs with the tags of the submitting line.

    Threads get a copy of the whole context; processes get the tags and the place in the trace.

    Args:
        executor: A pool of threads or processes; shutting this one down shuts it down.

    Example:
        `with farthing.CarryingExecutor(ThreadPoolExecutor()) as pool: pool.submit(ask, question)`
    """

    def __init__(self, executor: Executor) -> None:
        self._executor: Final = executor

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Submit work; as `concurrent.futures.Executor.submit`, whose errors it raises."""
        if isinstance(self._executor, ProcessPoolExecutor):
            from farthing.propagation import export_context  # noqa: PLC0415 - only where it is needed

            return self._executor.submit(_resumed, export_context(), fn, *args, **kwargs)  # pyright: ignore[reportUnknownVariableType, reportReturnType, reportArgumentType, reportUnknownMemberType, reportCallIssue] - the inner signature is lost
        return self._executor.submit(carry(fn), *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as the base
        """Shut the wrapped executor down."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)


def _resumed(headers: dict[str, str], function: Callable[..., R], *args: object, **kwargs: object) -> R:
    from farthing.propagation import resume  # noqa: PLC0415 - as above

    with resume(headers):
        return function(*args, **kwargs)
