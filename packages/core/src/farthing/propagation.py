"""Tags across processes: a small header for queues and trusted services, and the way back from it.

Nothing here is sent by itself, and nothing received is believed unless somebody asks for it. W3C baggage is written and
read only for the dimensions that a call names: it travels on to wherever an instrumented HTTP client goes
(open-telemetry/opentelemetry-specification issue 3957), providers of models among them.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from farthing.context import current, enter_request
from farthing.counting import counters
from farthing.dimensions import canonical_name
from farthing.policy.values import MAX_LENGTH, as_text

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from opentelemetry.context import Context

__all__ = ["BAGGAGE", "HEADER", "export_context", "parse_tags", "resume", "tags_from_baggage", "trace_context"]

HEADER: Final = "x-farthing-context"
BAGGAGE: Final = "baggage"

_MAX_BYTES: Final = 4_096
_MAX_PAIRS: Final = 64
_MAX_BAGGAGE_BYTES: Final = 8_192  # W3C Baggage, limits
_MAX_BAGGAGE_PAIRS: Final = 180
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TRACE: Final = TraceContextTextMapPropagator()
_TRACE_HEADERS: Final = ("traceparent", "tracestate")
_PROVIDERS: Final = re.compile(
    r"(?:^|\.)(?:openai\.com|openai\.azure\.com|anthropic\.com|amazonaws\.com|googleapis\.com|mistral\.ai|cohere\.(?:ai|com)"
    r"|groq\.com|x\.ai|deepseek\.com|perplexity\.ai|openrouter\.ai|together\.(?:ai|xyz)|fireworks\.ai|cerebras\.ai"
    r"|services\.ai\.azure\.com|models\.ai\.azure\.com|ai21\.com|huggingface\.co|replicate\.com)$"
)


def export_context(*, to: str | None = None, baggage: Iterable[str] = ()) -> dict[str, str]:
    """Write the tags in force here, and the place in the trace, into a few headers for a queue or a service of yours.

    Args:
        to: The URL or host that the headers are for; for a provider of models the result is empty.
        baggage: Dimensions that W3C baggage may carry as well, for services that know no farthing.

    Returns:
        `x-farthing-context` (at most 4 KiB), `traceparent`, and `baggage` where asked for. Give it to `resume`.

    Raises:
        Nothing: what cannot travel is left out and counted in `farthing.health().context`.
    """
    if to is not None and _is_provider(to):
        counters.add("context", "kept-from-provider")
        return {}
    headers: dict[str, str] = {}
    _TRACE.inject(headers)
    tags = current()
    written = _written(tags, _MAX_BYTES, _MAX_PAIRS)
    if written:
        headers[HEADER] = written
    allowed = {canonical_name(name) for name in baggage}
    if allowed:
        chosen = _written({n: v for n, v in tags.items() if n in allowed}, _MAX_BAGGAGE_BYTES, _MAX_BAGGAGE_PAIRS)
        if chosen:
            headers[BAGGAGE] = chosen
    return headers


@contextmanager
def resume(headers: Mapping[str, object] | None) -> Generator[None]:
    """Go on where `export_context` was called: with its tags, below its span.

    What the headers say is believed: give only those of a sender that you trust.

    Args:
        headers: A mapping that holds what `export_context` gave, among other things; None resumes nothing.

    Raises:
        Nothing: what cannot be used is left out and counted in `farthing.health().context`.
    """
    found = headers or {}
    leave = enter_request(parse_tags(_header(found, HEADER)))
    token = None
    if not trace.get_current_span().get_span_context().is_valid:
        carrier = {name: text for name in _TRACE_HEADERS if isinstance(text := _header(found, name), str)}
        if carrier:
            token = otel_context.attach(_TRACE.extract(carrier))
    try:
        yield
    finally:
        if token is not None:
            otel_context.detach(token)
        leave()


def trace_context(headers: Mapping[str, str]) -> Context | None:
    """Give the context of a remote caller's span; None below a span of this process, or where the headers name none.

    Raises:
        Nothing.
    """
    if trace.get_current_span().get_span_context().is_valid:
        return None
    return _TRACE.extract(headers)


def parse_tags(header: object) -> dict[str, str]:
    """Read the tags of an `x-farthing-context` header.

    Raises:
        Nothing: what cannot be used is counted.
    """
    return _read(header, max_bytes=_MAX_BYTES, max_pairs=_MAX_PAIRS)


def tags_from_baggage(header: object, *, names: Mapping[str, str]) -> dict[str, str]:
    """Read some members of a W3C `baggage` header.

    Args:
        header: As received.
        names: Baggage key to dimension; nothing else is read.

    Raises:
        Nothing: what cannot be used is counted.
    """
    found = _read(header, max_bytes=_MAX_BAGGAGE_BYTES, max_pairs=_MAX_BAGGAGE_PAIRS, names=names)
    return {canonical_name(names[key]): value for key, value in found.items()}


def _written(tags: Mapping[str, object], max_bytes: int, max_pairs: int) -> str:
    pairs: list[str] = []
    size = 0
    for name, raw in tags.items():
        text = as_text(raw)
        if text is None or len(text) > MAX_LENGTH or not _NAME.fullmatch(name):
            counters.add("context", "not-sent:no-tag")
            continue
        pair = f"{name}={quote(text, safe='/:.-_~')}"
        size += len(pair) + 1
        if size > max_bytes or len(pairs) >= max_pairs:
            counters.add("context", "not-sent:too-large")
            break
        pairs.append(pair)
    return ",".join(pairs)


def _read(header: object, *, max_bytes: int, max_pairs: int, names: Mapping[str, str] | None = None) -> dict[str, str]:
    if header is None or header == "":
        return {}
    if isinstance(header, bytes):
        header = header.decode("latin-1")
    if not isinstance(header, str):
        counters.add("context", "refused:not-text")
        return {}
    if len(header) > max_bytes:
        counters.add("context", "refused:too-large")
        return {}
    found: dict[str, str] = {}
    for member in header.split(",", max_pairs)[:max_pairs]:
        name, equals, written = member.partition(";")[0].partition("=")
        name = name.strip()
        if names is not None and name not in names:
            continue
        text = unquote(written.strip(), errors="strict") if _decodes(written) else None
        usable = text is not None and 0 < len(text) <= MAX_LENGTH and text.isprintable()
        if not equals or text is None or not usable or (names is None and not _NAME.fullmatch(name)):
            counters.add("context", "refused:no-tag")
            continue
        found.setdefault(name, text)
    return found


def _decodes(written: str) -> bool:
    try:
        unquote(written, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


def _header(headers: Mapping[str, object], name: str) -> object:
    value = headers.get(name)
    if value is None:
        value = next((v for k, v in list(headers.items())[:500] if str(k).lower() == name), None)
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _is_provider(target: str) -> bool:
    host = urlsplit(target if "//" in target else f"//{target}").hostname or ""
    return bool(_PROVIDERS.search(host))
