"""Against a real Collector that is killed under load, where there is one: Rotel, a binary in the wheel `rotel`.

    export FARTHING_TEST_COLLECTOR=$(python -c 'import rotel; print(rotel.__path__[0])')/rotel-agent
    make test ARGS=tests/chaos/test_collector.py

Without the variable, a `rotel` on the path or the wheel beside the tests, this file says so and tests nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from world import end

from farthing.testing import read_calls
from farthing.testing.receiver import OtlpReceiver

if TYPE_CHECKING:
    from collections.abc import Generator

    from world import World


def collector() -> str | None:
    """Find the binary."""
    named = os.environ.get("FARTHING_TEST_COLLECTOR") or shutil.which("rotel")
    if named is not None:
        return named
    wheel = find_spec("rotel")
    return None if wheel is None or wheel.origin is None else str(Path(wheel.origin).with_name("rotel-agent"))


COLLECTOR = collector()
pytestmark = pytest.mark.skipif(
    COLLECTOR is None, reason="NOT RUN: no real Collector here; FARTHING_TEST_COLLECTOR names a Rotel binary"
)


@contextmanager
def running(port: int, behind: str, how: signal.Signals) -> Generator[None]:
    """Run the Collector on a port, in front of a backend, and end it by a signal."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        grpc: int = probe.getsockname()[1]
    command = f"{COLLECTOR} start --otlp-http-endpoint 127.0.0.1:{port} --otlp-grpc-endpoint 127.0.0.1:{grpc} "
    command += f"--exporter otlp --otlp-exporter-protocol http --otlp-exporter-endpoint {behind} --disable-batching"
    process = subprocess.Popen(command.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - named by who runs this
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        assert process.returncode is None, "the Collector did not start"
        yield
    finally:
        process.send_signal(how)
        process.wait(30)


def arrived(backend: OtlpReceiver) -> set[str]:
    """Give the ids of the spans of model calls that came through."""
    return {span.span_id for span in backend.spans if span.kind == 3}


def wait_for(backend: OtlpReceiver, wanted: set[str]) -> None:
    """Give the Collector time to hand on what it took."""
    deadline = time.monotonic() + 20
    while not wanted <= arrived(backend) and time.monotonic() < deadline:
        time.sleep(0.1)


def test_a_collector_that_is_restarted_under_load(world: World) -> None:
    """A deployment of it: it hands on what it took, is away for a while, and what happened meanwhile follows."""
    with OtlpReceiver() as backend:
        with running(world.port, backend.endpoint, signal.SIGTERM):
            process = world.start(900, 300)
            time.sleep(1.5)
        time.sleep(1.0)
        with running(world.port, backend.endpoint, signal.SIGTERM):
            end(process)
            end(world.start_script("spend(invoice, 0, 1, 0)\nassert farthing.flush(20)"))
            time.sleep(0.5)
        ledger = {call.span_id for call in read_calls(world.ledger)}
        wait_for(backend, ledger)
        world.received.append(backend)
        assert arrived(backend) == ledger
        world.check()


def test_a_collector_that_is_killed_under_load(world: World) -> None:
    """It may die with what it took and had not handed on: `farthing replay` sends it again, under the same ids."""
    with OtlpReceiver() as backend:
        with running(world.port, backend.endpoint, signal.SIGKILL):
            process = world.start(900, 300)
            time.sleep(1.5)
        time.sleep(0.5)
        with running(world.port, backend.endpoint, signal.SIGKILL):
            time.sleep(0.7)
        with running(world.port, backend.endpoint, signal.SIGTERM):
            end(process)
            end(world.start_script("spend(invoice, 0, 1, 0)\nassert farthing.flush(20)"))
            ledger = {call.span_id for call in read_calls(world.ledger)}
            assert world.recorded == world.invoiced
            assert arrived(backend) <= ledger
            replay = [Path(sys.executable).with_name("farthing"), "replay", "--since", "1h"]
            subprocess.run(replay, env=world.environment(), check=True, timeout=60, capture_output=True)  # noqa: S603 - ours
        wait_for(backend, ledger)
        assert arrived(backend) == ledger
        world.received.append(backend)
        assert world.metered == world.invoiced.total()
