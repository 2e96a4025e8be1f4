"""CrewAI's native providers: every call on the invoice, in its place in the tree, with the right tags."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from crewai import Process
from crewai.flow.flow import Flow, listen, start
from crewai.llms.providers.openai.completion import OpenAICompletion
from crewai.security import Fingerprint, SecurityConfig
from crewai_bench import SECRET, agent, alone, crew, llm, lookup, scopes, task, total, tracked
from pydantic import BaseModel

import farthing
from farthing.testing.provider import Reply, ToolCall

if TYPE_CHECKING:
    from crewai_bench import Bench

TREE = ["workflow:research", "task:look", "agent:Analyst"]


class Answer(BaseModel):
    """A structured output."""

    text: str


def test_kickoff_with_tool_is_one_tree(bench: Bench) -> None:
    """Each step of a crew would be unpriced, or stand outside its agent."""
    bench.listen(feature="research", team="growth")
    bench.provider.scenario("main", Reply(tool_rounds=1, cache_read_tokens=20, reasoning_tokens=5))
    model = llm(base_url=bench.provider.scenario_url("main") + "/v1")
    with farthing.attribute(route="api/research", team="search"):
        crew(task(agent(model, tools=[lookup]))).kickoff()
    calls = bench.settled()
    assert len(calls) == 2
    for call in calls:
        assert scopes(call) == TREE
        tags = call.attribution
        assert (tags.feature, tags.route, tags.team) == ("research", "api/research", "search")
        assert call.attribution_source == {"feature": "handler", "route": "attribute", "team": "attribute"}
        assert (call.provider, call.request_model, call.operation) == ("openai", "gpt-4o-mini", "chat")
        assert call.usage is not None
        assert (call.usage.cache_read_tokens, call.usage.output_reasoning_tokens) == (20, 5)
    assert len({call.trace_id for call in calls}) == 1
    assert [call.finish_reason for call in calls] == ["tool_calls", "stop"]
    assert [call.response_id for call in calls] == [line.response_id for line in bench.provider.invoice.lines]
    assert tracked() == 0


@pytest.mark.parametrize(
    ("model", "named", "reply"),
    [
        (
            "anthropic/claude-sonnet-4-5",
            "anthropic",
            Reply(input_tokens=900, cache_read_tokens=300, cache_write_5m_tokens=70),
        ),
        ("gemini/gemini-2.5-flash", "gcp.gemini", Reply(input_tokens=900, cache_read_tokens=300, reasoning_tokens=60)),
        (
            "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "aws.bedrock",
            Reply(input_tokens=900, cache_read_tokens=300, cache_write_5m_tokens=70),
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_other_providers_bill_as_invoiced(bench: Bench, model: str, named: str, reply: Reply, stream: bool) -> None:
    """A provider's own usage shape would be read wrongly: input with or without its cached part."""
    bench.listen(feature="research")
    bench.provider.script(reply)
    crew(task(agent(llm(model, stream=stream)))).kickoff()
    (call,) = bench.settled()
    assert (call.provider, call.streaming, scopes(call)) == (named, stream, TREE)


