"""What the doctor finds: real folders, real receivers, real metadata."""

from __future__ import annotations

import os
import socket
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
from reports_bench import WriteLedger, make_call

from farthing.testing.receiver import OtlpReceiver
from farthing_reports.doctor import examine
from farthing_reports.neighbours import check_neighbours

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from farthing_reports.checks import Check


def by_name(checks: list[Check]) -> dict[str, Check]:
    """Index checks by name."""
    return {check.name: check for check in checks}


def closed_port() -> int:
    """Give a port of this machine on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_nothing_configured_is_healthy() -> None:
    """Without any setting the ledger is found, nothing is exported, and nothing fails."""
    checks = examine()
    assert all(check.state != "fail" for check in checks)
    assert all((check.fix is None) == (check.state == "ok") for check in checks)
    found = by_name(checks)
    assert "environment and defaults only" in found["file"].found
    assert "can be created" in found["folder"].found
    assert "no OTLP endpoint" in found["export"].found
    assert found["price data"].state in {"ok", "warn"}


def test_frameworks_are_held_against_the_floors_of_the_plugins() -> None:
    """Installed frameworks are named with their version and the oldest one that their plugin supports."""
    found = by_name(examine())
    for name, plugin in (
        ("litellm", "farthing-litellm"),
        ("langchain-core", "farthing-langchain"),
        ("crewai", "farthing-crewai"),
    ):
        assert found[name].state == "ok"
        assert f"with {plugin}" in found[name].found
        assert "(from 1." in found[name].found


def test_settings_are_named_with_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader sees what is set, and whether a variable or the file says so; the variable wins."""
    file = tmp_path / "farthing.toml"
    file.write_text('service_name = "shop"\nqueue_size = 500\n[defaults]\nteam = "growth"\n', encoding="utf-8")
    monkeypatch.setenv("FARTHING_CONFIG", str(file))
    monkeypatch.setenv("FARTHING_QUEUE_SIZE", "700")
    monkeypatch.setenv("FARTHING_OTLP_ENDPOINT", f"http://user:secret@127.0.0.1:{closed_port()}")
    checks = examine()
    found = by_name([check for check in checks if check.topic == "configuration"])
    assert found["file"].found == f"{file} (from FARTHING_CONFIG)"
    assert found["service_name"].found == "shop (from file)"
    assert found["queue_size"].found == "700 (from FARTHING_QUEUE_SIZE)"
    assert found["defaults"].found == "team=growth (from file)"
    assert all("secret" not in f"{check.found}{check.fix}" for check in checks)


def test_broken_settings_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that cannot be used is a failed check with the file and the key; the other checks go on."""
    file = tmp_path / "farthing.toml"
    file.write_text("ledgr = 1\n", encoding="utf-8")
    monkeypatch.setenv("FARTHING_CONFIG", str(file))
    found = by_name(examine())
    assert found["settings"].state == "fail"
    assert "'ledgr', did you mean 'ledger'" in found["settings"].found
    assert "folder" in found


def test_ledger_content(write_ledger: WriteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing ledger is tried and measured, and left as it was."""
    folder = write_ledger([make_call()])
    before = sorted(folder.iterdir())
    monkeypatch.setenv("FARTHING_LEDGER", str(folder))
    found = by_name(examine())
    assert found["folder"].found == f"{folder} can be written"
    assert found["content"].found.startswith("1 file")
    assert sorted(folder.iterdir()) == before


def test_ledger_that_cannot_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose parent is a file, as an example of a path that can never be, fails with the fix."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("FARTHING_LEDGER", str(tmp_path / "file" / "ledger"))
    check = by_name(examine())["folder"]
    assert check.state == "fail"
    assert "cannot be written" in check.found
    assert "FARTHING_LEDGER" in str(check.fix)


