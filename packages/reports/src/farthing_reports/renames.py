"""One name for what the policy calls by one name: history is read by the names of today, and never rewritten."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from farthing.rules import policy_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from farthing.settings import Settings
    from farthing_reports.keys import Filter, Key

__all__ = ["AS_RECORDED", "Merged", "Renames", "renames_in_force"]

_ATTRIBUTION: Final = "attribution."


@dataclass(frozen=True, slots=True)
class Merged:
    """A recorded name whose calls stand under another one in a report."""

    key: str
    recorded: str
    counted_as: str
    calls: int


@dataclass(frozen=True, slots=True)
class Renames:
    """The other names of values, by dimension: `{"feature": {"mailer": "email-generator"}}`."""

    by_dimension: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, "Mapping[str, str]"])

    def of(self, key: Key) -> Mapping[str, str]:
        """Give the other names of a key's values; a key that is no dimension has none.

        Raises:
            Nothing.
        """
        dimension = _dimension(key)
        return {} if dimension is None else self.by_dimension.get(dimension, {})

    def current(self, keys: Sequence[Key], names: Sequence[str | None]) -> tuple[str | None, ...]:
        """Give the names of a group as they are called today.

        Raises:
            Nothing.
        """
        return tuple(
            name if name is None else self.of(key).get(name, name) for key, name in zip(keys, names, strict=True)
        )

    def widened(self, filters: Iterable[Filter]) -> list[Filter]:
        """Let a condition on any name of a value hold for all of its names.

        Raises:
            Nothing.
        """
        return [each.replaced(self._all_names(each)) for each in filters]

    def _all_names(self, each: Filter) -> tuple[str | None, ...]:
        others = self.of(each.key)
        meant = {others.get(value, value) for value in each.values if value is not None}
        former = (old for old, new in others.items() if new in meant)
        return tuple(dict.fromkeys((*each.values, *sorted(meant), *former)))


AS_RECORDED: Final = Renames()


def renames_in_force(settings: Settings, *, day: date) -> Renames:
    """Give the aliases and renames of the policy that hold on a day.

    Raises:
        Nothing: settings that were loaded have been checked.
    """
    return Renames(policy_of(settings, {}).vocabulary.renamed(day))


def _dimension(key: Key) -> str | None:
    names = [column for column, _ in key.needs]
    return names[0].removeprefix(_ATTRIBUTION) if len(names) == 1 and names[0].startswith(_ATTRIBUTION) else None
