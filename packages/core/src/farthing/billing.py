"""From a finished run to a Call: who pays, how much, and which of two layers bills. Runs on the worker alone."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import SpanKind

from farthing import semconv
from farthing.envelope import Call, Cost, Scope, Usage
from farthing.errors import PriceDataError
from farthing.estimating import METHOD, estimated_usage
from farthing.guard import report_fault
from farthing.providers import canonical_provider
from farthing.runs import Finish, Run, RunMap
from farthing.sinks.spans import Rollup
from farthing.usage import UsageReading, read_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from farthing.counting import Counters
    from farthing.delivery import Event
    from farthing.pricing import PriceBook
    from farthing.rules import Rules
    from farthing.sinks.spans import OpenSpan, SpanSink

__all__ = ["Billing"]

_SETTLE_SECONDS: Final = 5.0
_PREPARE_SECONDS: Final = 10.0
_MAX_NAME: Final = 256
_OTHER_TIERS: Final = frozenset({"flex", "priority", "batch", "fast"})
"""Tiers whose price is not the standard one."""
_MAX_OPERATIONS: Final = 4_096
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO: Final = Decimal(0)
_NOTHING_BOUGHT: Final = Usage(input_tokens=0, output_tokens=0)


class Billing:
    """Turns runs into Calls and scopes into spans.

    Args:
        rules: The policy in force.
        book: Gives the price book to use now.
        spans: The span sink, which also gives each Call its ids.
        sinks: Functions that take a batch of Calls, by the name under which their faults are counted.
        runs: The open runs, for sweeping.
        counters: What happened.
        ready: Says whether prices and exporters are there, or are not worth waiting for; asked once a batch until so.
        run_timeout_seconds: The age at which an open run is closed as abandoned.
        service: Name and instance id of this process's service.
    """

    def __init__(
        self,
        *,
        rules: Rules,
        book: Callable[[], PriceBook],
        spans: SpanSink,
        sinks: Mapping[str, Callable[[Sequence[Call]], None]],
        runs: RunMap,
        counters: Counters,
        ready: Callable[[], bool],
        run_timeout_seconds: float,
        service: tuple[str | None, str],
    ) -> None:
        self._rules = rules
        self._book = book
        self._spans = spans
        self._sinks = sinks
        self._runs = runs
        self._counters = counters
        self._ready = ready
        self._prepared = False
        self._patience_until: float | None = None
        self._holds_back = False
        self._unprepared: list[Run] = []
        self._run_timeout_ns = int(run_timeout_seconds * 1e9)
        self._service = service
        self._first_attempts: OrderedDict[str, Context] = OrderedDict()
        self._unlinked: list[tuple[float, Run]] = []
        self._outer: list[tuple[float, Run]] = []

    def handle(self, events: Sequence[Event]) -> None:
        """Work through a batch of events in the order in which they were submitted.

        Raises:
            Nothing of its own.
        """
        calls = self._prepare(final=False)
        for kind, run in events:
            try:
                if kind == "scope-open":
                    self._open_scope(run)
                elif kind == "scope-close":
                    self._close_scope(run)
                else:
                    calls.extend(self._settle(run))
            except Exception as error:  # noqa: BLE001 - one run's fault must not take the batch along
                report_fault("farthing.billing", error, self._counters)
                if kind == "call":
                    self._counters.add("dropped", "fault")
        self._write(calls)

    def tick(self, final: bool) -> None:  # noqa: FBT001 - the worker's protocol
        """Close what waited too long; with `final`, what waits for another layer is settled now."""
        now = time.monotonic()
        calls = self._prepare(final=final)
        late, self._unlinked = _split(self._unlinked, now, everything=final, answered=_is_linked)
        for run in late:
            calls.extend(self._billed(run))
        late, self._outer = _split(self._outer, now, everything=final, answered=_is_told_below)
        for outer in late:
            calls.extend(self._close_inner(outer, final=final))
        old = self._runs.older_than(self._run_timeout_ns)
        for run in old:
            if run.tentative:
                run.leave_outer()
        for run in old:
            if run.tentative:
                continue
            run.end(Finish(ended_ns=time.time_ns(), outcome="abandoned", error_type="timeout"))
            if run.kind == "call":
                calls.extend(self._settle(run))
            else:
                self._close_scope(run)
        self._write(calls)

    def _prepare(self, *, final: bool) -> list[Call]:
        """Have prices and exporters loaded, and bill what waited for them.

        A process that has no descriptor or no memory left for a moment, at its first batch, must not leave the calls of
        that moment without price and span: they wait for some seconds, and no longer than a flush.
        """
        if not self._prepared:
            self._prepared = self._ready()
            now = time.monotonic()
            if self._patience_until is None:
                self._patience_until = now + _PREPARE_SECONDS
            self._holds_back = not self._prepared and not final and now < self._patience_until
        if self._holds_back:
            return []
        waiting, self._unprepared = self._unprepared, []
        return [self._bill(run) for run in waiting]

    def _billed(self, run: Run) -> Iterator[Call]:
        """Bill a run, now or when it can be priced."""
        if self._holds_back:
            self._unprepared.append(run)
        else:
            yield self._bill(run)

    def _write(self, calls: Sequence[Call]) -> None:
        if not calls:
            return
        for name, write in self._sinks.items():
            try:
                write(calls)
            except Exception as error:  # noqa: BLE001 - one sink's fault must not starve the others
                report_fault(f"farthing.sinks.{name}", error, self._counters)

    def _settle(self, run: Run) -> Iterator[Call]:
        """Decide which layer bills a call, waiting where the other layer has not spoken yet."""
        if "gateway" in run.details and self._rules.policy.document.gateway.bills:
            self._counters.add("duplicates", "gateway")
        elif _answers_below(run) and not (run.finish is not None and run.finish.cache_hit):
            if _is_told_below(run):
                self._counters.add("duplicates", "layer")
                return
            self._outer.append((time.monotonic() + _SETTLE_SECONDS, run))
        elif run.outer_key is not None and run.outer is None:
            self._unlinked.append((time.monotonic() + _SETTLE_SECONDS, run))
        else:
            yield from self._billed(run)

    def _close_inner(self, outer: Run, *, final: bool) -> Iterator[Call]:
        """Bill what an inner layer began and never reported with what the outer layer saw.

        Where the inner layer took back all that it had begun, the outer one is alone and bills itself.
        """
        begun = _answers_below(outer)
        is_open = False
        for place, inner in enumerate(begun):
            if inner.finish is not None:
                continue
            if self._runs.take(inner.key) is None:
                is_open = True  # on another thread it is ending, or being taken back, just now
            else:
                paired = outer.together[place] if len(outer.together) == len(begun) else outer
                inner.finish = paired.finish or outer.finish
                yield from self._settle(inner)  # it may itself have begun a layer that told all
        if any(inner.finish is not None for inner in begun):
            self._counters.add("duplicates", "layer")
        elif is_open and not final:
            self._outer.append((time.monotonic() + _SETTLE_SECONDS, outer))
        else:
            yield from self._billed(outer)

    def _open_scope(self, run: Run) -> None:
        run.name = _text(run.name) or ""
        name = f"{run.operation} {run.name}" if run.name else run.operation
        attributes: dict[str, AttributeValue] = {semconv.OPERATION_NAME: run.operation}
        if run.name:
            attributes[semconv.AGENT_NAME if run.scope_kind == "agent" else semconv.WORKFLOW_NAME] = run.name
        run.span = self._start_span(run, name, SpanKind.INTERNAL, attributes)
        if _spanned_parent(run) is None:
            run.rollup = Rollup()

    def _close_scope(self, run: Run) -> None:
        if run.span is None or run.finish is None:
            return
        self._spans.close_scope(
            run.span,
            attribution=self._rules.resolve(run, day=_day(run)).attribution,
            rollup=run.rollup if isinstance(run.rollup, Rollup) else None,
            error_type=run.finish.error_type,
            failed=run.finish.outcome == "error",
            ended_ns=max(run.finish.ended_ns, run.started_ns),
        )
        run.rollup = None

    def _start_span(self, run: Run, name: str, kind: SpanKind, attributes: dict[str, AttributeValue]) -> OpenSpan:
        above = _spanned_parent(run)
        if above is not None and above.span is not None:
            context = above.span.child_context()
        else:
            context = self._first_attempts.get(run.operation_id, run.context)
        opened = self._spans.open(name, kind=kind, started_ns=run.started_ns, parent=context, attributes=attributes)
        if run.kind == "call" and opened.parent_span_id is None:
            self._remember_first_attempt(run, opened)
        return opened

    def _remember_first_attempt(self, run: Run, opened: OpenSpan) -> None:
        """Keep where an operation began that is a trace of its own: its retries and fallbacks belong into it."""
        self._first_attempts[run.operation_id] = opened.child_context()
        if len(self._first_attempts) > _MAX_OPERATIONS:
            self._first_attempts.popitem(last=False)

    def _bill(self, run: Run) -> Call:
        finish = run.finish or Finish(ended_ns=time.time_ns(), outcome="abandoned")
        provider = canonical_provider(_text(finish.provider or run.provider))
        reading = UsageReading(usage=None, flags=(), service_tier=None, reported_usd=None)
        try:
            reading = read_usage(finish.usage_shape or "", finish.usage, has_content=finish.has_content)
            cost, usage, guessed = self._cost(run, finish, provider, reading)
        except Exception as error:  # noqa: BLE001 - a price that cannot be told must not take the call along
            report_fault("farthing.pricing", error, self._counters)
            passing = isinstance(error, (OSError, ImportError, MemoryError, PriceDataError))
            flag = "prices-not-loaded" if passing else "fault"
            # The usage stays: with it, `farthing reprice` tells the price later.
            cost, usage, guessed = Cost(amount_usd=None, status="unpriced", flags=(flag,)), reading.usage, None
        attribution, sources, violations = self._rules.settle(run, day=_day(run))
        attributes: dict[str, AttributeValue] = {semconv.OPERATION_NAME: run.operation}
        if provider is not None:
            attributes[semconv.PROVIDER_NAME] = provider
        model = _text(run.model)
        if model is not None:
            attributes[semconv.REQUEST_MODEL] = model
        name = f"{run.operation} {model}" if model else run.operation
        span = self._start_span(run, name, SpanKind.CLIENT, attributes)
        ended_ns = max(finish.ended_ns, run.started_ns)
        first_chunk_ns = finish.first_chunk_ns or run.first_chunk_ns
        call = Call.assembled(
            {
                "call_id": run.call_id,
                "operation_id": run.operation_id,
                "attempt": run.attempt,
                "trace_id": span.trace_id,
                "span_id": span.span_id,
                "parent_span_id": span.parent_span_id,
                "started_at": _moment(run.started_ns),
                "ended_at": _moment(ended_ns),
                "framework": run.framework,
                "operation": run.operation,
                "provider": provider,
                "request_model": model,
                "response_model": _text(finish.response_model),
                "response_id": _text(finish.response_id),
                "service_tier": _text(finish.service_tier or reading.service_tier or run.tier),
                "price_context": _price_context(finish, reading),
                "attribution": attribution,
                "attribution_source": sources,
                "violations": violations,
                "usage": usage,
                "estimated_usage": guessed,
                "cost": cost,
                "outcome": finish.outcome,
                "error_type": _text(finish.error_type),
                "finish_reason": _text(finish.finish_reason),
                "streaming": bool(run.streaming) or first_chunk_ns is not None,
                "time_to_first_chunk_seconds": (
                    None if first_chunk_ns is None else max(0.0, (first_chunk_ns - run.started_ns) / 1e9)
                ),
                "scopes": _scopes(run),
                "details": {name: text for name, value in run.details.items() if (text := _text(value)) is not None},
                "service_name": self._service[0],
                "service_instance_id": self._service[1],
            }
        )
        self._spans.close_call(span, call, ended_ns=ended_ns)
        self._count(run, call)
        return call

    def _cost(
        self, run: Run, finish: Finish, provider: str | None, reading: UsageReading
    ) -> tuple[Cost, Usage | None, Usage | None]:
        """Price what was bought; what the provider never told stays unknown, with an estimate where one is wanted."""
        reported = finish.reported_usd if finish.reported_usd is not None else reading.reported_usd
        if finish.cache_hit:
            would = self._price(run, finish, provider, reading)
            saved = would.amount_usd
            return Cost(amount_usd=_ZERO, status="cache_hit", source="cache", saved_usd=saved), _NOTHING_BOUGHT, None
        if finish.billed is False and reading.usage is None:
            return Cost(amount_usd=_ZERO, status="not_billed", source="provider"), None, None
        if reading.usage is None:
            unknown = Cost(amount_usd=None, status="unreported", flags=reading.flags, reported_usd=reported)
            return self._estimate(run, finish, provider, reading, unknown)
        cost = self._price(run, finish, provider, reading)
        flags = reading.flags
        if run.tier in _OTHER_TIERS and not (finish.service_tier or reading.service_tier):
            flags = (*flags, "tier-assumed")
        if flags:
            cost = cost.model_copy(update={"flags": (*cost.flags, *flags)})
        return cost, reading.usage, None

    def _estimate(
        self, run: Run, finish: Finish, provider: str | None, reading: UsageReading, unknown: Cost
    ) -> tuple[Cost, None, Usage | None]:
        """Say what a call may have cost, beside its unknown cost; leave it at that where its size or price is unknown.

        What a provider went on to generate after nobody listened any more is not in it.
        """
        if run.prompt_bytes is None:
            return unknown, None, None
        received = run.received_bytes if finish.received_bytes is None else finish.received_bytes
        usage = estimated_usage(run.prompt_bytes, received)
        priced = self._price(run, finish._replace(reported_usd=None), provider, replace(reading, usage=usage))
        if priced.amount_usd is None:
            return unknown, None, None
        update = {
            "status": "estimated",
            "estimated_usd": priced.amount_usd,
            "source": priced.source,
            "provenance": priced.provenance,
            "flags": (*unknown.flags, METHOD),
        }
        return unknown.model_copy(update=update), None, usage

    def _price(self, run: Run, finish: Finish, provider: str | None, reading: UsageReading) -> Cost:
        """Price by the model that answered; by the requested one where the book does not know the other."""
        reported = finish.reported_usd if finish.reported_usd is not None else reading.reported_usd
        # The served tier is billed. Where nobody names it the one asked for is the best guess, and is flagged as one.
        tier = finish.service_tier or reading.service_tier or run.tier
        moment = _moment(run.started_ns)
        cost: Cost | None = None
        for model in dict.fromkeys((finish.response_model, run.model)):
            if model is None:
                continue
            cost = self._book().price(
                provider,
                model,
                reading.usage,
                at=moment,
                tier=tier,
                context=_price_context(finish, reading) or None,
                reported_usd=reported,
            )
            if cost.amount_usd is not None or "context-not-priced" in cost.flags:
                return cost
        return cost or Cost(amount_usd=None, status="unpriced", flags=("no-model-name",), reported_usd=reported)

    def _count(self, run: Run, call: Call) -> None:
        self._counters.add("calls", call.cost.status)
        for violation in call.violations:
            self._counters.add("violations", violation)
        scope = run.parent
        while scope is not None:
            if isinstance(scope.rollup, Rollup):
                scope.rollup.add(call)
            scope = scope.parent


def _split(
    waiting: list[tuple[float, Run]], now: float, *, everything: bool, answered: Callable[[Run], bool]
) -> tuple[list[Run], list[tuple[float, Run]]]:
    """Part the runs whose time has come, or whose other layer has spoken since, from those that may wait on."""
    due: list[Run] = []
    left: list[tuple[float, Run]] = []
    for deadline, run in waiting:
        if everything or deadline <= now or answered(run):
            due.append(run)
        else:
            left.append((deadline, run))
    return due, left


def _is_linked(run: Run) -> bool:
    return run.outer is not None


def _answers_below(run: Run) -> list[Run]:
    return [inner for inner in run.inner if inner.answers]


def _is_told_below(run: Run) -> bool:
    return all(inner.finish is not None for inner in _answers_below(run))


def _spanned_parent(run: Run) -> Run | None:
    parent = run.parent
    while parent is not None and parent.span is None:
        parent = parent.parent
    return parent


def _scopes(run: Run) -> tuple[Scope, ...]:
    found: list[Scope] = []
    scope = run.parent
    while scope is not None:
        if scope.span is not None:
            found.append(
                Scope(
                    kind=scope.scope_kind,
                    name=_text(scope.name) or "",
                    span_id=scope.span.span_id,
                    started_at=_moment(scope.started_ns),
                )
            )
        scope = scope.parent
    return tuple(reversed(found))


def _price_context(finish: Finish, reading: UsageReading) -> dict[str, str]:
    """Gather what besides model, tier and moment decides the price; the framework knows better than the usage."""
    known = {**reading.context, **(finish.price_context or {})}
    return {name: text for name, value in known.items() if (text := _text(value)) is not None}


def _text(value: object) -> str | None:
    """Let a name through as text of bounded length; frameworks put objects, lists and worse where a name should be.

    JSON can spell half a surrogate pair, which no file and no exporter takes: it becomes a question mark.
    """
    if value is None or value == "":
        return None
    text = (value if isinstance(value, str) else str(value))[:_MAX_NAME]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _day(run: Run) -> date:
    return _moment(run.started_ns).date()


def _moment(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
