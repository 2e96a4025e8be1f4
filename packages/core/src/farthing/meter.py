"""The one entrance for every plugin: start and finish an operation, on the caller's thread, in microseconds.

Nothing here prices, writes, logs or touches a span: values are captured and handed to the worker. Nothing here raises.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry import context as otel_context

from farthing import context as attribution_context
from farthing.context import NOTHING
from farthing.guard import guarded
from farthing.runs import CURRENT_CALL, Finish, Run, RunMap, outer_checks, outer_probes

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from opentelemetry.context import Context

    from farthing.counting import Counters
    from farthing.envelope import Outcome
    from farthing.policy import Policy
    from farthing.rules import Rules

__all__ = ["Asking", "Finish", "Meter"]

_NO_DETAILS: Final[Mapping[str, str]] = {}
_MAX_WAITING: Final = 1_000


class Asking(NamedTuple):
    """The tags of what is about to become a run."""

    own_tags: Mapping[str, object]
    scope_tags: Mapping[str, object]
    handler_tags: Mapping[str, object]
    parent: Run | None
    outer: Run | None


class Meter:
    """Turns the events of a framework into runs for the worker.

    Args:
        runs: Where open runs are kept.
        submit: Hands `(kind, run)` to the worker; kinds are scope-open, scope-close and call.
        counters: Where duplicates and unknown ends are counted.
        rules: The policy, where calls may be refused.
        estimating: Whether plugins shall count what is asked and received, see farthing.estimating.
        asks_for_usage: Whether plugins shall make streams ask for their usage.
    """

    def __init__(
        self,
        *,
        runs: RunMap,
        submit: Callable[[str, Run], None],
        counters: Counters,
        rules: Rules | None = None,
        estimating: bool = False,
        asks_for_usage: bool = False,
    ) -> None:
        self.runs: Final = runs
        self.estimating: Final = estimating
        self.asks_for_usage: Final = asks_for_usage
        self._rules = rules
        self._submit = submit
        self._counters = counters
        self._waiting: OrderedDict[Hashable, list[Run]] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def enforcing(self) -> bool:
        """Whether `require` may refuse anything; the one thing that enforcement costs where it is off."""
        return self._rules is not None and self._rules.enforcing

    @property
    def policy(self) -> Policy | None:
        """The policy in force, for what a gateway takes from whom."""
        return None if self._rules is None else self._rules.policy

    @guarded
    def require(
        self,
        *,
        how: str,
        tags: Mapping[str, object] = NOTHING,
        handler_tags: Mapping[str, object] = NOTHING,
        parent: Run | None = None,
        outer: Run | None = None,
    ) -> None:
        """Refuse a call that the policy does not let go out with these tags; before `start_call`, on its thread.

        Args:
            how: Says how tags are sent here; `{example}` is replaced by `feature="..."`.
            tags: The call's own tags, as written.
            handler_tags: The defaults of the handler.
            parent: The enclosing scope.
            outer: The open call of an outer layer that this one serves.

        Raises:
            AttributionError: A rule that says reject is violated.
        """
        if self._rules is None or not self._rules.enforcing:
            return
        asking = self.asking(tags=tags, handler_tags=handler_tags, parent=parent, outer=outer)
        self._rules.require(asking, how=how)

    def asking(
        self,
        *,
        tags: Mapping[str, object] = NOTHING,
        handler_tags: Mapping[str, object] = NOTHING,
        parent: Run | None = None,
        outer: Run | None = None,
    ) -> Asking:
        """Give the tags of a call that is about to be made here; the arguments are those of `require`.

        Raises:
            Nothing.
        """
        return Asking(tags, attribution_context.current(), handler_tags, parent if outer is None else outer, None)

    def calling(self) -> Run | None:
        """Give the open call of an outer layer that asks in this context.

        Raises:
            Nothing.
        """
        key = CURRENT_CALL.get()
        run = None if key is None else self.runs.get(key)
        return run if run is None or all(check(run.key) for check in outer_checks) else None

    @guarded
    def start_call(
        self,
        key: Hashable,
        *,
        framework: str,
        operation: str,
        provider: str | None,
        model: str | None,
        parent_key: Hashable | None = None,
        parent: Run | None = None,
        tags: Mapping[str, object] = NOTHING,
        handler_tags: Mapping[str, object] = NOTHING,
        details: Mapping[str, str] = _NO_DETAILS,
        streaming: bool = False,
        tier: str | None = None,
        attempt: int = 1,
        operation_id: str | None = None,
        started_ns: int | None = None,
        inner: bool = False,
        late_report: bool = False,
        unordered: bool = False,
        context: Context | None = None,
        prompt_bytes: int | None = None,
        tentative: bool = False,
        together: Hashable | None = None,
    ) -> None:
        """Begin one provider attempt.

        Args:
            key: Names the attempt in its framework; a second start of an open key only adds its handler's tags.
            framework: litellm, langchain or crewai.
            operation: `gen_ai.operation.name`.
            provider: In any spelling.
            model: As requested.
            parent_key: The key of the enclosing scope.
            parent: The enclosing scope itself, for frameworks that go on below one that has ended.
            tags: The call's own tags, as written.
            handler_tags: The defaults of the handler.
            details: Names the framework gives for free.
            streaming: Whether the reply is streamed.
            tier: The service tier asked for.
            attempt: Counts from 1 within an operation.
            operation_id: Shared by the attempts of one operation; None makes this one its own operation.
            started_ns: Nanoseconds since the epoch; None is now.
            inner: Whether this layer sits at the provider, below frameworks that see the same call.
            late_report: Whether the end is reported from elsewhere after the framework's call has returned.
            unordered: Whether the end may be seen before the start.
            context: The OpenTelemetry context of the caller; None is the one in force here.
            prompt_bytes: The size of what is asked, where estimates are wanted.
            tentative: Whether it may turn out to be no call: see `describe_call` and `withdraw_call`.
            together: The key of an open call that began with this one in one context, before either was made.

        Raises:
            Nothing.
        """
        if unordered and self.runs.finished(key):
            return
        run = Run(
            key=key,
            kind="call",
            framework=framework,
            operation=operation,
            name=model or "",
            scope_kind="",
            provider=provider,
            model=model,
            parent=parent or (None if parent_key is None else self.runs.get(parent_key)),
            own_tags=tags,
            scope_tags=attribution_context.current(),
            handler_tags=handler_tags,
            details=details,
            context=context or otel_context.get_current(),
            started_ns=started_ns or time.time_ns(),
            streaming=streaming,
            tier=tier,
            attempt=attempt,
            operation_id=operation_id,
            late_report=late_report,
            prompt_bytes=prompt_bytes,
        )
        run.tentative = tentative
        other = None if together is None else self.runs.get(together)
        if self._open(run, inner=inner) and other is not None:
            run.join(other)

    @guarded
    def describe_call(
        self,
        key: Hashable,
        *,
        operation: str,
        provider: str | None,
        model: str | None,
        tags: Mapping[str, object] = NOTHING,
        handler_tags: Mapping[str, object] = NOTHING,
        details: Mapping[str, str] = _NO_DETAILS,
        streaming: bool = False,
        tier: str | None = None,
    ) -> None:
        """Say of an open call what was not known when it began; who pays and where it stands remain as they were.

        Args:
            key: As at the start.
            operation: As for `start_call`, like all the rest.
            provider: See above.
            model: See above.
            tags: See above.
            handler_tags: See above.
            details: See above.
            streaming: See above.
            tier: See above.

        Raises:
            Nothing.
        """
        run = self.runs.get(key)
        if run is None:
            return
        run.operation, run.provider, run.model, run.name = operation, provider, model, model or ""
        run.own_tags, run.handler_tags, run.details = tags, handler_tags, details
        run.streaming, run.tier, run.tentative = streaming, tier, False

    @guarded
    def withdraw_call(self, key: Hashable) -> None:
        """Take back a call that was begun and turned out to be none, so that an outer layer bills itself again.

        Raises:
            Nothing.
        """
        run = self.runs.take(key)
        if run is None:
            return
        with self._lock:
            if run.outer is not None:
                run.leave_outer()
            elif run.outer_key is not None and (waiting := self._waiting.get(run.outer_key)):
                self._waiting[run.outer_key] = [other for other in waiting if other is not run]

    @guarded
    def finish_call(self, key: Hashable, finish: Finish, *, started: Callable[[], None] | None = None) -> None:
        """End one provider attempt; only the first end of a key counts.

        Args:
            key: As at the start.
            finish: What the framework reports.
            started: Begins the run now, for frameworks that may report an end whose start was never seen.

        Raises:
            Nothing.
        """
        run = self.runs.take(key)
        if run is None and started is not None and not self.runs.finished(key):
            started()
            run = self.runs.take(key)
        if run is None:
            self._counters.add("duplicates" if self.runs.finished(key) else "unknown_ends", "end")
            return
        run.end(finish)
        self._submit("call", run)

    @guarded
    def first_chunk(self, key: Hashable) -> None:
        """Note that the first piece of a streamed reply arrived."""
        run = self.runs.get(key)
        if run is not None and run.first_chunk_ns is None:
            run.first_chunk_ns = time.time_ns()

    @guarded
    def received(self, key: Hashable, size: int) -> None:
        """Count the bytes of a piece of a streamed reply, where estimates are wanted."""
        run = self.runs.get(key)
        if run is not None:
            run.received_bytes += size

    @guarded
    def start_scope(
        self,
        key: Hashable,
        *,
        framework: str,
        kind: str,
        name: str,
        parent_key: Hashable | None = None,
        parent: Run | None = None,
        tags: Mapping[str, object] = NOTHING,
        handler_tags: Mapping[str, object] = NOTHING,
        started_ns: int | None = None,
    ) -> None:
        """Begin a piece of enclosing work: a chain, an agent, a crew, a task.

        Args:
            key: Names the scope in its framework.
            framework: litellm, langchain or crewai.
            kind: workflow, agent or task.
            name: A stable, low-cardinality name; never a prompt.
            parent_key: The key of the enclosing scope.
            parent: The enclosing scope itself, for frameworks that go on below one that has ended.
            tags: Tags of this scope, inherited by all calls below.
            handler_tags: The defaults of the handler.
            started_ns: Nanoseconds since the epoch; None is now.

        Raises:
            Nothing.
        """
        run = Run(
            key=key,
            kind="scope",
            framework=framework,
            operation="invoke_agent" if kind == "agent" else "invoke_workflow",
            name=name,
            scope_kind=kind,
            provider=None,
            model=None,
            parent=parent or (None if parent_key is None else self.runs.get(parent_key)),
            own_tags=tags,
            scope_tags=attribution_context.current(),
            handler_tags=handler_tags,
            details=_NO_DETAILS,
            context=otel_context.get_current(),
            started_ns=started_ns or time.time_ns(),
            streaming=False,
            tier=None,
            attempt=1,
            operation_id=None,
            late_report=False,
        )
        if self._open(run, inner=False):
            self._submit("scope-open", run)

    @guarded
    def finish_scope(
        self,
        key: Hashable,
        *,
        outcome: Outcome = "success",
        error_type: str | None = None,
        ended_ns: int | None = None,
    ) -> None:
        """End a scope; with `cancelled`, the calls still open below it end too, as their framework says no more.

        Raises:
            Nothing.
        """
        run = self.runs.take(key)
        if run is None:
            return
        moment = ended_ns or time.time_ns()
        if outcome == "cancelled":
            for call in self.runs.below(run):
                call.end(Finish(ended_ns=moment, outcome="cancelled", error_type=error_type))
                self._submit("call", call)
        run.end(Finish(ended_ns=moment, outcome=outcome, error_type=error_type))
        self._submit("scope-close", run)

    def _open(self, run: Run, *, inner: bool) -> bool:
        """Register a run; say whether it is new."""
        if inner:
            self._link_outer(run)
        standing, evicted = self.runs.add(run)
        if evicted is not None:
            self.abandon(evicted, "evicted")
        if standing is not run:
            if run.handler_tags:
                standing.handler_tags = {**run.handler_tags, **standing.handler_tags}
            return False
        self._link_waiting(run)
        return True

    def _link_outer(self, run: Run) -> None:
        """Find the outer layer's open call that this one serves, if any."""
        if (outer := self.calling()) is not None:
            run.outer_key = outer.key
            _link(run, outer)
            return
        for probe in outer_probes:
            key = probe()
            if key is None:
                continue
            run.outer_key = key
            outer = self.runs.get(key)
            if outer is not None:
                _link(run, outer)
            elif not self.runs.finished(key):
                self._wait_for(key, run)
            return

    def _wait_for(self, key: Hashable, run: Run) -> None:
        """Let a run wait for its outer layer's call, which may begin on another thread at this very moment."""
        with self._lock:
            self._waiting.setdefault(key, []).append(run)
            if len(self._waiting) > _MAX_WAITING:
                self._waiting.popitem(last=False)  # what has not come for so long does not come any more
        if (outer := self.runs.get(key)) is not None:
            self._link_waiting(outer)

    def _link_waiting(self, outer: Run) -> None:
        """Link what waits for an outer layer's call that has begun."""
        if not self._waiting:
            return
        with self._lock:
            for below in self._waiting.pop(outer.key, ()):
                _link(below, outer)

    def abandon(self, run: Run, reason: str) -> None:
        """Hand over a run whose end was never reported."""
        if run.tentative:
            run.leave_outer()
            return
        run.end(Finish(ended_ns=time.time_ns(), outcome="abandoned", error_type=reason))
        self._submit("call" if run.kind == "call" else "scope-close", run)


def _link(run: Run, outer: Run) -> None:
    earlier = [other for other in outer.inner if other.answers]
    outer.inner.append(run)
    run.outer = outer
    run.parent = outer.parent
    if not run.answers:
        return  # what the answer needed is no attempt at it
    if len(earlier) < len(outer.together):  # the first ones are one for each of those that began together
        served = outer.together[len(earlier)]
        run.operation_id, run.attempt = served.operation_id, served.attempt
        return
    if any(before.finish is not None and before.finish.outcome == "success" for before in earlier):
        return  # the outer call goes on after an answer: another step, and no other attempt
    run.operation_id = outer.operation_id  # the outer one may itself be an attempt of a framework's retry
    run.attempt = outer.attempt + len(earlier)
