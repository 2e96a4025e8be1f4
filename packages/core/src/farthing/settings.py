"""What can be set, and from where: configure() > FARTHING_* and OTEL_* variables > farthing.toml > defaults.

Every fault is raised as one sentence that names the place, the key and what would be accepted.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StringConstraints, ValidationError, field_validator

from farthing.dimensions import canonical_name
from farthing.envelope import DIMENSIONS
from farthing.errors import ConfigurationError
from farthing.explaining import explained, near
from farthing.policy import PolicyDocument
from farthing.policy.consistency import refuse_contradictions
from farthing.pricing import PricesSettings
from farthing.rules import policy_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["RELOADED", "Settings", "load_settings", "settings_file"]

DimensionName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]

FILE_NAME: Final = "farthing.toml"
_LIST_VARIABLES: Final = frozenset({"extra_dimensions", "metric_dimensions"})
_TABLE_VARIABLES: Final = frozenset({"defaults", "aliases"})
_FILE_ONLY: Final = frozenset({"prices", "policy"})

RELOADED: Final = frozenset({"policy", "enforce", "aliases", "extra_dimensions", "defaults"})
"""What a change of the file puts in force without a restart."""


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was removed
        return Path()


class Settings(BaseModel):
    """Everything that can be set; each key is also `FARTHING_<KEY>` and a key of farthing.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    """False: plugins do nothing at all."""
    service_name: str | None = None
    """None: OTEL_SERVICE_NAME."""
    ledger: str | None = None
    """A folder; None is the platform's per-user state folder, "off" keeps no ledger."""
    ledger_segment_megabytes: Annotated[int, Field(ge=1, le=4_096)] = 64
    """The size at which a process begins a new file."""
    ledger_segment_minutes: Annotated[float, Field(gt=0, le=1_440)] = 60.0
    """The age at which a process begins a new file."""
    ledger_fsync: bool = False
    """True: every batch is forced to the disk, so that a crash of the machine costs no more than one of the process."""
    ledger_retention_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    """Files of the ledger that are older are removed; None keeps all."""
    spool: str | None = None
    """A folder for what could not be sent; None is `spool` in the ledger's folder, "off" keeps it in memory alone."""
    spool_max_megabytes: Annotated[int, Field(ge=1, le=1_048_576)] = 256
    spool_max_age_hours: Annotated[float, Field(gt=0, le=8_760)] = 168.0
    otlp_endpoint: str | None = None
    """Base URL of an OTLP/HTTP receiver; None: the standard OTEL_EXPORTER_OTLP_* variables decide."""
    attribution_prefix: str = "attribution"
    """What attribution attributes start with; empty gives bare `feature`, `route`, ..."""
    defaults: dict[str, str] = Field(default_factory=dict[str, str])
    """Process defaults: dimension to value."""
    extra_dimensions: tuple[DimensionName, ...] = ()
    """Dimensions beside the standard ones."""
    aliases: dict[str, str] = Field(default_factory=dict[str, str])
    """Further spellings: spelling to dimension."""
    metric_dimensions: tuple[str, ...] = ("feature", "route", "task_type", "team", "environment", "plan")
    """Dimensions that become metric labels; keep tenants and users out, their number has no bound."""
    queue_size: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000
    """Events that may wait for the worker."""
    max_open_calls: Annotated[int, Field(ge=100, le=10_000_000)] = 50_000
    call_timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] = 900.0
    """The age at which a call that nobody ended is closed as abandoned."""
    estimate_unreported: bool = False
    """True: calls whose usage never arrives (left, cancelled, cut off) get an estimate, apart from what is billed."""
    ask_for_usage: bool = False
    """True: streams that would come without usage ask the provider for it, with `stream_options.include_usage`."""
    exit_timeout_seconds: Annotated[float, Field(ge=0, le=300)] = 2.0
    """How long the end of the process may wait for a backend. Calls that still are in the queue (none, but after a
    burst of thousands a second) are written down first, at about a tenth of a millisecond each."""
    handle_sigterm: bool = True
    """Deliver before SIGTERM ends the process, where the application does not handle it; False: it ends at once."""
    prices: PricesSettings = Field(default_factory=PricesSettings)
    enforce: bool = True
    """False: whatever the policy says, no call is ever refused; `reject` then only warns."""
    policy: PolicyDocument = Field(default_factory=PolicyDocument)
    """Which tags exist, which are required where, and how they are written."""
    _started_in: Path = PrivateAttr(default_factory=_working_folder)

    @field_validator("defaults", "aliases")
    @classmethod
    def _short_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not name or len(name) > 64:  # noqa: PLR2004 - a name, not a text
                message = "names are 1 to 64 characters long"
                raise ValueError(message)
        return value

    def folder(self, name: str) -> Path:
        """Give the place of a folder that a setting names; a relative one is where the process was at the start.

        Args:
            name: A path; `~` is the user's home.

        Raises:
            RuntimeError: There is no home.
        """
        return self._started_in / Path(name).expanduser()

    def dimensions(self) -> frozenset[str]:
        """Give all dimensions, standard and declared."""
        return frozenset((*DIMENSIONS, *self.extra_dimensions))


