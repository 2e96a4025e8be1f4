"""Operations under way: started once, finished once, bounded in number and age, and owned by one layer.

When two layers see the same provider call (LangChain over LiteLLM, CrewAI over LiteLLM), the inner one bills: it knows
attempts, exact usage and tier. The outer run then gives structure, tags and, should the inner layer never report, the
usage that it saw itself.
"""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from decimal import Decimal

    from opentelemetry.context import Context

    from farthing.envelope import Outcome
    from farthing.sinks.spans import OpenSpan

__all__ = ["CURRENT_CALL", "Finish", "Run", "RunMap", "new_id", "outer_checks", "outer_probes"]

_STEP_NS: Final = 1_000_000_000
"""What the clock was set by is a step from here on; below it is slewing, which a duration may bear."""

CURRENT_CALL: ContextVar[Hashable | None] = ContextVar("farthing_call", default=None)
"""The key of the model call that an outer layer has open in this context; only believed while that run is live."""

outer_probes: list[Callable[[], Hashable | None]] = []
"""Functions of plugins whose framework names its open model call somewhere else than in CURRENT_CALL."""

outer_checks: list[Callable[[Hashable], bool]] = []
"""Functions of plugins that say whether the open call of a key still asks here: it may have died without an event."""

RunKind = Literal["call", "scope"]

_BESIDE_AN_ANSWER: Final = frozenset(
    {"embeddings", "image_generation", "moderation", "ocr", "rerank", "speech", "transcription"}
)
"""Operations that a model of one's own may need for its answer, and that are never the answer itself."""


def new_id() -> str:
    """Give 32 hex digits that sort by time (the layout of UUID version 7, RFC 9562).

    Raises:
        Nothing.
    """
    head = time.time_ns() // 1_000_000
    tail = random.getrandbits(74)  # an identifier, not a secret; reseeded by the interpreter after a fork
    return f"{head:012x}7{tail >> 62:03x}{8 | (tail >> 60) & 3:x}{tail & 0xFFF_FFFF_FFFF_FFFF:015x}"


class Finish(NamedTuple):
    """How a call ended, in plain values as its framework gave them."""

    ended_ns: int
    outcome: Outcome = "success"
    usage: Mapping[str, object] | None = None
    usage_shape: str | None = None
    has_content: bool = False
    provider: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    error_type: str | None = None
    finish_reason: str | None = None
    first_chunk_ns: int | None = None
    cache_hit: bool = False
    billed: bool | None = None
    """False when the provider was never reached or refused the request: nothing was bought, which is known."""
    reported_usd: Decimal | None = None
    price_context: Mapping[str, str] | None = None
    received_bytes: int | None = None
    """The text of the whole answer, where it was at hand and estimates are wanted; None is what came in pieces."""


class Run:
    """One operation: what was known at its start, and later what its end brought."""

    __slots__ = (
        "attempt",
        "call_id",
        "clock_ns",
        "context",
        "details",
        "finish",
        "first_chunk_ns",
        "framework",
        "handler_tags",
        "inner",
        "key",
        "kind",
        "late_report",
        "model",
        "name",
        "opened_ns",
        "operation",
        "operation_id",
        "outer",
        "outer_key",
        "own_tags",
        "parent",
        "prompt_bytes",
        "provider",
        "received_bytes",
        "rollup",
        "scope_kind",
        "scope_tags",
        "span",
        "started_ns",
        "streaming",
        "tentative",
        "tier",
        "together",
    )

    def __init__(
        self,
        *,
        key: Hashable,
        kind: RunKind,
        framework: str,
        operation: str,
        name: str,
        scope_kind: str,
        provider: str | None,
        model: str | None,
        parent: Run | None,
        own_tags: Mapping[str, object],
        scope_tags: Mapping[str, object],
        handler_tags: Mapping[str, object],
        details: Mapping[str, str],
        context: Context | None,
        started_ns: int,
        streaming: bool,
        tier: str | None,
        attempt: int,
        operation_id: str | None,
        late_report: bool,
        prompt_bytes: int | None = None,
    ) -> None:
        self.key = key
        self.kind = kind
        self.framework = framework
        self.operation = operation
        self.name = name
        self.scope_kind = scope_kind
        self.provider = provider
        self.model = model
        self.parent = parent
        self.own_tags = own_tags
        self.scope_tags = scope_tags
        self.handler_tags = handler_tags
        self.details = details
        self.context = context
        self.started_ns = started_ns
        self.streaming = streaming
        self.tier = tier
        self.attempt = attempt
        self.call_id = new_id()
        self.opened_ns = time.monotonic_ns()
        """When it was seen first, by a clock that nobody sets: ages are told by it."""
        self.clock_ns = time.time_ns() - self.opened_ns
        """What the wall clock was ahead then, so that an end by a clock that was set meanwhile is known as one."""
        self.operation_id = operation_id or self.call_id
        self.late_report = late_report
        """Whether the framework reports the end from another thread, some time after its own call returned."""
        self.prompt_bytes = prompt_bytes
        """The size of what was asked, where estimates are wanted and it is known."""
        self.received_bytes = 0
        self.tentative = False
        """Whether it may turn out to be no call at all; without an end it is none."""
        self.outer_key: Hashable | None = None
        self.outer: Run | None = None
        self.inner: list[Run] = []
        """The runs of an inner layer that saw the same provider call; one list for all that began together."""
        self.together: list[Run] = []
        """The runs that began with it in one context, itself among them: what is begun below names none of them."""
        self.finish: Finish | None = None
        self.first_chunk_ns: int | None = None
        self.span: OpenSpan | None = None
        """Set and used by the worker alone."""
        self.rollup: object | None = None
        """Set and used by the worker alone."""

    def end(self, finish: Finish) -> None:
        """Note how it ended, in terms of the clock by which it started.

        A clock that is set while a call runs, by a time server or a thawed machine, would make it last an hour or
        end before it began.
        """
        step_ns = time.time_ns() - time.monotonic_ns() - self.clock_ns
        if abs(step_ns) >= _STEP_NS:
            ended_ns, first_chunk_ns = finish.ended_ns - step_ns, finish.first_chunk_ns or self.first_chunk_ns
            if first_chunk_ns is not None and not self.started_ns <= first_chunk_ns <= ended_ns:
                first_chunk_ns -= step_ns  # it came after the step
            finish = finish._replace(ended_ns=ended_ns, first_chunk_ns=first_chunk_ns)
        self.finish = finish

    @property
    def answers(self) -> bool:
        """Whether it may be what an outer layer's call was answered with, and so stand on the bill in its place."""
        return self.operation not in _BESIDE_AN_ANSWER

    def join(self, other: Run) -> None:
        """Share what is begun below with a run that began in the same context at the same time."""
        if not other.together:
            other.together.append(other)
        self.inner, self.together = other.inner, other.together
        self.together.append(self)

    def leave_outer(self) -> None:
        """Be no inner run of the outer layer's call any more."""
        if self.outer is not None and self in self.outer.inner:
            self.outer.inner.remove(self)


