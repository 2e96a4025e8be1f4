"""What leaves: spans, metrics and ledger lines, against a real OTLP receiver and a real file system."""

from __future__ import annotations

import json
import os
import resource
import shutil
import stat
import time
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from inline_snapshot import snapshot
from opentelemetry import trace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import farthing
from farthing import setup
from farthing.meter import Finish
from farthing.testing import capture, read_calls
from farthing.testing.receiver import OtlpReceiver, ReceivedSpan

if TYPE_CHECKING:
    from collections.abc import Generator

USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 200,
    "total_tokens": 1200,
    "prompt_tokens_details": {"cached_tokens": 400},
    "completion_tokens_details": {"reasoning_tokens": 50},
}


def call(key: object = "k", *, parent: object = None, model: str = "gpt-4o", **facts: Any) -> None:
    """Record one call through the entrance that plugins use."""
    meter = setup.get_meter()
    assert meter is not None
    meter.start_call(
        key,
        framework="litellm",
        operation="chat",
        provider="openai",
        model=model,
        parent_key=parent,
        tags={"feature": "Chat", "tenant": "acme", "user_id": "u1", "environment": "production"},
        streaming=True,
    )
    meter.first_chunk(key)
    given: dict[str, Any] = {
        "usage": USAGE,
        "usage_shape": "openai_chat",
        "response_id": "r1",
        "response_model": f"{model}-2024-08-06",
        "finish_reason": "stop",
    }
    meter.finish_call(key, Finish(ended_ns=time.time_ns(), **(given | facts)))


def stable(span: ReceivedSpan) -> dict[str, Any]:
    """Give a span's attributes without those that differ from run to run."""
    volatile = {"farthing.call.id", "farthing.operation.id", "attribution.cost.price_version"}
    timing = {"gen_ai.response.time_to_first_chunk"}
    return {name: value for name, value in sorted(span.attributes.items()) if name not in volatile | timing}


def test_a_model_call_becomes_one_client_span_with_cost_and_tags() -> None:
    """The span is what Tempo and Jaeger show; a renamed attribute breaks every dashboard."""
    with OtlpReceiver() as receiver, capture(otlp_endpoint=receiver.endpoint, service_name="shop") as found:
        call()
        assert farthing.flush() is True
        (span,) = receiver.spans
        (recorded,) = found.calls
        assert (span.trace_id, span.span_id) == (recorded.trace_id, recorded.span_id)
        assert (span.name, span.kind) == ("chat gpt-4o", 3)
        assert span.resource["service.name"] == "shop"
        assert stable(span) == snapshot(
            {
                "attribution.cost.engine": "farthing 0.1.0",
                "attribution.cost.source": "catalog",
                "attribution.cost.status": "priced",
                "attribution.cost.usd": "0.004",
                "attribution.feature": "chat",
                "attribution.tenant": "acme",
                "deployment.environment.name": "production",
                "farthing.attempt": 1,
                "farthing.framework": "litellm",
                "farthing.outcome": "success",
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.request.stream": True,
                "gen_ai.response.finish_reasons": ("stop",),
                "gen_ai.response.id": "r1",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.usage.cache_read.input_tokens": 400,
                "gen_ai.usage.cost": 0.004,
                "gen_ai.usage.input_tokens": 1000,
                "gen_ai.usage.output_tokens": 200,
                "gen_ai.usage.reasoning.output_tokens": 50,
                "user.id": "u1",
            }
        )


