"""What tests across packages share: a provider on loopback, a ledger, and no callback left for the next test."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from farthing.testing import Captured, capture
from farthing.testing.provider import FakeProvider

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """Serve on loopback."""
    with FakeProvider() as found:
        yield found


@pytest.fixture
def captured() -> Iterator[Captured]:
    """Keep a ledger for one test."""
    with capture() as found:
        yield found


@pytest.fixture(autouse=True)
def _no_callbacks() -> Iterator[None]:
    """Leave no callback and no cache in LiteLLM, where a test has loaded it."""
    yield
    lite: Any = sys.modules.get("litellm")
    if lite is not None:
        lite.callbacks, lite.cache = [], None
        lite.logging_callback_manager._reset_all_callbacks()
