"""A running fake provider, and a plain HTTP client to look at its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from farthing.testing.provider import FakeProvider

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A fresh provider for one test."""
    with FakeProvider(id_prefix="t") as running:
        yield running


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[httpx.Client]:
    """An HTTP client whose addresses start at the provider."""
    with httpx.Client(base_url=provider.url, timeout=10) as opened:
        yield opened
