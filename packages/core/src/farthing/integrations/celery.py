"""Celery: a job is paid for by who asked for it. Nothing to write in tasks.

    farthing.integrations.celery.install()  # in the module that makes the Celery app: senders and workers import it

The tags in force where a task is sent go along in its message's headers, also for retries, chains and chords, whose
messages are sent from inside a task. `job_id` is the task's id; a task that a schedule sent has its own name as route.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any, Final

from celery import signals  # pyright: ignore[reportMissingTypeStubs] - celery has none

from farthing import setup
from farthing.context import attribute, current
from farthing.guard import guarded
from farthing.propagation import HEADER, export_context, resume

__all__ = ["install", "uninstall"]

_TRACE_KEY: Final = "farthing_traceparent"
"""Not `traceparent`: that one belongs to OpenTelemetry's own instrumentation of Celery."""
_open: Final[dict[str, ExitStack]] = {}
_lock: Final = threading.Lock()


def install() -> None:
    """Listen to Celery's signals in this process; a second time does nothing.

    Raises:
        Nothing.
    """
    for signal, handler in _HANDLERS:
        signal.connect(handler, weak=False, dispatch_uid=f"farthing.{handler.__name__}")


def uninstall() -> None:
    """Stop listening.

    Raises:
        Nothing.
    """
    for signal, handler in _HANDLERS:
        signal.disconnect(handler, dispatch_uid=f"farthing.{handler.__name__}")


@guarded
def _before_publish(headers: dict[str, Any] | None = None, **_: object) -> None:
    if headers is None:
        return
    exported = export_context()
    if HEADER in exported:
        headers.setdefault(HEADER, exported[HEADER])
    if "traceparent" in exported:
        headers.setdefault(_TRACE_KEY, exported["traceparent"])


@guarded
def _prerun(task_id: str | None = None, task: Any = None, **_: object) -> None:
    if task_id is None or task is None:
        return
    stack = ExitStack()
    if getattr(task.request, "is_eager", False):
        stack.enter_context(attribute(job_id=task_id))
    else:
        sent = {HEADER: getattr(task.request, HEADER, None), "traceparent": getattr(task.request, _TRACE_KEY, None)}
        stack.enter_context(resume(sent))
        own: dict[str, Any] = {"job_id": task_id}
        if "route" not in current():
            own["route"] = f"jobs/{task.name}"
        stack.enter_context(attribute(**own))
    with _lock:
        _open[task_id] = stack


@guarded
def _postrun(task_id: str | None = None, **_: object) -> None:
    with _lock:
        stack = _open.pop(task_id or "", None)
    if stack is not None:
        stack.close()


@guarded
def _worker_ends(**_: object) -> None:
    """Deliver what a pool process has: it leaves through os._exit, where nothing else would."""
    setup.shutdown()


_HANDLERS: Final[tuple[tuple[Any, Any], ...]] = (
    (signals.before_task_publish, _before_publish),
    (signals.task_prerun, _prerun),
    (signals.task_postrun, _postrun),
    (signals.worker_process_shutdown, _worker_ends),
    (signals.worker_shutdown, _worker_ends),
)
