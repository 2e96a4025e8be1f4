"""A fake provider, a ledger in a temporary folder, and CrewAI kept from the network and from asking questions."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not, and the tests share crewai_bench

# Read by crewai and litellm when they are imported: no telemetry, no tracing dialogue, no download of a price map.
os.environ.pop("OTEL_SDK_DISABLED", None)
os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_STORAGE_DIR": tempfile.mkdtemp(prefix="farthing-crewai-"),
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "FARTHING_LEDGER": "off",
}

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of crewai's own imports are not ours to mend
    from crewai.events.event_bus import crewai_event_bus
    from crewai_bench import Bench

import farthing
from farthing.testing.provider import FakeProvider

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the frameworks warn; our own modules may not."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.filterwarnings("error:::farthing"))
            item.add_marker(pytest.mark.filterwarnings("ignore"), append=False)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    """Serve every provider on loopback, and point every client at it."""
    with FakeProvider() as fake:
        for name, value in {
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": fake.openai_url,
            "OPENAI_API_BASE": fake.openai_url,
            "ANTHROPIC_API_KEY": "test",
            "ANTHROPIC_BASE_URL": fake.anthropic_url,
            "GEMINI_API_KEY": "test",
            "GOOGLE_GEMINI_BASE_URL": fake.gemini_url,
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": fake.bedrock_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield fake


@pytest.fixture
def bench(provider: FakeProvider, tmp_path: Path) -> Iterator[Bench]:
    """Give a fresh ledger beside the provider's invoice."""
    crewai_event_bus.flush(timeout=10)
    farthing.shutdown()
    farthing.configure(ledger=str(tmp_path / "ledger"))
    bench = Bench(provider, tmp_path / "ledger")
    yield bench
    bench.close()
    crewai_event_bus.flush(timeout=10)
    farthing.shutdown()
