"""One measurement in a process of its own: a scenario under one handler. Prints a JSON line; run by run.py."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

USAGE = {"input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200, "input_token_details": {"cache_read": 400}}
ROUNDS = 5


class NullExporter(SpanExporter):
    """Takes spans and does nothing with them: what is measured is everything before the network."""

    exported = 0

    def export(self, spans: Any) -> SpanExportResult:
        """Count and forget."""
        NullExporter.exported += len(spans)
        return SpanExportResult.SUCCESS


def set_up_telemetry() -> None:
    """Install the same providers for every variant."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(NullExporter(), max_queue_size=200_000))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider(metric_readers=[InMemoryMetricReader()]))


def handlers(variant: str) -> list[Any]:
    """Give the callbacks of a variant, or instrument globally where that is how a peer works."""
    if variant == "noop":
        from langchain_core.callbacks import BaseCallbackHandler  # noqa: PLC0415 - a variant's own import

        class Noop(BaseCallbackHandler):
            run_inline = True

        return [Noop()]
    if variant == "farthing":
        from farthing_langchain import FarthingHandler  # noqa: PLC0415 - as above

        return [FarthingHandler(feature="chatbot", route="api/chat", team="growth")]
    if variant == "openinference":
        from openinference.instrumentation.langchain import LangChainInstrumentor  # noqa: PLC0415 - as above

        LangChainInstrumentor().instrument()
    if variant == "otel-langchain":
        os.environ["TRACELOOP_TRACE_CONTENT"] = "false"
        from opentelemetry.instrumentation.langchain import LangchainInstrumentor  # noqa: PLC0415 - as above

        LangchainInstrumentor().instrument()
    return []


