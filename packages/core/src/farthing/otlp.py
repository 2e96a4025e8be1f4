"""One OTLP/HTTP receiver: where it is, and how it is spoken to.

The SDK's exporters hide the status and the Retry-After of an answer and drop what they could not send, so requests are
made here, over the standard library's HTTP client. What the answers mean: answers.py.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import re
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, unquote, urlsplit

from farthing.answers import MAX_ANSWER_BYTES, Answer, judged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = [
    "BadEndpointError",
    "Connection",
    "Destination",
    "endpoint_from_environment",
    "halves",
    "spans_in",
]

_DEFAULT_TIMEOUT_SECONDS: Final = 10.0
_VERSION: Final = "0.1.0"
_CREDENTIAL: Final = re.compile(
    r"(?:.*[-_])?(?:authorization|auth|apikey|key|token|secret|password|cookie|credentials?|signature|dsn)"
    r"|x-honeycomb-team"
)
"""Headers that say who sends and not for whom; Honeycomb's is named like a tenant and is the key."""


def endpoint_from_environment(signal: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Give the OTLP endpoint that the standard variables name for a signal, or None where they name none.

    Args:
        signal: TRACES or METRICS.
        environ: The environment; None is the process's.

    Raises:
        Nothing.
    """
    variables = os.environ if environ is None else environ
    if variables.get("OTEL_SDK_DISABLED", "").lower() == "true" or variables.get(f"OTEL_{signal}_EXPORTER") == "none":
        return None
    own = variables.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    if own:
        return own
    base = variables.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return f"{base.rstrip('/')}/v1/{signal.lower()}" if base else None


class BadEndpointError(ValueError):
    """What is named as an endpoint is none; its text says what to write, and nothing of what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where one signal is sent, and what the standard variables say about how."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    timeout_seconds: float = _DEFAULT_TIMEOUT_SECONDS
    compress: bool = False
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None

    @classmethod
    def of(cls, signal: str, url: str, environ: Mapping[str, str] | None = None) -> Destination:
        """Read the standard variables of a signal, its own before the common ones.

        Headers often are credentials: they go to the host that the variables name, and to no other that somebody has
        configured beside them.

        Args:
            signal: TRACES or METRICS.
            url: The whole URL.
            environ: The environment; None is the process's.

        Raises:
            BadEndpointError: The URL is no HTTP URL.
        """
        variables = os.environ if environ is None else environ
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise BadEndpointError("the OTLP endpoint is no HTTP URL; write e.g. http://localhost:4318")

        def setting(name: str) -> str | None:
            return variables.get(f"OTEL_EXPORTER_OTLP_{signal}_{name}") or variables.get(f"OTEL_EXPORTER_OTLP_{name}")

        meant = setting("ENDPOINT")
        named = urlsplit(meant or url)
        own = named.hostname == parts.hostname and (named.scheme != "https" or parts.scheme == "https")
        return cls(
            url=url,
            headers=_parse_headers(setting("HEADERS") or "") if own else {},
            timeout_seconds=_seconds(setting("TIMEOUT")),
            compress=(setting("COMPRESSION") or "").strip().lower() == "gzip",
            certificate=setting("CERTIFICATE"),
            client_certificate=setting("CLIENT_CERTIFICATE"),
            client_key=setting("CLIENT_KEY"),
        )

    @property
    def tag(self) -> str:
        """Give eight digits that tell this receiver and tenant from others, and nothing about either.

        Credentials are left out: what waits while a key is wrong or expired must leave with the one that follows it.
        """
        named = sorted((name, value) for name, value in self.headers.items() if not _CREDENTIAL.fullmatch(name))
        told = "\n".join([self.url, *(f"{name}:{value}" for name, value in named)])
        return hashlib.sha256(told.encode()).hexdigest()[:8]


class Connection:
    """A kept-alive connection to a destination; used by one thread, cut by any.

    Args:
        destination: Where to.
    """

    def __init__(self, destination: Destination) -> None:
        # Loaded here and not by the first request: a child that is forked during an import never gets to the module.
        for name in ("encodings.idna", "urllib.request"):
            import_module(name)
        self.destination: Final = destination
        self._http: http.client.HTTPConnection | None = None
        self._busy_since: float | None = None

    def post(self, body: bytes, *, timeout_seconds: float) -> Answer:
        """Send one request.

        Args:
            body: An encoded export request.
            timeout_seconds: For connecting, and for each silence of the receiver.

        Raises:
            Nothing: what goes wrong is an answer.
        """
        kept = self._http is not None
        self._busy_since = time.monotonic()
        try:
            try:
                return self._exchange(body, timeout_seconds)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.close()
                if not kept:
                    raise
                return self._exchange(body, timeout_seconds)  # the receiver had closed a connection that was idle
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            detail = error.strerror if isinstance(error, OSError) and error.strerror else ""
            return Answer("later", f"{type(error).__name__}{f' ({detail})' if detail else ''}")
        finally:
            self._busy_since = None

    def cut_if_stuck(self) -> None:
        """Cut a request that a receiver keeps alive by a byte now and then; called from another thread.

        Raises:
            Nothing.
        """
        since, standing = self._busy_since, self._http
        if since is None or standing is None or time.monotonic() - since < 2 * self.destination.timeout_seconds:
            return
        if standing.sock is not None:
            with suppress(OSError):
                standing.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close; the next request opens a new one."""
        standing, self._http = self._http, None
        if standing is not None:
            standing.close()

    def _exchange(self, body: bytes, timeout_seconds: float) -> Answer:
        standing = self._http
        if standing is None:
            standing = self._http = self._connection()
        standing.timeout = timeout_seconds
        if standing.sock is not None:
            standing.sock.settimeout(timeout_seconds)
        destination = self.destination
        headers = {
            "Content-Type": "application/x-protobuf",
            "User-Agent": f"farthing/{_VERSION}",
            **destination.headers,
        }
        if destination.compress:
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, 5)
        standing.request("POST", self._target, body, headers)
        response = standing.getresponse()
        told = response.read(MAX_ANSWER_BYTES)
        if not response.isclosed():
            self.close()
        return judged(response.status, response.headers, told)

    def _connection(self) -> http.client.HTTPConnection:
        """Connect, through the proxy that the environment names, if any."""
        parts = urlsplit(self.destination.url)
        path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        host = parts.hostname or ""
        proxy = _proxy(parts)
        self._target = path
        if parts.scheme == "https":
            made = http.client.HTTPSConnection(
                proxy.hostname or "" if proxy else host,
                proxy.port if proxy else parts.port,
                context=_tls(self.destination),
            )
            if proxy is not None:
                made.set_tunnel(host, parts.port or 443)
            return made
        if proxy is None:
            return http.client.HTTPConnection(host, parts.port)
        self._target = f"http://{parts.netloc.rpartition('@')[2]}{path}"
        return http.client.HTTPConnection(proxy.hostname or "", proxy.port)


def _seconds(text: str | None) -> float:
    try:
        seconds = float(text) if text else _DEFAULT_TIMEOUT_SECONDS
    except ValueError:
        return _DEFAULT_TIMEOUT_SECONDS
    return seconds if 0 < seconds < 3600 else _DEFAULT_TIMEOUT_SECONDS  # noqa: PLR2004 - an hour is a mistake


def _parse_headers(text: str) -> dict[str, str]:
    """Read `name=value,name=value`, percent-encoded, as the OpenTelemetry specification has it."""
    pairs = (part.partition("=") for part in text.split(","))
    found = {unquote(name.strip()).lower(): unquote(value.strip()) for name, equals, value in pairs if equals}
    return {
        name: value
        for name, value in found.items()
        if re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", name) and not re.search(r"[\r\n\0]", value)
    }


def _proxy(parts: SplitResult) -> SplitResult | None:
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - loaded by those who export

    address = getproxies().get(parts.scheme)
    if not address or proxy_bypass(parts.hostname or ""):
        return None
    return urlsplit(address if "//" in address else f"http://{address}")


def _tls(destination: Destination) -> ssl.SSLContext:
    """Trust what the variables name, else what the machine trusts, else (a bare container) what certifi brings."""
    context = ssl.create_default_context(cafile=destination.certificate)
    if destination.certificate is None and not context.cert_store_stats()["x509_ca"]:
        with suppress(ImportError):
            import certifi  # noqa: PLC0415 - see above

            context.load_verify_locations(certifi.where())
    if destination.client_certificate is not None:
        context.load_cert_chain(destination.client_certificate, destination.client_key)
    return context


def spans_in(request: bytes) -> int:
    """Count the spans of an encoded export request; one that cannot be read counts as one."""
    parsed = _parsed(request)
    if parsed is None:
        return 1
    return sum(len(scope.spans) for resource in parsed.resource_spans for scope in resource.scope_spans)


def halves(request: bytes) -> tuple[bytes, ...]:
    """Split an export request in two; one of a single span gives nothing, as does one that cannot be read."""
    first, second = _parsed(request), _parsed(request)
    middle = spans_in(request) // 2
    if first is None or second is None or not middle:
        return ()
    for half, (low, high) in ((first, (0, middle)), (second, (middle, None))):
        number = 0
        for resource in half.resource_spans:
            for scope in resource.scope_spans:
                kept = [span for index, span in enumerate(scope.spans, number) if low <= index and _below(index, high)]
                number += len(scope.spans)
                del scope.spans[:]
                scope.spans.extend(kept)
    return first.SerializeToString(), second.SerializeToString()


def _below(index: int, high: int | None) -> bool:
    return high is None or index < high


def _parsed(request: bytes) -> ExportTraceServiceRequest | None:
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - only where one is refused
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415 - only where one is refused
        ExportTraceServiceRequest,
    )

    try:
        return ExportTraceServiceRequest.FromString(request)
    except DecodeError:
        return None
