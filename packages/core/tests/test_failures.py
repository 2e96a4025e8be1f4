"""What a failure is called, and how far behind an exception its cause is looked for."""

from __future__ import annotations

import httpx

from farthing.failures import OTHER, causes, error_type, handled_now, http_status


def refused(status: int = 429) -> httpx.HTTPStatusError:
    """Make the exception of an answer with an error status."""
    request = httpx.Request("POST", "http://provider")
    return httpx.HTTPStatusError("x", request=request, response=httpx.Response(status, request=request))


def raised_while_handling(outer: Exception, inner: Exception) -> tuple[BaseException, int | None]:
    """Raise one exception while another one is handled; give it, and what was handled when its work began."""
    try:
        raise outer  # noqa: TRY301 - this is what it is about
    except Exception:  # noqa: BLE001 - as applications do
        handled = handled_now()
        try:
            raise inner  # noqa: TRY301 - as above
        except Exception as error:  # noqa: BLE001 - as above
            return error, handled


def test_what_was_handled_before_is_no_cause() -> None:
    """A timeout inside `except RateLimitError:` would be named, and billed, as the 429 that it was made after."""
    error, handled = raised_while_handling(refused(), TimeoutError())
    assert http_status(error) == 429
    assert http_status(error, handled=handled) is None
    assert error_type(error, handled=handled) == "TimeoutError"


def test_what_is_raised_again_is_its_own_cause() -> None:
    """An exception that was handled when a call began and is what ends it keeps its status."""
    error = refused()
    assert http_status(error, handled=id(error)) == 429


def test_nothing_is_handled_outside_of_except() -> None:
    """A call that is made anywhere else has the whole chain to itself."""
    assert handled_now() is None


def test_suppressed_context_is_no_cause() -> None:
    """`raise ... from None` says that what was handled is beside the point; only who invents statuses hides them so."""
    error, _ = raised_while_handling(refused(), TimeoutError())
    error.__suppress_context__ = True
    assert http_status(error) is None
    assert list(causes(error)) == [error]
    assert http_status(error, invented_in="builtins") == 429


def test_failure_without_an_exception() -> None:
    """Only that something failed is known."""
    assert error_type(None) == OTHER
