"""Tags in the requests themselves: what a provider gets from an LLM that was given our interceptor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from crewai_bench import Bench, agent, crew, llm, task

import farthing
from farthing_crewai import ProviderTags, refusing
from farthing_crewai.versions import INSTALLED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from farthing.testing.provider import FakeProvider

CHOSEN: dict[str, object] = {
    "providers": ["openai", "anthropic"],
    "dimensions": ["feature", "team", "tenant"],
    "hosts": ["127.0.0.1"],
}
DECLARED = {"crews": {"research": {"feature": "Research"}}, "agents": {"Scout": {"feature": "scouting"}}}
STORED = {"store": True}
"""`LLM(store=True)` reaches the Responses API alone."""
TAGS = {"feature": "research", "team": "growth", "tenant": "acme"}


needs_hooks = pytest.mark.skipif(
    INSTALLED < refusing.FLOOR, reason="before 1.15.3 nothing tells an interceptor of crewai's whose call it is"
)


@pytest.fixture
def told(provider: FakeProvider, tmp_path: Path, bench: Bench) -> Iterator[Bench]:
    """Have tags written for both providers."""
    farthing.shutdown()
    farthing.configure(ledger=str(tmp_path / "ledger"), policy={"corroboration": CHOSEN})
    bench.listen(declared=DECLARED, team="growth")
    with farthing.attribute(tenant="acme"):
        yield bench


def sent(provider: FakeProvider) -> list[Any]:
    """Give the metadata of each request."""
    bodies: list[dict[str, Any]] = [json.loads(each.body) for each in provider.requests]
    return [body.get("metadata") for body in bodies]


@needs_hooks
def test_crews_tasks_and_agents_are_told_apart(told: Bench, provider: FakeProvider) -> None:
    """What stands on the provider's side must be what stands on the Call: declared, enclosing and process-wide tags."""
    model = llm(additional_params=STORED, interceptor=ProviderTags())
    crew(task(agent(model)), task(agent(model, role="Scout"), name="scout")).kickoff()
    assert sent(provider) == [TAGS, TAGS | {"feature": "scouting"}]
    calls = told.settled()
    assert [call.attribution.feature for call in calls] == ["research", "scouting"]


@needs_hooks
@pytest.mark.parametrize("stream", [False, True])
async def test_async_and_streams(told: Bench, provider: FakeProvider, stream: bool) -> None:
    """The async client has an interceptor of its own, and the same tags in the task of its crew."""
    model = llm(stream=stream, additional_params=STORED, interceptor=ProviderTags())
    with farthing.attribute(tenant="acme"):
        await crew(task(agent(model))).akickoff()
    assert sent(provider) == [TAGS]
    assert len(told.settled()) == 1


def test_only_where_the_endpoint_takes_it(told: Bench, provider: FakeProvider) -> None:
    """Chat completions without store answer 400 to metadata; Anthropic takes an id and nothing else."""
    llm(interceptor=ProviderTags()).call("hi")
    llm("anthropic/claude-sonnet-4-5", interceptor=ProviderTags()).call("hi")
    llm(additional_params=STORED).call("hi")
    llm(api="responses", interceptor=ProviderTags()).call("hi")
    first, second, third, fourth = sent(provider)
    assert (first, list(second), third) == (None, ["user_id"], None)
    assert fourth == {"team": "growth", "tenant": "acme"}
    assert [call.attribution.user_id for call in told.settled()] == [None] * 4
    assert farthing.health().context == {"provider-tags:not-stored": 1, "provider-tags:written": 2}


def test_nothing_without_the_policys_word(bench: Bench, provider: FakeProvider) -> None:
    """An interceptor left in the code must do nothing once the policy says no more."""
    bench.listen(feature="a")
    crew(task(agent(llm(additional_params=STORED, interceptor=ProviderTags())))).kickoff()
    assert sent(provider) == [None]
    assert len(bench.settled()) == 1
