"""A process that spends money at a steady pace and writes down what it was invoiced, before it tells farthing.

Run by test_chaos.py: `worker.py INVOICE CALLS PER_SECOND [THREADS]`. The invoice is one call id a line.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import farthing
from farthing import setup
from farthing.meter import Finish


def spend(invoice: int, thread: int, calls: int, pause_seconds: float) -> None:
    """Make calls inside a scope, each of them invoiced first."""
    meter = setup.get_meter()
    assert meter is not None
    scope = (os.getpid(), thread, "scope")
    meter.start_scope(scope, framework="x", kind="workflow", name="work")
    for number in range(calls):
        key = f"{os.getpid()}-{thread}-{number}"
        meter.start_call(key, framework="x", operation="chat", provider="openai", model="gpt-4o", parent_key=scope)
        os.write(invoice, f"{key}\n".encode())
        usage = {"prompt_tokens": 1000, "completion_tokens": 200}
        finish = Finish(ended_ns=time.time_ns(), usage=usage, usage_shape="openai_chat", response_id=key)
        meter.finish_call(key, finish)
        if pause_seconds:
            time.sleep(pause_seconds)
    meter.finish_scope(scope)


def main() -> None:
    """Spend on all threads, then end like any program."""
    path, calls, per_second, *rest = sys.argv[1:]
    threads = int(rest[0]) if rest else 1
    farthing.configure(service_name="chaos", extra_dimensions=())
    invoice = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    pause = threads / float(per_second) if float(per_second) else 0.0
    workers = [
        threading.Thread(target=spend, args=(invoice, number, int(calls) // threads, pause))
        for number in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