def test_scopes_make_one_tree_with_roll_ups_on_the_root_alone() -> None:
    """A request must be one trace, and no sum over spans may count a call twice."""
    with OtlpReceiver() as receiver, capture(otlp_endpoint=receiver.endpoint) as found:
        meter = setup.get_meter()
        assert meter is not None
        meter.start_scope("root", framework="langchain", kind="workflow", name="support")
        meter.start_scope("agent", framework="langchain", kind="agent", name="helper", parent_key="root")
        call("a", parent="agent")
        call("b", parent="root", model="no-such-model")
        meter.finish_scope("agent")
        meter.finish_scope("root", outcome="error", error_type="ValueError")
        farthing.flush()
        spans = {span.name: span for span in receiver.spans}
        root, agent = spans["invoke_workflow support"], spans["invoke_agent helper"]
        assert root.parent_span_id == ""
        assert agent.parent_span_id == root.span_id
        assert spans["chat gpt-4o"].parent_span_id == agent.span_id
        assert spans["chat no-such-model"].parent_span_id == root.span_id
        assert len({span.trace_id for span in receiver.spans}) == 1
        assert stable(root) == snapshot(
            {
                "attribution.rollup.calls": 2,
                "attribution.rollup.cost_usd": "0.004",
                "attribution.rollup.input_tokens": 2000,
                "attribution.rollup.output_tokens": 400,
                "attribution.rollup.unknown_cost_calls": 1,
                "error.type": "ValueError",
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.workflow.name": "support",
            }
        )
        assert not [name for name in agent.attributes if "rollup" in name or "usage" in name]
        assert root.failed
        assert [scope.span_id for scope in found.calls[0].scopes] == [root.span_id, agent.span_id]


def test_spans_start_under_the_applications_own_span() -> None:
    """A model call belongs to the request that made it, and the application's provider goes before ours."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with capture(tracer_provider=provider) as found:
        with provider.get_tracer("app").start_as_current_span("GET /chat") as request:
            call()
            assert trace.get_current_span() is request
        (recorded,) = found.calls
        spans = {span.name: span for span in exporter.get_finished_spans()}
        made = spans["chat gpt-4o"]
        assert made.parent is not None
        assert made.parent.span_id == request.get_span_context().span_id
        assert recorded.parent_span_id == f"{request.get_span_context().span_id:016x}"
        assert recorded.trace_id == f"{request.get_span_context().trace_id:032x}"


def test_attempts_of_one_operation_are_one_trace_where_the_application_has_none() -> None:
    """A router's retries would otherwise stand as traces of their own, and nobody could read the request."""
    with OtlpReceiver() as receiver, capture(otlp_endpoint=receiver.endpoint) as found:
        meter = setup.get_meter()
        assert meter is not None
        for attempt in (1, 2, 3):
            meter.start_call(
                attempt,
                framework="litellm",
                operation="chat",
                provider="openai",
                model="gpt-4o",
                attempt=attempt,
                operation_id="one",
            )
            meter.finish_call(attempt, Finish(ended_ns=time.time_ns(), usage=USAGE, usage_shape="openai_chat"))
        call("another")
        farthing.flush()
        first, second, third, other = receiver.spans
        assert first.trace_id == second.trace_id == third.trace_id != other.trace_id
        assert (first.parent_span_id, second.parent_span_id, third.parent_span_id) == ("", first.span_id, first.span_id)
        assert len(found.calls) == 4


def test_an_empty_prefix_gives_bare_names() -> None:
    """Teams with dashboards on `feature` and `route` need not change them."""
    with OtlpReceiver() as receiver, capture(otlp_endpoint=receiver.endpoint, attribution_prefix="") as _:
        call()
        farthing.flush()
        attributes = receiver.spans[0].attributes
        assert attributes["feature"] == "chat"
        assert attributes["cost.status"] == "priced"
        assert "attribution.feature" not in attributes


def test_metrics_sum_to_the_cost_and_leave_tenants_out() -> None:
    """Money is summed by counters; a label without bound would burst them."""
    with OtlpReceiver() as receiver, capture(otlp_endpoint=receiver.endpoint) as found:
        for number in range(10):
            call(number)
        call("unknown", model="no-such-model")
        farthing.flush()
        total = sum((c.cost.amount_usd or Decimal(0) for c in found.calls), Decimal(0))
        points = receiver.points
        for metric in ("farthing.cost", "gen_ai.usage.cost"):
            (point,) = [point for point in points if point.metric == metric]
            assert point.value == pytest.approx(float(total), rel=1e-12)
            assert point.attributes == snapshot(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": "gpt-4o",
                    "attribution.feature": "chat",
                    "deployment.environment.name": "production",
                }
            )
        counted = {
            point.attributes["farthing.cost.status"]: point.value
            for point in points
            if point.metric == "farthing.calls"
        }
        assert counted == {"priced": 10, "unpriced": 1}
        tokens = {
            point.attributes["gen_ai.token.type"]: point.value
            for point in points
            if point.metric == "gen_ai.client.token.usage" and point.attributes["gen_ai.request.model"] == "gpt-4o"
        }
        assert tokens == {"input": 10_000, "output": 2_000}
        assert not [point for point in points if "acme" in point.attributes.values()]


