"""The decision: which value of a dimension wins, how it is written, and what the document finds wrong with it."""

from __future__ import annotations

import difflib
import fnmatch
import itertools
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from farthing.dimensions import canonical_name
from farthing.envelope import DIMENSIONS, Attribution
from farthing.errors import ConfigurationError
from farthing.policy.document import Action, DimensionRules, EnvironmentRules, PolicyDocument, RouteRules
from farthing.policy.values import (
    INVALID,
    MARKERS,
    MAX_LENGTH,
    REASONS,
    as_text,
    found_by_guards,
    hashed,
    mixes_scripts,
    spelled,
    templated,
)
from farthing.policy.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import date

__all__ = ["Layer", "Policy", "Refusal", "Verdict", "lacking"]

_CACHE_SIZE: Final = 4096
_NO_RULES: Final = DimensionRules()
_NO_ENVIRONMENT: Final = EnvironmentRules()
_VAGUE: Final = frozenset({"misc", "test", "unknown", "other", "none", "null", "default", "todo", "n/a"})
_NONE: Final[frozenset[str]] = frozenset()
_VAGUE_IN: Final = frozenset({"feature", "team", "task_type"})


class Layer(NamedTuple):
    """Tags from one place: call, attribute, handler, process or policy."""

    source: str
    tags: Mapping[str, object]
    strict: bool
    """Whether a name that is no dimension is a mistake; in a framework's metadata it is somebody else's business."""


class Refusal(NamedTuple):
    """One thing about a call's tags that the document complains about louder than by a mark."""

    dimension: str
    reason: str
    action: Action
    sentence: str
    """For a person: what is wrong and what would be accepted; holds no value that a guard found."""


class Verdict(NamedTuple):
    """The tags of one call after policy, where each came from, and what had to be changed."""

    attribution: Attribution
    sources: dict[str, str]
    violations: tuple[str, ...]
    complaints: tuple[Refusal, ...] = ()
    """What is to be warned of or refused."""

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """What is to be refused."""
        return tuple(each for each in self.complaints if each.action == "reject")


