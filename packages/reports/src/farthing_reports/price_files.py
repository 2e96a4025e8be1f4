"""Price files of the user's own: fetched, checked, put in force, and removed again."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from farthing.pricing.files import read_catalog
from farthing.pricing.installed import installed_file
from farthing_reports.faults import CommandError
from farthing_reports.progress import advancing

if TYPE_CHECKING:
    from collections.abc import Callable

    from farthing.pricing import PricesSettings
    from farthing.pricing.catalog import Catalog
    from farthing_reports.in_force import InForce

__all__ = ["PriceFile", "check_pin", "fetch_prices", "install_prices", "read_prices", "remove_installed", "write_whole"]

_MOST_BYTES: Final = 64 * 1024 * 1024
_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
_DEADLINE_SECONDS: Final = 300.0
_MOST_REDIRECTS: Final = 5
_FAILED: Final = 400


@dataclass(frozen=True, slots=True)
class PriceFile:
    """Price data that was read whole and found sound."""

    data: bytes
    catalog: Catalog

    @property
    def sha256(self) -> str:
        """Give the hash of the file."""
        return hashlib.sha256(self.data).hexdigest()


def read_prices(path: Path, *, sha256: str | None = None) -> PriceFile:
    """Read a price file, once, and check it.

    Args:
        path: The file.
        sha256: What it must hash to.

    Raises:
        CommandError: It cannot be read, or the hash is none.
        PriceDataError: It is cut off, of another format, has another hash, or has absurd prices.
    """
    wanted = _digest(sha256)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CommandError(f"{path}: is larger than {_MOST_BYTES:,} bytes; no price file is")
        data = path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: cannot be read ({error.strerror or error}); check its name") from None
    return PriceFile(data, read_catalog(data, sha256=wanted, name=str(path)))


def fetch_prices(source: str, *, sha256: str | None = None) -> PriceFile:
    """Read price data from a URL or a file, and check it.

    Args:
        source: `https://...`, `http://...` with a hash, or a path.
        sha256: What the data must hash to.

    Raises:
        CommandError: It cannot be read, or may not be trusted without a hash.
        PriceDataError: It is cut off, of another format, has another hash, or has absurd prices.
    """
    if not re.match(r"[a-z][a-z0-9+.-]*://", source, re.IGNORECASE):
        return read_prices(Path(source).expanduser(), sha256=sha256)
    wanted = _digest(sha256)
    shown = _shown(source)
    try:
        data = _download(source, pinned=wanted is not None)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError):
        raise CommandError(f"{shown}: is no http or https address; write one, or the path of a file") from None
    except httpx.TooManyRedirects:
        raise CommandError(f"{shown}: leads from address to address without an end") from None
    except httpx.TimeoutException:
        raise CommandError(f"{shown}: does not answer in time; try again, or fetch it yourself") from None
    except httpx.ConnectError:
        raise CommandError(f"{shown}: cannot be reached; check host and port") from None
    except httpx.DecodingError:
        raise CommandError(f"{shown}: came damaged: its compression does not hold") from None
    except httpx.HTTPError as error:
        raise CommandError(f"{shown}: broke off before it was whole ({type(error).__name__}); try again") from None
    return PriceFile(data, read_catalog(data, sha256=wanted, name=shown))


def install_prices(new: PriceFile, prices: InForce) -> Path:
    """Put price data in force: where the setting prices.file points, else in the per-user state folder.

    The file is replaced at once and whole; running processes take it over, and a file that the settings name keeps its
    predecessor beside it as `<name>.previous`.

    Args:
        new: The data.
        prices: What is in force now.

    Returns:
        Where it is.

    Raises:
        CommandError: prices.sha256 names another hash, or the file cannot be written.
    """
    check_pin(new, prices.settings)
    target = installed_file()
    if prices.origin == "configured" and prices.file is not None:
        target = prices.file
        if target.is_file():
            _written(target, lambda: shutil.copy2(target, target.with_name(f"{target.name}.previous")))
    write_whole(target, new.data)
    return target


def check_pin(new: PriceFile, settings: PricesSettings) -> None:
    """Hold price data against the setting prices.sha256.

    Raises:
        CommandError: It names another hash.
    """
    if settings.sha256 is not None and settings.sha256.strip().lower() != new.sha256:
        raise CommandError(
            f"prices.sha256: names {settings.sha256}, but this file has {new.sha256}; change the setting first"
        )


def remove_installed() -> bool:
    """Remove the installed price file.

    Returns:
        Whether there was one.

    Raises:
        CommandError: It cannot be removed.
    """
    path = installed_file()
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CommandError(f"{path}: cannot be removed ({error.strerror or error})") from None
    return True


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees a part of it.

    Raises:
        CommandError: It cannot be written.
    """
    _written(path, lambda: _replace(path, data))


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):
            temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _written(path: Path, step: Callable[[], object]) -> None:
    try:
        step()
    except OSError as error:
        raise CommandError(f"{path}: cannot be written ({error.strerror or error}); name another place") from None


def _download(url: str, *, pinned: bool) -> bytes:
    """Read the whole answer, within bounds of size and time."""
    ends = time.monotonic() + _DEADLINE_SECONDS
    shown = _shown(url)
    if not pinned:
        _check_transport(httpx.URL(url), shown)
    data = bytearray()
    with (
        httpx.Client(timeout=_TIMEOUT, follow_redirects=True, max_redirects=_MOST_REDIRECTS) as client,
        client.stream("GET", url) as answer,
    ):
        if answer.status_code >= _FAILED:
            raise CommandError(f"{shown}: answers {answer.status_code}; check the address")
        if not pinned:
            for step in (*answer.history, answer):
                _check_transport(step.url, shown)
        length = answer.headers.get("content-length", "")
        with advancing(f"reading {shown}", int(length) if length.isdigit() else None) as advance:
            for chunk in answer.iter_bytes():
                data += chunk
                advance(len(chunk))
                if len(data) > _MOST_BYTES:
                    raise CommandError(f"{shown}: is larger than {_MOST_BYTES:,} bytes; no price file is")
                if time.monotonic() > ends:
                    raise CommandError(f"{shown}: takes longer than {_DEADLINE_SECONDS:g} seconds; fetch it yourself")
    return bytes(data)


def _check_transport(url: httpx.URL, shown: str) -> None:
    """Refuse what anybody on the way could have changed."""
    if url.scheme == "http" and url.host and not _is_loopback(url.host):
        raise CommandError(
            f"{shown}: goes over plain http, where anybody may change it; use https, or say --sha256 HEX"
        )


def _digest(text: str | None) -> str | None:
    if text is None:
        return None
    plain = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise CommandError(f"--sha256: {text!r} is no SHA-256; it has 64 hexadecimal digits")
    return plain


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(url: str) -> str:
    """Show a URL without what may be a secret: user, password, query."""
    return re.sub(r"//[^/@]*@", "//***@", url.partition("?")[0])
