"""What calls can be grouped and filtered by: dimensions, names of the envelope, parts of the time, details."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from farthing.dimensions import canonical_name
from farthing.envelope import DIMENSIONS, Attribution
from farthing.policy import Layer, Policy
from farthing_reports.faults import CommandError
from farthing_reports.ledger import quoted, text_literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["BUILT_IN", "OPERATIONS_SQL", "Filter", "Key", "Vocabulary", "columns_of"]

NONE: Final = "(none)"
"""How a missing value is written."""

_TIMES: Final = {"month": "%Y-%m", "day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00Z"}
_PLAIN: Final = (
    "request_model",
    "response_model",
    "provider",
    "framework",
    "operation",
    "outcome",
    "error_type",
    "finish_reason",
    "service_tier",
    "service_name",
    "streaming",
    "trace_id",
)
_SCOPES: Final = "STRUCT(kind VARCHAR, name VARCHAR)[]"
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
BUILT_IN: Final = ("model", *_PLAIN, "status", "use", *_TIMES, "agent", "workflow")
"""Names that every ledger has beside its dimensions and details."""
_OWN_COLUMNS: Final = frozenset({"calls", "input_tokens", "output_tokens", "cost_usd", "estimated_usd", "saved_usd"})

OPERATIONS_SQL: Final = """, settled AS (SELECT *, max(attempt) FILTER (WHERE sound AND outcome = 'success')
    OVER (PARTITION BY operation_id) AS answered_attempt FROM judged)"""
"""What a key over operations can ask: which attempt of its operation answered last, whatever the report is cut to."""

_USE: Final = """CASE WHEN cost.status = 'cache_hit' THEN 'cached'
    WHEN outcome = 'success' AND attempt >= answered_attempt THEN 'useful'
    WHEN answered_attempt IS NOT NULL THEN 'superseded'
    WHEN outcome = 'error' THEN 'failed' ELSE outcome END"""


@dataclass(frozen=True, slots=True)
class Key:
    """One thing to group or filter by."""

    name: str
    """As the rows of a report call it."""
    sql: str
    """The expression over `lines`; `moment` is the start as a UTC timestamp."""
    needs: tuple[tuple[str, str], ...] = ()
    """Column and type, or `attribution.<name>` and `details.<name>`."""
    over_operations: bool = False
    """Whether it depends on the other attempts of a call's operation, see OPERATIONS_SQL."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Calls whose key has one of these values (or none of them)."""

    key: Key
    values: tuple[str | None, ...]
    """None stands for a missing value."""
    negated: bool = False

    def replaced(self, values: tuple[str | None, ...]) -> Filter:
        """Give the same condition on other values.

        Raises:
            Nothing.
        """
        return Filter(self.key, values, self.negated)


