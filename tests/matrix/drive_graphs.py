"""LangGraph, and LangChain's agents, which are graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import langchain.agents
import langchain.agents.middleware
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph  # pyright: ignore[reportMissingTypeStubs]
from langgraph.prebuilt import ToolNode  # pyright: ignore[reportMissingTypeStubs]
from typing_extensions import override

from matrix.cells import Ask, Row, promise
from matrix.drive_langchain import DRAINED, EMBEDDINGS, LAZY, Answer, OpenAI, look

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["AGENT", "GRAPH"]

agents: Final[Any] = langchain.agents
middleware: Final[Any] = langchain.agents.middleware
"""LangChain's agents without their types, which are partly unknown to a checker."""


class Graph(OpenAI):
    """A graph whose node asks a model, and whose other node runs the tools."""

    @override
    def given(self, ask: Ask) -> Any:
        return {"messages": [("user", ask.prompt)]}

    @override
    def chain(self, ask: Ask) -> Any:
        model: Any = self.chosen(ask)

        def node(state: Any) -> Any:
            answer: Any = model.invoke(state["messages"])
            return {"messages": [("assistant", str(answer)) if ask.schema else answer]}

        async def anode(state: Any) -> Any:
            return {"messages": [await model.ainvoke(state["messages"])]}

        def after(state: Any) -> str:
            return "tools" if state["messages"][-1].tool_calls else END

        graph: Any = StateGraph(MessagesState)
        graph.add_node("model", _both(node, anode))
        graph.add_node("tools", ToolNode([look]))
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", after)
        graph.add_edge("tools", "model")
        made = graph.compile()
        if not ask.nested:
            return made
        outer: Any = StateGraph(MessagesState)
        outer.add_node("inner", made)
        outer.add_edge(START, "inner")
        return outer.compile()

    @override
    def ask(self, ask: Ask) -> object:
        return self.chain(ask).invoke(self.given(ask), self.config)

    @override
    def stream(self, ask: Ask) -> Iterator[Any]:
        return self.chain(ask).stream(self.given(ask), self.config, stream_mode="messages")

    @override
    def astream(self, ask: Ask) -> AsyncIterator[Any]:
        return self.chain(ask).astream(self.given(ask), self.config, stream_mode="messages")


def _both(node: Any, anode: Any) -> Any:
    """Make a node that may be run either way."""
    from langchain_core.runnables import RunnableLambda  # noqa: PLC0415

    return RunnableLambda(node, afunc=anode)


class Agent(Graph):
    """`create_agent`, with the middleware that the request needs."""

    @override
    def chain(self, ask: Ask) -> Any:
        more: dict[str, Any] = {}
        if ask.cached:
            more["cache"] = self.cache
        if self.everywhere:
            more["callbacks"] = self.config["callbacks"]
        wrapped: list[Any] = []
        if ask.retries:
            wrapped.append(
                middleware.ModelRetryMiddleware(max_retries=ask.retries, initial_delay=0, on_failure="error")
            )
        if ask.fallback:
            wrapped.append(middleware.ModelFallbackMiddleware(self.other()))
        if ask.wider_window:
            wrapped.append(middleware.ModelFallbackMiddleware(self.model(ask, self.wider_name, **more)))
        given: dict[str, Any] = {"tools": [look] if ask.tool else [], "middleware": wrapped}
        if ask.schema:
            given["response_format"] = Answer
        made: Any = agents.create_agent(self.model(ask, self.name_of(ask), **more), **given)
        return self._around(ask, made) if ask.nested else made

    def _around(self, ask: Ask, inner: Any) -> Any:
        @tool
        def delegate(at: str) -> str:
            """Ask another agent."""
            return str(inner.invoke(self.given(ask))["messages"][-1].content)

        return agents.create_agent(self.model(ask, self.model_name), tools=[delegate])


GRAPH: Final = Row(
    name="langgraph",
    title="LangGraph",
    frameworks=("langchain",),
    make=Graph,
    promises=EMBEDDINGS | {"never-read": LAZY, "left": DRAINED},
)

AGENT: Final = Row(
    name="create-agent",
    title="LangChain's create_agent",
    frameworks=("langchain",),
    make=Agent,
    promises=EMBEDDINGS
    | {
        "never-read": LAZY,
        "left": DRAINED,
        "nested": promise("An agent is a tool of another one, which asks before and after it.", priced=3),
    },
)
