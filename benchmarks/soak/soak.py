"""The soak itself: workers, phases, and what is looked at when all is quiet."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import queue
import random
import subprocess
import sys
import threading
import time
import warnings
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import litellm
import with_crewai
import with_langchain
import with_litellm  # noqa: F401 - registers its ways
from check import Done, check
from memory import Memory
from plans import PLANS
from work import WAYS, Way, Work, say

import farthing
from farthing.testing import read_calls
from farthing_crewai import FarthingListener
from farthing_litellm import FarthingLogger

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from check import Findings

HERE: Final = Path(__file__).parent
CALL_TIMEOUT_SECONDS: Final = 20.0
"""After so long farthing closes what no framework ends: CrewAI reports no cancelled call."""


class Provider:
    """The provider's process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, HERE / "provider.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self._read()

    def say(self, command: str) -> str:
        """Give a command and wait for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Soak:
    """One run."""

    def __init__(self, given: argparse.Namespace, *, seed: int, folder: Path) -> None:
        self._given = given
        self._dice = random.Random(seed)  # noqa: S311 - to be repeated
        self._folder = folder
        self._done: list[Done] = []
        self._jobs: dict[bool, queue.Queue[Work | None]] = {False: queue.Queue(), True: queue.Queue()}
        self._next = 1
        self._memory = Memory(trace=given.trace)
        self._differences: list[str] = []
        self._provider = Provider()

    def run(self) -> Sequence[str]:
        """Ask everything, then judge; gives the differences."""
        self._set_up()
        before = set(threading.enumerate())
        threads = [threading.Thread(target=self._ask_all, name=f"soak-{at}") for at in range(self._given.threads)]
        threads.append(threading.Thread(target=lambda: asyncio.run(self._loop()), name="soak-loop"))
        # A stream that was left is closed by the collector. Where that runs inside httpcore's pool, the closing waits
        # for the lock that its own thread holds, for ever (seen with httpcore 1.0, after 10,000 calls): so elsewhere.
        gc.disable()
        gc.freeze()  # what the frameworks are made of need not be looked through each time
        threading.Thread(target=_collect, name="soak-collector", daemon=True).start()
        for thread in threads:
            thread.start()
        began = time.monotonic()
        for phase in range(self._given.phases):
            for work in self._works(self._given.calls * (phase + 1) // self._given.phases):
                self._jobs[work.way.is_async].put(work)
            for jobs in self._jobs.values():
                jobs.join()
            self._look(phase, began)
        for _ in range(self._given.threads):
            self._jobs[False].put(None)
        self._jobs[True].put(None)
        for thread in threads:
            thread.join()
        self._judge(before)
        return self._differences

    def _set_up(self) -> None:
        warnings.simplefilter("ignore")
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
        for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "openai", "httpx", "asyncio", "root", "crewai"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        litellm.suppress_debug_info = True
        litellm.cache = litellm.Cache(type="local", mode="default_off")
        if self._given.without:
            with_langchain.HANDLERS.clear()
            return
        farthing.configure(ledger=str(self._folder / "ledger"), call_timeout_seconds=CALL_TIMEOUT_SECONDS)
        litellm.callbacks = [FarthingLogger(feature="litellm")]
        FarthingListener(feature="crewai")
        with_crewai.prepare(self._provider.url)

    # -- asking -------------------------------------------------------------------------------------------------

    def _works(self, until: int) -> Iterator[Work]:
        """Draw work until so many calls are asked."""
        only, skip = self._given.only, self._given.skip
        ways = [way for way in WAYS if (not only or only in way.name) and not (skip and skip in way.name)]
        weights = [way.weight for way in ways]
        while self._next <= until:
            way: Way = self._dice.choices(ways, weights)[0]
            plan = self._dice.choice(way.plans)
            dice = random.Random(self._dice.getrandbits(64))  # noqa: S311 - as above
            yield Work(number=self._next, way=way, plan=plan, dice=dice, url=self._provider.url)
            self._next += way.size

    def _ask_all(self) -> None:
        while (work := self._jobs[False].get()) is not None:
            try:
                self._note(work, work.way.ask(work), None)
            except BaseException as error:  # noqa: BLE001 - that of the framework is what was to be seen
                self._note(work, "error", error)
            finally:
                self._jobs[False].task_done()

    async def _loop(self) -> None:
        """Let tasks ask; a thread feeds them, since a queue of threads cannot be awaited."""
        mine: asyncio.Queue[Work | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def feed() -> None:
            work: Work | None = None
            while (work := self._jobs[True].get()) is not None:
                loop.call_soon_threadsafe(mine.put_nowait, work)
            for _ in range(self._given.tasks):
                loop.call_soon_threadsafe(mine.put_nowait, None)

        threading.Thread(target=feed, name="soak-feeder").start()
        await asyncio.gather(*(self._ask_all_async(mine) for _ in range(self._given.tasks)))
        await farthing.aflush(10)
        left = [task for task in asyncio.all_tasks() if "farthing" in repr(task)]
        if left:
            self._differences.append(f"tasks of farthing's are left in the loop: {left}")

    async def _ask_all_async(self, mine: asyncio.Queue[Work | None]) -> None:
        while (work := await mine.get()) is not None:
            # In a task of its own, as a request is in a server: who is cancelled is not the worker.
            task = asyncio.create_task(work.way.ask(work))
            try:
                self._note(work, await task, None)
            except BaseException as error:  # noqa: BLE001 - as above
                self._note(work, "error", error)
            finally:
                self._jobs[True].task_done()

    def _note(self, work: Work, seen: Any, error: BaseException | None) -> None:
        for at in range(work.way.size):
            self._done.append(
                Done(
                    number=work.number + at,
                    way=work.way,
                    plan=work.plan,
                    seen=seen,
                    error=None if error is None else f"{type(error).__name__}: {str(error)[:120]}",
                )
            )

    # -- looking ------------------------------------------------------------------------------------------------

    def _quiet(self) -> None:
        """Wait until nothing is under way."""
        self._provider.say("settle")
        deadline = time.monotonic() + CALL_TIMEOUT_SECONDS + 20
        while time.monotonic() < deadline:
            gc.collect()
            farthing.flush(5)
            if self._given.without or farthing.health().open_runs == 0:
                break
            time.sleep(0.2)
        farthing.flush(5)  # once more: plugins let go of what the sweep has closed since
        gc.collect()

    def _look(self, phase: int, began: float) -> None:
        self._quiet()
        line = self._memory.look(len(self._done))
        passed = time.monotonic() - began
        say(f"  phase {phase + 1}: {len(self._done):>6} calls in {passed:>4.0f} s; {line}")

    # -- judging ------------------------------------------------------------------------------------------------

    def _judge(self, before: set[threading.Thread]) -> None:
        seen = [
            {"number": each.number, "way": each.way.name, "plan": each.plan, "seen": each.seen} for each in self._done
        ]
        (self._folder / "seen.json").write_text(json.dumps(seen), encoding="utf-8")
        path = self._folder / "invoice.json"
        self._provider.say(f"invoice {path}")
        self._provider.close()
        if self._given.without:
            say(self._memory.report())
            return
        health = farthing.health()
        farthing.shutdown(10)
        calls = read_calls(self._folder / "ledger")
        invoice = json.loads(path.read_text(encoding="utf-8"))
        found = check(self._done, invoice["requests"], calls)
        self._differences += found.differences
        self._differences += _of_health(health, calls)
        self._differences += self._memory.differences()
        mine = [each for each in threading.enumerate() if each not in before and "farthing" in each.name]
        if mine:
            self._differences.append(f"threads of farthing's are left: {mine}")
        if found.billed_usd + found.unread_usd != Decimal(invoice["total_usd"]):
            self._differences.append(f"{found.billed_usd} + {found.unread_usd} is not {invoice['total_usd']}")
        say(table(found))
        say(_totals(found, invoice, calls, health))
        say(self._memory.report())


def _collect() -> None:
    while True:
        time.sleep(1)
        gc.collect()


def _of_health(health: farthing.Health, calls: Sequence[farthing.Call]) -> list[str]:
    """Hold health() against the ledger."""
    counted = {
        "priced": health.priced,
        "unpriced": health.unpriced,
        "unreported": health.unreported,
        "cache_hit": health.cache_hits,
        "not_billed": health.not_billed,
    }
    found: list[str] = []
    for status, count in counted.items():
        booked = sum(call.cost.status == status for call in calls)
        if count != booked:
            found.append(f"health() counts {count} {status}, the ledger has {booked}")
    if health.calls != len(calls) or sum(counted.values()) != health.calls or health.ledger_written != len(calls):
        found.append(f"health() counts {health.calls} calls, {counted}; the ledger has {len(calls)}")
    left = {"open_runs": health.open_runs, "queued": health.queued, "ledger_waiting": health.ledger_waiting}
    found += [f"health().{name} is {value}, not 0" for name, value in left.items() if value]
    bad = {"dropped": health.dropped, "faults": health.faults, "violations": health.violations}
    found += [f"health().{name} is {value}" for name, value in bad.items() if value]
    return found


def table(found: Findings) -> str:
    """Write the counts by way."""
    columns = ("calls", "requests", "billed", "priced", "unreported", "not_billed", "cache_hit")
    known = {*columns, "unreported, refused or not sent"}
    others = sorted({name for row in found.rows.values() for name in row} - known)
    columns = (*columns, *others)
    lines = ["", f"  {'':<36}" + "".join(f"{name:>13}" for name in columns)]
    rows = dict(sorted(found.rows.items()))
    total = {name: sum(row[name] for row in rows.values()) for name in columns}
    for title, row in (*rows.items(), ("total", total)):
        lines.append(f"  {title:<36}" + "".join(f"{row[name] or '-':>13}" for name in columns))
    return "\n".join(lines)


def _totals(found: Findings, invoice: dict[str, Any], calls: Sequence[farthing.Call], health: farthing.Health) -> str:
    beyond = sum(row["unreported, refused or not sent"] for row in found.rows.values())
    requests = invoice["requests"]
    lines = sum(request["billed"] for request in requests)
    return (
        f"\n  invoice                     ${invoice['total_usd']} in {lines} lines of {len(requests)} requests\n"
        f"  in the ledger, equal        ${found.billed_usd}\n"
        f"  billed, nobody told how much ${found.unread_usd}: unreported Calls, with a reason each\n"
        f"  unreported Calls whose request was refused or never went out: {beyond}\n"
        f"  health(): {health.calls} calls = {health.priced} priced + {health.unreported} unreported + "
        f"{health.not_billed} not billed + {health.cache_hits} cache hits + {health.unpriced} unpriced; "
        f"{health.duplicates} duplicates suppressed, {health.open_runs} open, {len(calls)} in the ledger"
    )


assert all(plan in PLANS for way in WAYS for plan in way.plans)
