"""Every way a process ends: what it spent is in the ledger and at the backend, and the end is bounded."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from world import PRELUDE, end

if TYPE_CHECKING:
    from pathlib import Path

    from world import World


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


@pytest.mark.parametrize("backend", ["up", "down"])
def test_sigterm_while_the_main_thread_goes_on(world: World, backend: str) -> None:
    """A call after the end has begun must neither undo the end nor leave for another ledger."""
    script = """
elsewhere = os.environ.pop("FARTHING_LEDGER")
farthing.configure(ledger=elsewhere)
print("began", flush=True)
for number in range(100_000):
    spend(invoice, number, 1, 0.01)
"""
    with world.backend() if backend == "up" else nullcontext():
        process = world.start_script(script)
        assert process.stdout is not None
        assert process.stdout.readline()
        time.sleep(1.5)
        began = time.monotonic()
        process.terminate()
        process.communicate(timeout=15)
        assert time.monotonic() - began < 8
    assert process.returncode == -signal.SIGTERM
    assert (world.invoiced - world.recorded).total() <= 1  # the one that it was killed in
    assert not world.recorded - world.invoiced
    world.drain()
    assert world.arrived == world.recorded


def test_sigterm_before_the_main_thread_called(world: World) -> None:
    """Only the main thread can install a handler, and it may be another one that makes the calls."""
    script = """
import threading
from farthing_langchain import FarthingHandler
FarthingHandler(feature="x")
threading.Thread(target=spend, args=(invoice, 0, 50, 0)).start()
time.sleep(0.01)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(20)
"""
    with world.backend():
        process = world.start_script(script)
        process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert world.recorded == world.invoiced


def test_calls_of_a_handler_that_runs_after_ours(world: World) -> None:
    """What was registered before farthing runs at exit after it, and nothing of a thread's gets a turn then."""
    script = """
import atexit
atexit.register(spend, invoice, 1, 20, 0)
spend(invoice, 0, 20, 0)
"""
    with world.backend():
        end(world.start_script(script))
    assert world.recorded == world.invoiced
    world.drain()
    assert world.arrived == world.invoiced


def test_threads_that_fork_at_once_while_the_worker_is_busy(world: World) -> None:
    """One lock and several forks: who waited in vain must not make the other forget to give it back."""
    script = """
import threading
farthing.configure(ledger_fsync=True)
spend(invoice, 0, 1, 0)
assert farthing.flush(20)
fsync = os.fsync
def slow(descriptor):
    until = time.monotonic() + 9
    while time.monotonic() < until:
        pass
    fsync(descriptor)
os.fsync = slow
spend(invoice, 1, 1, 0)
time.sleep(0.5)
def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
threads = [threading.Thread(target=fork) for _ in range(3)]
for thread in threads:
    thread.start()
    time.sleep(0.2)
for thread in threads:
    thread.join()
os.fsync = fsync
"""
    end(world.start_script(script, OTEL_EXPORTER_OTLP_ENDPOINT=""), 30)
    assert world.recorded == world.invoiced


def test_the_first_call_comes_when_the_main_thread_is_done(world: World) -> None:
    """A thread may go on after it: the interpreter is ending by then, and refuses what the SDK needs."""
    script = """
import threading
def late():
    time.sleep(0.5)
    spend(invoice, 0, 20, 0)
threading.Thread(target=late).start()
"""
    end(world.start_script(script))
    assert world.invoiced.total() == 20
    assert world.recorded == world.invoiced


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


def test_a_process_that_is_frozen_and_thawed(world: World) -> None:
    """A stopped container or a throttled function goes on where it was, and owes nothing."""
    with world.backend():
        process = world.start(300, 300)
        for _ in range(3):
            time.sleep(0.5)
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.5)
            process.send_signal(signal.SIGCONT)
        end(process)
    world.drain()
    world.check()


def test_a_full_queue_at_the_end_with_the_backend_down(world: World) -> None:
    """A burst before the exit goes to the ledger and the spool, however short the time for a backend is."""
    end(world.start(10_000, 0, FARTHING_EXIT_TIMEOUT_SECONDS="0"), seconds=120)
    assert world.recorded == world.invoiced
    assert world.invoiced.total() == 10_000
    world.drain()
    world.check()


@pytest.mark.skipif(find_spec("gunicorn") is None, reason="NOT RUN: gunicorn is not installed beside the tests")
def test_gunicorn_prefork(world: World, tmp_path: Path) -> None:
    """Its workers are forked from a process that has recorded already, and end with the server."""
    (tmp_path / "web.py").write_text(
        PRELUDE
        + """
farthing.configure(service_name="web")
spend(invoice, 0, 3, 0)
def app(environ, start_response):
    spend(invoice, time.monotonic_ns(), 2, 0)
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "web:app", "--preload", "-w", "3", "-b", f"127.0.0.1:{port}"]
    with world.backend():
        server = subprocess.Popen(command, cwd=tmp_path, env=world.environment(), stderr=subprocess.DEVNULL)  # noqa: S603 - ours
        try:
            answered = 0
            while answered < 40:
                try:
                    with urlopen(f"http://127.0.0.1:{port}/") as answer:
                        answered += answer.status == 200
                except OSError:
                    time.sleep(0.1)
                    assert server.poll() is None
        finally:
            server.terminate()
            server.wait(60)
    assert world.invoiced.total() == 3 + 40 * 2
    world.drain()
    world.check()
