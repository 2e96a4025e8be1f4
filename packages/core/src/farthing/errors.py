"""The small hierarchy of farthing's own errors: raised while configuring or on request, never inside a call."""

from __future__ import annotations

__all__ = ["AttributionError", "ConfigurationError", "FarthingError", "PriceDataError"]


class FarthingError(Exception):
    """Whatever farthing itself refuses; catch this one to catch all of them."""


class ConfigurationError(FarthingError, ValueError):
    """A setting that cannot be used; the message names the file or variable, the key and what would be accepted."""


class PriceDataError(FarthingError, ValueError):
    """Price data that cannot be trusted: truncated, of another format, or with absurd values."""


class AttributionError(FarthingError, ValueError):
    """A call that the user's own policy refuses; only raised where enforcement was switched on.

    Args:
        message: What is wrong and how it is sent right; holds no value that a guard found.
        problems: The same for programs, as `dimension:reason`: "feature:missing".
    """

    def __init__(self, message: str, *, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems
