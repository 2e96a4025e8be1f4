"""Whether a policy agrees with itself: what it gives by default, renames to or lists must be what it accepts."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from farthing.errors import ConfigurationError
from farthing.policy.values import REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farthing.policy.decision import Policy

__all__ = ["refuse_contradictions"]


def refuse_contradictions(policy: Policy) -> None:
    """Refuse a policy that would complain about what it says itself.

    Raises:
        ConfigurationError: A vocabulary is empty, or a listed, default or new value would not be accepted.
    """
    for written, rules in policy.document.dimensions.items():
        if rules.values is not None and not rules.values:
            raise ConfigurationError(
                f"policy.dimensions.{written}.values: is empty, so no value would do; leave it out to let any value in"
            )
    for place, dimension, value in _own_values(policy):
        name = policy.dimension(dimension)
        if name is None:
            continue
        _, problem = policy.read(name, value)
        if problem is not None and problem not in {"filled-in", "no-hash-key"}:
            # This sentence goes into a log where a file that changed is refused.
            shown = value if problem != "secret" else f"{value[:4]}..."
            raise ConfigurationError(f"{place}: {shown!r} {_why(policy, name, value, problem)}")


def _own_values(policy: Policy) -> Iterator[tuple[str, str, str]]:
    """Give every value that the document names itself, with its place and dimension."""
    for environment, rules in policy.document.environments.items():
        for dimension, value in rules.defaults.items():
            yield f"policy.environments.{environment}.defaults.{dimension}", dimension, value
    for dimension, rules in policy.document.dimensions.items():
        for value in rules.values or ():
            yield f"policy.dimensions.{dimension}.values", dimension, value
        for new in rules.aliases.values():
            yield f"policy.dimensions.{dimension}.aliases", dimension, new
    for number, rename in enumerate(policy.document.renames, start=1):
        yield f"policy.renames[{number}].to", rename.dimension, rename.new


def _why(policy: Policy, name: str, value: str, problem: str) -> str:
    if problem != "unlisted":
        return f"{REASONS.get(problem, 'cannot be a tag')}, so no call could carry it; write another name"
    listed = sorted(policy.vocabulary.listed(name) or ())
    close = difflib.get_close_matches(value, listed, n=1)
    meant = f"did you mean {close[0]!r}?" if close else f"add it to policy.dimensions.{name}.values."
    return f"is not among the values of {name}; {meant}"
