"""The one place that catches everything: a fault of ours is counted and logged once per site, never raised."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from farthing.errors import AttributionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from farthing.counting import Counters

__all__ = ["forget_logged", "guarded", "log", "report_fault"]

P = ParamSpec("P")
R = TypeVar("R")

log: Final = logging.getLogger("farthing")
_logged: set[str] = set()


def report_fault(site: str, error: BaseException, counters: Counters | None = None) -> None:
    """Count a fault of ours and log it once per site, with its traceback at debug level only.

    Raises:
        Nothing.
    """
    if counters is None:
        from farthing.counting import counters as shared  # noqa: PLC0415 - counting imports nothing of the request path

        counters = shared
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        kind = f"{kind} ({error.strerror}{f': {error.filename}' if error.filename else ''})"
    counters.add("faults", site)
    counters.last_error = f"{site}: {kind}"
    if (key := f"{site}:{kind}") not in _logged and len(_logged) < 1000:  # noqa: PLR2004 - a bound, not a setting
        _logged.add(key)
        log.warning("farthing: %s in %s; the application is not affected, later ones are only counted", kind, site)
        log.debug("farthing: details", exc_info=error)


def forget_logged() -> None:
    """Let every site be logged once more: for a new configuration.

    Raises:
        Nothing.
    """
    _logged.clear()


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
