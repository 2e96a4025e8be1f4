"""A fake provider, a ledger of its own for each test, and a LiteLLM without callbacks."""

from __future__ import annotations

import gc
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not, and the tests share litellm_bench

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of litellm's own imports are not ours to mend
    from litellm_bench import Bench, lite

from farthing.testing import capture
from farthing.testing.provider import FakeProvider
from farthing_litellm import FarthingLogger, include_usage

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let LiteLLM leave its clients to the garbage collector and warn about itself; our own modules may not."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for ignored in (
                "ignore::ResourceWarning",
                "ignore::pytest.PytestUnraisableExceptionWarning",
                "ignore::DeprecationWarning:litellm",
                "ignore:Pydantic serializer warnings:UserWarning",
                "ignore:coroutine .* was never awaited:RuntimeWarning",
                "ignore:Items? .* on TypedDict class:UserWarning",
            ):
                item.add_marker(pytest.mark.filterwarnings(ignored))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Collect what the clients left, before pytest does and takes it for ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(autouse=True)
def _alone_with_litellm() -> Iterator[None]:
    """Start without callbacks, cache and warnings given, and leave none."""
    lite.suppress_debug_info = True
    _reset()
    yield
    _reset()


def _reset() -> None:
    lite.logging_callback_manager._reset_all_callbacks()
    lite.callbacks = []
    lite.input_callback = []
    lite.cache = None
    lite.num_retries = None
    include_usage.forget_told()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Serve, and keep a ledger, for one test."""
    with FakeProvider() as provider, capture() as captured:
        yield Bench(provider, captured)


@pytest.fixture
def logger() -> FarthingLogger:
    """Install the callback as the README says."""
    made = FarthingLogger(feature="email-generator", team="growth")
    lite.callbacks = [made]
    return made