@pytest.mark.parametrize("api", ["completions", "responses"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("asked", "served"), [("flex", "default"), ("flex", "flex"), ("auto", "priority")])
def test_the_tier_that_was_served_is_billed(bench: Bench, api: str, stream: bool, asked: str, served: str) -> None:
    """No event of CrewAI has it; the one that was asked for has another price."""
    bench.listen(feature="research")
    bench.provider.script(Reply(service_tier=served))
    llm("gpt-5", service_tier=asked, api=api, stream=stream).call("hi")
    (call,) = bench.settled()
    assert call.service_tier == served


@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_writes_for_an_hour(bench: Bench, stream: bool) -> None:
    """CrewAI adds them to those for five minutes, which are cheaper."""
    bench.listen(feature="research")
    bench.provider.script(Reply(input_tokens=900, cache_write_1h_tokens=70, cache_write_5m_tokens=30))
    llm("anthropic/claude-sonnet-4-5", stream=stream).call("hi")
    (call,) = bench.settled()
    assert call.usage is not None
    assert (call.usage.cache_write_1h_tokens, call.usage.cache_write_5m_tokens) == (70, 30)
    assert "cache-ttl-assumed" not in call.cost.flags


@pytest.mark.parametrize("model", ["gpt-4o-mini", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_model_that_answered_is_billed(bench: Bench, model: str, stream: bool) -> None:
    """A gateway that answers with another one bills that."""
    other = {"gpt-4o-mini": "gpt-4o", "anthropic/claude-sonnet-4-5": "claude-haiku-4-5"}.get(model, "gemini-2.5-pro")
    bench.listen(feature="research")
    bench.provider.script(Reply(response_model=other))
    llm(model, stream=stream).call("hi")
    (call,) = bench.settled()
    assert call.response_model == other


@pytest.mark.parametrize("model", ["gpt-5", "gpt-4o"])
@pytest.mark.parametrize("stream", [False, True])
def test_searches_of_the_responses_api(bench: Bench, stream: bool, model: str) -> None:
    """They are billed apart, and stand in the output alone; a page that was read is no search.

    CrewAI asks for the preview of the tool, whose searches cost more with a model that does not reason.
    """
    bench.listen(feature="research")
    bench.provider.script(Reply(web_searches=2, pages_read=2))
    llm(model, api="responses", builtin_tools=["web_search"], stream=stream).call("hi")
    (call,) = bench.settled()
    assert call.usage is not None
    assert call.usage.web_searches == 2
    assert call.price_context == {"web_search": "preview"}


@pytest.mark.parametrize("stream", [False, True])
def test_code_that_the_provider_ran_is_flagged(bench: Bench, stream: bool) -> None:
    """Its container is on the bill and in no amount: the cost says so."""
    bench.listen(feature="research")
    bench.provider.script(Reply(code_runs=2))
    llm("gpt-4o", api="responses", builtin_tools=["code_interpreter"], stream=stream).call("hi")
    (call,) = bench.settled(invoiced=False)
    assert call.cost.amount_usd is not None
    assert bench.provider.invoice.total_usd - call.cost.amount_usd == Decimal("0.03")
    assert "code-executions-not-priced" in call.cost.flags


@pytest.mark.parametrize("stream", [False, True])
def test_what_openrouter_charged_is_billed(bench: Bench, stream: bool) -> None:
    """It routes to many houses at many prices: the catalogue's would be billed in place of what was charged."""
    bench.listen(feature="research")
    bench.provider.script(Reply(usage_extra={"cost": 0.0099}))
    llm("openrouter/openai/gpt-4o", base_url=bench.provider.openai_url, api_key="sk", stream=stream).call("hi")
    (call,) = bench.settled(invoiced=False)
    assert (call.provider, call.cost.amount_usd, call.cost.source) == ("openrouter", Decimal("0.0099"), "provider")


def test_grounding_of_gemini(bench: Bench) -> None:
    """A grounded prompt is billed once, whatever was searched for; it stands in the answer alone."""
    bench.listen(feature="research")
    bench.provider.script(Reply(web_searches=2))
    llm("gemini/gemini-2.5-flash").call("hi")
    (call,) = bench.settled()
    assert call.usage is not None
    assert call.usage.web_searches == 1


async def test_concurrent_calls_keep_their_own_accounts(bench: Bench) -> None:
    """What is read beside the events would be given to another call."""
    bench.listen(feature="research")
    tiers = ["flex", "default"] * 6
    for tier in tiers:
        bench.provider.script(Reply(service_tier=tier))
    await asyncio.gather(*(llm("gpt-5", service_tier="flex").acall("hi") for _ in tiers))
    calls = await asyncio.to_thread(bench.settled)
    assert sorted(call.service_tier or "" for call in calls) == sorted(tiers)


def test_a_subclass_that_summarises_differently_is_left_alone(bench: Bench) -> None:
    """What CrewAI says stands where the provider's account is of something else, or fails."""

    class Own(OpenAICompletion):
        def _extract_openai_token_usage(self, response: object) -> dict[str, int]:  # type: ignore[override]
            """Read nothing of the answer."""
            return {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15} if response else {}

    bench.listen(feature="research")
    bench.provider.script(Reply(input_tokens=12, output_tokens=3))
    Own(model="gpt-4o-mini", api_key="sk-secret", base_url=bench.provider.openai_url).call("hi")
    assert len(bench.settled()) == 1


def test_stream_is_billed_once(bench: Bench) -> None:
    """A streamed call would be lost or counted by chunk."""
    bench.listen(feature="research")
    crew(task(agent(llm(stream=True)))).kickoff()
    (call,) = bench.settled()
    assert call.streaming


async def test_async_kickoffs_keep_their_tags(bench: Bench) -> None:
    """Asynchronous kickoffs would lose the context of the task they run in."""
    bench.listen(feature="research")

    async def one(tenant: str, *, native: bool) -> None:
        with farthing.attribute(tenant=tenant):
            work = crew(task(agent(llm())), name=tenant)
            await (work.akickoff() if native else work.kickoff_async())

    await asyncio.gather(*(one(f"t{number}", native=number % 2 == 0) for number in range(4)))
    calls = await asyncio.to_thread(bench.settled)
    assert len(calls) == 4
    for call in calls:
        assert scopes(call) == [f"workflow:{call.attribution.tenant}", "task:look", "agent:Analyst"]


def test_kickoff_for_each_is_one_tree_an_input(bench: Bench) -> None:
    """The copies of a crew would share a tree, a tag, or a filled-in role."""
    bench.listen(inputs_tags=("tenant",))
    worker = agent(llm(), role="Analyst of {who}")
    inputs = [{"who": SECRET, "tenant": "a"}, {"who": SECRET, "tenant": "b"}]
    crew(task(worker)).kickoff_for_each(inputs=inputs)
    again = crew(task(agent(llm(), role="Analyst of {who}")))
    asyncio.run(again.akickoff_for_each(inputs=inputs))
    calls = bench.settled()
    assert sorted(call.attribution.tenant or "" for call in calls) == ["a", "a", "b", "b"]
    assert len({call.trace_id for call in calls}) == 4
    assert {scopes(call)[-1] for call in calls} == {"agent:Analyst of {who}"}


def test_tasks_at_once_share_one_llm(bench: Bench) -> None:
    """Calls of tasks that run at the same time on one LLM would be mixed up or multiplied."""
    bench.listen(feature="research")
    model = llm()
    first, second = agent(model, role="First"), agent(model, role="Second")
    crew(
        task(first, "one", async_execution=True), task(second, "two", async_execution=True), task(first, "three")
    ).kickoff()
    found = sorted(scopes(call)[1:] for call in bench.settled())
    assert found == [["task:one", "agent:First"], ["task:three", "agent:First"], ["task:two", "agent:Second"]]


def test_delegated_work_stands_below_the_managers_task(bench: Bench) -> None:
    """What a manager delegates has no task of its own and would fall out of the tree."""
    bench.listen(feature="research")
    delegate = ToolCall(
        name="delegate_work_to_coworker", arguments={"task": SECRET, "context": SECRET, "coworker": "Worker"}
    )
    bench.provider.script(Reply(tool_calls=[delegate]))
    work = task(None, "T1")
    crew(work, agents=[agent(llm(), role="Worker")], process=Process.hierarchical, manager_llm=llm()).kickoff()
    trees = [scopes(call) for call in bench.settled()]
    assert len(trees) == 3
    assert all(tree[:2] == ["workflow:research", "task:T1"] for tree in trees)
    assert [tree[-1] for tree in trees] == ["agent:Crew Manager", "agent:Worker", "agent:Crew Manager"]


def test_agent_alone(bench: Bench) -> None:
    """Agent.kickoff has neither crew nor task and would be a bare call."""
    bench.listen(feature="research")
    alone(llm()).kickoff(SECRET)
    asyncio.run(alone(llm()).kickoff_async(SECRET))
    assert [scopes(call) for call in bench.settled()] == [["agent:Analyst"]] * 2


async def test_llm_alone(bench: Bench) -> None:
    """A call without any agent would be lost."""
    bench.listen(feature="research")
    with farthing.attribute(route="direct"):
        llm().call(SECRET)
        await llm().acall(SECRET)
    calls = await asyncio.to_thread(bench.settled)
    assert [(scopes(call), call.attribution.route) for call in calls] == [([], "direct")] * 2


class Research(Flow[dict[str, str]]):
    """A bare call, then a crew and an agent."""

    @start()
    def first(self) -> None:
        """Call an LLM."""
        llm().call(SECRET)

    @listen(first)
    def second(self) -> None:
        """Run a crew and an agent."""
        crew(task(agent(llm()))).kickoff()
        alone(llm(), role="Alone").kickoff(SECRET)


def test_flow_is_the_root(bench: Bench) -> None:
    """A user's flow would be missing, or CrewAI's own flows would appear."""
    bench.listen(feature="research")
    Research().kickoff()  # pyright: ignore[reportUnknownMemberType] - crewai's own signature
    calls = bench.settled()
    assert [scopes(call) for call in calls] == [
        ["workflow:Research"],
        ["workflow:Research", *TREE],
        ["workflow:Research", "agent:Alone"],
    ]
    assert [call.details for call in calls] == [{"method": "first"}, {"method": "second"}, {"method": "second"}]


def test_structured_output(bench: Bench) -> None:
    """The call that converts an answer carries neither task nor agent and would fall out of the tree."""
    bench.listen(feature="research")
    crew(task(agent(llm()), output_pydantic=Answer)).kickoff()
    calls = bench.settled()
    assert all(scopes(call)[:2] == TREE[:2] for call in calls)


def test_memory_hides_its_embeddings_only(bench: Bench) -> None:
    """CrewAI has no event for embeddings: all that memory asks of a chat model must be there nonetheless."""
    bench.listen(feature="research")
    config = {"model_name": "text-embedding-3-small", "api_key": "test", "api_base": bench.provider.openai_url}
    embedder = {"provider": "openai", "config": config}
    crew(task(agent(llm()), "one"), task(agent(llm()), "two"), memory=True, embedder=embedder).kickoff()
    calls = bench.settled(invoiced=False)
    by_endpoint = bench.provider.invoice.by("endpoint")
    hidden = sum(amount for endpoint, amount in by_endpoint.items() if "embeddings" in endpoint)
    assert total(calls) == bench.provider.invoice.total_usd - hidden
    assert {tuple(scopes(call)[1:]) for call in calls} == {
        ("task:one", "agent:Analyst"),
        ("task:two", "agent:Analyst"),
    }
    assert tracked() == 0


def test_unnamed_task_keeps_its_description_to_itself(bench: Bench) -> None:
    """CrewAI names an unnamed task by its description, which is a prompt."""
    bench.listen(feature="research")
    crew(task(agent(llm()), name=None)).kickoff()
    (call,) = bench.settled()
    assert scopes(call) == ["workflow:research", "task:task", "agent:Analyst"]


def test_missing_usage_is_unreported(bench: Bench) -> None:
    """A call without usage would cost nothing instead of being unknown."""
    bench.listen(feature="research")
    bench.provider.script(Reply(omit_usage=True))
    llm().call(SECRET)
    (call,) = bench.settled(unreported=1)
    assert (call.cost.status, call.outcome) == ("unreported", "success")
    assert "usage-missing" in call.cost.flags or "usage-zero" in call.cost.flags


def test_second_listener_adds_tags_only(bench: Bench) -> None:
    """Two listeners would bill each call twice."""
    bench.listen(feature="research", team="first")
    bench.listen(team="second", tenant="acme")
    crew(task(agent(llm()))).kickoff()
    (call,) = bench.settled()
    assert (call.attribution.feature, call.attribution.team, call.attribution.tenant) == ("research", "first", "acme")


def test_concurrent_crews_keep_their_tags(bench: Bench) -> None:
    """Crews on threads would get each other's tags or end each other's calls."""
    bench.listen(feature="research")
    model = llm(base_url=bench.provider.scenario_url("tools") + "/v1")

    def one(tenant: str) -> None:
        with farthing.attribute(tenant=tenant):
            crew(task(agent(model, tools=[lookup])), name=tenant).kickoff()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, [f"t{number}" for number in range(6)]))
    calls = bench.settled()
    assert len(calls) == 12
    for call in calls:
        assert scopes(call)[0] == f"workflow:{call.attribution.tenant}"
    assert tracked() == 0


def test_fingerprint_metadata_are_tags_of_a_scope(bench: Bench) -> None:
    """The only place of a crew, task or agent that can hold tags would be ignored."""
    bench.listen(team="growth")

    def marked(**metadata: str) -> SecurityConfig:
        return SecurityConfig(fingerprint=Fingerprint(metadata=metadata))

    worker = agent(llm(), security_config=marked(team="search", note=SECRET))
    crew(task(worker, security_config=marked(task_type="extraction")), security_config=marked(tenant="acme")).kickoff()
    (call,) = bench.settled()
    tags = call.attribution
    assert (tags.team, tags.task_type, tags.tenant) == ("search", "extraction", "acme")


def test_closed_listener_meters_nothing(bench: Bench) -> None:
    """A listener that was taken off would go on billing."""
    bench.listen(feature="research").close()
    llm().call(SECRET)
    assert bench.calls() == []