@pytest.mark.parametrize(("mode", "may"), [(0o700, None), (0o755, "list"), (0o777, "write to")])
def test_a_ledger_that_others_may_enter_is_a_warning(
    mode: int, may: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that was there before is left as it is, and the user is told what others may do in it."""
    for folder in (tmp_path / "ledger", tmp_path / "ledger" / "spool"):
        folder.mkdir()
        folder.chmod(mode)
    monkeypatch.setenv("FARTHING_LEDGER", str(tmp_path / "ledger"))
    told = [check for check in examine() if check.name.endswith("permissions")]
    assert len(told) == (0 if may is None else 2)
    for check in told:
        assert check.state == "warn"
        assert f"other users may {may} it" in check.found
        assert (check.fix or "").startswith("chmod 700 ")


def test_neither_ledger_nor_export_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the ledger off and nobody listening, calls are recorded nowhere: that must not look healthy."""
    monkeypatch.setenv("FARTHING_LEDGER", "off")
    assert by_name(examine())["ledger"].state == "fail"
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        assert by_name(examine())["ledger"].state == "ok"


def test_endpoint_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both signals are tried with an empty export and the configured headers."""
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "X-Api-Key=a%20b, other = 2")
        found = by_name(examine())
        assert (found["traces"].state, found["metrics"].state) == ("ok", "ok")
        assert receiver.bodies == (b"", b"")
        assert receiver.headers[0]["x-api-key"] == "a b"


@pytest.mark.parametrize(
    ("status", "fix"),
    [(401, "OTEL_EXPORTER_OTLP_HEADERS"), (404, "is the base"), (415, "protobuf"), (302, "points to"), (503, "log")],
)
def test_endpoint_that_refuses(status: int, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal is a failed check that names the status and what to look at."""
    with OtlpReceiver(status=status) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.endpoint}/v1/traces")
        found = by_name(examine())
    assert found["traces"].state == "fail"
    assert str(status) in found["traces"].found
    assert fix in str(found["traces"].fix)
    assert "metrics" not in found


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://127.0.0.1:{port}", "cannot be reached"),
        ("http://no-such-host.invalid:4318", "cannot be reached"),
        ("localhost:4318", "no HTTP URL"),
        ("http://127.0.0.1:notaport", "no HTTP URL"),
        ("ftp://127.0.0.1", "no HTTP URL"),
    ],
)
def test_endpoint_that_is_not_there(url: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection, an unknown name and a text that is no URL are each explained."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url.format(port=closed_port()))
    checks = by_name(examine())
    assert checks["traces"].state == checks["metrics"].state == "fail"
    assert found in checks["traces"].found


def test_grpc_is_said_to_be_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol that farthing does not speak fails before anything is sent."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    check = by_name(examine())["traces"]
    assert check.state == "fail"
    assert "grpc is not supported" in check.found
    assert "http/protobuf" in str(check.fix)


def test_grpc_port_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual mistake, the gRPC port without the protocol, is named."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    assert "4318" in str(by_name(examine())["traces"].fix)


@pytest.fixture
def silent() -> Iterator[str]:
    """Give the URL of a server that takes a request and never answers."""
    release = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Wait until the test is over."""
            release.wait(10)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces"
    release.set()
    server.shutdown()
    server.server_close()


def test_endpoint_that_never_answers(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent endpoint is given up after two seconds."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", silent)
    check = by_name(examine())["traces"]
    assert check.state == "fail"
    assert "did not answer within 2 s" in check.found


def test_disabled_sdk_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SDK_DISABLED explains why nothing arrives."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    check = by_name(examine())["export"]
    assert check.state == "warn"
    assert "OTEL_SDK_DISABLED" in check.found


def test_old_price_data_is_a_warning() -> None:
    """Prices of last year are named as such."""
    check = by_name(examine(now=datetime.now(UTC) + timedelta(days=400)))["price data"]
    assert check.state == "warn"
    assert "days old" in check.found


@pytest.mark.parametrize(
    ("installed", "environ", "named"),
    [
        ({"anthropic": "2.12.0"}, {}, "anthropic"),
        ({"anthropic": "2.12.0"}, {"ANTHROPIC_OPEN_TELEMETRY": "false"}, None),
        ({"anthropic": "0.73.0"}, {}, None),
        ({"crewai": "1.15.30"}, {"OTEL_EXPORTER_OTLP_HEADERS": "x-api-key=secret"}, "crewai"),
        ({"crewai": "1.15.30"}, {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-api-key=secret"}, "crewai"),
        (
            {"crewai": "1.15.30"},
            {"OTEL_EXPORTER_OTLP_HEADERS": "x-api-key=secret", "CREWAI_DISABLE_TELEMETRY": "true"},
            None,
        ),
        ({"opentelemetry-instrumentation-openai": "0.50.0"}, {}, "opentelemetry-instrumentation-openai"),
        ({"openinference-instrumentation-langchain": "0.1"}, {}, "openinference-instrumentation-langchain"),
        ({"opentelemetry-instrumentation-requests": "0.50"}, {}, None),
        ({"traceloop-sdk": "0.40"}, {}, "traceloop-sdk"),
        ({"langfuse": "3.0"}, {}, "langfuse"),
        (
            {"opentelemetry-instrumentation-openai-v2": "2.0"},
            {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "requests, openai_v2"},
            None,
        ),
        ({"litellm": "1.100.5"}, {"LITELLM_SUCCESS_CALLBACKS": "s3,otel"}, "litellm"),
        ({"litellm": "1.100.5"}, {"LITELLM_SUCCESS_CALLBACKS": "s3"}, None),
    ],
)
def test_neighbours_that_count_the_same_tokens(
    installed: dict[str, str], environ: dict[str, str], named: str | None
) -> None:
    """Software that records the same tokens, or that would get our headers, is named with the switch that ends it."""
    warned = [check for check in check_neighbours(environ, installed=installed) if check.state == "warn"]
    assert [check.name for check in warned] == ([] if named is None else [named])
    assert all(check.fix and "secret" not in check.found for check in warned)


def test_what_the_launcher_switches_on_is_told_from_what_is_only_installed() -> None:
    """`opentelemetry-instrument` starts whatever is installed, and one variable keeps it from doing so."""
    installed = {"opentelemetry-instrumentation-openai-v2": "2.0"}
    launched = {"PYTHONPATH": "/x/opentelemetry/instrumentation/auto_instrumentation:/app"}
    (idle,) = check_neighbours({}, installed=installed)
    (active,) = check_neighbours(launched, installed=installed)
    assert "once started" in idle.found
    assert "switched on by opentelemetry-instrument" in active.found
    assert "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=openai-v2" in str(active.fix)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of somebody else's fails with the reason."""
    tmp_path.chmod(0o500)
    monkeypatch.setenv("FARTHING_LEDGER", str(tmp_path / "ledger"))
    check = by_name(examine())["folder"]
    assert check.state == "fail"
    assert "Permission denied" in check.found


def test_what_waits_in_the_spool_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that has been away for hours must be seen before the spool is full."""
    from farthing.counting import Counters  # noqa: PLC0415 - this test alone
    from farthing.otlp import Destination  # noqa: PLC0415 - as above
    from farthing.sinks.spool import Spool  # noqa: PLC0415 - as above

    monkeypatch.setenv("FARTHING_LEDGER", str(tmp_path))
    spool = Spool(tmp_path / "spool", tag="0a1b2c3d", max_bytes=1 << 20, max_age_seconds=60, counters=Counters())
    record = spool.append("bills", b"x" * 1000, 3)
    spool.keep_refused(record, b"y")
    found = {check.name: check for check in examine()}
    assert found["spool"].state == "ok"
    assert found["spool"].found.startswith("waiting: 0.0 MB in 1 files")
    assert found["quarantine"].state == "warn"
    assert "refused-bills" in found["quarantine"].found
    (path,) = (tmp_path / "spool").glob("*.spool")
    os.utime(path, (1, 1))
    assert {check.name: check for check in examine()}["spool"].state == "warn"
    assert "1 files wait for an endpoint" in {check.name: check for check in examine()}["stranded"].found
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    tag = Destination.of("TRACES", "http://127.0.0.1:9/v1/traces").tag
    path = path.rename(path.with_name(path.name.replace("0a1b2c3d", tag)))
    assert "stranded" not in {check.name for check in examine()}
    path.rename(path.with_name(path.name.replace(tag, "0a1b2c3d")))
    spool.done(record)
    assert {check.name: check for check in examine()}["spool"].found == "empty: everything was sent."