class Policy:
    """The dimensions that exist, how their values are written, and which calls need which.

    Args:
        extra_dimensions: Dimensions beside the standard ones.
        aliases: Further spellings of dimensions, `{spelling: dimension}`.
        document: The `[policy]` tables.
        hash_key: The key of `[policy.hashing]`; without it, what should be hashed becomes "__invalid__".

    Raises:
        ConfigurationError: Aliases or renames of values form a circle, or two tables speak of one dimension.
    """

    def __init__(
        self,
        *,
        extra_dimensions: Iterable[str] = (),
        aliases: Mapping[str, str] | None = None,
        document: PolicyDocument | None = None,
        hash_key: bytes | None = None,
    ) -> None:
        self.document: Final = document or PolicyDocument()
        self._dimensions: Final = frozenset((*DIMENSIONS, *extra_dimensions))
        self._aliases: Final = {canonical_name(name): target for name, target in (aliases or {}).items()}
        self._hash_key = hash_key
        self._hashed: Final = frozenset(self._meant(name) for name in self.document.hashing.dimensions)
        self._rules: Final = self._rules_by_dimension()
        self.vocabulary: Final = Vocabulary(self.document, meant=self._meant)
        self.locked: Final = frozenset(self._meant(name) for name in self.document.gateway.locked)
        """Dimensions that a gateway's callers may not set."""
        self._routes: Final = [
            _Route(
                re.compile(fnmatch.translate(_bare(r.pattern))), frozenset(map(self._environment, r.environments)), r
            )
            for r in self.document.routes
        ]
        self._environments: Final = self._rules_by_environment()
        self._vague: Final = {
            name: frozenset(spelled(name, value)[0] for value in rules.vague)
            for name, rules in self._rules.items()
            if rules.vague is not None
        }
        self._plain: Final = self.document == PolicyDocument()
        self._verdicts: dict[tuple[tuple[str, tuple[tuple[str, object], ...]], ...], Verdict] = {}
        self._day: date | None = None

    def resolve(self, layers: Iterable[Layer], *, day: date | None = None) -> Verdict:
        """Decide the tags of one call: the first layer that has a usable value for a dimension wins.

        Args:
            layers: From the strongest to the weakest.
            day: The call's own day (UTC), which decides on renames; None is today.

        Raises:
            Nothing.
        """
        layers = tuple(layers)
        if self.vocabulary.is_dated:
            day = day or datetime.now(UTC).date()
            if day != self._day:
                self._verdicts, self._day = {}, day
        # Most calls of a process carry one of a few sets of tags. Tags with a value that is no text are decided anew:
        # 1, 1.0 and True are one key of a dict and three different tags.
        verdicts = self._verdicts
        try:
            key = tuple((layer.source, tuple(layer.tags.items())) for layer in layers)
            known = verdicts.get(key)
        except TypeError:
            return self._decide(layers, day)
        if known is None:
            known = self._decide(layers, day)
            if all(
                type(value) is str and len(value) <= MAX_LENGTH for layer in layers for value in layer.tags.values()
            ):
                if len(verdicts) >= _CACHE_SIZE:
                    verdicts.clear()
                verdicts[key] = known
        return known

    def dimension(self, written: object) -> str | None:
        """Give the dimension that a name means; None for a name that means none.

        Raises:
            Nothing.
        """
        if not isinstance(written, str):
            return None
        if written in self._dimensions:
            return written
        name = self._meant(written)
        return name if name in self._dimensions else None

    def rules_of(self, dimension: str) -> DimensionRules:
        """Give what `[policy.dimensions]` says of a dimension, under whichever of its spellings.

        Raises:
            Nothing.
        """
        return self._rules.get(dimension, _NO_RULES)

    def _meant(self, written: str) -> str:
        name = canonical_name(written)
        return self._aliases.get(name, name)

    def _rules_by_environment(self) -> dict[str, EnvironmentRules]:
        rules: dict[str, EnvironmentRules] = {}
        for written, table in self.document.environments.items():
            name = written if written == "*" else self._environment(written)
            if name in rules:
                raise ConfigurationError(
                    f"policy.environments.{written}: there is a table for {name} already; merge them"
                )
            rules[name] = table
        return rules

    def read(self, dimension: str, raw: object) -> tuple[str, str | None]:
        """Write one value as a call of today would carry it.

        Returns:
            The value, or a marker and what is wrong: too-long, email, unlisted, ...

        Raises:
            Nothing.
        """
        value, problem = self._value(dimension, raw)
        if problem is not None or value in MARKERS:
            return value, problem
        value = self.vocabulary.settled(dimension, value, None)
        listed = self.vocabulary.listed(dimension)
        return value, None if listed is None or value in listed else "unlisted"

    def _rules_by_dimension(self) -> dict[str, DimensionRules]:
        rules: dict[str, DimensionRules] = {}
        for written, table in self.document.dimensions.items():
            name = self._meant(written)
            if name in rules:
                raise ConfigurationError(
                    f"policy.dimensions.{written}: there is a table for {name} already; merge them"
                )
            rules[name] = table
        return rules

    def environment_rules(self, environment: str | None) -> tuple[str, EnvironmentRules]:
        """Give the rules of an environment and the name that they stand under.

        Raises:
            Nothing.
        """
        if environment is not None and environment in self._environments:
            return environment, self._environments[environment]
        return "*", self._environments.get("*", _NO_ENVIRONMENT)

    def _decide(self, layers: tuple[Layer, ...], day: date | None) -> Verdict:
        found = _Findings()
        for layer in layers:
            here = self._names(layer, found)
            for name, raw in here.items():
                if name not in found.values and raw is not None and raw != "":
                    self._take(name, raw, layer.source, day, found)
        if not self._plain:
            self._apply_rules(day, found)
        return Verdict(
            Attribution.model_validate(found.values),
            found.sources,
            tuple(dict.fromkeys(found.violations)),
            tuple(found.complaints),
        )

    def _names(self, layer: Layer, found: _Findings) -> dict[str, object]:
        """Give the values of one place by dimension; the dimension's own name beats a spelling of it."""
        aliased: set[str] = set()
        here: dict[str, object] = {}
        for count, (written, raw) in enumerate(layer.tags.items()):
            if layer.strict and count >= self.document.max_tags:
                found.violations.append("(tags):too-many")
                break
            name = self.dimension(written)
            if name is None:
                if layer.strict:
                    found.violations.append(f"{_safe_name(written)}:undeclared")
                continue
            if name != written and name in here and name not in aliased:
                continue
            if name != written:
                aliased.add(name)
            here[name] = raw
        return here

    def _take(self, name: str, raw: object, source: str, day: date | None, found: _Findings) -> None:
        """Write one value the one way, or put the marker in its place."""
        value, problem = self._value(name, raw)
        if problem is not None:
            found.violations.append(f"{name}:{problem}")
            if value == INVALID and self.document.guards.when_found != "mark":
                sentence = f"{name}: the value was refused as a tag ({problem}); send a short name or an opaque id"
                found.complaints.append(Refusal(name, problem, self.document.guards.when_found, sentence))
        elif value not in MARKERS:
            value = self.vocabulary.settled(name, value, day)
            self._check_listed(name, value, found)
        found.values[name] = value
        found.sources[name] = source

    def _value(self, name: str, raw: object) -> tuple[str, str | None]:
        text = as_text(raw)
        if text is None:
            return INVALID, "not-text"
        rules = self.rules_of(name)
        value, problem = spelled(name, text, max_length=rules.max_length)
        if problem is not None or value in MARKERS:
            return value, problem
        if name in self._hashed:
            return (INVALID, "no-hash-key") if self._hash_key is None else (hashed(name, value, self._hash_key), None)
        guards = self.document.guards
        problem = found_by_guards(text, guards) or found_by_guards(value, guards)
        if problem is not None:
            return INVALID, problem
        if name == "route" and guards.filled_route and (template := templated(value)) != value:
            return template, "filled-in"
        return value, None

    def _check_listed(self, name: str, value: str, found: _Findings) -> None:
        rules = self.rules_of(name)
        listed = self.vocabulary.listed(name)
        if listed is not None and value not in listed:
            found.violations.append(f"{name}:unlisted")
            if rules.when_unlisted != "mark":
                found.complain(name, "unlisted", rules.when_unlisted, _unlisted(name, value, listed))
        if mixes_scripts(value):
            found.violations.append(f"{name}:mixed-scripts")
            sentence = f"{name}: {value!r} mixes letters of several scripts that look alike: {value!a}"
            found.complain(name, "mixed-scripts", "warn", sentence)
        vague = self._vague.get(name, _VAGUE if name in _VAGUE_IN else _NONE)
        if value in vague and (listed is None or value not in listed):
            found.violations.append(f"{name}:vague")
            sentence = f"{name}: {value!r} says nothing to who reads the bill; name what spends"
            found.complain(name, "vague", "warn", sentence)

    def _apply_rules(self, day: date | None, found: _Findings) -> None:
        """Fill in the environment's defaults, then see what is missing."""
        where, rules = self.environment_rules(found.values.get("environment"))
        for written, raw in rules.defaults.items():
            name = self.dimension(written)
            if name is not None and name not in found.values:
                self._take(name, raw, "policy", day, found)
        strongest: dict[str, tuple[Action, str]] = {}
        for names, action, place in self._requirements(where, rules, found.values):
            for name in names:
                known = self.dimension(name) or name
                if found.values.get(known, INVALID) in MARKERS:
                    standing = strongest.get(known)
                    if standing is None or _STRENGTH[action] > _STRENGTH[standing[0]]:
                        strongest[known] = action, place
        for name, (action, place) in strongest.items():
            found.violations.append(f"{name}:missing")
            found.complain(name, "missing", action, f"{lacking(name, found.violations)}; {place} requires it")

    def _requirements(
        self, where: str, rules: EnvironmentRules, values: Mapping[str, str]
    ) -> Iterator[tuple[tuple[str, ...], Action, str]]:
        if rules.required:
            yield rules.required, rules.when_missing, f"[policy.environments.{_quoted(where)}]"
        route, environment = values.get("route"), values.get("environment")
        for matches, environments, rule in self._routes:
            if route is None or not matches.match(_bare(route)):
                continue
            if not environments or environment in environments:
                yield rule.required, rule.when_missing, f'[[policy.routes]] "{rule.pattern}"'

    def _environment(self, written: str) -> str:
        """Write the name of an environment in the file as that of a call is written."""
        return self.vocabulary.settled("environment", spelled("environment", written)[0], None)


