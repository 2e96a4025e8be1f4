"""Every way a process ends: at exit, at the end of a multiprocessing child, and on SIGTERM where nobody handles it.

`os._exit()` and SIGKILL run nothing of anybody's. What finished more than a moment before them is on disk.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType

__all__ = ["before_process_ends", "deliver_on_sigterm", "forked_child_ends_too", "is_ending", "leave_sigterm"]

_CHILD_MODULES: Final = ("multiprocessing", "billiard")
"""What starts children that leave by os._exit() and so skip atexit; billiard is Celery's multiprocessing."""
_LAST: Final = -1_000


class _Ending:
    """What is done once, whatever end comes first."""

    def __init__(self) -> None:
        self.deliver: Callable[[], object] | None = None
        self.has_begun = False


_ending: Final = _Ending()


def is_ending() -> bool:
    """Say whether this process has begun to end: what is called now has no later to be delivered in.

    Raises:
        Nothing.
    """
    return _ending.has_begun


def before_process_ends(deliver: Callable[[], object]) -> None:
    """Have the last calls delivered at exit, and at the end of this process if multiprocessing started it.

    Raises:
        Nothing.
    """
    if _ending.deliver is None:
        atexit.register(_deliver)
    _ending.deliver = deliver
    for name in _CHILD_MODULES:
        process = sys.modules.get(f"{name}.process")
        if process is not None and _is_child(process):
            _finalize(sys.modules.get(f"{name}.util"))


def forked_child_ends_too() -> None:
    """Do the same in a child that has just been forked, called from the hook that runs there.

    multiprocessing forgets what the parent had registered, and then asks who wants to register anew.

    Raises:
        Nothing.
    """
    _ending.has_begun = False
    for name in _CHILD_MODULES:
        util = sys.modules.get(f"{name}.util")
        if util is not None:
            util.register_after_fork(_ending, partial(_finalize_again, util))


def deliver_on_sigterm(deliver: Callable[[], object]) -> None:
    """Deliver before SIGTERM ends the process, where it would end it at once.

    A handler of the application's stays as it is, whether it was there before or comes later. The process ends by the
    signal, as it would have, and a second SIGTERM ends it at once. Only the main thread can install handlers.

    Args:
        deliver: Must be bounded in time.

    Raises:
        Nothing.
    """
    if _ending.has_begun or threading.current_thread() is not threading.main_thread():
        return
    with suppress(ValueError, OSError):
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _Terminator(deliver))


def leave_sigterm() -> None:
    """Take our handler away again, where it is the one in force.

    Raises:
        Nothing.
    """
    if threading.current_thread() is threading.main_thread() and not _ending.has_begun:
        with suppress(ValueError, OSError):
            if isinstance(signal.getsignal(signal.SIGTERM), _Terminator):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Terminator:
    """A handler that does not deliver where it was called: the main thread may hold any lock just then."""

    def __init__(self, deliver: Callable[[], object]) -> None:
        self._deliver = deliver

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        try:
            threading.Thread(target=self._end, args=(number,), name="farthing-sigterm", daemon=True).start()
        except RuntimeError:
            os.kill(os.getpid(), number)

    def _end(self, number: int) -> None:
        _ending.has_begun = True
        try:
            self._deliver()
        finally:
            os.kill(os.getpid(), number)


def _deliver() -> None:
    _ending.has_begun = True
    if _ending.deliver is not None:
        _ending.deliver()


def _is_child(process: ModuleType) -> bool:
    """Say whether this process is a child of multiprocessing's; billiard has no parent_process()."""
    parent = getattr(process, "parent_process", None)
    if parent is not None:
        return parent() is not None
    return type(process.current_process()).__name__ != "_MainProcess"


def _finalize_again(util: ModuleType, _: object) -> None:
    _finalize(util)


def _finalize(util: ModuleType | None) -> None:
    if util is not None:
        util.Finalize(None, _deliver, exitpriority=_LAST)
