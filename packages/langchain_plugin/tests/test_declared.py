"""Tags of LangGraph's nodes and agents, declared once by the names that they already have."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import langchain.agents
import pytest
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph  # pyright: ignore[reportMissingTypeStubs]

import farthing
from farthing.testing import capture
from farthing.testing.provider import FakeProvider, Reply
from farthing_langchain import FarthingHandler

if TYPE_CHECKING:
    from langchain_bench import MakeModel, Settle

create_agent: Any = vars(langchain.agents)["create_agent"]  # its own annotations are partly unknown
HI: Any = {"messages": [("user", "hi")]}
NODES: dict[str, Any] = {"writer": {"feature": "drafting", "team-id": "growth"}, "checker": {"feature": "checking"}}


class State(TypedDict):
    """What the graphs of these tests hand on."""

    words: Annotated[list[str], operator.add]


def graph_of(nodes: dict[str, Any]) -> Any:
    """Give a graph whose nodes run side by side."""
    graph: Any = StateGraph(State)
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(START, name)
        graph.add_edge(name, END)
    return graph


def asks(model: Any) -> Any:
    """Give a node that asks a model."""

    def node(state: State) -> State:
        return {"words": [str(model.invoke("hi").content)]}

    return node


def config(**more: Any) -> Any:
    """Give a config with a handler that knows the nodes."""
    handler = FarthingHandler(feature="graph", nodes=NODES, agents={"helper": {"feature": "helping"}})
    return {"callbacks": [handler], **more}


async def test_each_node_pays_for_itself(openai: MakeModel, settle: Settle) -> None:
    """Nodes that run side by side in threads or tasks must not get one another's tags."""
    model = openai()
    graph = graph_of({name: asks(model) for name in ("writer", "checker", "other")}).compile(name="three")
    with farthing.attribute(feature="block", tenant="acme"):
        graph.invoke({"words": []}, config())
        await graph.ainvoke({"words": []}, config(metadata={"plan": "pro"}))
    found = sorted((call.details["node"], call.attribution.feature, call.attribution.team) for call in settle())
    node_tags = [("checker", "checking", None), ("other", "block", None), ("writer", "drafting", "growth")]
    assert found == sorted(node_tags * 2)  # type: ignore[type-var]


def test_the_innermost_wins_and_metadata_beats_it(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A graph in a node inherits the node's tags; an agent there has its own; what a call says itself is strongest."""

    @tool
    def weather(city: str) -> str:
        """Look at the sky."""
        return f"sun in {city}"

    agent = create_agent(openai(), tools=[weather], name="helper")

    def writer(state: State) -> State:
        inner = graph_of({"checker": asks(openai()), "plain": asks(openai())}).compile()
        return inner.invoke({"words": []})

    def calls_agent(state: State) -> State:
        agent.invoke(HI)
        openai().invoke("hi", {"metadata": {"feature": "own"}})
        return state

    graph_of({"writer": writer}).compile().invoke({"words": []}, config())
    first, second = sorted(settle(), key=lambda call: call.details["node"])
    assert (first.details["node"], first.attribution.feature, first.attribution.team) == (
        "checker",
        "checking",
        "growth",
    )
    assert (second.details["node"], second.attribution.feature) == ("plain", "drafting")
    provider.script(Reply(tool_rounds=1), times=2)
    graph_of({"writer": calls_agent}).compile().invoke({"words": []}, config())
    features = [call.attribution.feature for call in settle()[2:]]
    assert features == ["helping", "helping", "own"]


def test_a_declared_tag_counts_where_one_is_required(provider: FakeProvider, openai: MakeModel) -> None:
    """What the Call will carry is what the policy's gate must see."""
    policy: dict[str, object] = {"environments": {"*": {"required": ["team"], "when_missing": "reject"}}}
    with capture(policy=policy) as captured:
        graph_of({"writer": asks(openai())}).compile().invoke({"words": []}, config())
        with pytest.raises(farthing.AttributionError):
            graph_of({"checker": asks(openai())}).compile().invoke({"words": []}, config())
        assert [call.attribution.team for call in captured.calls] == ["growth"]
    assert len(provider.requests) == 1


@pytest.mark.parametrize("wrong", [{"nodes": ["writer"]}, {"nodes": {"writer": "drafting"}}, {"agents": 3}])
def test_a_wrong_shape_is_refused_by_name(wrong: dict[str, Any]) -> None:
    """`nodes={"writer": "drafting"}` would be tags that nobody ever sees."""
    with pytest.raises(farthing.ConfigurationError, match=r"FarthingHandler: (nodes|agents)"):
        FarthingHandler(**wrong)
