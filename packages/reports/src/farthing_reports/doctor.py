"""What is configured here, where it exports, and whether that works."""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import farthing
from farthing.errors import ConfigurationError, PriceDataError
from farthing.otlp import BadEndpointError, Destination
from farthing.settings import FILE_NAME, Settings, load_settings
from farthing_reports.checks import Check
from farthing_reports.endpoints import check_export, destination
from farthing_reports.faults import CommandError
from farthing_reports.ledger import find_ledger
from farthing_reports.neighbours import check_neighbours

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["examine"]

_PLUGINS: Final = {"litellm": "farthing-litellm", "langchain-core": "farthing-langchain", "crewai": "farthing-crewai"}
"""Framework to plugin; the oldest version that works stands in the plugin's own metadata."""
_LITTLE_SPACE_BYTES: Final = 100_000_000
_LONG_WAIT_SECONDS: Final = 300.0
_STRANDED_SECONDS: Final = 3_600.0
_SECRET: Final = re.compile(r"//[^/@]*@")


def examine(*, now: datetime | None = None) -> list[Check]:
    """Look at everything that decides whether calls are recorded, priced and exported.

    Args:
        now: Aware; None is the clock's.

    Raises:
        Nothing: what goes wrong is a check that failed.
    """
    moment = datetime.now(UTC) if now is None else now
    checks = [_versions()]
    try:
        settings = load_settings({})
    except ConfigurationError as error:
        fix = "Mend it; until then farthing runs on its defaults in every process that does not call configure()."
        checks.append(Check(topic="configuration", name="settings", state="fail", found=str(error), fix=fix))
        settings = Settings()
    else:
        checks += _configuration(settings, os.environ)
    checks += _frameworks()
    exports = check_export(settings)
    checks += _ledger(settings, exported=any(check.state == "ok" and check.name != "export" for check in exports))
    checks += exports
    checks += _spool(settings, exported=any(check.name in {"traces", "metrics"} for check in exports))
    checks.append(_prices(settings, moment))
    checks += check_neighbours(os.environ)
    return checks


def _versions() -> Check:
    found = f"farthing {farthing.__version__}, Python {platform.python_version()}, {platform.system()}"
    return Check(topic="configuration", name="version", state="ok", found=found)


def _configuration(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    """Name every setting that is not a default, and the place that it comes from."""
    yield Check(topic="configuration", name="file", state="ok", found=_file(environ))
    without = {name: value for name, value in environ.items() if not name.startswith("FARTHING_")}
    if "FARTHING_CONFIG" in environ:
        without["FARTHING_CONFIG"] = environ["FARTHING_CONFIG"]
    try:
        from_file = load_settings({}, environ=without)
    except ConfigurationError:  # the file alone may be incomplete: a variable declares what it uses
        from_file = Settings()
    defaults = Settings()
    for key in Settings.model_fields:
        value = getattr(settings, key)
        variable = f"FARTHING_{key.upper()}"
        if key != "prices" and variable in environ:
            place = variable
        elif getattr(from_file, key) != getattr(defaults, key):
            place = "file"
        else:
            continue
        shown = "set" if key == "prices" else _SECRET.sub("//***@", _short(value))
        yield Check(topic="configuration", name=key, state="ok", found=f"{shown} (from {place})")
    if not settings.enabled:
        yield Check(
            topic="configuration",
            name="enabled",
            state="warn",
            found="farthing is switched off: no call is recorded.",
            fix="Remove FARTHING_ENABLED=false, or the key enabled.",
        )


def _file(environ: Mapping[str, str]) -> str:
    named = environ.get("FARTHING_CONFIG")
    if named:
        return f"{named} (from FARTHING_CONFIG)"
    if (Path.cwd() / FILE_NAME).is_file():
        return str(Path.cwd() / FILE_NAME)
    project = Path.cwd() / "pyproject.toml"
    try:
        if project.is_file() and "[tool.farthing" in project.read_text(encoding="utf-8"):
            return f"[tool.farthing] of {project}"
    except (OSError, ValueError):
        pass
    return f"no {FILE_NAME} in {Path.cwd()}: environment and defaults only"


def _short(value: object) -> str:
    """Write a setting as its variable would hold it."""
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value)
        return ", ".join(f"{name}={each}" for name, each in pairs.items())
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in cast("tuple[object, ...]", value))
    return str(value)


