"""Delivery, proven by breaking it: after each disaster the ledger and the backend are compared with the invoice."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from world import end

from farthing.testing import read_calls

if TYPE_CHECKING:
    from pathlib import Path

    from world import World

HOUR = 3_600
"""What a clock is set by, in seconds."""


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
    # The sums on disk are half a second old at most, however long the interval of their sending is.
    assert world.recorded.total() - 4 * 100 <= world.metered <= world.recorded.total()


def test_a_process_without_a_call_sends_what_a_killed_one_left(world: World) -> None:
    """Whoever starts next is enough, spans and sums alike, also where it has nothing of its own to send."""
    process = world.start_script("spend(invoice, 0, 20, 0)\nprint('spent', flush=True)\ntime.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline()
    while world.recorded.total() < 20:
        time.sleep(0.05)
    time.sleep(1)
    process.kill()
    process.communicate()
    with world.backend():
        end(world.start_script("farthing.configure()\ntime.sleep(3)\nfarthing.flush(10)"))
    world.check()


def test_fifty_threads(world: World) -> None:
    """Counters and queues are shared by all of them."""
    with world.backend():
        end(world.start(5000, 0, threads=50))
    world.drain()
    world.check()


def test_the_clock_is_set_while_calls_run(world: World) -> None:
    """A time server or a thawed machine may set it by hours: no call lasts hours, ends before it began or is swept."""
    script = (
        f"HOUR = {HOUR}"
        """
from clock import step
from farthing import setup
from farthing.meter import Finish
meter = setup.get_meter()
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
print(farthing.health().lag_seconds)
step(-HOUR)
begin("left open")
step(-HOUR)
"""
    )
    with world.backend() as receiver:
        lag_seconds = float(end(world.start_script(script)))
        spans = [span for span in receiver.spans if span.kind == 3]
    calls = read_calls(world.ledger)
    assert len(calls) == len(spans) == 11
    assert [call.error_type for call in calls if call.outcome == "abandoned"] == ["process-ended"]
    assert [call.streaming for call in calls] == [call.time_to_first_chunk_seconds is not None for call in calls]
    told = [
        lag_seconds,
        *((call.ended_at - call.started_at).total_seconds() for call in calls),
        *(call.time_to_first_chunk_seconds or 0 for call in calls),
        *((span.end_ns - span.start_ns) / 1e9 for span in spans),
    ]
    assert {round(seconds / HOUR) for seconds in told} == {0}  # in none of them is a step of the clock
    assert min(told) >= 0
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
