"""From a request through a real broker into a job: the owner stays, and no request pays for another."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import farthing
from farthing.testing import capture, read_calls
from farthing.testing.provider import FakeProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a worker beside the application's module."""
    return subprocess.Popen(command, cwd=HERE, env=environment)  # noqa: S603 - our own command


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a redis-server of this test's own."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("NOT RUN: no redis-server is installed, so jobs over a real broker were not tested here")
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    arguments = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as server:  # noqa: S603 - ours
        try:
            wait_for(lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close() is None)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


def wait_for(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    """Wait until something holds; a refused connection is not yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("it did not come to that in time")


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """Serve on loopback."""
    with FakeProvider() as served:
        yield served


@pytest.fixture
def app(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Import the application anew, with a broker where the test has one."""
    url = request.getfixturevalue("broker") if "broker" in request.fixturenames else "memory://"
    for name, value in (("BROKER_URL", url), ("PROVIDER_URL", provider.openai_url)):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    monkeypatch.delitem(sys.modules, "jobs_app", raising=False)
    yield importlib.import_module("jobs_app").app
    from farthing.integrations import celery  # noqa: PLC0415 - loads a framework

    celery.uninstall()


def client_of(app: Any) -> httpx.AsyncClient:
    """Call the application in this process, through its whole stack."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://app")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
async def test_a_job_keeps_its_owner(app: Any, broker: str, provider: FakeProvider, tmp_path: Path, pool: str) -> None:
    """A LangChain chain in a Celery job, its retry and the job that it sends belong to who asked."""
    ledger = tmp_path / "worker"
    environment = os.environ | {
        "FARTHING_LEDGER": str(ledger),
        "QUEUE": f"q-{pool}",
        "FARTHING_DEFAULTS": "team=worker",
    }
    sys.modules["jobs_app"].jobs.conf.task_default_queue = f"q-{pool}"
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "jobs_app:jobs",
        "worker",
        f"--pool={pool}",
        "-c",
        "2",
        "-l",
        "WARNING",
    ]
    with capture() as captured, start(command, environment) as worker:
        try:
            async with client_of(app) as client:
                for tenant, fail_once in (("acme", False), ("globex", True)):
                    headers = {"x-ai-tenant": tenant, "x-ai-team": "growth"}
                    query = {"fail_once": fail_once}
                    answer = await client.post("/documents/7/summary", headers=headers, params=query)
                    assert answer.status_code == 200
            await asyncio.to_thread(wait_for, lambda: len(provider.invoice.lines) == 5)
            await asyncio.sleep(0.5)
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(60)
        assert captured.calls == []
    calls = read_calls(ledger)
    assert sum(call.cost.amount_usd or 0 for call in calls) == provider.invoice.total_usd
    assert Counter(call.attribution.tenant for call in calls) == {"acme": 2, "globex": 3}
    for call in calls:
        assert call.violations == ()
        owner = call.attribution
        assert (owner.feature, owner.team, owner.environment) == ("summaries", "growth", "test")
        assert owner.route == "documents/{document}/summary"
        assert owner.job_id is not None
        assert call.attribution_source["team"] == "attribute"
    assert len({call.attribution.job_id for call in calls}) == 4


async def test_a_thousand_concurrent_requests_keep_their_tenants(app: Any, provider: FakeProvider) -> None:
    """One mixed-up tenant is an invoice that goes to the wrong customer."""
    limit = asyncio.Semaphore(50)

    async def one(client: httpx.AsyncClient, number: int) -> None:
        async with limit:
            path = f"/chat/room-{number}" if number % 4 else f"/stream/room-{number}"
            answer = await client.get(path, headers={"x-ai-tenant": f"tenant-{number}"}, timeout=120)
            assert answer.status_code == 200

    with capture() as captured:
        async with client_of(app) as client:
            await asyncio.gather(*(one(client, number) for number in range(1000)))
        calls = captured.calls
        provider.settle()
        asked = Counter[str]()
        for request in provider.requests:
            found = re.search(r"room-(\d+)", str(request.body))
            assert found is not None
            asked[found.group(1)] += 1
        assert len(calls) == len(provider.requests) == 1250
        assert Counter(call.attribution.tenant for call in calls) == {f"tenant-{n}": c for n, c in asked.items()}
        assert {call.attribution.route for call in calls} == {"chat/{room}", "stream/{room}"}
        assert captured.health.open_runs == 0
    assert farthing.current() == {}


async def test_nothing_of_ours_reaches_the_provider(app: Any, provider: FakeProvider) -> None:
    """Tags, traces and forwarded headers are nobody's business there: the outgoing bytes are looked at."""
    headers = {"x-ai-tenant": "canary-tenant", "x-ai-team": "canary-team", "baggage": "tenant=canary-baggage"}
    with capture():
        async with client_of(app) as client:
            await client.get("/chat/1", headers=headers)
    (request,) = provider.requests
    sent = f"{request!r}{dict(request.headers)!r}{request.body!r}"
    assert "canary" not in sent
    assert not {"baggage", "traceparent", "x-farthing-context"} & {name.lower() for name in request.headers}