def _frameworks() -> list[Check]:
    found = [
        _framework(name, plugin, version)
        for name, plugin in _PLUGINS.items()
        if (version := installed_version(name)) is not None
    ]
    if found:
        return found
    return [
        Check(
            topic="frameworks",
            name="none",
            state="warn",
            found="None of litellm, langchain-core and crewai is installed beside this command.",
            fix="Install farthing-reports into your application's environment to have it checked.",
        )
    ]


def _framework(name: str, plugin: str, version: str) -> Check:
    plugin_version = installed_version(plugin)
    if plugin_version is None:
        found = f"{version}, without {plugin}: its calls are not recorded."
        return Check(topic="frameworks", name=name, state="warn", found=found, fix=f"pip install {plugin}")
    floor = _floor(plugin, name)
    if floor is not None and _numbers(version) < _numbers(floor):
        found = f"{version} is older than {floor}, the oldest version that {plugin} supports."
        return Check(topic="frameworks", name=name, state="fail", found=found, fix=f'pip install -U "{name}>={floor}"')
    supported = "" if floor is None else f" (from {floor} on)"
    return Check(
        topic="frameworks", name=name, state="ok", found=f"{version}, with {plugin} {plugin_version}{supported}"
    )


def installed_version(name: str) -> str | None:
    """Give the version of an installed distribution, without importing it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _floor(plugin: str, framework: str) -> str | None:
    for requirement in metadata.requires(plugin) or ():
        match = re.match(rf"{re.escape(framework)}\s*(?:\[[^]]*\])?\s*\(?[^;]*?>=\s*([0-9][0-9.]*)", requirement)
        if match is not None and "extra ==" not in requirement:
            return match[1]
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """Give the release part of a version: 1.14.7rc1 counts as 1.14.7."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _ledger(settings: Settings, *, exported: bool) -> list[Check]:
    if settings.ledger == "off":
        return [
            Check(topic="ledger", name="ledger", state="ok", found="switched off; calls are only exported.")
            if exported
            else Check(
                topic="ledger",
                name="ledger",
                state="fail",
                found="switched off, and no OTLP endpoint answers: calls are recorded nowhere.",
                fix="Remove FARTHING_LEDGER=off (or the key ledger), or set OTEL_EXPORTER_OTLP_ENDPOINT.",
            )
        ]
    from farthing.runtime import ledger_folder  # noqa: PLC0415 - it brings the whole core along

    folder = ledger_folder(settings)
    found = [_writable(folder)]
    if folder.is_dir():
        found += _private("folder's permissions", folder)
        try:
            ledger = find_ledger(folder)
        except CommandError:
            return found
        size = f"{len(ledger.files):,} files, {ledger.size_bytes / 1e6:,.1f} MB" if ledger.files else "no calls yet"
        found.append(Check(topic="ledger", name="content", state="ok", found=size))
    return found