def load_settings(
    arguments: Mapping[str, object], *, environ: Mapping[str, str] | None = None, path: Path | None = None
) -> Settings:
    """Read all sources and merge them, the strongest last.

    Args:
        arguments: What was given to configure().
        environ: The environment; None is the process's.
        path: The file to read and no other; None finds it.

    Raises:
        ConfigurationError: A file cannot be read, a key is unknown or a value does not fit.
    """
    variables = os.environ if environ is None else environ
    merged: dict[str, Any] = {}
    places: dict[str, str] = {}
    path, table = _read_file(variables) if path is None else (path, _read_named(path))
    for source, values in (
        (str(path), table),
        ("environment", _read_variables(variables)),
        ("configure()", arguments),
    ):
        for key, value in values.items():
            merged[key] = value
            places[key] = f"FARTHING_{key.upper()}" if source == "environment" else source
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise ConfigurationError(explained(error.errors()[0], places, root=Settings)) from None
    _check_names(settings, places)
    return settings


def settings_file(*, environ: Mapping[str, str] | None = None) -> Path | None:
    """Give the file that settings are read from, None where there is none.

    Args:
        environ: The environment; None is the process's.

    Raises:
        Nothing.
    """
    variables = os.environ if environ is None else environ
    path = Path(variables.get("FARTHING_CONFIG") or _working_folder() / FILE_NAME)
    if variables.get("FARTHING_CONFIG") or path.is_file():
        return path.absolute()
    pyproject = _working_folder() / "pyproject.toml"
    return pyproject if pyproject.is_file() else None


def _read_file(variables: Mapping[str, str]) -> tuple[Path | None, Mapping[str, Any]]:
    named = variables.get("FARTHING_CONFIG")
    path = Path(named) if named else _working_folder() / FILE_NAME
    if not named and not path.is_file():
        return _read_pyproject()
    return path, _parse(path)


def _read_pyproject() -> tuple[Path | None, Mapping[str, Any]]:
    path = _working_folder() / "pyproject.toml"
    if not path.is_file():
        return None, {}
    try:
        table: object = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("tool", {}).get("farthing", {})
    except (OSError, ValueError):
        return None, {}  # a pyproject.toml of somebody else's that does not parse is theirs to mend
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: [tool.farthing] must be a table")
    return path, cast("dict[str, Any]", table)


def _read_named(path: Path) -> Mapping[str, Any]:
    table = _parse(path)
    if path.name != "pyproject.toml":
        return table
    tool: object = table.get("tool", {})
    found: object = cast("dict[str, Any]", tool).get("farthing", {}) if isinstance(tool, dict) else {}
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path}: [tool.farthing] must be a table")
    return cast("dict[str, Any]", found)


def _parse(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}. Mend the line or remove the file.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8 text. Save the file as UTF-8.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"{path}: cannot be read ({reason}). Mend FARTHING_CONFIG or the permissions."
        ) from None


def _read_variables(variables: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key in Settings.model_fields:
        raw = variables.get(f"FARTHING_{key.upper()}")
        if raw is None or key in _FILE_ONLY:
            continue
        if key in _LIST_VARIABLES:
            found[key] = tuple(part.strip() for part in raw.split(",") if part.strip())
        elif key in _TABLE_VARIABLES:
            found[key] = _pairs(f"FARTHING_{key.upper()}", raw)
        else:
            found[key] = raw
    return found


def _pairs(variable: str, raw: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in raw.split(","):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigurationError(f"{variable}: {part.strip()[:40]!r} is no pair; write name=value,name=value")
        pairs[name.strip()] = value.strip()
    return pairs


def _check_names(settings: Settings, places: Mapping[str, str]) -> None:
    dimensions = settings.dimensions()
    named = (
        ("defaults", [settings.aliases.get(canonical_name(n), canonical_name(n)) for n in settings.defaults]),
        ("aliases", list(settings.aliases.values())),
        ("metric_dimensions", list(settings.metric_dimensions)),
        *_names_in_policy(settings.policy),
    )
    for key, names in named:
        for written in names:
            name = written
            if key.startswith("policy"):
                name = settings.aliases.get(canonical_name(written), canonical_name(written))
            if name not in dimensions:
                raise ConfigurationError(
                    f"{places.get(key.partition('.')[0], 'farthing')}: {key}: {written!r} is no dimension"
                    f"{near(written, dimensions) or '.'} Declare it in extra_dimensions, or use one of: "
                    + ", ".join(sorted(dimensions))
                )
    for spelling in settings.aliases:
        if spelling in dimensions:
            raise ConfigurationError(
                f"{places.get('aliases', 'farthing')}: aliases: {spelling!r} is a dimension itself and cannot mean "
                f"{settings.aliases[spelling]!r}; remove the line"
            )
    try:
        refuse_contradictions(policy_of(settings, {}))
    except ConfigurationError as error:
        raise ConfigurationError(f"{places.get('policy', 'farthing')}: {error}") from None


def _names_in_policy(policy: PolicyDocument) -> Iterator[tuple[str, list[str]]]:
    for name, rules in policy.environments.items():
        yield f"policy.environments.{name}.required", list(rules.required)
        yield f"policy.environments.{name}.defaults", list(rules.defaults)
    for rule in policy.routes:
        yield f"policy.routes ({rule.pattern}).required", list(rule.required)
    yield "policy.dimensions", list(policy.dimensions)
    yield "policy.renames", [rename.dimension for rename in policy.renames]
    yield "policy.hashing.dimensions", list(policy.hashing.dimensions)
    yield "policy.corroboration.dimensions", list(policy.corroboration.dimensions)
    yield "policy.gateway.headers", list(policy.gateway.headers.values())
    yield "policy.gateway.locked", list(policy.gateway.locked)
