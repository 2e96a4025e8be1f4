"""Careful access to usage objects: plain numbers out of whatever a provider or a framework put there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, TypeGuard, cast

__all__ = ["Facts", "Raw", "collapse_text"]


_NOTHING: Final[Mapping[str, object]] = {}


def _is_mapping(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, Mapping)


def _as_mapping(value: object) -> Mapping[str, object]:
    """Give a nested object as a mapping: frameworks leave pydantic models inside their dicts."""
    if value is None:
        return _NOTHING
    if type(value) is dict:
        return cast("dict[str, object]", value)
    if _is_mapping(value):
        return value
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        dumped = dump()
        if _is_mapping(dumped):
            return dumped
    attributes = getattr(value, "__dict__", None)
    return attributes if _is_mapping(attributes) else {}


class Raw:
    """A raw usage object; remembers whether anything in it was no count at all."""

    __slots__ = ("data", "faults")

    def __init__(self, data: object, faults: list[str] | None = None) -> None:
        self.data = _as_mapping(data)
        self.faults = faults if faults is not None else []

    def __bool__(self) -> bool:
        return bool(self.data)

    def has(self, *names: str) -> bool:
        """Tell whether any of the names is there with a value."""
        data = self.data
        for name in names:  # noqa: SIM110 - any() costs thrice as much, and this runs for every call
            if data.get(name) is not None:
                return True
        return False

    def under(self, *names: str) -> Raw:
        """Go into the first nested object that is there."""
        data = self.data
        for name in names:
            value = data.get(name)
            if value is not None:
                return Raw(value, self.faults)
        return Raw(None, self.faults)

    def items(self, *names: str) -> list[Raw]:
        """Give the entries of the first list that is there."""
        for name in names:
            value = self.data.get(name)
            if isinstance(value, Sequence) and not isinstance(value, str | bytes):
                entries: list[object] = list(value)  # pyright: ignore[reportUnknownArgumentType]
                return [Raw(entry, self.faults) for entry in entries]
        return []

    def count(self, *names: str) -> int | None:
        """Read the first count that is there; None when none is. A negative or fractional one is a fault."""
        data = self.data
        for name in names:
            value = data.get(name)
            if value is None:
                continue
            number = _whole(value)
            if number is None:
                self.faults.append(name)
            return number
        return None

    def number(self, *names: str) -> Decimal | None:
        """Read the first decimal number that is there, of zero or more."""
        for name in names:
            value = self.data.get(name)
            if value is not None:
                return _decimal(value)
        return None

    def text(self, *names: str) -> str | None:
        """Read the first text that is there."""
        for name in names:
            value = self.data.get(name)
            if isinstance(value, str) and value:
                return collapse_text(value)
            value = getattr(value, "value", None)  # an enum of a provider's SDK
            if isinstance(value, str) and value:
                return value
        return None


_LONGEST: Final = 10**12
"""No request has a trillion tokens: a larger count is a fault of whoever counted."""


def _whole(value: object) -> int | None:
    if type(value) is int:
        return value if 0 <= value <= _LONGEST else None
    number = _decimal(value)
    if number is None or number != number.to_integral_value() or number > _LONGEST:
        return None
    return int(number)


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        return None
    return number if number.is_finite() and number >= 0 else None


def collapse_text(text: str) -> str:
    """Undo the joining of repeated chunk metadata by LangChain: `defaultdefault` is `default`."""
    index = (text + text).find(text, 1)
    return text[:index] if 0 < index < len(text) else text


class Facts:
    """What an adapter found, before it becomes a `Usage`."""

    __slots__ = ("context", "counts", "flags", "reported_usd", "seconds", "service_tier")

    def __init__(self) -> None:
        self.counts: dict[str, int | None] = {}
        self.seconds: Decimal | None = None
        self.flags: list[str] = []
        self.service_tier: str | None = None
        self.reported_usd: Decimal | None = None
        self.context: dict[str, str] = {}

    def put(self, name: str, value: int | None) -> None:
        """Note a count when it was reported."""
        if value is not None:
            self.counts[name] = value

    def put_positive(self, name: str, value: int | None) -> None:
        """Note a count of something optional: frameworks fill in zeros for what was never measured."""
        if value:
            self.counts[name] = value
