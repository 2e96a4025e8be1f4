"""What the tests share: small crews, and the ledger read back beside the invoice."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool

import farthing
from farthing import setup
from farthing_crewai import FarthingListener

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping
    from pathlib import Path

    from crewai.llms.base_llm import BaseLLM

    from farthing.testing.provider import FakeProvider

SECRET = "jane-doe-secret"
Declared: TypeAlias = "Mapping[str, Mapping[str, object]]"


class Kickoff(Protocol):
    """A crew, as far as the tests need it: crewai's own signatures are only partly typed."""

    def kickoff(self, inputs: Mapping[str, str] | None = None) -> object:
        """Run."""
        ...

    def kickoff_async(self) -> Awaitable[object]:
        """Run on a thread."""
        ...

    def akickoff(self) -> Awaitable[object]:
        """Run in this loop."""
        ...

    def kickoff_for_each(self, inputs: Iterable[Mapping[str, str]]) -> object:
        """Run a copy for each input."""
        ...

    async def akickoff_for_each(self, inputs: Iterable[Mapping[str, str]]) -> object:
        """Run a copy for each input, at once."""
        ...


class Alone(Protocol):
    """An agent that runs without a crew."""

    def kickoff(self, messages: str) -> object:
        """Run."""
        ...

    async def kickoff_async(self, messages: str) -> object:
        """Run in this loop."""
        ...


class Bench:
    """A ledger, a provider and the listeners of one test."""

    def __init__(self, provider: FakeProvider, folder: Path) -> None:
        self.provider = provider
        self.folder = folder
        self.listeners: list[FarthingListener] = []

    def listen(
        self, *, inputs_tags: Iterable[str] = (), declared: Mapping[str, Declared] | None = None, **tags: str
    ) -> FarthingListener:
        """Construct a listener that is closed after the test."""
        named = dict(declared or {})
        listener = FarthingListener(
            inputs_tags=inputs_tags,
            default_tags=None,
            crews=named.get("crews"),
            tasks=named.get("tasks"),
            agents=named.get("agents"),
            flows=named.get("flows"),
            **tags,
        )
        self.listeners.append(listener)
        return listener

    def close(self) -> None:
        """Take all listeners off."""
        for listener in self.listeners:
            listener.close()

    def calls(self) -> list[farthing.Call]:
        """Deliver, and read the ledger, in the order of the calls' starts."""
        assert farthing.flush(timeout=10)
        lines = [line for path in sorted(self.folder.rglob("calls-*.jsonl")) for line in path.read_text().splitlines()]
        assert not any(SECRET in line for line in lines), "content reached the ledger"
        return sorted((farthing.Call.model_validate_json(line) for line in lines), key=lambda call: call.started_at)

    def settled(self, *, unreported: int = 0, open_runs: int = 0, invoiced: bool = True) -> list[farthing.Call]:
        """Give the calls after checking that they are the invoice, and that nothing is left open."""
        calls = self.calls()
        unknown = [call for call in calls if call.cost.amount_usd is None]
        assert [call.cost.status for call in unknown] == ["unreported"] * unreported, [c.cost for c in unknown]
        if invoiced and not unreported:
            assert total(calls) == self.provider.invoice.total_usd, self.provider.invoice
        assert farthing.health().open_runs == open_runs
        assert not farthing.health().dropped
        return calls


def total(calls: list[farthing.Call]) -> Decimal:
    """Sum what is known."""
    return sum((call.cost.amount_usd for call in calls if call.cost.amount_usd is not None), Decimal(0))


def scopes(call: farthing.Call) -> list[str]:
    """Name the enclosing work, outermost first."""
    return [f"{scope.kind}:{scope.name}" for scope in call.scopes]


def tracked() -> int:
    """Count what the plugin still holds."""
    from farthing_crewai import listener  # noqa: PLC0415 - the one look inside

    return len(listener._bridge.tracker)  # pyright: ignore[reportPrivateUsage]


def open_runs() -> int:
    """Count the meter's open runs."""
    return len(setup.runtime().runs)


@tool("lookup")
def lookup(topic: str) -> str:
    """Look a topic up."""
    return f"{topic}: {SECRET}"


def agent(llm: BaseLLM | str, role: str = "Analyst", **fields: object) -> Agent:
    """Make an agent whose goal is content."""
    return Agent(role=role, goal=f"help {SECRET}", backstory=SECRET, llm=llm, verbose=False, **fields)  # pyright: ignore[reportArgumentType]


def task(worker: Agent | None, name: str | None = "look", **fields: object) -> Task:
    """Make a task whose description is content."""
    return Task(description=f"find {SECRET}", expected_output="text", agent=worker, name=name, **fields)  # pyright: ignore[reportArgumentType]


def alone(llm: BaseLLM | str, role: str = "Analyst") -> Alone:
    """Make an agent that runs without a crew."""
    return cast("Alone", agent(llm, role=role))


def crew(*tasks: Task, name: str = "research", **fields: object) -> Kickoff:
    """Make a crew of the tasks' agents."""
    agents = {id(each.agent): each.agent for each in tasks if each.agent is not None}
    fields.setdefault("agents", list(agents.values()))
    made = Crew(tasks=list(tasks), name=name, verbose=False, **fields)  # pyright: ignore[reportArgumentType]
    return cast("Kickoff", made)


def llm(model: str = "gpt-4o-mini", **fields: object) -> LLM:
    """Make an LLM without retries of the SDK's own."""
    return LLM(model=model, **fields)  # pyright: ignore[reportArgumentType]
