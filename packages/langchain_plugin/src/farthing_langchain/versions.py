"""Which LangChain this is: a langchain-core that is too old is refused, before anything of it is used."""

from __future__ import annotations

import functools
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from langchain_core.version import VERSION

__all__ = ["FLOOR", "OURS", "converse_leaves_the_cache_out"]

OURS: Final = "0.1.0"
FLOOR: Final = (1, 3)
_CONVERSE_IS_INCLUSIVE: Final = (1, 4, 6)
"""From this langchain-aws on, the input tokens of ChatBedrockConverse include cache reads and writes."""


@functools.cache
def converse_leaves_the_cache_out() -> bool:
    """Say whether the installed langchain-aws gives Converse's input without the cached tokens.

    Raises:
        Nothing.
    """
    try:
        numbers = re.match(r"\d+(?:\.\d+)*", version("langchain-aws"))
    except PackageNotFoundError:
        return False
    return numbers is not None and tuple(map(int, numbers.group().split("."))) < _CONVERSE_IS_INCLUSIVE


def refuse_older(found: str) -> None:
    """Compare a version of langchain-core with the floor.

    Raises:
        ImportError: It is older; the message names both versions and the fix.
    """
    major, _, rest = found.partition(".")
    minor = rest.partition(".")[0]
    if major.isdigit() and minor.isdigit() and (int(major), int(minor)) < FLOOR:
        wanted = ".".join(map(str, FLOOR))
        raise ImportError(
            f"farthing-langchain {OURS} needs langchain-core >= {wanted}, found {found}: "
            "pip install -U langchain-core langchain"
        )


refuse_older(VERSION)
