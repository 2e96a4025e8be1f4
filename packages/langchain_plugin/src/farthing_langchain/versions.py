"""Refuse a langchain-core that is too old, before anything of it is used."""

from __future__ import annotations

from typing import Final

from langchain_core.version import VERSION

__all__ = ["FLOOR", "OURS"]

OURS: Final = "0.1.0"
FLOOR: Final = (1, 0)


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
