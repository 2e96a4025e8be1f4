"""A range of the ledger, sent to an OTLP endpoint again: the same spans under the same ids."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from pydantic import ValidationError

from farthing.envelope import Call
from farthing.otlp import Connection, Destination
from farthing.sinks.spans import SpanSink
from farthing_reports.faults import CommandError
from farthing_reports.ledger import Ledger
from farthing_reports.report import MOMENT_SQL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["Replayed", "replay"]

_BATCH: Final = 512
_TRIES: Final = 5
_LONGEST_WAIT_SECONDS: Final = 30.0


@dataclass(slots=True)
class Replayed:
    """What was sent."""

    sent: int = 0
    refused: int = 0
    """Calls in batches that the receiver cannot read."""
    damaged: int = 0
    """Lines of the range that are no calls."""


def replay(ledger: Ledger, url: str, *, prefix: str, since: datetime, until: datetime | None) -> Replayed:
    """Send the calls of a range; scopes are not in the ledger and stay unsent.

    Args:
        ledger: Where the calls are.
        url: The whole URL for traces.
        prefix: What attribution attributes start with.
        since: The first moment at which a call may have started, aware.
        until: The moment before which it must have started, aware; None is the end.

    Raises:
        CommandError: The endpoint is none, or does not take what it is sent.
    """
    try:
        connection = Connection(Destination.of("TRACES", url))
    except ValueError as error:
        raise CommandError(f"--endpoint: {error}") from None
    sink = SpanSink(tracer=lambda: None, prefix=prefix)
    resources: dict[tuple[str | None, str | None], Resource] = {}
    done = Replayed()
    batch: list[Call] = []
    try:
        for call in _calls(ledger, since, until, done):
            batch.append(call)
            if len(batch) == _BATCH:
                _send(connection, sink, batch, resources, done)
                batch = []
        if batch:
            _send(connection, sink, batch, resources, done)
    finally:
        connection.close()
    return done


def _calls(ledger: Ledger, since: datetime, until: datetime | None, done: Replayed) -> Iterator[Call]:
    """Read a file at a time: the ledger may be larger than the memory."""
    bounds = [since, until] if until is not None else [since]
    parameters = [int(bound.timestamp()) * 1_000_000 + bound.microsecond for bound in bounds]
    before = "" if until is None else "AND moment < make_timestamp($2::BIGINT)"
    sql = f"""
    , told AS (SELECT json, json->>'started_at' AS started_at FROM lines)
    , timed AS (SELECT json, {MOMENT_SQL} AS moment FROM told)
    SELECT json FROM timed WHERE moment >= make_timestamp($1::BIGINT) {before} ORDER BY moment
    """  # noqa: S608 - nothing of the user's is in it
    for path in ledger.files:
        rows, _ = Ledger(ledger.folder, (path,)).query(sql, {}, parameters)
        for (line,) in rows:
            try:
                yield Call.model_validate_json(str(line))
            except ValidationError:
                done.damaged += 1


def _send(
    connection: Connection,
    sink: SpanSink,
    calls: list[Call],
    resources: dict[tuple[str | None, str | None], Resource],
    done: Replayed,
) -> None:
    spans = [sink.replayed(call, _resource(call, resources)) for call in calls]
    body = encode_spans(spans).SerializeToString()
    wait = 1.0
    for attempt in range(1, _TRIES + 1):
        answer = connection.post(body, timeout_seconds=connection.destination.timeout_seconds)
        if answer.verdict == "taken":
            done.sent += len(calls)
            return
        if answer.verdict == "refused":
            done.refused += len(calls)
            return
        if answer.verdict == "too-large" and len(calls) > 1:
            middle = len(calls) // 2
            _send(connection, sink, calls[:middle], resources, done)
            _send(connection, sink, calls[middle:], resources, done)
            return
        if attempt == _TRIES:
            started = calls[0].started_at.isoformat()
            raise CommandError(
                f"the endpoint does not take it ({answer.reason}); {done.sent} calls were sent. "
                f"Go on with --since {started} once it does; what arrives twice has the same ids."
            )
        time.sleep(min(answer.retry_after_seconds or wait, _LONGEST_WAIT_SECONDS))
        wait *= 2


def _resource(call: Call, known: dict[tuple[str | None, str | None], Resource]) -> Resource:
    key = (call.service_name, call.service_instance_id)
    if key not in known:
        told = {"service.name": call.service_name or "unknown_service", "service.instance.id": call.service_instance_id}
        known[key] = Resource({name: value for name, value in told.items() if value is not None})
    return known[key]
