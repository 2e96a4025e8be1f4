"""Delivery, proven by breaking it: after each disaster the ledger and the backend are compared with the invoice."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from farthing.testing import read_calls
from farthing.testing.receiver import OtlpReceiver

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

WORKER = Path(__file__).with_name("worker.py")
PRELUDE = f"""
import multiprocessing, os, signal, sys, time
sys.path.insert(0, {str(WORKER.parent)!r})
import farthing
from worker import spend
invoice = os.open(os.environ["INVOICE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
"""


class World:
    """A ledger, an invoice, a port for a backend that comes and goes, and all that it ever received."""

    def __init__(self, folder: Path) -> None:
        self.ledger = folder / "ledger"
        self.invoice = folder / "invoice"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.received: list[OtlpReceiver] = []

    @contextmanager
    def backend(self, **behaviour: float | str) -> Generator[OtlpReceiver]:
        """Run the backend for a while."""
        with OtlpReceiver(port=self.port, **behaviour) as receiver:  # pyright: ignore[reportArgumentType] - by name
            self.received.append(receiver)
            yield receiver

    def environment(self, **variables: str) -> dict[str, str]:
        """Give what a process of this world is started with."""
        return {
            **os.environ,
            "FARTHING_LEDGER": str(self.ledger),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "INVOICE": str(self.invoice),
            **variables,
        }

    def start(self, calls: int, per_second: float, threads: int = 1, **variables: str) -> subprocess.Popen[str]:
        """Start a process that spends."""
        command = [sys.executable, WORKER, self.invoice, calls, per_second, threads]
        return self._start([str(part) for part in command], variables)

    def start_script(self, script: str, **variables: str) -> subprocess.Popen[str]:
        """Start a process that does something else."""
        return self._start([sys.executable, "-c", PRELUDE + script], variables)

    def _start(self, command: Sequence[str], variables: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and scripts
            command, env=self.environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def drain(self) -> None:
        """Let one more process find what the others left."""
        with self.backend():
            end(self.start_script("spend(invoice, 0, 1, 0)\nfarthing.flush(20)\ntime.sleep(0.5)\nfarthing.flush(20)"))

    @property
    def invoiced(self) -> Counter[str]:
        """What the provider would charge for."""
        return Counter(self.invoice.read_text().split()) if self.invoice.exists() else Counter()

    @property
    def recorded(self) -> Counter[str]:
        """What the ledger holds."""
        return Counter(call.response_id or "" for call in read_calls(self.ledger))

    @property
    def arrived(self) -> Counter[str]:
        """What backends received, by response id; a span that came twice under its one id counts once."""
        spans = {span.span_id: span for receiver in self.received for span in receiver.spans}
        return Counter(str(span.attributes["gen_ai.response.id"]) for span in spans.values() if span.kind == 3)

    @property
    def metered(self) -> float:
        """The calls that the last cumulative state of every process adds up to."""
        last: dict[tuple[object, ...], float] = {}
        for receiver in self.received:
            for batch in receiver.batches:
                for point in batch:
                    if point.metric == "farthing.calls":
                        key = (point.resource["service.instance.id"], *sorted(point.attributes.items()))
                        last[key] = max(point.value, last.get(key, 0.0))
        return sum(last.values())

    def check(self) -> None:
        """Compare all three with the invoice."""
        assert self.recorded == self.invoiced
        assert self.arrived == self.invoiced
        assert self.metered == self.invoiced.total()


def end(process: subprocess.Popen[str], seconds: float = 60) -> str:
    """Wait for the end of a process; it must be a good one."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a world of its own to each disaster."""
    return World(tmp_path)


def test_a_backend_killed_and_restarted_under_load(world: World) -> None:
    """The stock SDK loses what it emits during an outage but for the last seconds; we lose nothing."""
    with world.backend():
        process = world.start(1200, 300)
        time.sleep(1.0)
    time.sleep(1.5)
    with world.backend():
        time.sleep(0.7)
    time.sleep(0.5)
    with world.backend():
        end(process)
    world.drain()
    world.check()


def test_a_backend_that_is_down_until_after_the_end(world: World) -> None:
    """A batch job may be over before its collector is back: the next process sends for it, in order of time."""
    end(world.start(300, 0))
    assert world.recorded == world.invoiced
    world.drain()
    world.check()
    starts = [span.start_ns for span in world.received[-1].spans if span.kind == 3][:300]
    assert starts == sorted(starts)


@pytest.mark.parametrize("trouble", ["503", "429 with Retry-After", "slow", "half-open"])
def test_a_backend_in_trouble(world: World, trouble: str) -> None:
    """Neither an overloaded nor a silent receiver may hold up the process or lose a call."""
    with ExitStack() as stack:
        if trouble == "half-open":
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            deaf.bind(("127.0.0.1", world.port))
            deaf.listen(1)
        else:
            behaviour: dict[str, dict[str, float | str]] = {
                "503": {"status": 503},
                "429 with Retry-After": {"status": 429, "retry_after": "30"},
                "slow": {"delay_seconds": 1.0},
            }
            stack.enter_context(world.backend(**behaviour[trouble]))
        process = world.start(400, 400)
        began = time.monotonic()
        end(process)
        assert time.monotonic() - began < 20
    assert world.recorded == world.invoiced
    world.drain()
    world.check()


def test_killed_at_random_moments(world: World) -> None:
    """SIGKILL loses at most the last second, in the ledger and at the backend alike, and bills nothing twice."""
    dice = random.Random(6)  # noqa: S311 - a test's own
    for number in range(4):
        with ExitStack() as stack:
            if number % 2:
                stack.enter_context(world.backend())
            known = set(world.ledger.glob("calls-*"))
            process = world.start(100_000, 100)
            while not any(path.stat().st_size for path in set(world.ledger.glob("calls-*")) - known):
                time.sleep(0.05)  # the first batch loads prices and SDK
            time.sleep(0.3 + dice.random())
            process.kill()
            process.communicate()
    world.drain()
    missing = world.invoiced - world.recorded
    assert not world.recorded - world.invoiced
    assert missing.total() <= 4 * 100
    assert world.recorded.total() > 4 * 20
    # A call is in the ledger before its span is in the spool: a kill between them costs the backend one batch.
    assert not world.arrived - world.invoiced
    assert (world.recorded - world.arrived).total() <= 4 * 100


def test_the_end_of_every_kind_of_child(world: World) -> None:
    """Children of multiprocessing leave by os._exit(): the stock SDK delivers 0 of 7 spans of theirs."""
    script = """
def work(calls):
    spend(invoice, 0, calls, 0)
if __name__ == "__main__":
    spend(invoice, 1, 10, 0)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(7,)) for _ in range(6)]
    for child in children: child.start()
    for child in children: child.join()
    with context.Pool(2) as pool:
        pool.map(work, [5] * 6)
    assert not any(child.exitcode for child in children)
"""
    with world.backend():
        end(world.start_script(script))
    world.drain()
    world.check()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_that_start_afresh(world: World, tmp_path: Path, method: str) -> None:
    """They import anew, and the ones of a fork server skip atexit."""
    script = tmp_path / "script.py"
    script.write_text(
        PRELUDE
        + f"""
def work(calls):
    spend(invoice, 0, calls, 0)
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=work, args=(7,)) for _ in range(2)]
    for child in children: child.start()
    for child in children: child.join()
"""
    )
    with world.backend():
        subprocess.run([sys.executable, script], env=world.environment(), check=True, timeout=60)  # noqa: S603 - as above
    world.drain()
    assert world.invoiced.total() == 15
    world.check()


def test_a_fork_storm(world: World) -> None:
    """Forks from busy threads meet every lock in every state: nobody may hang, lose or double anything."""
    script = """
import threading
busy = [threading.Thread(target=spend, args=(invoice, n, 300, 0.002)) for n in range(4)]
for thread in busy: thread.start()
time.sleep(0.1)
children = []
for number in range(20):
    child = os.fork()
    if child == 0:
        spend(invoice, 100 + number, 3, 0)
        done = farthing.flush(20)
        os._exit(0 if done and farthing.health().calls == 3 else 1)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
for thread in busy: thread.join()
assert not any(codes), codes
"""
    with world.backend():
        end(world.start_script(script), 90)
    world.drain()
    world.check()


def test_fifty_threads(world: World) -> None:
    """Counters and queues are shared by all of them."""
    with world.backend():
        end(world.start(5000, 0, threads=50))
    world.drain()
    world.check()


@pytest.mark.parametrize("handled", ["by nobody", "by the application", "by sys.exit"])
def test_sigterm(world: World, handled: str) -> None:
    """A deployment ends every process so; the application's own handling must stay as it is."""
    handler = {
        "by nobody": "",
        "by the application": "signal.signal(signal.SIGTERM, lambda *_: (farthing.shutdown(), os._exit(7)))",
        "by sys.exit": "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))",
    }[handled]
    with world.backend():
        process = world.start_script(
            f"{handler}\nspend(invoice, 0, 50, 0)\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(20)"
        )
        process.communicate(timeout=15)
    assert process.returncode == {"by nobody": -15, "by the application": 7, "by sys.exit": 5}[handled]
    world.drain()
    world.check()


def test_sigterm_can_be_left_alone(world: World) -> None:
    """Who switches the handler off gets the signal's own behaviour back."""
    process = world.start_script(
        "farthing.configure()\nprint(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)",
        FARTHING_HANDLE_SIGTERM="false",
    )
    assert end(process).split() == ["True"]


def test_interrupted_from_the_keyboard(world: World) -> None:
    """Ctrl-C in a notebook or a shell."""
    with world.backend():
        # Where the tests themselves run as a shell's background job, SIGINT is ignored and that is inherited.
        script = """
signal.signal(signal.SIGINT, signal.default_int_handler)
spend(invoice, 0, 50, 0)
os.kill(os.getpid(), signal.SIGINT)
time.sleep(20)
"""
        process = world.start_script(script)
        process.communicate(timeout=15)
    assert process.returncode in (1, -2)
    world.drain()
    world.check()


def test_the_lambda_way(world: World) -> None:
    """Between two invocations a process is frozen: flush() must have sent everything within its budget."""
    script = """
for number in range(3):
    spend(invoice, number, 5, 0)
    assert farthing.flush(5)
    print(farthing.health().sent, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with world.backend():
        out, _ = world.start_script(script).communicate(timeout=30)
        assert out.split() == ["6", "12", "18"]
        world.check()


def test_the_clock_is_set_while_calls_run(world: World) -> None:
    """A time server or a thawed machine may set it by hours: no call lasts hours, ends before it began or is swept."""
    script = """
from clock import step
from farthing import setup
from farthing.meter import Finish
meter = setup.get_meter()
HOUR = 3_600
def begin(key, **more):
    meter.start_call(key, framework="x", operation="chat", provider="openai", model="gpt-4o", **more)
def end(key):
    os.write(invoice, f"{key}\\n".encode())
    usage = {"prompt_tokens": 1000, "completion_tokens": 200}
    finish = Finish(ended_ns=time.time_ns(), usage=usage, usage_shape="openai_chat", response_id=key)
    meter.finish_call(key, finish)
begin("open")
for number, seconds in enumerate((HOUR, -2 * HOUR, HOUR)):
    plain, early, late = f"plain-{number}", f"chunk-before-{number}", f"chunk-after-{number}"
    begin(plain); begin(early, streaming=True); begin(late, streaming=True)
    meter.first_chunk(early)
    step(seconds)
    meter.first_chunk(late)
    for key in (plain, early, late): end(key)
    assert farthing.flush(20)
    time.sleep(1.2)
    assert farthing.health().open_runs == 1
end("open")
assert farthing.health().lag_seconds < 60
step(-HOUR)
begin("left open")
step(-HOUR)
"""
    with world.backend() as receiver:
        end(world.start_script(script))
        spans = [span for span in receiver.spans if span.kind == 3]
    calls = read_calls(world.ledger)
    assert len(calls) == len(spans) == 11
    assert [call.error_type for call in calls if call.outcome == "abandoned"] == ["process-ended"]
    for call in calls:
        assert 0 <= (call.ended_at - call.started_at).total_seconds() < 60
        assert (call.time_to_first_chunk_seconds is not None) == call.streaming
        assert 0 <= (call.time_to_first_chunk_seconds or 0) < 60
    assert all(0 <= span.end_ns - span.start_ns < 60e9 for span in spans)
    assert +(world.recorded - world.invoiced) == Counter({"": 1})


def test_a_full_disk_costs_nothing_once_it_has_room(world: World, tmp_path: Path) -> None:
    """Calls wait in memory for the ledger, and spans leave from memory; health() says so meanwhile."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:  # noqa: S603 - as above
        pytest.skip("NOT PROVEN HERE: a full disk needs a small tmpfs, and mounting one needs root")
    try:
        world.ledger = small / "ledger"
        script = f"""
spend(invoice, 0, 30, 0); farthing.flush(10)
filler = open({str(small / "filler")!r}, "wb", buffering=0)
try:
    while True: filler.write(b"x" * 4096)
except OSError: pass
spend(invoice, 1, 400, 0); assert not farthing.flush(10)
health = farthing.health()
assert health.ledger_waiting and not health.ledger_failed and health.sent, health
os.truncate(filler.fileno(), 0); os.unlink(filler.name)
farthing.flush(10)
health = farthing.health()
print(health.ledger_written, health.ledger_waiting, health.ledger_failed)
assert len(invoice_lines := open(os.environ["INVOICE"]).read().split()) == 430
"""
        with world.backend():
            out = end(world.start_script(script, FARTHING_LEDGER=str(world.ledger)))
        written, waiting, failed = (int(word) for word in out.split())
        # 256 KB do not hold all: what is written is whole, and the rest is counted to the last call.
        assert written == world.recorded.total()
        assert written + waiting + failed == 430
        assert not world.recorded - world.invoiced
        assert world.arrived == world.invoiced
    finally:
        subprocess.run(["/bin/umount", "-l", str(small)], check=False)  # noqa: S603 - as above


def test_no_secret_is_written_anywhere(world: World) -> None:
    """Credentials and prompts must be in no file of ours, whatever state it is in."""
    end(world.start(50, 0, OTEL_EXPORTER_OTLP_HEADERS="authorization=Basic%20sesame-open"))
    files = [path for path in world.ledger.rglob("*") if path.is_file()]
    assert any(path.suffix == ".spool" for path in files)
    for path in files:
        assert b"sesame" not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0


def test_the_exit_is_bounded_while_a_post_hangs(world: World) -> None:
    """A process that is told to end must not wait for a backend that never answers."""
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deaf.bind(("127.0.0.1", world.port))
        deaf.listen(8)
        process = world.start_script(
            "spend(invoice, 0, 20, 0)\ntime.sleep(1)",
            FARTHING_EXIT_TIMEOUT_SECONDS="1",
        )
        end(process, seconds=15)
    world.drain()
    world.check()


def test_many_writers_of_one_spool(world: World) -> None:
    """Four workers of a server share the folder; each sends its own, and what dies is taken over once."""
    processes = [world.start(400, 400) for _ in range(4)]
    time.sleep(1.0)
    processes[0].kill()
    processes[0].communicate()
    with world.backend():
        for process in processes[1:]:
            end(process)
    world.drain()
    lost = world.invoiced - world.recorded
    assert lost.total() <= 400
    assert world.arrived - world.recorded == Counter()
    assert (world.recorded - world.arrived).total() <= 400
    assert not world.recorded - world.invoiced
