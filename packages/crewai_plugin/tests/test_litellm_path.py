"""CrewAI over LiteLLM: exact with farthing-litellm, honest without it, and never two bills for one call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import litellm
import pytest
from crewai_bench import SECRET, Bench, agent, crew, llm, lookup, scopes, task, total, tracked
from pydantic import BaseModel

import farthing
from farthing.testing.provider import Fault, Reply
from farthing_litellm import FarthingLogger

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE = ["workflow:research", "task:look", "agent:Analyst"]
TOOLS = Reply(tool_rounds=1)


class Answer(BaseModel):
    """A structured output."""

    text: str


@pytest.fixture(autouse=True)
def _clean_litellm() -> Iterator[None]:
    """Leave no callback behind for the next test."""
    yield
    litellm.callbacks = []
    litellm.logging_callback_manager._reset_all_callbacks()  # pyright: ignore[reportPrivateUsage]


@pytest.fixture(params=["before", "after"])
def both(request: pytest.FixtureRequest, bench: Bench) -> Bench:
    """Have both plugins, LiteLLM's set before or after CrewAI empties litellm.callbacks by building an LLM."""
    bench.listen(feature="research", team="growth")
    if request.param == "after":
        llm(is_litellm=True)
    litellm.callbacks = [FarthingLogger(feature="gateway", tenant="acme")]
    return bench


def test_plain_answer_is_exact_without_the_plugin(bench: Bench) -> None:
    """The one thing that CrewAI reports on this path would be lost."""
    bench.listen(feature="research")
    crew(task(agent(llm("openai/gpt-4o-mini", is_litellm=True)))).kickoff()
    (call,) = bench.settled()
    assert (call.provider, call.request_model, scopes(call)) == ("openai", "gpt-4o-mini", TREE)


@pytest.mark.parametrize("stream", [False, True])
def test_tool_step_is_unreported_without_the_plugin(
    bench: Bench, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """CrewAI never ends such a call: it must be there, unknown, in its place, and its cure named."""
    bench.listen(feature="research")
    bench.provider.scenario("main", TOOLS)
    model = llm("gpt-4o-mini", is_litellm=True, stream=stream, base_url=bench.provider.scenario_url("main") + "/v1")
    crew(task(agent(model, tools=[lookup]))).kickoff()
    step, answer = bench.settled(unreported=1)
    assert (step.outcome, step.error_type) == ("abandoned", "end-not-reported")
    assert (answer.outcome, answer.cost.status) == ("success", "priced")
    assert [scopes(step), scopes(answer)] == [TREE, TREE]
    assert tracked() == 0
    assert caplog.text.count("Install farthing-litellm") <= 1


def test_next_kickoff_on_the_thread_is_a_tree_of_its_own(both: Bench) -> None:
    """Calls without an end stay on CrewAI's stack, and the next request would join this one's tree."""
    both.provider.scenario("main", TOOLS)
    model = llm("gpt-4o-mini", is_litellm=True, base_url=both.provider.scenario_url("main") + "/v1")
    for tenant in ("a", "b"):
        with farthing.attribute(tenant=tenant):
            crew(task(agent(model, tools=[lookup])), name=tenant).kickoff()
    model.call(SECRET)
    calls = both.settled()
    assert [scopes(call)[:1] for call in calls] == [["workflow:a"]] * 2 + [["workflow:b"]] * 2 + [[]]
    assert len({call.trace_id for call in calls}) == 3


def test_plain_answer_is_billed_once(both: Bench) -> None:
    """Both layers see the call and would both bill it."""
    with farthing.attribute(route="api/research"):
        crew(task(agent(llm("gpt-4o-mini", is_litellm=True)))).kickoff()
    (call,) = both.settled()
    assert (call.framework, scopes(call)) == ("litellm", TREE)
    tags = call.attribution
    assert (tags.feature, tags.team, tags.tenant, tags.route) == ("research", "growth", "acme", "api/research")


@pytest.mark.parametrize("stream", [False, True])
def test_tool_steps_are_exact(both: Bench, stream: bool) -> None:
    """What CrewAI never reports must come from LiteLLM, in CrewAI's tree."""
    both.provider.scenario("main", TOOLS)
    model = llm("gpt-4o-mini", is_litellm=True, stream=stream, base_url=both.provider.scenario_url("main") + "/v1")
    crew(task(agent(model, tools=[lookup]))).kickoff()
    calls = both.settled()
    assert [scopes(call) for call in calls] == [TREE, TREE]
    assert {call.framework for call in calls} == {"litellm"}
    assert tracked() == 0


async def test_async_calls_are_billed_once(both: Bench) -> None:
    """LiteLLM reports an asynchronous call later, from a task of its own."""

    async def one(tenant: str) -> None:
        with farthing.attribute(tenant=tenant):
            await crew(task(agent(llm("gpt-4o-mini", is_litellm=True))), name=tenant).akickoff()

    await asyncio.gather(one("a"), one("b"))
    await farthing.aflush(5)
    calls = await asyncio.to_thread(both.settled)
    assert sorted((call.attribution.tenant, scopes(call)[0]) for call in calls) == [
        ("a", "workflow:a"),
        ("b", "workflow:b"),
    ]


def test_structured_output_is_exact(both: Bench) -> None:
    """CrewAI reports no usage for it at all."""
    llm("gpt-4o-mini", is_litellm=True).call(SECRET, response_model=Answer)
    (call,) = both.settled()
    assert call.cost.status == "priced"


def test_refusal_is_one_call(both: Bench) -> None:
    """A failure would be reported by both layers."""
    both.provider.script(Fault(status=400, message=SECRET), times=None)
    with pytest.raises(Exception, match=SECRET):
        llm("gpt-4o-mini", is_litellm=True).call(SECRET)
    calls = both.settled()
    assert {call.cost.status for call in calls} == {"not_billed"}
    assert len(calls) == len(both.provider.requests)


def test_callback_given_to_an_llm_costs_no_call(both: Bench) -> None:
    """CrewAI then takes all callbacks of that class out of LiteLLM's lists, and the next answer would be unknown."""
    crew(task(agent(llm("gpt-4o-mini", is_litellm=True, callbacks=[FarthingLogger(feature="gateway")])))).kickoff()
    (call,) = both.settled()
    assert (call.framework, scopes(call)) == ("litellm", TREE)


def test_native_calls_stay_crewais(both: Bench) -> None:
    """A native call never reaches LiteLLM: it must not wait for a layer that says nothing."""
    crew(task(agent(llm()))).kickoff()
    (call,) = both.settled()
    assert (call.framework, total([call]) > 0) == ("crewai", True)
