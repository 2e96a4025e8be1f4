"""The provider of the soak, in a process of its own: answers by plan, and at the end gives its invoice as JSON.

Prints its address on one line. Then each line on its input is a command: `settle` waits until no request is in flight,
`invoice FILE` writes everything that was asked and billed; the end of the input ends the process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plans import FIRST_MODEL, MARKER, PLANS

from farthing.testing.provider import FakeProvider

if TYPE_CHECKING:
    from collections.abc import Callable

    from farthing.testing.provider import InvoiceLine, ReceivedRequest


class Planned:
    """Which answer of its plan a request gets; asked by the rules one after the other, under the provider's lock."""

    def __init__(self) -> None:
        self._asked: dict[bytes, int] = {}
        self._last: tuple[int, str | None, int] = (0, None, 0)

    def place(self, request: ReceivedRequest) -> tuple[str | None, int]:
        """Give the plan of a request, and its place among the requests of its call."""
        if self._last[0] != request.number:
            found = MARKER.search(request.body)
            if found is None:
                self._last = (request.number, None, 0)
            else:
                number, name = found.groups()
                plan = PLANS[name.decode()]
                before = self._asked.get(number, 0)
                self._asked[number] = before + 1
                if plan.by_model:
                    before = 0 if request.model == FIRST_MODEL else 1
                self._last = (request.number, name.decode(), min(before, len(plan.answers) - 1))
        return self._last[1], self._last[2]

    def when(self, name: str, at: int) -> Callable[[ReceivedRequest], bool]:
        """Make the predicate of one answer."""
        return lambda request: self.place(request) == (name, at)


def script(provider: FakeProvider) -> None:
    """Give the provider one rule for each answer of each plan."""
    planned = Planned()
    for name, plan in PLANS.items():
        for at, answer in enumerate(plan.answers):
            provider.script(answer, when=planned.when(name, at), times=None)


def document_of(provider: FakeProvider) -> dict[str, Any]:
    """Give every request with what was billed for it."""
    lines = {line.number: line for line in provider.invoice.lines}
    requests = [
        _request(request, lines.get(request.number))
        for request in provider.requests
        if not request.path.endswith("/count_tokens")  # of Anthropic's, and free: CrewAI's agents ask it
    ]
    return {"total_usd": format(provider.invoice.total_usd, "f"), "requests": requests}


def _request(request: ReceivedRequest, line: InvoiceLine | None) -> dict[str, Any]:
    found = MARKER.search(request.body)
    known: dict[str, Any] = {
        "number": request.number,
        "call": int(found[1]) if found else None,
        "plan": found[2].decode() if found else None,
        "path": request.path,
        "model": request.model,
        "billed": line is not None,
    }
    if line is not None:
        known |= {
            "response_id": line.response_id,
            "amount_usd": None if line.amount_usd is None else format(line.amount_usd, "f"),
            "tier": line.tier,
            "input_tokens": line.input_tokens,
            "output_tokens": line.output_tokens,
            "client_left": line.client_left,
        }
    return known


def main() -> None:
    """Serve until the input ends."""
    with FakeProvider() as provider:
        script(provider)
        print(provider.url, flush=True)
        for line in sys.stdin:
            command, _, argument = line.strip().partition(" ")
            if command == "settle":
                print("settled" if provider.settle(timeout_seconds=30) else "busy", flush=True)
            elif command == "invoice":
                provider.settle(timeout_seconds=30)
                Path(argument).write_text(json.dumps(document_of(provider)), encoding="utf-8")
                print("written", flush=True)


if __name__ == "__main__":
    main()
