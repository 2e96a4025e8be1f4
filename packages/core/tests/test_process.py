"""How a process begins and ends: light imports, and nothing lost on the way out."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from farthing.testing import read_calls
from farthing.testing.receiver import OtlpReceiver

if TYPE_CHECKING:
    from pathlib import Path

PRELUDE = """
import time
import farthing
from farthing import setup
from farthing.meter import Finish

def call(key):
    meter = setup.get_meter()
    meter.start_call(key, framework="x", operation="chat", provider="openai", model="gpt-4o")
    usage = {"prompt_tokens": 1000, "completion_tokens": 200}
    meter.finish_call(key, Finish(ended_ns=time.time_ns(), usage=usage, usage_shape="openai_chat"))
"""


def run(script: str, ledger: Path, *, timeout: float = 30, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    return subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-c", PRELUDE + textwrap.dedent(script)],
        env={**os.environ, "FARTHING_LEDGER": str(ledger), **variables},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_importing_loads_no_framework_no_sdk_no_prices(tmp_path: Path) -> None:
    """An application imports the core in its request path."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys, farthing; farthing.attribute(feature='x'); print(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    heavy = ("opentelemetry", "pydantic", "litellm", "langchain", "langchain_core", "crewai", "genai_prices", "duckdb")
    assert not loaded.intersection(heavy)
    assert "farthing.pricing" not in loaded


def test_the_meter_loads_no_exporter_and_no_price_data(tmp_path: Path) -> None:
    """Configuring without a backend must not pay for one."""
    done = run("farthing.configure(); import sys; print(*sorted(sys.modules))", tmp_path)
    loaded = set(done.stdout.split())
    assert "opentelemetry.exporter.otlp.proto.http.trace_exporter" not in loaded
    assert "opentelemetry.sdk.trace" not in loaded


@pytest.mark.parametrize(
    "ending",
    ["", "raise ValueError", "raise SystemExit(3)", "import asyncio; asyncio.run(asyncio.sleep(0))"],
    ids=["return", "exception", "sys.exit", "asyncio.run"],
)
def test_the_last_calls_survive_the_end(tmp_path: Path, ending: str) -> None:
    """Short scripts end before any worker had its turn."""
    run(f"for n in range(50): call(n)\n{ending}", tmp_path)
    assert len(read_calls(tmp_path)) == 50


@pytest.mark.parametrize("seconds", ["0.3", "2"])
def test_the_end_with_a_backend_that_is_down_keeps_every_call(tmp_path: Path, seconds: str) -> None:
    """The stock SDK holds a process for up to 28 seconds and then drops what it had: ours is in the ledger."""
    done = run(
        "for n in range(50): call(n)",
        tmp_path,
        timeout=20,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        FARTHING_EXIT_TIMEOUT_SECONDS=seconds,
    )
    assert done.returncode == 0
    assert len(read_calls(tmp_path)) == 50


def test_the_end_delivers_spans_and_metrics_without_a_flush(tmp_path: Path) -> None:
    """A script that just ends, as most do, must reach its backend: the SDK may no longer start threads by then."""
    with OtlpReceiver() as receiver:
        run("for n in range(50): call(n)", tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        assert len(receiver.spans) == 50
        assert {point.metric for point in receiver.points} >= {"farthing.cost", "gen_ai.usage.cost"}
    assert len(read_calls(tmp_path)) == 50


@pytest.mark.parametrize("flushes", [False, True])
def test_a_process_out_of_descriptors_at_its_first_call_recovers(tmp_path: Path, flushes: bool) -> None:
    """One bad moment at the start must not switch export off for a week, nor cost the calls of that moment a price."""
    script = f"""
    import os, resource
    farthing.configure()
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held = []
    try:
        while True: held.append(os.open("/dev/null", 0))
    except OSError: pass
    for n in range(20): call(n)
    time.sleep(1.5)
    if {flushes}: print(farthing.flush(2))
    for each in held: os.close(each)
    time.sleep(4)
    for n in range(20, 30): call(n)
    print(farthing.flush(20), farthing.health().priced)
    """
    with OtlpReceiver() as receiver:
        done = run(script, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        assert done.stdout.split() == (["False", "True", "10"] if flushes else ["True", "30"])
        assert len(receiver.spans) == (10 if flushes else 30)
    calls = read_calls(tmp_path)
    assert len(calls) == 30
    unpriced = [each for each in calls if each.cost.amount_usd is None]
    assert len(unpriced) == 20 * flushes
    assert {each.cost.flags for each in unpriced} <= {("prices-not-loaded",)}
    assert all(each.usage is not None for each in unpriced)  # with it `farthing reprice` tells what they cost


def test_a_forked_child_records_its_own_calls_once(tmp_path: Path) -> None:
    """Gunicorn and multiprocessing fork after import: nothing may be lost, doubled or stuck."""
    script = """
    import os
    for n in range(10): call(n)
    child = os.fork()
    for n in range(5): call(("after", n))
    print(farthing.flush(10))
    if child == 0:
        os._exit(0 if farthing.health().calls == 5 else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = run(script, tmp_path)
    assert "0" in done.stdout.split(), done.stderr
    assert len(read_calls(tmp_path)) == 20
    assert len(list(tmp_path.iterdir())) == 2


def test_sigkill_loses_at_most_the_last_second(tmp_path: Path) -> None:
    """The ledger is on disk, not in memory."""
    script = """
    import os, signal, time
    for n in range(200): call(n)
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run(script, tmp_path).returncode == -9
    assert len(read_calls(tmp_path)) == 200


def test_the_applications_global_provider_is_used(tmp_path: Path) -> None:
    """An application that has set up OpenTelemetry gets our spans there, with nothing to configure."""
    script = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    call("before")
    farthing.flush()
    trace.set_tracer_provider(provider)
    call("after")
    farthing.flush()
    print(*[span.name for span in exporter.get_finished_spans()])
    """
    assert run(script, tmp_path).stdout.split() == ["chat", "gpt-4o"]


def test_crewais_telemetry_provider_is_not_the_applications(tmp_path: Path) -> None:
    """CrewAI up to 1.15.14 installs its own provider globally: our spans would leave for its vendor."""
    script = """
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "crewAI-telemetry"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    call("mine")
    farthing.flush()
    print(len(exporter.get_finished_spans()))
    """
    assert run(script, tmp_path).stdout.split() == ["0"]
    assert len(read_calls(tmp_path)) == 1
