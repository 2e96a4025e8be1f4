"""What is wrong with a setting, in a sentence for who wrote it: the place, the key, and what would be accepted."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final, get_args

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

__all__ = ["explained", "near"]

_SENTENCES: Final = {
    "missing": "is missing",
    "tuple_type": 'must be a list: ["..."]',
    "list_type": 'must be a list: ["..."]',
    "dict_type": "must be a table of names and values",
    "model_type": "must be a table",
    "string_type": "must be a text in quotes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "date_type": "must be a day: 2026-01-31",
    "date_parsing": "must be a day: 2026-01-31",
    "date_from_datetime_parsing": "must be a day: 2026-01-31",
    "date_from_datetime_inexact": "must be a day without a time: 2026-01-31",
}
_SHAPES: Final = {
    "^[A-Za-z0-9-]{1,64}$": "must be the name of a header: letters, digits and hyphens",
    "^[A-Za-z0-9.-]{1,253}$": 'must be a host without scheme and path: "gateway.example.com"',
    "^[a-z][a-z0-9_]{0,31}$": "must be a name of lower-case letters, digits and underscores, 32 characters at most",
}
"""What the patterns of settings ask for."""


def explained(error: ErrorDetails, places: Mapping[str, str], *, root: type[BaseModel]) -> str:
    """Say what is wrong with a setting.

    Args:
        error: pydantic's.
        places: Where each top-level key was read.
        root: What the settings were validated as.

    Raises:
        Nothing.
    """
    location = [str(part) for part in error["loc"] if part != "[key]"] or ["(root)"]
    key, place = _key(error["loc"]), places.get(location[0], "farthing")
    if error["type"] == "extra_forbidden":
        known = _known_beside(error["loc"], root)
        hint = f" Known keys: {', '.join(known)}." if known else " Remove it or mend its spelling."
        meant = near(location[-1], known)
        return f"{place}: unknown key {key!r}{meant or '.'}{hint}"
    shape = str(error.get("ctx", {}).get("pattern", ""))
    problem = _SENTENCES.get(error["type"]) or _SHAPES.get(shape) or error["msg"].removeprefix("Value error, ")
    problem = problem.replace("Input should be", "must be")
    shown = error.get("input")
    given = f" (given: {shown!r})" if isinstance(shown, (bool, int, float)) or _is_short(shown) else ""
    return f"{place}: {key}: {problem}{given}"


def _key(location: tuple[int | str, ...]) -> str:
    """Write the place of a value as people count: the first of a list is number 1."""
    key = ""
    for part in location:
        if isinstance(part, int):
            key += f"[{part + 1}]"
        elif part != "[key]":
            key += f".{part}" if key else part
    return key or "(root)"


def _known_beside(location: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    """Give the keys of the table that an unknown key stands in."""
    model: object = root
    for part in location[:-1]:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[str(part)].annotation
        inner = [each for each in get_args(model) if isinstance(each, type) and issubclass(each, BaseModel)]
        if inner:
            model = inner[0]
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _is_short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 60  # noqa: PLR2004 - one line of a message


def near(name: str, known: Iterable[str]) -> str:
    """Ask whether another name was meant, where one is close.

    Raises:
        Nothing.
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""
