"""Which cells there are: every row in every situation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from matrix.cells import Cell
from matrix.situations import SITUATIONS

if TYPE_CHECKING:
    from matrix.cells import Row

__all__ = ["cells_of", "matrix"]


def cells_of(row: Row) -> list[Cell]:
    """Give the row's cells, the impossible ones too.

    Raises:
        ValueError: The row declares something about a situation that does not exist, or declares it twice.
    """
    known = {situation.name for situation in SITUATIONS}
    declared = [*row.impossible, *row.promises]
    wrong = sorted({name for name in declared if name not in known or declared.count(name) > 1})
    if wrong:
        raise ValueError(f"{row.name}: declared twice, or for no situation at all: {', '.join(wrong)}")
    return [Cell(row=row, situation=situation) for situation in SITUATIONS]


def matrix(*rows: Row) -> Any:
    """Make a test a matrix over all possible cells of some rows: `test_matrix[litellm-stream]`."""
    cells = [cell for row in rows for cell in cells_of(row) if cell.impossible is None]
    return pytest.mark.parametrize("cell", cells, ids=[cell.name for cell in cells])