def _spool(settings: Settings, *, exported: bool) -> Iterator[Check]:
    """Say what waits to be sent, for how long, and what was put aside."""
    from farthing.runtime import spool_folder  # noqa: PLC0415 - it brings the whole core along
    from farthing.sinks.segments import spool_contents  # noqa: PLC0415 - see above

    folder = spool_folder(settings)
    if folder is None:
        if exported:
            fix = "Remove FARTHING_SPOOL=off, or name a folder in FARTHING_SPOOL where the ledger is off."
            found = "switched off: what cannot be sent waits in memory, and ends with its process."
            yield Check(topic="export", name="spool", state="warn", found=found, fix=fix)
        return
    if not folder.is_dir():
        return
    yield from _private("spool's permissions", folder)
    held = spool_contents(folder, _tags(settings))
    if not held.segments:
        yield Check(topic="export", name="spool", state="ok", found="empty: everything was sent.")
    else:
        waited = (
            f"{held.size_bytes / 1e6:,.1f} MB in {held.segments} files, the oldest for {held.oldest_seconds:,.0f} s"
        )
        old = held.oldest_seconds > _LONG_WAIT_SECONDS
        fix = "Bring the endpoint back; whatever process exports there next sends it." if old else None
        yield Check(topic="export", name="spool", state="warn" if old else "ok", found=f"waiting: {waited}", fix=fix)
    if held.foreign_seconds > _STRANDED_SECONDS:
        found = f"{held.foreign} files wait for an endpoint or tenant that these settings do not name"
        fix = f"Export there once more, or look into {folder}; farthing replay sends what the ledger has anywhere."
        yield Check(topic="export", name="stranded", state="warn", found=found, fix=fix)
    if held.quarantined:
        found = f"{len(held.quarantined)} files put aside: {', '.join(held.quarantined[:3])}"
        fix = f"Look into {folder / 'quarantine'}; farthing replay sends what the ledger has. Then remove them."
        yield Check(topic="export", name="quarantine", state="warn", found=found, fix=fix)


def _tags(settings: Settings) -> frozenset[str]:
    """Give the tags of the destinations that these settings name."""
    found: set[str] = set()
    for signal in ("TRACES", "METRICS"):
        url = destination(signal, settings)
        with suppress(BadEndpointError):
            found |= {Destination.of(signal, url).tag} if url else set()
    return frozenset(found)


def _private(name: str, folder: Path) -> Iterator[Check]:
    """Warn of a folder that was there before farthing, or was opened since: who may write in it may remove bills."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        may = "write to" if mode & 0o022 else "list"
        found = f"{folder}: other users may {may} it (mode {mode:o}); the files in it are private."
        yield Check(topic="ledger", name=name, state="warn", found=found, fix=f"chmod 700 {folder}")


def _writable(folder: Path) -> Check:
    """Write a file where the ledger would be; a folder that does not exist yet is tried in its nearest parent."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".farthing-doctor-", dir=existing) as probe:
            (Path(probe) / "probe").write_bytes(b"{}\n")
        free = shutil.disk_usage(existing).free
    except OSError as error:
        reason = error.strerror or type(error).__name__
        found = f"{folder} cannot be written ({reason}): calls that finish are lost to the ledger."
        fix = f"Make {existing} writable, or set FARTHING_LEDGER to another folder."
        return Check(topic="ledger", name="folder", state="fail", found=found, fix=fix)
    if free < _LITTLE_SPACE_BYTES:
        found = f"{folder} can be written, but only {free / 1e6:,.0f} MB are free."
        return Check(topic="ledger", name="folder", state="warn", found=found, fix="Make room, or move the ledger.")
    state = "can be written" if folder.is_dir() else "does not exist yet and can be created"
    return Check(topic="ledger", name="folder", state="ok", found=f"{folder} {state}")


def _prices(settings: Settings, now: datetime) -> Check:
    from farthing.pricing import default_book  # noqa: PLC0415 - it loads the price data
    from farthing.pricing.installed import with_installed  # noqa: PLC0415 - as above

    try:
        book = default_book(with_installed(settings.prices))
    except PriceDataError as error:
        installed = settings.prices.file is None
        fix = "Run: farthing prices reset" if installed else "Mend or remove the key prices.file."
        return Check(topic="prices", name="price data", state="fail", found=str(error), fix=fix)
    version = f"{book.data_source} {book.data_version}"
    try:
        released = date.fromisoformat(str(book.catalog.manifest.get("released")))
    except ValueError:
        return Check(topic="prices", name="price data", state="ok", found=f"{version}, of unknown age")
    age = (now.astimezone(UTC).date() - released).days
    found = f"{version}, of {released} ({age} days old)"
    if age > settings.prices.max_age_days:
        fix = "Update farthing (pip install -U farthing), or take newer data: farthing prices use FILE."
        return Check(
            topic="prices", name="price data", state="warn", found=f"{found}: prices may have changed.", fix=fix
        )
    return Check(topic="prices", name="price data", state="ok", found=found)