def test_too_many_values_of_a_label_fold_into_one_and_keep_the_sum() -> None:
    """A feature tag filled with request ids must not cost the backend a series each."""
    with OtlpReceiver() as receiver, capture(otlp_endpoint=receiver.endpoint) as _:
        meter = setup.get_meter()
        assert meter is not None
        for number in range(250):
            with farthing.attribute(feature=f"f{number}"):
                meter.start_call(number, framework="x", operation="chat", provider="openai", model="gpt-4o")
            meter.finish_call(number, Finish(ended_ns=time.time_ns(), usage=USAGE, usage_shape="openai_chat"))
        farthing.flush(10)
        costs = {p.attributes["attribution.feature"]: p for p in receiver.points if p.metric == "gen_ai.usage.cost"}
        assert len(costs) == 201
        assert costs["__other__"].count == 50


def test_a_ledger_line_fits_the_published_schema_and_reads_back() -> None:
    """The line is an interface: reports, warehouses and auditors parse it."""
    with capture() as found:
        call()
        (recorded,) = found.calls
        (path,) = found.folder.iterdir()
        (line,) = path.read_text().splitlines()
        parsed = json.loads(line)
        jsonschema.validate(parsed, farthing.Call.model_json_schema(by_alias=True, mode="serialization"))
        assert parsed["schema"] == "farthing.call/1"
        assert parsed["cost"]["amount_usd"] == "0.004"
        assert farthing.Call.model_validate_json(line) == recorded
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        check_required(parsed)


@pytest.mark.parametrize("place", ["tag", "model"])
def test_text_that_is_no_utf8_takes_no_call_along(place: str) -> None:
    """JSON can spell half a surrogate pair, and one such name would cost every bill of its batch."""
    broken = "gpt-\ud800"
    with capture() as found:
        call(1)
        with farthing.attribute(team=broken if place == "tag" else "growth"):
            call(2, model=broken if place == "model" else "gpt-4o")
        call(3)
        assert [each.team for each in (recorded.attribution for recorded in found.calls)] == [
            None,
            "__invalid__" if place == "tag" else "growth",
            None,
        ]
        assert found.health.ledger_written == 3
        assert found.health.faults == {}


def check_required(parsed: dict[str, Any]) -> None:
    """Check that every field that readers rely on is there, null or not."""
    required = (
        "schema call_id operation_id attempt trace_id span_id started_at ended_at framework operation provider "
        "request_model response_model response_id attribution attribution_source usage cost outcome error_type "
        "streaming time_to_first_chunk_seconds"
    )
    assert set(required.split()) <= set(parsed)
    dimensions = "feature route task_type team tenant environment plan user_id session_id job_id"
    assert set(dimensions.split()) <= set(parsed["attribution"])


