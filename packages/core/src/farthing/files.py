"""Files that several processes share: private folders, and locks that die with their process."""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # Windows: nobody takes over what another process left behind
    fcntl = None

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["lock_file", "make_private_folder"]


def make_private_folder(folder: Path) -> None:
    """Create a folder that only its user may enter; one that exists is left as it is.

    Raises:
        OSError: It cannot be created.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


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
