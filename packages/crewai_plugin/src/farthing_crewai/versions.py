"""Which CrewAI this is: an old one is refused here, before anything of it is imported."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Final

from farthing.errors import FarthingError

__all__ = ["INSTALLED", "UnsupportedCrewAIError", "require_supported"]

FLOOR: Final = (1, 14, 7)
ANTHROPIC_INPUT_IS_INCLUSIVE: Final = (1, 15, 13)
"""From here on CrewAI's Anthropic input tokens include cache reads and writes."""

_FIRST_WITH_USAGE: Final = (1, 13, 0)


class UnsupportedCrewAIError(FarthingError, ImportError):
    """The installed crewai does not report what a bill needs; the message says what is missing."""


def _parts(text: str) -> tuple[int, ...]:
    """Read the leading numbers of a version; what follows them (a1, .dev0) does not matter here."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def require_supported(installed: str) -> tuple[int, ...]:
    """Give the numbers of a version that can be metered.

    Args:
        installed: The version of crewai, e.g. "1.15.30".

    Raises:
        UnsupportedCrewAIError: It is older than 1.14.7.
    """
    numbers = _parts(installed)
    if numbers >= FLOOR:
        return numbers
    if numbers >= _FIRST_WITH_USAGE:
        lack = "its events carry token usage, but no response ids and no finish reasons"
    else:
        lack = "its events carry no token usage at all, so no call could be priced"
    raise UnsupportedCrewAIError(
        f"farthing-crewai needs crewai >= 1.14.7, but {installed} is installed: {lack}. "
        'Upgrade with `pip install "crewai>=1.14.7"`; where that is impossible, calls that go through LiteLLM can '
        "still be metered exactly by farthing-litellm alone."
    )


INSTALLED: Final = require_supported(version("crewai"))
"""The numbers of the installed version."""