@pytest.mark.parametrize("kind", ["file in the way", "full disk"])
def test_a_ledger_that_cannot_be_written_is_counted_and_harms_nobody(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Out of disk, the application goes on; health() says what is missing and flush() does not pretend."""
    folder = tmp_path / "ledger"
    if kind == "file in the way":
        folder.write_text("")
    else:
        folder.symlink_to("/dev/full")
    farthing.configure(ledger=str(folder))
    for number in range(20):
        call(number)
    assert farthing.flush() is False
    health = farthing.health()
    assert (health.calls, health.ledger_written, health.ledger_waiting, health.ledger_failed) == (20, 0, 20, 0)
    assert "ledger" in (health.last_error or "")
    assert len([record for record in caplog.records if record.name == "farthing"]) == 1


def test_a_ledger_that_becomes_writable_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that was full for an hour must not cost the rest of the day, nor the hour."""
    monkeypatch.setattr("farthing.sinks.ledger._RETRY_SECONDS", 0.0)
    folder = tmp_path / "ledger"
    folder.write_text("")
    farthing.configure(ledger=str(folder))
    call(1)
    assert farthing.flush() is False
    folder.unlink()
    call(2)
    assert farthing.flush() is True
    assert len(read_calls(folder)) == 2


def test_a_ledger_that_is_removed_while_it_is_written_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody tidies up, or a volume is mounted over it: what comes after must not go into a file without a name."""
    folder = tmp_path / "ledger"
    farthing.configure(ledger=str(folder))
    call(1)
    assert farthing.flush()
    shutil.rmtree(folder)
    call(2)
    assert farthing.flush()
    assert len(read_calls(folder)) == 1
    assert caplog.text.count("was removed while it was written") == 1


def test_a_relative_folder_is_where_the_process_was_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that changes its folder must not leave a second ledger there, nor lose sight of its spool."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)
    monkeypatch.setenv("FARTHING_LEDGER", "ledger")
    monkeypatch.setenv("FARTHING_SPOOL", "spool")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    farthing.configure(ledger_segment_minutes=0.0001)
    call(1)
    farthing.flush(1)
    monkeypatch.chdir(second)
    farthing.configure(ledger_segment_minutes=0.0001)  # the same as before
    call(2)
    farthing.flush(1)
    assert len(read_calls(first / "ledger")) == 2
    assert list((first / "spool").glob("bills-*"))
    assert list(second.iterdir()) == []


@contextmanager
def files_of_at_most(size_bytes: int) -> Generator[None]:
    """Let the kernel refuse what would make a file larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_no_empty_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lets a file be made and nothing be put into it; one for each try would fill a folder within a night."""
    monkeypatch.setattr("farthing.sinks.ledger._RETRY_SECONDS", 0.0)
    farthing.configure(ledger=str(tmp_path))
    with files_of_at_most(0):
        for number in range(5):
            call(number)
            assert farthing.flush() is False
        assert list(tmp_path.glob("calls-*")) == []
    assert farthing.flush() is True
    assert len(read_calls(tmp_path)) == 5


def test_a_file_that_takes_no_more_is_followed_by_another_one(tmp_path: Path) -> None:
    """The end of the process must lose no line for a limit of one file, while the disk has room."""
    farthing.configure(ledger=str(tmp_path))
    with files_of_at_most(10_000):
        for number in range(40):
            call(number)
        assert farthing.flush() is True
    assert len(read_calls(tmp_path)) == 40
    assert len(list(tmp_path.glob("calls-*"))) > 1


def test_an_unusable_endpoint_is_not_called_delivered(caplog: pytest.LogCaptureFixture) -> None:
    """The stock SDK's force_flush answers True when every export failed; ours must not."""
    with OtlpReceiver(status=400) as refusing, capture(otlp_endpoint=refusing.endpoint) as found:
        call()
        assert farthing.flush(timeout=10) is False
        assert found.health.exported["spans:attempts-failed"] >= 1
        assert found.health.spooled == 1
        assert len(found.calls) == 1


def test_rejected_points_are_counted_and_not_called_delivered(caplog: pytest.LogCaptureFixture) -> None:
    """A backend that says 200 and throws half of the sums away must be seen by whoever looks only at flush()."""
    told = ExportMetricsServiceResponse(partial_success=ExportMetricsPartialSuccess(rejected_data_points=5))
    with OtlpReceiver(answer=(told.SerializeToString(), "application/x-protobuf")) as picky:
        url = f"{picky.endpoint}/v1/metrics"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", url)
            with capture() as found:
                call()
                assert farthing.flush(timeout=10) is False
                assert found.health.exported["metrics:rejected"] == 1
                assert found.health.faults["farthing.export.metrics"] == 1
    assert "the receiver rejects some" in caplog.text


def test_with_no_backend_nothing_is_exported_and_nobody_complains(caplog: pytest.LogCaptureFixture) -> None:
    """A laptop has no collector."""
    with capture() as found:
        call()
        assert farthing.flush() is True
        assert found.health.exported == {}
        assert len(found.calls) == 1
    assert caplog.records == []


def test_ledger_off_keeps_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some machines may not hold usage data."""
    monkeypatch.setenv("FARTHING_LEDGER", "off")
    farthing.configure()
    call()
    assert farthing.flush() is True
    assert farthing.health().calls == 1
    assert not Path(os.environ["XDG_STATE_HOME"]).exists()


def test_the_default_ledger_is_in_the_users_state_folder() -> None:
    """Nothing needs to be configured."""
    call()
    assert farthing.flush() is True
    assert len(read_calls(Path(os.environ["XDG_STATE_HOME"]) / "farthing" / "ledger")) == 1


def test_half_a_surrogate_pair_costs_no_call(tmp_path: Path) -> None:
    """JSON may spell one, no UTF-8 can hold it: a provider that sends one must not cost the ledger the whole batch."""
    half = "x\ud800"
    with OtlpReceiver() as receiver:
        farthing.configure(ledger=str(tmp_path), otlp_endpoint=receiver.endpoint, service_name="shop")
        meter = setup.get_meter()
        assert meter is not None
        for number in range(5):
            call(number, response_id=f"r{number}")
        meter.start_scope("scope", framework="x", kind="workflow", name=half)
        call(
            "odd", parent="scope", model=half, response_id=half, response_model=half, provider=half, finish_reason=half
        )
        meter.finish_scope("scope")
        with farthing.attribute(team=half):
            call("tag", response_id="tag")
        assert farthing.flush(20)
        assert [span.attributes["gen_ai.response.id"] for span in receiver.spans if span.kind == 3][5] == "x?"
    health = farthing.health()
    assert (health.calls, health.ledger_written, health.sent, health.faults) == (7, 7, 8, {})
    ids = [each.response_id for each in read_calls(tmp_path)]
    assert ids == ["r0", "r1", "r2", "r3", "r4", "x?", "tag"]


def test_a_call_that_cannot_be_written_costs_no_other(tmp_path: Path) -> None:
    """What no line can hold is failed and counted, and flush() says so."""
    farthing.configure(ledger=str(tmp_path))
    call("good")
    unserialisable: Any = object()
    call("bad", usage=USAGE, outcome=unserialisable)
    call("good too")
    assert farthing.flush(20) is False
    health = farthing.health()
    assert (health.calls, health.ledger_written, health.ledger_failed) == (3, 2, 1)
    assert len(read_calls(tmp_path)) == 2


def test_the_ledger_holds_what_comes_from_outside_of_utf_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable may hold any bytes, and Python gives them as halves of surrogate pairs."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop\udcff")
    farthing.configure(ledger=str(tmp_path))
    call()
    assert farthing.flush(20)
    assert [each.service_name for each in read_calls(tmp_path)] == ["shop?"]


def test_an_endpoint_that_is_none_is_told_and_flush_does_not_call_it_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An address without its scheme is a frequent slip: the ledger goes on, and so does the signal that is right."""
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "localhost:4318/v1/traces")
        farthing.configure(ledger=str(tmp_path))
        call()
        assert farthing.flush(20) is False
        assert any(point.metric == "farthing.calls" for batch in receiver.batches for point in batch)
    assert "is no HTTP URL; write e.g. http://localhost:4318" in (farthing.health().last_error or "")
    assert [record.message.count("write e.g. http://localhost:4318") for record in caplog.records] == [1]
    assert len(read_calls(tmp_path)) == 1


def test_folders_above_the_ledger_are_private_too(tmp_path: Path) -> None:
    """A umask that allows everything must not let others rename the ledger away from above."""
    before = os.umask(0)
    try:
        farthing.configure(ledger=str(tmp_path / "state" / "farthing" / "ledger"))
        call()
        assert farthing.flush(20)
    finally:
        os.umask(before)
    folders = [tmp_path / "state", tmp_path / "state" / "farthing", tmp_path / "state" / "farthing" / "ledger"]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700] * 3
