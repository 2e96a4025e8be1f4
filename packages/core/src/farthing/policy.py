"""What a tag may be: dimensions, spellings, normalising and limits, decided off the request path."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from farthing.dimensions import canonical_name
from farthing.envelope import DIMENSIONS, Attribution

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["INVALID", "Layer", "Policy", "Verdict"]

INVALID: Final = "__invalid__"
"""Stands in for a value that cannot be a tag; the value itself is kept nowhere, since it may be content."""

MAX_LENGTH: Final = 128
_OPAQUE: Final = frozenset({"user_id", "session_id", "job_id"})
_SPACES: Final = re.compile(r"[\s_]+")
_ROUTE_SPACES: Final = re.compile(r"\s+")
_PRINTABLE: Final = re.compile(r"[^\x00-\x1f\x7f]+")
_CACHE_SIZE: Final = 4096


class Layer(NamedTuple):
    """Tags from one place: call, attribute, handler, process or policy."""

    source: str
    tags: Mapping[str, object]
    strict: bool
    """Whether a name that is no dimension is a mistake; in a framework's metadata it is somebody else's business."""


class Verdict(NamedTuple):
    """The tags of one call after policy, where each came from, and what had to be changed."""

    attribution: Attribution
    sources: dict[str, str]
    violations: tuple[str, ...]


class Policy:
    """The dimensions that exist and how their values are written.

    Args:
        extra_dimensions: Dimensions beside the standard ones.
        aliases: Further spellings, `{spelling: dimension}`.
    """

    def __init__(self, *, extra_dimensions: Iterable[str] = (), aliases: Mapping[str, str] | None = None) -> None:
        self._dimensions: Final = frozenset((*DIMENSIONS, *extra_dimensions))
        self._aliases: Final = {canonical_name(name): target for name, target in (aliases or {}).items()}
        self._verdicts: dict[tuple[tuple[str, tuple[tuple[str, object], ...]], ...], Verdict] = {}

    def resolve(self, layers: Iterable[Layer]) -> Verdict:
        """Decide the tags of one call: the first layer that has a usable value for a dimension wins.

        Args:
            layers: From the strongest to the weakest.

        Raises:
            Nothing.
        """
        layers = tuple(layers)
        # Most calls of a process carry one of a few sets of tags. Tags with a value that is no text are decided anew:
        # 1, 1.0 and True are one key of a dict and three different tags.
        try:
            key = tuple((layer.source, tuple(layer.tags.items())) for layer in layers)
            known = self._verdicts.get(key)
        except TypeError:
            return self._decide(layers)
        if known is None:
            known = self._decide(layers)
            if all(
                type(value) is str and len(value) <= MAX_LENGTH for layer in layers for value in layer.tags.values()
            ):
                if len(self._verdicts) >= _CACHE_SIZE:
                    self._verdicts.clear()
                self._verdicts[key] = known
        return known

    def _decide(self, layers: tuple[Layer, ...]) -> Verdict:
        values: dict[str, str] = {}
        sources: dict[str, str] = {}
        violations: list[str] = []
        for layer in layers:
            aliased: set[str] = set()
            here: dict[str, object] = {}
            for written, raw in layer.tags.items():
                name = self._dimension(written)
                if name is None:
                    if layer.strict:
                        violations.append(f"{_safe_name(written)}:undeclared")
                    continue
                if name != written and name in here and name not in aliased:
                    continue  # the dimension's own name beats a spelling of it
                if name != written:
                    aliased.add(name)
                here[name] = raw
            for name, raw in here.items():
                if name in values or raw is None or raw == "":
                    continue
                value, problem = self._value(name, raw)
                if problem is not None:
                    violations.append(f"{name}:{problem}")
                values[name] = value
                sources[name] = layer.source
        return Verdict(Attribution.model_validate(values), sources, tuple(dict.fromkeys(violations)))

    def _dimension(self, written: object) -> str | None:
        if not isinstance(written, str):
            return None
        if written in self._dimensions:
            return written
        name = canonical_name(written)
        name = self._aliases.get(name, name)
        return name if name in self._dimensions else None

    @staticmethod
    def _value(name: str, raw: object) -> tuple[str, str | None]:
        if isinstance(raw, Enum):
            raw = raw.value
        if isinstance(raw, (bool, int, float, Decimal, UUID)):
            raw = str(raw)
        if not isinstance(raw, str):
            return INVALID, "not-text"
        return _normalised(name, raw)


def _normalised(name: str, raw: str) -> tuple[str, str | None]:
    if len(raw) > MAX_LENGTH:
        return INVALID, "too-long"
    text = raw.strip()
    if text == INVALID:
        return INVALID, None
    if not text or not _PRINTABLE.fullmatch(text):
        return INVALID, "not-printable"
    if name in _OPAQUE:
        return text, None
    if name == "route":
        return _ROUTE_SPACES.sub("-", text.lower()), None
    return _SPACES.sub("-", text.lower()), None


def _safe_name(written: object) -> str:
    """Name an unknown dimension without letting content through: only a short identifier is repeated."""
    text = str(written) if isinstance(written, str) else type(written).__name__
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,31}", text) else "(unnamed)"
