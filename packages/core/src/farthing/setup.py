"""configure(), flush(), shutdown(), health(): the one runtime of this process, from its first call to its end."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final

from farthing.counting import Health, counters
from farthing.endings import (
    before_process_ends,
    deliver_on_sigterm,
    forked_child_ends_too,
    is_ending,
    leave_sigterm,
)
from farthing.errors import ConfigurationError
from farthing.guard import forget_logged, log, report_fault
from farthing.runtime import Runtime, settlers
from farthing.settings import RELOADED, Settings, load_settings

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from farthing.meter import Meter
    from farthing.pricing import PriceBook

__all__ = [
    "Runtime",
    "configure",
    "expect_the_end",
    "flush",
    "get_meter",
    "health",
    "runtime",
    "settlers",
    "shutdown",
]

_lock: Final = threading.RLock()
_runtime: Runtime | None = None
_last: Runtime | None = None
"""The one before, where there is none any more."""
_expecting = False
_forking: Final[set[int]] = set()
"""The threads that hold the lock while they fork; several may."""
_ending: threading.Event = threading.Event()
_ending.set()
_ENDING_SECONDS: Final = 600.0
_FORK_SECONDS: Final = 5.0


def configure(
    *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None, **settings: object
) -> None:
    """Configure farthing for this process. Optional: without it, the first call configures from file and environment.

    Calling it again with the same settings does nothing.

    Args:
        tracer_provider: Where spans go; None is the application's global one, else what OTEL_* names.
        meter_provider: Where metrics go; None as above.
        settings: The fields of `farthing.settings.Settings`; each is also a key of farthing.toml and a variable
            FARTHING_<KEY>.

    Raises:
        ConfigurationError: A setting cannot be used, or contradicts an earlier configure() that is still in force.
    """
    global _runtime
    loaded = load_settings(settings)
    with _lock:
        changed: list[str] = []
        if _runtime is not None:
            changed = sorted(
                key for key in Settings.model_fields if getattr(loaded, key) != getattr(_runtime.settings, key)
            )
            if _runtime.arguments == settings and RELOADED.issuperset(changed):
                changed = []  # the file has changed since; the worker takes that over
        if _runtime is not None and _runtime.explicit and changed:
            raise ConfigurationError(
                f"configure(): already configured with other values of {', '.join(changed)}. "
                "Configure once, or call farthing.shutdown() first."
            )
        providers = (tracer_provider, meter_provider)
        if _runtime is not None and not changed and _runtime.telemetry.given in (providers, (None, None)):
            _runtime.explicit = True
            _runtime.telemetry.given = providers
            return
        earlier, _runtime = _runtime, Runtime(loaded, explicit=True, providers=providers, arguments=settings)
        _runtime.resume()
    _watch_for_the_end(loaded)
    if earlier is not None:
        earlier.close(loaded.exit_timeout_seconds)


def runtime() -> Runtime:
    """Give the runtime, configuring from file and environment if nobody has; a fault there falls back to defaults.

    Raises:
        Nothing.
    """
    global _runtime  # noqa: PLW0603 - see configure()
    standing = _runtime
    if standing is not None:
        return standing
    with _lock:
        if _runtime is None:
            _runtime = _revived() or Runtime(_found_settings(), explicit=False)
            _watch_for_the_end(_runtime.settings)
        return _runtime


def _revived() -> Runtime | None:
    """Give a runtime like the last one, for what is still called while the process ends: it delivers at once."""
    return _like(_last) if is_ending() and _last is not None else None


def _like(other: Runtime) -> Runtime:
    """Give a new runtime that is configured as another one was."""
    return Runtime(other.settings, explicit=other.explicit, providers=other.telemetry.given, arguments=other.arguments)


def _found_settings() -> Settings:
    try:
        return load_settings({})
    except ConfigurationError as error:
        log.error("farthing: %s; going on with the defaults", error)
        counters.add("faults", "farthing.settings")
        counters.last_error = str(error)
        return Settings()


def expect_the_end() -> None:
    """Be ready for SIGTERM before the first call, which another thread may make; for plugins, on making a handler.

    Raises:
        Nothing.
    """
    global _expecting  # noqa: PLW0603 - once a process
    if _expecting or _runtime is not None or threading.current_thread() is not threading.main_thread():
        return
    _expecting = True
    try:
        settings = load_settings({})
    except ConfigurationError:
        return  # the first call says so
    if settings.enabled and settings.handle_sigterm:
        deliver_on_sigterm(shutdown)


def get_meter() -> Meter | None:
    """Give plugins their entrance, or None where farthing is switched off.

    Raises:
        Nothing.
    """
    standing = _runtime
    if standing is None:
        try:
            standing = runtime()
        except Exception as error:  # noqa: BLE001 - no descriptors, no memory: the next call tries again
            report_fault("farthing.setup", error, counters)
            return None
    return standing.meter if standing.settings.enabled else None


def late_runs() -> bool:
    """Say whether a call may have returned whose framework still owes its report.

    Raises:
        Nothing.
    """
    return _runtime is not None and _runtime.late_runs()


def price_book() -> PriceBook:
    """Give the price book in force, loading its data if nobody has.

    Raises:
        PriceDataError: The user's own price data cannot be used.
    """
    return runtime().prices.book()


def flush(timeout: float = 5.0) -> bool:
    """Write and send everything that finished so far.

    Args:
        timeout: In seconds.

    Returns:
        True when all of it arrived; False when the time ran out or something was refused.

    Raises:
        Nothing.
    """
    return True if _runtime is None else _runtime.flush(timeout)


def shutdown(timeout: float | None = None) -> bool:
    """End: deliver everything, close files and exporters. A later call configures anew.

    Args:
        timeout: For a backend, in seconds; None is the setting exit_timeout_seconds. Calls that still are in the queue
            are written down first: a tenth of a millisecond each.

    Returns:
        Whether everything arrived in time.

    Raises:
        Nothing.
    """
    global _runtime, _last, _ending  # noqa: PLW0603 - one process, one end at a time
    with _lock:
        standing, _runtime = _runtime, None
        _last = standing or _last
        ending = _ending if standing is None else threading.Event()
        _ending = ending
    if standing is None:
        forget_logged()
        # Who ends second waits for the first: it would take the process away from under it.
        return ending.wait(_ENDING_SECONDS if timeout is None else timeout)
    try:
        seconds = standing.settings.exit_timeout_seconds if timeout is None else timeout
        deadline = time.monotonic() + seconds
        flushed = standing.flush(seconds)
        closed = standing.close(max(0.0, deadline - time.monotonic()))
        forget_logged()
        return closed and flushed
    finally:
        ending.set()


def health() -> Health:
    """Say what became of every call that this process has seen.

    Raises:
        Nothing.
    """
    standing = _runtime
    calls = counters.by_reason("calls")
    ledger = standing.ledger if standing is not None else None
    levels = standing.levels() if standing is not None else {}
    return Health(
        configured=standing is not None,
        calls=sum(calls.values()),
        priced=calls.get("priced", 0) + calls.get("reported", 0) + calls.get("free", 0),
        unpriced=calls.get("unpriced", 0),
        unreported=calls.get("unreported", 0),
        estimated=calls.get("estimated", 0),
        cache_hits=calls.get("cache_hit", 0),
        not_billed=calls.get("not_billed", 0),
        duplicates=counters.total("duplicates"),
        unknown_ends=counters.total("unknown_ends"),
        open_runs=len(standing.runs) if standing is not None else 0,
        queued=len(standing.delivery) if standing is not None else 0,
        sent=counters.by_reason("exported").get("spans:sent", 0),
        spooled=int(levels.get("spooled", 0)),
        lag_seconds=levels.get("lag_seconds", 0.0),
        ledger_waiting=ledger.waiting if ledger is not None else 0,
        dropped=counters.by_reason("dropped"),
        exported=counters.by_reason("exported"),
        ledger_written=ledger.written if ledger is not None else 0,
        ledger_failed=ledger.failed if ledger is not None else 0,
        skipped=counters.by_reason("skipped"),
        spool=counters.by_reason("spool"),
        violations=counters.by_reason("violations"),
        refused=counters.by_reason("refused"),
        context=counters.by_reason("context"),
        neighbours=counters.by_reason("neighbours"),
        faults=counters.by_reason("faults"),
        last_error=counters.last_error,
    )


def _watch_for_the_end(settings: Settings) -> None:
    before_process_ends(shutdown)
    if settings.handle_sigterm:
        deliver_on_sigterm(shutdown)
    else:
        leave_sigterm()


def _before_fork() -> None:
    """Let a thread that configures finish: the child would be born in the middle of its imports, and wait for ever."""
    if _lock.acquire(timeout=_FORK_SECONDS):
        _forking.add(threading.get_ident())


def _after_fork_in_parent() -> None:
    thread = threading.get_ident()
    if thread in _forking:
        _forking.remove(thread)
        _lock.release()


def _after_fork_in_child() -> None:
    """Begin anew in a child: its calls are its own, and so are its files, counters, exporters and instance id."""
    global _runtime, _lock, _ending  # noqa: PLW0603 - the parent's lock may have been held at the fork
    standing, _runtime = _runtime, None
    _lock = threading.RLock()  # type: ignore[misc] - see above
    _forking.clear()
    counters.reset()
    _ending = threading.Event()
    _ending.set()
    forked_child_ends_too()
    if standing is not None:
        standing.abandon()
        _runtime = _like(standing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
