"""Who watches the cells: what is installed into a framework, and how one reads back what it billed."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import farthing
from farthing.testing import Captured, capture, read_calls

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import AbstractContextManager
    from decimal import Decimal
    from pathlib import Path

__all__ = ["FarthingObserver", "GatewayObserver", "Observer", "Record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One call as an observer recorded it; the statuses are those of farthing's Cost."""

    tag: str | None
    status: str
    amount_usd: Decimal | None = None
    saved_usd: Decimal | None = None
    model: str | None = None
    response_id: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reason: str | None = None
    """Why the amount is not known."""


class Observer(Protocol):
    """Somebody who watches a cell from the framework's callbacks."""

    name: str
    is_elsewhere: bool
    """Whether it watches from another process, so that its records come later."""

    def start(self, frameworks: Collection[str]) -> None:
        """Begin to watch, with nothing recorded yet."""
        ...

    def callbacks(self, framework: str) -> list[Any]:
        """Make what is handed to a framework by its user; one that patches the framework gives an empty list."""
        ...

    def tagged(self, tag: str) -> AbstractContextManager[object]:
        """Tag everything that is asked inside."""
        ...

    def headers(self) -> Mapping[str, str]:
        """Give the headers that carry the tags in force to another process."""
        ...

    async def drain(self) -> None:
        """Let the framework report what it still holds, before the event loop ends."""
        ...

    def open_calls(self) -> int:
        """Count the calls and the work around them that began and have no end yet."""
        ...

    def leftovers(self) -> list[str]:
        """Name everything else that should be gone once all requests are over."""
        ...

    def end(self) -> list[Record]:
        """End as the process does, and give all that was recorded since start().

        One that is elsewhere gives what has arrived so far, and is asked again while the cell is not as promised.
        """
        ...

    def stop(self) -> None:
        """Take everything out of the frameworks again."""
        ...


class FarthingObserver:
    """farthing: its plugins, and the ledger read back."""

    name = "farthing"
    is_elsewhere = False

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._captured: Captured | None = None

    def start(self, frameworks: Collection[str]) -> None:
        """Keep a ledger for one cell."""
        self._captured = self._stack.enter_context(capture())
        if "crewai" in frameworks:
            self.callbacks("crewai")

    def callbacks(self, framework: str) -> list[Any]:
        """Make the plugin's one object."""
        if framework == "litellm":
            from farthing_litellm import FarthingLogger  # noqa: PLC0415 - only where this framework is installed

            logger = FarthingLogger(feature="matrix")
            self._stack.callback(logger.unregister)
            return [logger]
        if framework == "langchain":
            from farthing_langchain import FarthingHandler  # noqa: PLC0415 - as above

            return [FarthingHandler(feature="matrix")]
        from farthing_crewai import FarthingListener  # noqa: PLC0415 - as above

        listener = FarthingListener(feature="matrix")
        self._stack.callback(listener.close)
        return [listener]

    def tagged(self, tag: str) -> AbstractContextManager[object]:
        """Say who pays."""
        return farthing.attribute(tenant=tag)

    def headers(self) -> Mapping[str, str]:
        """Carry the tags over."""
        return farthing.export_context()

    async def drain(self) -> None:
        """Flush where LiteLLM's queue is."""
        await farthing.aflush(10)

    def open_calls(self) -> int:
        """Let everything report that can, and ask the run map."""
        farthing.flush(10)
        return farthing.health().open_runs

    def leftovers(self) -> list[str]:
        """Look into everything else that should be empty."""
        health = farthing.health()
        found = {
            "dropped": health.dropped,
            "faults": health.faults,
            "not in the ledger": health.ledger_failed,
            "tags in force": dict(farthing.current()),
        }
        return [f"{name}: {value}" for name, value in found.items() if value]

    def end(self) -> list[Record]:
        """Shut down, and read the ledger."""
        assert self._captured is not None
        farthing.shutdown(10)
        return [_record(call) for call in read_calls(self._captured.folder)]

    def stop(self) -> None:
        """Close the ledger and take the plugins out."""
        self._captured = None
        self._stack.close()


class GatewayObserver:
    """farthing in a gateway, another process: tags go there by header, and its ledger is read from the disk."""

    name = "farthing-gateway"
    is_elsewhere = True

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._earlier: set[str] = set()

    def start(self, frameworks: Collection[str]) -> None:
        """Remember what is there."""
        self._earlier = {call.call_id for call in self._calls()}

    def callbacks(self, framework: str) -> list[Any]:
        """Hand over nothing: the gateway has its logger."""
        return []

    def tagged(self, tag: str) -> AbstractContextManager[object]:
        """Say who pays."""
        return farthing.attribute(tenant=tag)

    def headers(self) -> Mapping[str, str]:
        """Carry the tags over."""
        return farthing.export_context()

    async def drain(self) -> None:
        """Do nothing: the loop is not the gateway's."""

    def open_calls(self) -> int:
        """Say nothing of a process that cannot be asked; what is open is missing from its ledger."""
        return 0

    def leftovers(self) -> list[str]:
        """Look at this process, whose tags they were."""
        return [f"tags in force: {dict(farthing.current())}"] if farthing.current() else []

    def end(self) -> list[Record]:
        """Read what has come since start(), however much that is so far."""
        return [_record(call) for call in self._calls() if call.call_id not in self._earlier]

    def stop(self) -> None:
        """Leave the gateway as it is."""

    def _calls(self) -> list[farthing.Call]:
        return read_calls(self._ledger) if self._ledger.exists() else []


def _record(call: farthing.Call) -> Record:
    usage = call.usage or farthing.Usage()
    reason = ", ".join((*call.cost.flags, *filter(None, (call.error_type,))))
    return Record(
        tag=call.attribution.tenant,
        status=call.cost.status,
        amount_usd=call.cost.amount_usd,
        saved_usd=call.cost.saved_usd,
        model=call.response_model or call.request_model,
        response_id=call.response_id,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        reason=reason or None,
    )
