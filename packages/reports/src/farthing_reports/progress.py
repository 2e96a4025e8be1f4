"""Progress on stderr for what takes longer than a moment; silent where nobody watches."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    import duckdb

__all__ = ["advancing", "watched"]

_PATIENCE_SECONDS: Final = 1.0
_STEP_SECONDS: Final = 0.1


@contextmanager
def advancing(title: str, total: int | None) -> Generator[Callable[[int], None]]:
    """Show how far work has come that says so itself, if stderr is a terminal.

    Args:
        title: What is done.
        total: How much there is; None where nobody knows.

    Yields:
        The function to call with what was done since.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.advance(task, done)


@contextmanager
def watched(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> Generator[None]:
    """Show how far a query over files has come, if it lasts longer than a second and stderr is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    done = threading.Event()
    size = sum(path.stat().st_size for path in files)
    title = f"reading {size / 1e6:,.0f} MB in {len(files)} file{'s' if len(files) != 1 else ''}"
    thread = threading.Thread(target=_show, args=(connection, console, title, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show(connection: duckdb.DuckDBPyConnection, console: Console, title: str, done: threading.Event) -> None:
    if done.wait(_PATIENCE_SECONDS):
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)
        while not done.wait(_STEP_SECONDS):
            percent = connection.query_progress()
            if percent > 0:
                progress.update(task, total=100, completed=percent)
