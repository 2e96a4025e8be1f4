"""Files that several processes share: private folders, and locks that die with their process."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

try:
    import fcntl
except ImportError:  # Windows: nobody takes over what another process left behind
    fcntl = None

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["lock_file", "make_private_folder", "open_regular"]

_CAREFUL: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def make_private_folder(folder: Path) -> None:
    """Create a folder, and those above it that are missing, that only its user may enter; what exists stays as it is.

    Raises:
        OSError: It cannot be created.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        if folder.parent == folder:
            raise
        make_private_folder(folder.parent)  # parents=True would open these to whomever the umask allows
        folder.mkdir(mode=0o700, exist_ok=True)


def open_regular(path: Path, flags: int) -> int:
    """Open what must be a file and nothing else: a pipe would keep its reader for ever, a link lead elsewhere.

    Raises:
        FileNotFoundError: It is not there any more.
        OSError: It cannot be opened; with errno EINVAL or ELOOP it is something else than a file.
    """
    try:
        descriptor = os.open(path, flags | _CAREFUL, 0o600)
    except IsADirectoryError:
        raise OSError(errno.EINVAL, "is no regular file") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a link") from None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "is no regular file")


def lock_file(descriptor: int) -> bool:
    """Lock an open file until it is closed or the process ends; say whether nobody else had it.

    The lock belongs to the open file: a forked child shares it until the child closes its copy.

    Raises:
        OSError: The file system knows no locks.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