class RunMap:
    """Open runs by key, and the keys of the last finished ones, so that a second end is known as such.

    Args:
        max_open: Above it, the oldest run is handed to the caller of `add` to be closed.
        max_remembered: How many finished keys are kept.
    """

    def __init__(self, *, max_open: int = 50_000, max_remembered: int = 20_000) -> None:
        self._open: OrderedDict[Hashable, Run] = OrderedDict()
        self._finished: OrderedDict[Hashable, None] = OrderedDict()
        self._max_open: Final = max_open
        self._max_remembered: Final = max_remembered
        # The collector may close a stream that was left, and so end a run, while this very thread is in here.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, key: Hashable) -> Run | None:
        """Give the open run of a key."""
        return self._open.get(key)

    def add(self, run: Run) -> tuple[Run, Run | None]:
        """Register a run; the first start of a key wins.

        Returns:
            The run that now stands for the key, and the oldest run if it had to leave.
        """
        with self._lock:
            known = self._open.get(run.key)
            if known is not None:
                return known, None
            self._open[run.key] = run
            self._finished.pop(run.key, None)  # keys may be reused: the user can choose them in LangChain
            evicted = self._open.popitem(last=False)[1] if len(self._open) > self._max_open else None
            return run, evicted

    def take(self, key: Hashable) -> Run | None:
        """Remove and give an open run; its key is remembered as finished."""
        with self._lock:
            run = self._open.pop(key, None)
            if run is not None:
                self._remember(key)
            return run

    def seen(self, key: Hashable) -> bool:
        """Say whether a key is open or was finished lately; an unknown one is remembered from now on."""
        with self._lock:
            if key in self._open or key in self._finished:
                return True
            self._remember(key)
            return False

    def finished(self, key: Hashable) -> bool:
        """Say whether a key was finished lately."""
        return key in self._finished

    def any_late(self) -> bool:
        """Say whether an open call belongs to a framework that reports ends from elsewhere."""
        with self._lock:
            return any(run.late_report for run in tuple(self._open.values()))

    def older_than(self, age_ns: int) -> list[Run]:
        """Remove and give the runs that are open for longer than so many nanoseconds, whatever the wall clock says."""
        opened_before = time.monotonic_ns() - age_ns
        with self._lock:
            return self._let_go([run for run in tuple(self._open.values()) if run.opened_ns <= opened_before])

    def below(self, scope: Run) -> list[Run]:
        """Remove and give the open calls whose chain of parents leads to a scope."""
        with self._lock:
            standing = tuple(self._open.values())
            return self._let_go([run for run in standing if run.kind == "call" and _leads_to(run, scope)])

    def _let_go(self, runs: list[Run]) -> list[Run]:
        """Remove runs, and give those that were still there."""
        found = [run for run in runs if self._open.pop(run.key, None) is not None]
        for run in found:
            self._remember(run.key)
        return found

    def _remember(self, key: Hashable) -> None:
        self._finished[key] = None
        if len(self._finished) > self._max_remembered:
            self._finished.popitem(last=False)


def _leads_to(run: Run, scope: Run) -> bool:
    parent = run.parent
    while parent is not None:
        if parent is scope:
            return True
        parent = parent.parent
    return False
