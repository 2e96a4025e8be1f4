"""The policy as people write it: the `[policy]` tables of farthing.toml, checked when read.

Every fault becomes one sentence that names the file, the key and what would be accepted; see `farthing.settings`.
"""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - pydantic reads the annotation
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from farthing.dimensions import canonical_name
from farthing.policy.values import MAX_LENGTH

__all__ = [
    "Action",
    "Corroboration",
    "DimensionRules",
    "EnvironmentRules",
    "Gateway",
    "Guards",
    "Hashing",
    "PolicyDocument",
    "Rename",
    "RouteRules",
]

Action = Literal["mark", "warn", "reject"]
"""mark: the call says so and it is counted; warn: logged once as well; reject: refused before money is spent, where
the entrance can do that, else as warn."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=64, strip_whitespace=True)]
Value = Annotated[str, StringConstraints(min_length=1, max_length=MAX_LENGTH, strip_whitespace=True)]
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]{1,253}$", to_lower=True)]
Header = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class _Requirement(_Table):
    required: tuple[Name, ...] = ()
    """Dimensions that every call must have after all defaults."""
    when_missing: Action = "mark"

    @field_validator("required")
    @classmethod
    def _canonical(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(canonical_name(name) for name in names))


class EnvironmentRules(_Requirement):
    """`[policy.environments.<name>]`: what holds in one environment; `"*"` is every other one, and none."""

    defaults: dict[Name, Value] = Field(default_factory=dict[str, str])
    """The weakest tags of all: dimension to value."""

    @field_validator("defaults")
    @classmethod
    def _canonical_defaults(cls, values: dict[str, str]) -> dict[str, str]:
        return {canonical_name(name): value for name, value in values.items()}


class RouteRules(_Requirement):
    """`[[policy.routes]]`: what calls from some routes must have."""

    pattern: Value
    """With `*` for any text: "api/public/*"."""
    environments: tuple[Name, ...] = ()
    """Where the rule holds; empty is everywhere."""


class DimensionRules(_Table):
    """`[policy.dimensions.<name>]`: which values one dimension takes."""

    values: tuple[Value, ...] | None = None
    """The closed vocabulary; None lets any value in."""
    when_unlisted: Action = "mark"
    aliases: dict[Value, Value] = Field(default_factory=dict[str, str])
    """Other spellings of values: spelling to value."""
    max_length: Annotated[int, Field(ge=1, le=MAX_LENGTH)] = MAX_LENGTH
    max_values: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Distinct values of one process that are told apart; further ones become "__other__". None is the built-in."""
    warn_above: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Distinct values above which a warning is logged. None is the built-in."""
    vague: tuple[Value, ...] | None = None
    """Values that say nothing: marked and logged once. None is the built-in."""


class Rename(_Table):
    """`[[policy.renames]]`: from a day on (UTC), one value goes by another name; reports read history the same way."""

    dimension: Name
    old: Value = Field(alias="from")
    new: Value = Field(alias="to")
    on: dt.date


class Guards(_Table):
    """`[policy.guards]`: what must not be a tag; it is replaced by "__invalid__" and counted."""

    email: bool = True
    secret: bool = True
    """Anything that looks like a key or a token of a known kind."""
    phone: bool = True
    free_text: bool = True
    """Sentences, mark-up, and more words than `max_words`."""
    max_words: Annotated[int, Field(ge=1, le=64)] = 8
    filled_route: bool = True
    """Ids in a route become {id}."""
    when_found: Action = "mark"


class Hashing(_Table):
    """`[policy.hashing]`: dimensions whose values leave this process only as keyed hashes."""

    dimensions: tuple[Name, ...] = ()
    key_variable: Name = "FARTHING_HASH_KEY"
    """The environment variable that holds the key, 16 characters or more."""


DEFAULT_HEADERS: Final = {
    "x-ai-team": "team",
    "x-ai-feature": "feature",
    "x-ai-tenant": "tenant",
    "x-ai-route": "route",
    "x-ai-task-type": "task_type",
}


class Gateway(_Table):
    """`[policy.gateway]`: what LiteLLM's proxy takes from whom."""

    headers: dict[Header, Name] = Field(default_factory=lambda: dict(DEFAULT_HEADERS))
    """Request headers and the dimensions that they name."""
    trust_headers: bool = True
    """Whether a caller that holds a key may name dimensions in headers."""
    locked: tuple[Name, ...] = ()
    """Dimensions that only the key's and the team's own metadata may set; what a caller claims is marked as forged."""
    bills: bool = False
    """For applications behind a proxy that runs farthing: their own view of its calls is no second bill."""

    @field_validator("headers")
    @classmethod
    def _lower(cls, headers: dict[str, str]) -> dict[str, str]:
        return {name.lower(): canonical_name(dimension) for name, dimension in headers.items()}


class Corroboration(_Table):
    """`[policy.corroboration]`: which tags are written for which providers, to be found on their own bills and logs."""

    providers: tuple[Literal["vertex_ai", "bedrock", "openai", "anthropic"], ...] = ()
    dimensions: tuple[Name, ...] = ("feature", "team", "tenant", "environment")
    hosts: tuple[Host, ...] = ()
    """Hosts of your own that stand before a provider and pass its parameters on; nothing is written to other hosts."""


class PolicyDocument(_Table):
    """`[policy]`: everything about tags that a company decides."""

    environments: dict[Name, EnvironmentRules] = Field(default_factory=dict[str, EnvironmentRules])
    routes: tuple[RouteRules, ...] = ()
    dimensions: dict[Name, DimensionRules] = Field(default_factory=dict[str, DimensionRules])
    renames: tuple[Rename, ...] = ()
    guards: Guards = Field(default_factory=Guards)
    hashing: Hashing = Field(default_factory=Hashing)
    gateway: Gateway = Field(default_factory=Gateway)
    corroboration: Corroboration = Field(default_factory=Corroboration)
    max_tags: Annotated[int, Field(ge=1, le=1_000)] = 64
    """Tags that one place may set."""

    def refuses(self) -> bool:
        """Say whether anything here can refuse a call.

        Raises:
            Nothing.
        """
        actions = [rules.when_missing for rules in (*self.environments.values(), *self.routes) if rules.required]
        actions += [rules.when_unlisted for rules in self.dimensions.values() if rules.values is not None]
        return "reject" in (*actions, self.guards.when_found)
