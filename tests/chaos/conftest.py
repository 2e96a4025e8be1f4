"""What every disaster gets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not, and the tests share world

from world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a world of its own to each disaster."""
    return World(tmp_path)
