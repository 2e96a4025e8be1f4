"""One measurement in a process of its own. Prints a JSON line; run by run.py."""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

USAGE = {"prompt_tokens": 1000, "completion_tokens": 200, "prompt_tokens_details": {"cached_tokens": 400}}
_PAGE = os.sysconf("SC_PAGE_SIZE")


def farthing_call(endpoint: str | None, folder: str, queue_size: int) -> tuple[Callable[[], None], Callable[[], Any]]:
    """Give a call of the entrance that plugins use, and what ends it."""
    import farthing  # noqa: PLC0415 - a variant's own import
    from farthing import setup  # noqa: PLC0415 - as above
    from farthing.meter import Finish  # noqa: PLC0415 - as above

    farthing.configure(ledger=folder, otlp_endpoint=endpoint, queue_size=queue_size)
    meter = setup.get_meter()
    assert meter is not None
    tags = {"feature": "chatbot", "route": "api/chat", "team": "growth"}
    keys = iter(range(1_000_000_000))

    def one() -> None:
        key = next(keys)
        meter.start_call(key, framework="x", operation="chat", provider="openai", model="gpt-4o", handler_tags=tags)
        meter.finish_call(
            key,
            Finish(ended_ns=time.time_ns(), usage=USAGE, usage_shape="openai_chat", response_model="gpt-4o-2024-08-06"),
        )

    def finish() -> dict[str, Any]:
        farthing.flush(120)
        health = farthing.health()
        return {"ledger": health.ledger_written, "dropped": sum(health.dropped.values()), "spooled": health.spooled}

    return one, finish


def stock_call(endpoint: str) -> tuple[Callable[[], None], Callable[[], Any]]:
    """Give what an application does with the SDK as it comes: a span of 24 attributes and four histogram records."""
    from opentelemetry import trace  # noqa: PLC0415 - a variant's own import
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 - as above
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - as above
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - as above
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - as above

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics"))
    meters = MeterProvider(metric_readers=[reader])
    tracer, meter = provider.get_tracer("stock"), meters.get_meter("stock")
    histograms = [meter.create_histogram(name) for name in ("duration", "input", "output", "cost")]
    attributes = {f"attribute.{number}": str(number) for number in range(24)}
    labels = {f"label.{number}": str(number) for number in range(7)}

    def one() -> None:
        tracer.start_span("chat gpt-4o", kind=trace.SpanKind.CLIENT, attributes=attributes).end()
        for histogram in histograms:
            histogram.record(1.5, labels)

    def finish() -> dict[str, Any]:
        provider.force_flush()
        meters.force_flush()
        return {}

    return one, finish


def langfuse_call(endpoint: str) -> tuple[Callable[[], None], Callable[[], Any]]:
    """Give one generation of langfuse's client."""
    from langfuse import Langfuse  # noqa: PLC0415 - a variant's own import

    client = Langfuse(public_key="pk-lf-bench", secret_key="sk-lf-bench", host=endpoint)  # noqa: S106 - no secret

    def one() -> None:
        client.start_observation(
            name="chat gpt-4o",
            as_type="generation",
            model="gpt-4o",
            usage_details={"input": 1000, "output": 200},
            cost_details={"total": 0.004},
            metadata={"feature": "chatbot", "route": "api/chat", "team": "growth"},
        ).end()

    def finish() -> dict[str, Any]:
        client.flush()
        return {}

    return one, finish


def resident_bytes() -> int:
    """Give the memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def throughput(one: Callable[[], None], finish: Callable[[], Any], calls: int) -> dict[str, Any]:
    """Make calls as fast as they come, then wait until all is delivered."""
    for _ in range(200):
        one()
    finish()
    began, cpu, caller = time.perf_counter(), time.process_time(), time.thread_time()
    for _ in range(calls):
        one()
    caller = time.thread_time() - caller
    told = finish()
    seconds = time.perf_counter() - began
    return {
        "calls_per_second": calls / seconds,
        "cpu_us": (time.process_time() - cpu) / calls * 1e6,
        "caller_cpu_us": caller / calls * 1e6,
        **told,
    }


def memory(one: Callable[[], None], finish: Callable[[], Any], calls: int) -> dict[str, Any]:
    """Make calls at the pace of delivery; memory after the first tenth is the warm state."""
    from farthing import health  # noqa: PLC0415 - a variant's own import

    warm = 0
    for number in range(calls):
        one()
        if number % 1000 == 0:
            while health().queued > 5_000:  # noqa: PLR2004 - a short queue
                time.sleep(0.01)
        if number == calls // 10:
            finish()
            warm = resident_bytes()
    told = finish()
    growth = (resident_bytes() - warm) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"warm_mb": warm / 1e6, "growth_mb": growth, "peak_mb": peak, **told}


def steady(one: Callable[[], None], finish: Callable[[], Any], calls: int, per_second: float) -> dict[str, Any]:
    """Make calls at a pace, and say how long each of them held the caller up."""
    waits: list[float] = []
    began = time.perf_counter()
    for number in range(calls):
        start = time.perf_counter()
        one()
        waits.append(time.perf_counter() - start)
        time.sleep(max(0.0, began + (number + 1) / per_second - time.perf_counter()))
    waits.sort()
    told = finish()
    return {"p50_us": waits[len(waits) // 2] * 1e6, "p99_us": waits[int(len(waits) * 0.99)] * 1e6, **told}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", required=True, choices=["ledger", "farthing", "stock SDK", "langfuse"])
    parser.add_argument("--scenario", required=True, choices=["throughput", "memory", "overload", "outage"])
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--per-second", type=float, default=0.0)
    parser.add_argument("--endpoint", required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        queue = 10_000 if given.scenario == "overload" else 2_000_000
        if given.variant == "stock SDK":
            one, finish = stock_call(given.endpoint)
        elif given.variant == "langfuse":
            one, finish = langfuse_call(given.endpoint)
        else:
            one, finish = farthing_call(given.endpoint if given.variant == "farthing" else None, folder, queue)
        if given.scenario == "memory":
            figures = memory(one, finish, given.calls)
        elif given.scenario == "outage":
            figures = steady(one, finish, given.calls, given.per_second)
        else:
            figures = throughput(one, finish, given.calls)
        print(json.dumps(figures), flush=True)

    os._exit(0)


if __name__ == "__main__":
    main()
