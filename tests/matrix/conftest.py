"""One provider for all cells of a process, and frameworks that keep their warnings and their traces to themselves."""

from __future__ import annotations

import gc
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # pytest's importlib mode does not

from farthing.testing.provider import FakeProvider

from matrix.quiet import QUIET  # isort: skip - before any framework
from matrix.observers import FarthingObserver

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the frameworks warn; our own modules may not."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.filterwarnings("error:::farthing"))
            item.add_marker(pytest.mark.filterwarnings("ignore"), append=False)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Collect what the clients left, before pytest does and takes it for ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    """Serve every provider on loopback, and point the clients at it that ask the environment."""
    gc.collect()
    gc.freeze()  # the frameworks themselves: each cell ends with a collection
    with FakeProvider() as fake, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            **QUIET,
            "OPENAI_API_KEY": "unused",
            "OPENAI_BASE_URL": fake.openai_url,
            "OPENAI_API_BASE": fake.openai_url,
            "ANTHROPIC_API_KEY": "unused",
            "ANTHROPIC_BASE_URL": fake.anthropic_url,
            "GEMINI_API_KEY": "unused",
            "GOOGLE_GEMINI_BASE_URL": fake.gemini_url,
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": fake.bedrock_url,
            "AWS_ACCESS_KEY_ID": "unused",
            "AWS_SECRET_ACCESS_KEY": "unused",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        yield fake
    gc.unfreeze()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def observer() -> FarthingObserver:
    """Watch with farthing."""
    return FarthingObserver()