def chain(model_seconds: float) -> Any:
    """Build prompt | model | parser around a model that replies at once, or after a while."""
    from langchain_core.language_models.chat_models import BaseChatModel  # noqa: PLC0415 - LangChain variants only
    from langchain_core.messages import AIMessage  # noqa: PLC0415 - as above
    from langchain_core.output_parsers import StrOutputParser  # noqa: PLC0415 - as above
    from langchain_core.outputs import ChatGeneration, ChatResult  # noqa: PLC0415 - as above
    from langchain_core.prompts import ChatPromptTemplate  # noqa: PLC0415 - as above

    class Model(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "bench"

        def _get_ls_params(self, *_: Any, **__: Any) -> Any:
            return {"ls_provider": "openai", "ls_model_name": "gpt-4o", "ls_model_type": "chat"}

        def _reply(self) -> ChatResult:
            message = AIMessage(content="hello", usage_metadata=USAGE, response_metadata={"model_name": "gpt-4o"})
            return ChatResult(generations=[ChatGeneration(message=message)])

        def _generate(self, *_: Any, **__: Any) -> ChatResult:
            if model_seconds:
                time.sleep(model_seconds)
            return self._reply()

        async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
            if model_seconds:
                await asyncio.sleep(model_seconds)
            return self._reply()

    return ChatPromptTemplate.from_template("{q}") | Model() | StrOutputParser()


def measure(one: Callable[[], object], calls: int, finish: Callable[[], object]) -> dict[str, float]:
    """Time a call: wall clock and CPU on the caller's thread, and CPU of the whole process with all work done."""
    for _ in range(max(20, calls // 10)):
        one()
    finish()
    walls: list[float] = []
    callers: list[float] = []
    everything: list[float] = []
    for _ in range(ROUNDS):
        process, thread, wall = time.process_time(), time.thread_time(), time.perf_counter()
        for _ in range(calls):
            one()
        callers.append(time.thread_time() - thread)
        walls.append(time.perf_counter() - wall)
        finish()
        everything.append(time.process_time() - process)
    return {
        "wall_us": statistics.median(walls) / calls * 1e6,
        "caller_cpu_us": statistics.median(callers) / calls * 1e6,
        "process_cpu_us": statistics.median(everything) / calls * 1e6,
    }


def fake_openai() -> str:
    """Serve one fixed chat completion on loopback."""
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
        }
    ).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"


def litellm_call(variant: str) -> Callable[[], object]:
    """Give a real litellm.completion() over loopback HTTP."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm  # noqa: PLC0415 - this scenario only
    from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415 - as above

    if variant == "noop":
        litellm.callbacks = [CustomLogger()]
    if variant == "farthing":
        from farthing_litellm import FarthingLogger  # noqa: PLC0415 - as above

        litellm.callbacks = [FarthingLogger(feature="email-generator", team="growth")]
    url = fake_openai()
    messages = [{"role": "user", "content": "hello"}]
    return lambda: litellm.completion(model="openai/gpt-4o", api_base=url, api_key="unused", messages=messages)


def meter_call() -> Callable[[], object]:
    """Give a direct call of the entrance that plugins use."""
    from farthing import setup  # noqa: PLC0415 - this scenario only
    from farthing.meter import Finish  # noqa: PLC0415 - as above

    meter = setup.get_meter()
    assert meter is not None
    tags = {"feature": "chatbot", "route": "api/chat", "team": "growth"}
    keys = iter(range(1_000_000_000))

    def one() -> None:
        key = next(keys)
        meter.start_call(key, framework="x", operation="chat", provider="openai", model="gpt-4o", handler_tags=tags)
        meter.finish_call(
            key, Finish(ended_ns=time.time_ns(), usage=USAGE, usage_shape="langchain", response_model="gpt-4o")
        )

    return one


def stock_sdk_call() -> Callable[[], object]:
    """Give what the stock SDK alone takes for one call: a span of 24 attributes and four histogram records."""
    tracer, meter = trace.get_tracer("stock"), metrics.get_meter("stock")
    histograms = [meter.create_histogram(name) for name in ("duration", "input", "output", "cost")]
    attributes = {f"attribute.{number}": str(number) for number in range(24)}
    labels = {f"label.{number}": str(number) for number in range(7)}

    def one() -> None:
        tracer.start_span("chat gpt-4o", kind=trace.SpanKind.CLIENT, attributes=attributes).end()
        for histogram in histograms:
            histogram.record(1.5, labels)

    return one


def looped(call: Callable[[], Awaitable[object]]) -> Callable[[], object]:
    """Run a coroutine function on one loop that stays."""
    loop = asyncio.new_event_loop()
    return lambda: loop.run_until_complete(call())


def scenario_call(scenario: str, variant: str) -> Callable[[], object]:
    """Give one call of a scenario."""
    if scenario == "meter":
        return stock_sdk_call() if variant == "stock SDK" else meter_call()
    if scenario == "litellm":
        return litellm_call(variant)
    built = chain(0.01 if scenario.endswith("10ms") else 0.0)
    config = {"callbacks": handlers(variant)}
    if scenario.startswith("async"):
        return looped(lambda: built.ainvoke({"q": "hello"}, config=config))
    return lambda: built.invoke({"q": "hello"}, config=config)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--scenario", required=True)
    parser.add_argument("--calls", type=int, required=True)
    given = parser.parse_args()
    set_up_telemetry()
    finish: Callable[[], object] = lambda: None  # noqa: E731 - replaced below where there is something to finish
    with tempfile.TemporaryDirectory() as folder:
        if given.variant == "farthing":
            import farthing  # noqa: PLC0415 - a variant's own import

            farthing.configure(ledger=folder, queue_size=1_000_000)
            finish = lambda: farthing.flush(60)  # noqa: E731 - as above
        figures = measure(scenario_call(given.scenario, given.variant), given.calls, finish)
        if given.variant == "farthing":
            import farthing  # noqa: PLC0415 - as above

            health = farthing.health()
            figures["calls_billed"] = health.priced
            assert not health.dropped, health.dropped
            assert health.ledger_written == health.calls
            farthing.shutdown()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
