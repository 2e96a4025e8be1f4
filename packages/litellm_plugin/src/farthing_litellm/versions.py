"""Refuse a litellm that is too old, before anything of it is imported."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Final

from farthing.errors import FarthingError

__all__ = ["FLOOR", "OURS", "UnsupportedLiteLLMError", "require_supported"]

OURS: Final = "0.1.0"
FLOOR: Final = (1, 100)
"""1.99 puts its own count of an async stream where nothing tells it from the provider's. Up to 1.98 the async
forms of pictures, speech and moderations have no event before their request. Up to 1.90 an async stream that
breaks is reported as a success, and one that was left is kept alive for ever."""


class UnsupportedLiteLLMError(FarthingError, ImportError):
    """The installed litellm does not report what a bill needs; the message names the fix."""


def require_supported(installed: str) -> tuple[int, ...]:
    """Give the numbers of a version that can be metered.

    Args:
        installed: The version of litellm, e.g. "1.100.5".

    Raises:
        UnsupportedLiteLLMError: It is older than the floor.
    """
    found = re.match(r"\d+(?:\.\d+)*", installed)
    numbers = tuple(int(part) for part in found.group().split(".")) if found else ()
    if numbers >= FLOOR:
        return numbers
    wanted = ".".join(map(str, FLOOR))
    raise UnsupportedLiteLLMError(
        f"farthing-litellm {OURS} needs litellm >= {wanted}, but {installed} is installed: "
        f'pip install -U "litellm>={wanted}"'
    )


INSTALLED: Final = require_supported(version("litellm"))
"""The numbers of the installed version."""
