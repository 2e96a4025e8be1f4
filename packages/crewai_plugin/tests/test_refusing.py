"""Refused before the first model call, with the abort that CrewAI honours; and tags where people declare them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from crewai import hooks
from crewai.security import Fingerprint, SecurityConfig
from crewai_bench import Bench, agent, alone, crew, llm, task

import farthing
from farthing_crewai import CallRefusedError, refusing
from farthing_crewai.versions import INSTALLED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from farthing.testing.provider import FakeProvider

if INSTALLED < refusing.FLOOR:
    pytest.skip("nothing stands before a model call of crewai's before 1.15.3", allow_module_level=True)

POLICY: dict[str, object] = {"environments": {"*": {"required": ["feature"], "when_missing": "reject"}}}


@pytest.fixture
def strict(provider: FakeProvider, tmp_path: Path, bench: Bench) -> Iterator[Bench]:
    """Refuse calls without a feature."""
    farthing.shutdown()
    farthing.configure(ledger=str(tmp_path / "ledger"), policy=POLICY)
    yield bench
    bench.close()
    assert hooks.get_hooks(hooks.InterceptionPoint.PRE_MODEL_CALL) == []


def assert_refused(error: CallRefusedError, strict: Bench, *, refused: int = 1) -> None:
    """It is CrewAI's abort and ours, says what is missing and how to send it, and nothing was sent.

    Where CrewAI had announced the call before it asked, the ledger has it as denied: bought was nothing.
    """
    assert isinstance(error, hooks.HookAborted)
    assert isinstance(error, farthing.AttributionError)
    assert error.problems == ("feature:missing",)
    assert 'farthing.attribute(feature="...")' in error.reason
    assert strict.provider.requests == ()
    assert {(call.cost.status, call.error_type) for call in strict.calls()} <= {("not_billed", "denied")}
    assert farthing.health().refused == {"feature:missing": refused}


@pytest.mark.parametrize("through_litellm", [False, True])
def test_a_crew_is_stopped_before_its_first_call(strict: Bench, through_litellm: bool) -> None:
    """On the native and on the LiteLLM path, once, without the agent's retries."""
    strict.listen(team="growth")
    with pytest.raises(CallRefusedError) as refused:
        crew(task(agent(llm(is_litellm=through_litellm)))).kickoff()
    assert_refused(refused.value, strict)


async def test_async_crews_and_agents_are_stopped(strict: Bench) -> None:
    """As above, in a loop, and without a crew."""
    strict.listen()
    with pytest.raises(CallRefusedError):
        await crew(task(agent(llm()))).akickoff()
    with pytest.raises(CallRefusedError) as refused:
        await alone(llm()).kickoff_async("hi")
    assert_refused(refused.value, strict, refused=2)


def test_a_bare_call_is_stopped(strict: Bench) -> None:
    """`LLM.call` costs as much as a crew's."""
    strict.listen()
    with pytest.raises(CallRefusedError) as refused:
        llm().call("hi")
    assert_refused(refused.value, strict)


def test_tags_from_every_place_let_a_crew_run(strict: Bench) -> None:
    """What the Call will carry is what the gate must see: attribute(), listener, inputs, registry and fingerprint."""
    strict.listen(
        inputs_tags=["feature"],
        declared={
            "crews": {"by-crew": {"feature": "crews"}},
            "tasks": {"by-task": {"feature": "tasks"}},
            "agents": {"Scout": {"feature": "agents"}},
        },
    )
    with farthing.attribute(feature="block"):
        crew(task(agent(llm()))).kickoff()
    crew(task(agent(llm()))).kickoff(inputs={"feature": "inputs"})
    crew(task(agent(llm())), name="by-crew").kickoff()
    crew(task(agent(llm()), name="by-task")).kickoff()
    crew(task(agent(llm(), role="Scout"))).kickoff()
    mark = SecurityConfig(fingerprint=Fingerprint(metadata={"feature": "fingerprint"}))
    crew(task(agent(llm()), security_config=mark)).kickoff()
    names = ["block", "inputs", "crews", "tasks", "agents", "fingerprint"]
    assert [call.attribution.feature for call in strict.settled()] == names


def test_the_nearest_declaration_wins(bench: Bench) -> None:
    """An agent that works for two features within one crew must be able to say so."""
    bench.listen(
        declared={
            "crews": {"research": {"feature": "crew", "team": "growth"}},
            "agents": {"Scout": {"feature": "scouting"}},
        }
    )
    crew(task(agent(llm())), task(agent(llm(), role="Scout"), name="scout")).kickoff()
    assert [call.attribution.items() for call in bench.settled()] == [
        [("feature", "crew"), ("team", "growth")],
        [("feature", "scouting"), ("team", "growth")],
    ]


def test_without_enforcement_a_crew_runs(bench: Bench) -> None:
    """A fault of the tags marks the calls and stops nothing."""
    bench.listen()
    crew(task(agent(llm()))).kickoff()
    assert len(bench.settled()) == 1
