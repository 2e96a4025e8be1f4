"""Agents and graphs: one trace a request, agents and named graphs as scopes, nodes as details, detours no errors."""

from __future__ import annotations

import asyncio
import operator
from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict

import langchain.agents
import pytest
from langchain.agents.middleware import ModelFallbackMiddleware, SummarizationMiddleware
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph  # pyright: ignore[reportMissingTypeStubs]
from langgraph.types import Command, interrupt

from farthing.testing.provider import FakeProvider, Fault, Reply
from farthing_langchain import FarthingHandler

if TYPE_CHECKING:
    from langchain_bench import MakeModel, Settle

create_agent: Any = vars(langchain.agents)["create_agent"]  # its own annotations are partly unknown
AGENTS_ARE_KNOWN: Final = tuple(map(int, langchain.__version__.split(".")[:2])) >= (1, 4)
HI: Any = {"messages": [("user", "hi")]}


class State(TypedDict):
    """What the graphs of these tests hand on."""

    words: Annotated[list[str], operator.add]


def config(**more: Any) -> Any:
    """Give a config with a fresh handler."""
    return {"callbacks": [FarthingHandler(feature="agent")], **more}


@tool
def weather(city: str) -> str:
    """Look at the sky."""
    return f"sun in {city}"


def test_agent(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """An agent with a tool: two calls in one trace, below the agent, at its node."""
    provider.script(Reply(tool_rounds=1), times=2)
    create_agent(openai(), tools=[weather], name="helper").invoke(HI, config(metadata={"tenant": "acme"}))
    calls = settle()
    assert len(calls) == 2
    assert len({call.trace_id for call in calls}) == 1
    for call in calls:
        kind = "agent" if AGENTS_ARE_KNOWN else "workflow"
        assert [(scope.kind, scope.name) for scope in call.scopes] == [(kind, "helper")]
        assert call.details == {"node": "model"} | ({"agent": "helper"} if AGENTS_ARE_KNOWN else {})
        assert (call.attribution.feature, call.attribution.tenant) == ("agent", "acme")


async def test_unnamed_agent(openai: MakeModel, settle: Settle) -> None:
    """An agent without a name is an agent all the same, and a thread is a session."""
    agent = create_agent(openai(), tools=[], checkpointer=InMemorySaver())
    await agent.ainvoke(HI, config(configurable={"thread_id": "t-7"}))
    (call,) = settle()
    assert [scope.kind for scope in call.scopes] == ["agent"]
    assert call.attribution.session_id == "t-7"


def test_agent_as_a_tool(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """An agent inside another's tool is a scope inside that one's."""
    inner = create_agent(openai("gpt-4o-mini"), tools=[], name="expert")

    @tool
    def ask_expert(question: str) -> str:
        """Ask."""
        return str(inner.invoke({"messages": [("user", question)]})["messages"][-1].content)

    provider.script(Reply(tool_rounds=1), model="gpt-4o", times=2)
    create_agent(openai(), tools=[ask_expert], name="main").invoke(HI, config())
    calls = settle()
    assert [[scope.name for scope in call.scopes] for call in calls] == [["main"], ["main", "expert"], ["main"]]
    assert len({call.trace_id for call in calls}) == 1


def test_agent_streamed_by_message(openai: MakeModel, settle: Settle) -> None:
    """Streaming an agent's messages turns its calls into streams; with usage asked for, nothing is lost."""
    agent = create_agent(openai(stream_usage=True), tools=[])
    assert list(agent.stream(HI, config(), stream_mode="messages"))
    (call,) = settle()
    assert call.streaming


def test_middleware_fallback(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A fallback by middleware is a second attempt of the same operation."""
    provider.script(Fault(status=503), model="gpt-4o")
    agent = create_agent(openai(), tools=[], middleware=[ModelFallbackMiddleware(openai("gpt-4o-mini"))])
    agent.invoke(HI, config())
    first, second = settle()
    assert (first.cost.status, second.attempt) == ("not_billed", 2)
    assert first.operation_id == second.operation_id


def test_summary(openai: MakeModel, settle: Settle) -> None:
    """What an agent spends on summing up its history is told apart."""
    summing = SummarizationMiddleware(openai("gpt-4o-mini"), trigger=("messages", 3), keep=("messages", 1))
    messages = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]
    create_agent(openai(), tools=[], middleware=[summing]).invoke({"messages": messages}, config())  # type: ignore[arg-type]
    summary, answer = settle()
    assert summary.details["source"] == "summarization"
    assert "source" not in answer.details


def two_nodes(openai: MakeModel) -> Any:
    """Give a graph whose two nodes run side by side."""
    model = openai()

    def node(state: State) -> State:
        return {"words": [str(model.invoke("hi").content)]}

    graph: Any = StateGraph(State)
    for name in ("left", "right"):
        graph.add_node(name, node)
        graph.add_edge(START, name)
        graph.add_edge(name, END)
    return graph


def test_parallel_nodes(openai: MakeModel, settle: Settle) -> None:
    """Nodes in threads stand in one trace below the graph, each with its name."""
    two_nodes(openai).compile(name="pair").invoke({"words": []}, config())
    calls = settle()
    assert sorted(call.details["node"] for call in calls) == ["left", "right"]
    assert [[(scope.kind, scope.name) for scope in call.scopes] for call in calls] == [[("workflow", "pair")]] * 2


def test_named_subgraph(openai: MakeModel, settle: Settle) -> None:
    """A graph with a name inside another is a scope; one without is not."""
    graph: Any = StateGraph(State)
    graph.add_node("named", two_nodes(openai).compile(name="inner"))
    graph.add_node("plain", two_nodes(openai).compile())
    graph.add_edge(START, "named")
    graph.add_edge("named", "plain")
    graph.compile(name="outer").invoke({"words": []}, config())
    found = [[scope.name for scope in call.scopes] for call in settle()]
    assert found == [["outer", "inner"]] * 2 + [["outer"]] * 2


def test_interrupt(openai: MakeModel, settle: Settle, spans: Any) -> None:
    """An interrupted graph did not fail, and neither did one that jumps to its parent."""
    model = openai()

    def ask(state: State) -> State:
        return {"words": [str(model.invoke("hi").content), str(interrupt("sure?"))]}

    def leave(state: State) -> Any:
        return Command(graph=Command.PARENT, goto="last")

    def leave_last(state: State) -> State:
        return {"words": ["bye"]}

    inner: Any = StateGraph(State)
    inner.add_node("leave", leave)
    inner.add_edge(START, "leave")
    graph: Any = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_node("inner", inner.compile(name="inner"))
    graph.add_node("last", leave_last)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "inner")
    made = graph.compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    made.invoke({"words": []}, config(**thread))
    made.invoke(Command(resume="yes"), config(**thread))
    assert len(settle()) == 2
    assert all("error.type" not in span.attributes for span in spans())
    assert all(span.status.is_unset or span.status.is_ok for span in spans())


async def test_cancelled_graph(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A cancelled graph closes the calls of its nodes."""
    provider.script(Reply(delay_seconds=0.4), times=2)
    model = openai()
    graph: Any = StateGraph(State)

    async def node(state: State) -> State:
        return {"words": [str((await model.ainvoke("hi")).content)]}

    for name in ("left", "right"):
        graph.add_node(name, node)
        graph.add_edge(START, name)
    task = asyncio.create_task(graph.compile().ainvoke({"words": []}, config()))
    await asyncio.sleep(0.25)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [call.outcome for call in settle(unknown=2)] == ["cancelled", "cancelled"]


async def test_graph_stream_left(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A consumer that leaves a graph's stream: the node is cancelled, its call is closed."""
    provider.script(Reply(chunks=20, chunk_delay_seconds=0.05))
    model = openai(stream_usage=True)
    graph: Any = StateGraph(State)

    async def node(state: State) -> State:
        return {"words": [str((await model.ainvoke("hi")).content)]}

    graph.add_node("one", node)
    graph.add_edge(START, "one")
    async for _ in graph.compile().astream({"words": []}, config(), stream_mode="messages"):
        break
    await asyncio.sleep(0.2)
    (call,) = settle(unknown=1)
    assert call.outcome in {"cancelled", "abandoned"}
