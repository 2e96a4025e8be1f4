"""All three frameworks in one process, in every situation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matrix import drive_together
from matrix.lab import run
from matrix.table import matrix

if TYPE_CHECKING:
    from farthing.testing.provider import FakeProvider
    from matrix.cells import Cell
    from matrix.observers import Observer


@matrix(drive_together.TOGETHER)
def test_matrix(cell: Cell, provider: FakeProvider, observer: Observer) -> None:
    """A call would be lost, doubled, priced wrongly or given to somebody else."""
    problems = run(cell, provider=provider, observer=observer)
    assert not problems, "\n".join(problems)
