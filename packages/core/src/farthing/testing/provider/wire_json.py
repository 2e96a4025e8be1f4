"""JSON as it comes off the wire, narrowed without casts: a wrong shape reads as absent, never as an exception."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"
JSONObject: TypeAlias = "Mapping[str, JSON]"

_EMPTY: JSONObject = {}


def parse(body: bytes) -> JSON:
    """Read a body as JSON; a body that is not JSON reads as None. Raises: nothing."""
    try:
        parsed: JSON = json.loads(body)
    except ValueError:
        return None
    return parsed


def dump(value: JSON) -> bytes:
    """Write JSON as UTF-8 bytes. Raises: nothing."""
    return json.dumps(value, ensure_ascii=False).encode()


def as_object(value: JSON) -> JSONObject:
    """Give the object, or an empty one for any other shape. Raises: nothing."""
    return value if isinstance(value, Mapping) else _EMPTY


def as_list(value: JSON) -> Sequence[JSON]:
    """Give the list, or an empty one for any other shape. Raises: nothing."""
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def as_text(value: JSON) -> str | None:
    """Give the string, or None for any other shape. Raises: nothing."""
    return value if isinstance(value, str) else None


def as_int(value: JSON) -> int | None:
    """Give the integer, or None for any other shape (a bool is not a number). Raises: nothing."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
