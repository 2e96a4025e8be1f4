"""A ledger of its own for each test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not, and the tests share reports_bench

from reports_bench import build_ledger

if TYPE_CHECKING:
    from reports_bench import WriteLedger

    from farthing import Call


@pytest.fixture
def write_ledger(tmp_path: Path) -> WriteLedger:
    """Give the function that writes batches of calls into a ledger and names its folder."""

    def write(*batches: list[Call]) -> Path:
        return build_ledger(tmp_path / "ledger", *batches)

    return write
