"""Whether the OTLP endpoints take what farthing sends: an empty export, as protobuf over HTTP."""

from __future__ import annotations

import os
import re
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import httpx

from farthing.otlp import endpoint_from_environment
from farthing_reports.checks import Check

if TYPE_CHECKING:
    from farthing.settings import Settings

__all__ = ["check_export", "destination"]

SIGNALS: Final = ("TRACES", "METRICS")
_TIMEOUT_SECONDS: Final = 2.0
_GRPC_PORT: Final = 4317
_OK: Final = range(200, 300)
_MOVED: Final = range(300, 400)
_FIXES: Final = {
    400: "Check that the endpoint is an OTLP/HTTP receiver.",
    401: "Check the credentials in OTEL_EXPORTER_OTLP_HEADERS.",
    403: "Check the credentials in OTEL_EXPORTER_OTLP_HEADERS.",
    404: "OTEL_EXPORTER_OTLP_ENDPOINT is the base, without /v1/traces; the per-signal variables hold the whole URL.",
    405: "This is a web page, not an OTLP receiver; check host, port and path.",
    415: "The receiver does not take protobuf; use its OTLP/HTTP protobuf port, usually 4318.",
    429: "The backend limits the rate; wait, or put a Collector between.",
}


def destination(signal: str, settings: Settings) -> str | None:
    """Give the URL that farthing's own exporter uses for a signal, TRACES or METRICS.

    Raises:
        Nothing.
    """
    if settings.otlp_endpoint:
        return f"{settings.otlp_endpoint.rstrip('/')}/v1/{signal.lower()}"
    return endpoint_from_environment(signal)


def check_export(settings: Settings) -> list[Check]:
    """Try each endpoint once, both at the same time.

    Raises:
        Nothing.
    """
    found: list[Check] = []
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        text = "OTEL_SDK_DISABLED=true: no spans and no metrics leave; the ledger is written all the same."
        found.append(Check(topic="export", name="export", state="warn", found=text, fix="Unset it to export."))
    wanted = {signal: url for signal in SIGNALS if (url := destination(signal, settings)) is not None}
    if not wanted:
        if not found:
            text = "no OTLP endpoint: spans and metrics go to the application's own providers, if it has any."
            found.append(Check(topic="export", name="export", state="ok", found=text))
        return found
    with ThreadPoolExecutor(len(wanted)) as pool:
        found += pool.map(_check, wanted.keys(), wanted.values())
    return found


def _check(signal: str, url: str) -> Check:
    protocol = _setting("PROTOCOL", signal)
    shown = _shown(url)
    name = signal.lower()
    if protocol == "grpc":
        return Check(
            topic="export",
            name=name,
            state="fail",
            found=f"{shown}: OTEL_EXPORTER_OTLP_PROTOCOL=grpc is not supported; farthing sends OTLP over HTTP.",
            fix="Set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf and the HTTP port, usually 4318.",
        )
    try:
        answer = _post(url, signal)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError):
        fix = "Write a whole URL, e.g. http://localhost:4318"
        return Check(topic="export", name=name, state="fail", found=f"{shown} is no HTTP URL.", fix=fix)
    except (OSError, ssl.SSLError) as error:
        fix = f"Check the file that OTEL_EXPORTER_OTLP_CERTIFICATE names ({type(error).__name__})."
        found = f"{shown}: no certificates to check it by."
        return Check(topic="export", name=name, state="fail", found=found, fix=fix)
    except httpx.HTTPError as error:
        return _unreachable(name, url, error)
    return _judged(name, shown, answer)


def _post(url: str, signal: str) -> int:
    certificate = _setting("CERTIFICATE", signal)
    verify = ssl.create_default_context(cafile=certificate) if certificate else True
    headers = _headers(_setting("HEADERS", signal) or "") | {"content-type": "application/x-protobuf"}
    with httpx.Client(timeout=_TIMEOUT_SECONDS, verify=verify) as client:
        return client.post(url, content=b"", headers=headers).status_code


def _judged(name: str, shown: str, status: int) -> Check:
    if status in _OK:
        return Check(topic="export", name=name, state="ok", found=f"{shown} takes an empty export ({status}).")
    if status in _MOVED:
        fix = "Write the address that it points to; exports do not follow."
        return Check(topic="export", name=name, state="fail", found=f"{shown} redirects ({status}).", fix=fix)
    fix = _FIXES.get(status, "Look into the receiver's log.")
    return Check(topic="export", name=name, state="fail", found=f"{shown} refuses an export ({status}).", fix=fix)


def _unreachable(name: str, url: str, error: httpx.HTTPError) -> Check:
    shown = _shown(url)
    try:
        port = urlsplit(url).port
    except ValueError:
        port = None
    if port == _GRPC_PORT:
        found = f"{shown} does not speak HTTP, or nothing listens there; {_GRPC_PORT} is usually the gRPC port."
        return Check(topic="export", name=name, state="fail", found=found, fix="Use the HTTP port, usually 4318.")
    if isinstance(error, httpx.TimeoutException):
        found = f"{shown} did not answer within {_TIMEOUT_SECONDS:g} s."
        fix = "Check host, port, firewall and proxy variables."
    elif "CERTIFICATE" in str(error).upper():
        found = f"{shown} shows a certificate that is not trusted."
        fix = "Name its authority in OTEL_EXPORTER_OTLP_CERTIFICATE."
    elif isinstance(error, httpx.ConnectError):
        found = f"{shown} cannot be reached: the name does not resolve or nothing listens there."
        fix = "Start the Collector or backend, or mend OTEL_EXPORTER_OTLP_ENDPOINT."
    else:
        found = f"{shown} broke the connection ({type(error).__name__})."
        fix = "Check that the endpoint is an OTLP/HTTP receiver; https or http may be wrong."
    return Check(topic="export", name=name, state="fail", found=found, fix=fix)


def _setting(name: str, signal: str) -> str | None:
    """Give an OTLP variable: the signal's own goes before the common one."""
    return os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_{name}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}")


def _headers(text: str) -> dict[str, str]:
    """Read `name=value,name=value`, percent-encoded, as the OpenTelemetry specification has it."""
    pairs = (part.partition("=") for part in text.split(","))
    return {
        unquote(name.strip()).lower(): unquote(value.strip())
        for name, equals, value in pairs
        if equals and re.fullmatch(r"[!-~]+", name.strip())
    }


def _shown(url: str) -> str:
    """Show a URL without what may be a secret: user, password, query."""
    return re.sub(r"//[^/@]*@", "//***@", url.partition("?")[0])
