"""The names that values go by: closed lists, other spellings, and renames that begin on a day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from farthing.errors import ConfigurationError
from farthing.policy.values import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from farthing.policy.document import PolicyDocument

__all__ = ["Vocabulary"]


class Vocabulary:
    """Settles a value on the name that it goes by on a day.

    Args:
        document: The `[policy]` tables.
        meant: Gives the dimension that a name in them stands for.

    Raises:
        ConfigurationError: Aliases or renames lead in a circle.
    """

    def __init__(self, document: PolicyDocument, *, meant: Callable[[str], str]) -> None:
        self._steps: Final[dict[str, dict[str, tuple[str, date | None]]]] = {}
        self._listed: Final[dict[str, frozenset[str]]] = {}
        for written, rules in document.dimensions.items():
            name = meant(written)
            for old, new in rules.aliases.items():
                self._step(name, old, new, None, f"policy.dimensions.{written}.aliases")
            if rules.values is not None:
                self._listed[name] = frozenset(spelled(name, value)[0] for value in rules.values)
        for rename in document.renames:
            self._step(meant(rename.dimension), rename.old, rename.new, rename.on, "policy.renames")
        self.is_dated: Final = bool(document.renames)
        for name, steps in self._steps.items():
            _refuse_circles(name, steps)

    def _step(self, name: str, old: str, new: str, on: date | None, place: str) -> None:
        old, new = spelled(name, old)[0], spelled(name, new)[0]
        steps = self._steps.setdefault(name, {})
        standing = steps.get(old)
        if standing is not None and standing != (new, on):
            raise ConfigurationError(
                f"{place}: {name} {old!r} is to become {standing[0]!r} and {new!r}; keep one of the two"
            )
        if old != new:
            steps[old] = new, on

    def settled(self, name: str, value: str, day: date | None) -> str:
        """Give the name that a value goes by; without a day, by all renames.

        Raises:
            Nothing.
        """
        steps = self._steps.get(name)
        while steps is not None and (step := steps.get(value)) is not None:
            if step[1] is not None and day is not None and day < step[1]:
                break
            value = step[0]
        return value

    def listed(self, name: str) -> frozenset[str] | None:
        """Give the closed vocabulary of a dimension, None where it has none.

        Raises:
            Nothing.
        """
        return self._listed.get(name)

    def renamed(self, day: date) -> dict[str, dict[str, str]]:
        """Give, for each dimension, every former or other name and the one that stands for it on a day.

        Raises:
            Nothing.
        """
        found: dict[str, dict[str, str]] = {}
        for name, steps in self._steps.items():
            others = {old: new for old in steps if (new := self.settled(name, old, day)) != old}
            if others:
                found[name] = others
        return found


def _refuse_circles(name: str, steps: Mapping[str, tuple[str, date | None]]) -> None:
    for start in steps:
        path, value = [start], steps[start][0]
        while value in steps and value not in path:
            path.append(value)
            value = steps[value][0]
        if value in path:
            circle = " -> ".join(repr(each) for each in [*path[path.index(value) :], value])
            raise ConfigurationError(
                f"policy: aliases and renames of {name} lead in a circle: {circle}; remove one of them"
            )