class Vocabulary:
    """Finds keys by the names people type.

    Args:
        dimensions: Standard and declared dimensions.
        aliases: Further spellings of dimensions.
        seen: Dimensions and details that a ledger was found to hold, as `attribution.<name>` and `details.<name>`.
    """

    def __init__(
        self, dimensions: Iterable[str] = DIMENSIONS, aliases: Mapping[str, str] | None = None, seen: Iterable[str] = ()
    ) -> None:
        found = [name.partition(".") for name in sorted(seen)]
        self._dimensions: Final = dict.fromkeys(
            (*dimensions, *(name for where, _, name in found if where == "attribution"))
        )
        self._details: Final = dict.fromkeys(name for where, _, name in found if where == "details")
        self._aliases: Final = {canonical_name(name): target for name, target in (aliases or {}).items()}
        extra = [name for name in self._dimensions if name not in DIMENSIONS]
        self._policy: Final = Policy(extra_dimensions=extra, aliases=aliases)

    def names(self) -> list[str]:
        """Give every name that `key` takes."""
        return list(dict.fromkeys((*self._dimensions, *BUILT_IN, *self._details)))

    def key(self, written: str) -> Key | None:
        """Find a key, or None where the name means nothing here.

        Raises:
            Nothing.
        """
        name = written.strip()
        where, dot, rest = name.partition(".")
        if dot and where in {"attribution", "details"} and _NAME.fullmatch(rest):
            return _inside(where, rest, name)
        if name in BUILT_IN:
            return _built_in(name)
        if name in self._details and name not in self._dimensions:
            return _inside("details", name, name)
        dimension = canonical_name(name)
        dimension = self._aliases.get(dimension, dimension)
        if dimension not in self._dimensions:
            return None
        return _inside("attribution", dimension, f"attribution.{dimension}" if dimension in _OWN_COLUMNS else dimension)

    def require(self, written: str, option: str) -> Key:
        """Find a key.

        Raises:
            CommandError: There is none; the message lists those that there are.
        """
        found = self.key(written)
        if found is not None:
            return found
        names = self.names()
        near = difflib.get_close_matches(written, names, n=1)
        hint = f", did you mean {near[0]!r}?" if near else "."
        raise CommandError(
            f"{option}: {written!r} is nothing that this ledger's calls can be grouped by{hint} "
            f"There are: {', '.join(names)}"
        )

    def filters(self, written: Iterable[str], option: str) -> list[Filter]:
        """Read `name=value` and `name!=value`; one name with several values means any of them.

        Raises:
            CommandError: A text is no such pair, or its name means nothing here.
        """
        gathered: dict[tuple[str, bool], tuple[Key, list[str | None]]] = {}
        for text in written:
            name, equals, value = text.partition("=")
            if not equals or not name.strip("! "):
                raise CommandError(f"{option}: {text!r} is no condition; write e.g. team=growth or outcome!=success")
            negated = name.endswith("!")
            key = self.require(name.removesuffix("!").strip(), option)
            _, values = gathered.setdefault((key.name, negated), (key, []))
            values.extend(self._spellings(key, value.strip()))
        return [Filter(key, tuple(values), negated) for (_, negated), (key, values) in gathered.items()]

    def _spellings(self, key: Key, value: str) -> list[str | None]:
        """Give a value as typed and as the policy writes it: `Growth Team` is in the ledger as growth-team."""
        if value in {"", NONE}:
            return [None]
        if not any(column.startswith("attribution.") for column, _ in key.needs):
            return [value]
        layer = Layer("call", {key.name.removeprefix("attribution."): value}, strict=False)
        attribution: Attribution = self._policy.resolve([layer]).attribution
        return list(dict.fromkeys([value, *(written for _, written in attribution.items())]))


def columns_of(keys: Iterable[Key]) -> dict[str, str]:
    """Give the columns that some keys need, with their DuckDB types."""
    plain: dict[str, str] = {}
    inner: dict[str, dict[str, None]] = {}
    for column, kind in (need for key in keys for need in key.needs):
        where, dot, name = column.partition(".")
        if dot:
            inner.setdefault(where, {})[name] = None
        else:
            plain[column] = kind
    for where, names in inner.items():
        plain[where] = "STRUCT(" + ", ".join(f"{quoted(name)} VARCHAR" for name in names) + ")"
    return plain


def _inside(where: str, name: str, shown: str) -> Key:
    return Key(shown, f"{where}.{quoted(name)}", ((f"{where}.{name}", "VARCHAR"),))


def _built_in(name: str) -> Key:
    if name in _TIMES:
        return Key(name, f"strftime(moment, {text_literal(_TIMES[name])})")
    if name == "use":
        columns = (("operation_id", "VARCHAR"), ("attempt", "BIGINT"), ("outcome", "VARCHAR"))
        return Key(name, _USE, columns, over_operations=True)
    if name == "model":
        needs = (("response_model", "VARCHAR"), ("request_model", "VARCHAR"))
        return Key(name, "coalesce(response_model, request_model)", needs)
    if name == "agent":
        innermost = "[s.name FOR s IN scopes IF s.kind = 'agent'][-1]"
        return Key(name, f'coalesce(details."agent", {innermost})', (("details.agent", "VARCHAR"), ("scopes", _SCOPES)))
    return {
        "status": Key(name, "cost.status"),
        "workflow": Key(name, "scopes[1].name", (("scopes", _SCOPES),)),
    }.get(name, Key(name, quoted(name), ((name, "VARCHAR"),)))
