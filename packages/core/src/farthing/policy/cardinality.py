"""How many values of a dimension one process has seen; beyond the limit they share one visible name. Worker only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from farthing.policy.values import MARKERS, OVERFLOW

if TYPE_CHECKING:
    from farthing.envelope import Attribution
    from farthing.policy.decision import Policy

__all__ = ["Admitted", "Cardinality"]

_MAX_VALUES: Final = {
    "feature": 200,
    "route": 500,
    "task_type": 100,
    "team": 500,
    "environment": 50,
    "plan": 50,
    "tenant": None,
    "user_id": None,
    "session_id": None,
    "job_id": None,
}
"""None: an id that is as many as there are customers, users or requests; it is no metric label either."""
_MAX_EXTRA: Final = 1_000
_WARN_ABOVE: Final = {"feature": 50}


class Admitted(NamedTuple):
    """The tags of a call after counting, and what there is to say about it."""

    attribution: Attribution
    violations: tuple[str, ...]
    remarks: tuple[tuple[str, str], ...]
    """Key and sentence, to be logged once a key."""


class Cardinality:
    """Remembers the values of each dimension up to its limit."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}

    def admit(self, policy: Policy, attribution: Attribution) -> Admitted:
        """Let the values of a call in, or replace those that are too many by "__other__".

        Raises:
            Nothing.
        """
        replaced: dict[str, str] = {}
        remarks: list[tuple[str, str]] = []
        for name, value in attribution.items():
            limit = self._limit(policy, name)
            if limit is None:
                continue
            seen = self._seen.get(name)
            if seen is None:
                seen = self._seen[name] = set()
            if value in seen or value in MARKERS or value in (policy.vocabulary.listed(name) or ()):
                continue
            if len(seen) >= limit:
                replaced[name] = OVERFLOW
                remarks.append((f"{name}:overflow", self._overflowing(name, limit)))
                continue
            seen.add(value)
            above = self._warn_above(policy, name)
            if above is not None and len(seen) == above + 1:
                remarks.append((f"{name}:many", self._many(name, above)))
        if not replaced:
            return Admitted(attribution, (), tuple(remarks))
        violations = tuple(f"{name}:overflow" for name in replaced)
        return Admitted(attribution.model_copy(update=replaced), violations, tuple(remarks))

    @staticmethod
    def _limit(policy: Policy, name: str) -> int | None:
        return policy.rules_of(name).max_values or _MAX_VALUES.get(name, _MAX_EXTRA)

    @staticmethod
    def _warn_above(policy: Policy, name: str) -> int | None:
        return policy.rules_of(name).warn_above or _WARN_ABOVE.get(name)

    @staticmethod
    def _overflowing(name: str, limit: int) -> str:
        return (
            f"{name} has more than {limit} values in this process; further ones are recorded as {OVERFLOW!r}. Is an id "
            f"used as a {name}? Else raise [policy.dimensions.{name}] max_values"
        )

    @staticmethod
    def _many(name: str, above: int) -> str:
        return (
            f"{name} has more than {above} values in this process, more than a person can read in a report; merge "
            f"some, or raise [policy.dimensions.{name}] warn_above"
        )