class _Route(NamedTuple):
    """A rule for routes, ready to be held against one."""

    matches: re.Pattern[str]
    environments: frozenset[str]
    rule: RouteRules


def _bare(route: str) -> str:
    """Write a route or a pattern without the slash that some frameworks put first."""
    return route.lower().lstrip("/")


class _Findings:
    """What a decision has come to so far."""

    __slots__ = ("complaints", "sources", "values", "violations")

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.violations: list[str] = []
        self.complaints: list[Refusal] = []

    def complain(self, name: str, reason: str, action: Action, sentence: str) -> None:
        if action != "mark":
            self.complaints.append(Refusal(name, reason, action, sentence))


_MANY_LISTED: Final = 500
_STRENGTH: Final = {"mark": 0, "warn": 1, "reject": 2}


def lacking(name: str, violations: Iterable[str]) -> str:
    """Say that a dimension has no value: none was sent, or what was sent cannot be a tag.

    Raises:
        Nothing.
    """
    problems = (problem for each, _, problem in (said.partition(":") for said in violations) if each == name)
    why = next((REASONS[problem] for problem in problems if problem in REASONS), None)
    return f"{name} is missing" if why is None else f"{name} was sent, but its value {why} and cannot be a tag"


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'


def _unlisted(name: str, value: str, listed: Collection[str]) -> str:
    """Say what was probably meant; of a long vocabulary only what begins or ends alike is looked at, to be quick."""
    candidates = listed
    if len(listed) > _MANY_LISTED:
        candidates = list(itertools.islice((each for each in listed if _alike(each, value)), _MANY_LISTED))
    close = difflib.get_close_matches(value, candidates, n=1)
    meant = f"did you mean {close[0]!r}?" if close else f"it takes: {_shortened(listed)}"
    shown = repr(value) if value.isascii() else f"{value!r} (letter by letter: {value!a})"
    return f"{name}: {shown} is not in the vocabulary of [policy.dimensions.{name}]; {meant}"


def _alike(one: str, other: str) -> bool:
    near = abs(len(one) - len(other)) <= 2  # noqa: PLR2004 - a typing error or two
    return near and (one[:2] == other[:2] or one[-2:] == other[-2:])


def _shortened(listed: Iterable[str]) -> str:
    names = sorted(listed)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")  # noqa: PLR2004


def _safe_name(written: object) -> str:
    """Name an unknown dimension without letting content through: only a short identifier is repeated."""
    text = str(written) if isinstance(written, str) else type(written).__name__
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,31}", text) else "(unnamed)"
