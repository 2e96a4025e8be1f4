"""What a failure is called: one rule for all plugins, after `error.type` of the OpenTelemetry conventions.

It is the status code where the provider answered with one, else the name of the exception's class. No text is read.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OTHER", "causes", "error_type", "handled_now", "http_status", "package_of"]

OTHER: Final = "_OTHER"
"""For a failure of which nothing is known: the conventions' own word."""

_CAUSES_DEEP: Final = 12
_HTTP_ERRORS: Final = range(400, 600)


def handled_now() -> int | None:
    """Give the identity of the exception that is being handled here: what is raised below has it as its context.

    Raises:
        Nothing.
    """
    error = sys.exc_info()[1]
    return None if error is None else id(error)


def causes(
    error: BaseException, *, handled: int | None = None, invented_in: str | None = None
) -> Iterator[BaseException]:
    """Give an exception and what is behind it, as far as Python would print it.

    Args:
        error: What was raised.
        handled: What `handled_now` gave when the operation began: from there on the chain tells of something else.
        invented_in: The package of a library that raises exceptions of its own `from None` for what really happened.

    Raises:
        Nothing.
    """
    step: BaseException | None = error
    for _ in range(_CAUSES_DEEP):
        if step is None or (id(step) == handled and step is not error):
            return
        yield step
        hides = step.__suppress_context__ and package_of(step) != invented_in
        step = step.__cause__ or (None if hides else step.__context__)


def package_of(error: BaseException) -> str:
    """Give the name of the package that an exception's class comes from.

    Raises:
        Nothing.
    """
    return type(error).__module__.partition(".")[0]


def error_type(
    error: BaseException | None,
    *,
    status: int | None = None,
    invented_in: str | None = None,
    handled: int | None = None,
) -> str:
    """Name a failure, with low cardinality.

    Args:
        error: What was raised; None where only that something was is known.
        status: The provider's, where the caller knows it; None looks for it along the causes.
        invented_in: As for `http_status`.
        handled: As for `causes`.

    Raises:
        Nothing.
    """
    if status is None and error is not None:
        status = http_status(error, invented_in=invented_in, handled=handled)
    if status is not None:
        return str(status)
    return OTHER if error is None else type(error).__name__


def http_status(error: BaseException, *, invented_in: str | None = None, handled: int | None = None) -> int | None:
    """Find the HTTP error status of a provider's answer along the causes of an exception.

    Args:
        error: What was raised.
        invented_in: The package of a library whose exceptions bear statuses that no provider has said; those behind
            them tell what was answered.
        handled: As for `causes`.

    Raises:
        Nothing.
    """
    for step in causes(error, handled=handled, invented_in=invented_in):
        for found in () if package_of(step) == invented_in else _statuses(step):
            if type(found) is int and found in _HTTP_ERRORS:
                return found
    return None


def _statuses(error: Any) -> Iterator[Any]:
    yield getattr(error, "status_code", None)
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's ClientError
        about = cast("dict[str, Any]", response).get("ResponseMetadata")
        yield cast("dict[str, Any]", about).get("HTTPStatusCode") if isinstance(about, dict) else None
    else:
        yield getattr(response, "status_code", None)
    if type(error).__module__.startswith("google."):
        yield getattr(error, "code", None)
