"""The page says what the cells declare."""

from __future__ import annotations

from matrix.page import PAGE, VERSIONS, render
from matrix.rows import ROWS
from matrix.situations import SITUATIONS
from matrix.table import cells_of


def test_the_page_is_in_step_with_the_cells() -> None:
    """A reader would be told of another matrix than the one that is tested; `make matrix` writes it anew."""
    assert PAGE.read_text(encoding="utf-8").partition(VERSIONS)[0] == render()


def test_every_cell_is_declared_and_every_other_promise_has_its_reason() -> None:
    """A promise that differs without a word is an exception that nobody sees."""
    cells = [cell for row in ROWS for cell in cells_of(row)]
    assert len(cells) == len(ROWS) * len(SITUATIONS)
    for cell in cells:
        if cell.impossible is not None:
            assert cell.impossible.endswith(".")
        elif cell.promise.is_exact != cell.situation.promise.is_exact or cell.promise.untagged:
            assert cell.promise.why, cell.name
