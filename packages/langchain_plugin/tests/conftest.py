"""A ledger of its own and a fake provider for each test, and the one question they all ask: is the total right?"""

from __future__ import annotations

import gc
import warnings
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from langchain_openai.chat_models import _client_utils
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from farthing.testing import capture
from farthing.testing.provider import FakeProvider
from farthing_langchain.lineage import lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from langchain_bench import MakeModel, Settle
    from opentelemetry.sdk.trace import ReadableSpan

    from farthing import Call
    from farthing.testing import Captured


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the clients of the providers leave their connections to the garbage collector, as langchain's models do."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Collect what the clients left, before pytest does and takes it for ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """Serve for one test."""
    with FakeProvider() as served:
        yield served


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Keep the spans of one test."""
    return InMemorySpanExporter()


@pytest.fixture
def tracers(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    """Give the application's own tracer provider."""
    provided = TracerProvider()
    provided.add_span_processor(SimpleSpanProcessor(exporter))
    yield provided
    provided.shutdown()


@pytest.fixture
def captured(tracers: TracerProvider) -> Iterator[Captured]:
    """Keep a ledger for one test."""
    with capture(tracer_provider=tracers) as kept:
        yield kept
    lineage.clear()


@pytest.fixture
def settle(provider: FakeProvider, captured: Captured) -> Settle:
    """Compare ledger and invoice: to the last digit, or with as many unknowns as the test expects."""

    def settled(*, unknown: int = 0, open_runs: int = 0) -> list[Call]:
        assert provider.settle()
        calls = captured.calls
        known = [call.cost.amount_usd for call in calls if call.cost.amount_usd is not None]
        without = [call for call in calls if call.cost.amount_usd is None]
        assert len(without) == unknown
        assert all(call.cost.status == "unreported" and call.cost.flags for call in without)
        if not unknown:
            assert sum(known, Decimal(0)) == provider.invoice.total_usd
        assert sum(known, Decimal(0)) <= provider.invoice.total_usd
        assert captured.health.open_runs == open_runs
        assert captured.health.faults == {}
        assert len(lineage) == open_runs
        return calls

    return settled


@pytest.fixture
def openai(provider: FakeProvider) -> MakeModel:
    """Make models of langchain-openai.

    It keeps its clients by address, and a port may come again: with connections of an event loop that is closed.
    """
    kept: Any = vars(_client_utils)["_cached_async_httpx_client"]
    kept.cache_clear()

    def make(model: str = "gpt-4o", **settings: Any) -> Any:
        given: dict[str, Any] = {"base_url": provider.openai_url, "api_key": "test", "max_retries": 0, **settings}
        return ChatOpenAI(model=model, **given)

    return make


@pytest.fixture
def anthropic(provider: FakeProvider) -> MakeModel:
    """Make models of langchain-anthropic."""

    def make(model: str = "claude-sonnet-4-5", **settings: Any) -> Any:
        given: dict[str, Any] = {"base_url": provider.anthropic_url, "api_key": "test", "max_retries": 0, **settings}
        return ChatAnthropic(model_name=model, **given)

    return make


@pytest.fixture
def spans(captured: Captured, exporter: InMemorySpanExporter) -> Callable[[], Sequence[ReadableSpan]]:
    """Give the spans that were exported so far."""

    def finished() -> Sequence[ReadableSpan]:
        assert captured.calls is not None
        return exporter.get_finished_spans()

    return finished
