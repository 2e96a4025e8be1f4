"""The one place that catches everything: a fault of ours is counted and logged once per cause, never raised."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from farthing.errors import AttributionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from farthing.counting import Counters

__all__ = ["forget_logged", "guarded", "log", "report_fault", "report_problem"]

P = ParamSpec("P")
R = TypeVar("R")

log: Final = logging.getLogger("farthing")
_seen: dict[str, int] = {}
_MAX_SEEN: Final = 1_000
_TENFOLDS: Final = frozenset(10**power for power in range(1, 12))


def report_fault(site: str, error: BaseException, counters: Counters | None = None) -> None:
    """Count a fault of ours and log it once per site, with its traceback at debug level only.

    Raises:
        Nothing.
    """
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        kind = f"{kind} ({error.strerror}{f': {error.filename}' if error.filename else ''})"
    if report_problem(site, kind, counters):
        log.debug("farthing: details", exc_info=error)


def report_problem(site: str, cause: str, counters: Counters | None = None) -> bool:
    """Count a problem, and log it the first time and then at every tenfold of its number.

    Args:
        site: Where it happened.
        cause: What happened, in a few words without anything that is the user's.
        counters: Where it is counted; None is the process's own.

    Returns:
        Whether it was logged.

    Raises:
        Nothing.
    """
    if counters is None:
        from farthing.counting import counters as shared  # noqa: PLC0415 - counting imports nothing of the request path

        counters = shared
    counters.add("faults", site)
    counters.last_error = f"{site}: {cause}"
    key = f"{site}:{cause}"
    if key not in _seen and len(_seen) >= _MAX_SEEN:
        return False
    times = _seen[key] = _seen.get(key, 0) + 1
    if times == 1:
        log.warning("farthing: %s in %s; the application is not affected, later ones are only counted", cause, site)
    elif times in _TENFOLDS:
        log.warning("farthing: %s in %s, %d times so far", cause, site, times)
    return times == 1


def forget_logged() -> None:
    """Let every site be logged once more: for a new configuration.

    Raises:
        Nothing.
    """
    _seen.clear()


def guarded(function: Callable[P, R]) -> Callable[P, R | None]:
    """Wrap an entrance of ours so that nothing it raises reaches the application.

    Only `AttributionError` passes: it exists where the user switched enforcement on.
    """
    site = f"{function.__module__}.{function.__qualname__}"

    @functools.wraps(function)
    def safe(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return function(*args, **kwargs)
        except AttributionError:
            raise
        except Exception as error:  # noqa: BLE001 - this is the one place
            report_fault(site, error)
            return None

    return safe
