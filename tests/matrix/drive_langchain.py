"""LangChain on every provider that it has a package for."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from typing_extensions import override

from matrix.cells import Ask, Attachment, Row, Stack, promise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


__all__ = ["OPENAI"]

PROMPT: Final = ChatPromptTemplate.from_template("{words}")


@tool
def look(at: str) -> str:
    """Look at something."""
    return f"{at}: seen"


class Answer(BaseModel):
    """A structured answer."""

    text: str


class LangChain(Stack):
    """A chain of a prompt, a model and a parser; a row says which model."""

    model_name = ""
    wider_name = ""

    @override
    def open(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self._handlers = self.lab.observer.callbacks("langchain")
        if attachment == "twice":
            self._handlers = [*self._handlers, *self.lab.observer.callbacks("langchain")]

    # What a row says.

    def model(self, ask: Ask, name: str, **more: Any) -> Any:
        """Make the chat model."""
        raise NotImplementedError

    def other(self) -> Any:
        """Make the model of a second provider."""
        return Anthropic(self.lab).model(Ask(mark=""), Anthropic.model_name)

    # What all rows share.

    @property
    def config(self) -> Any:
        """Hand the callbacks to a chain."""
        return {"callbacks": list(self._handlers)}

    def chosen(self, ask: Ask) -> Any:
        """Make the model as the request wants it."""
        more: dict[str, Any] = {}
        if ask.cached:
            self._cache = getattr(self, "_cache", None) or InMemoryCache()
            more["cache"] = self._cache
        if self._attachment == "everywhere":
            more["callbacks"] = list(self._handlers)
        model: Any = self.model(ask, ask.model or self.model_name, **more)
        if ask.schema:
            return model.with_structured_output(Answer)
        if ask.tool:
            return model.bind_tools([look])
        if ask.retries:
            return model.with_retry(stop_after_attempt=ask.retries + 1, wait_exponential_jitter=False)
        if ask.fallback:
            return model.with_fallbacks([self.other()])
        if ask.wider_window:
            return model.with_fallbacks([self.model(ask, self.wider_name, **more)])
        return model

    def chain(self, ask: Ask) -> Any:
        """Make the chain."""
        chain: Any = PROMPT | self.chosen(ask)
        if not ask.schema:
            chain = chain | StrOutputParser()
        if not ask.nested:
            return chain

        def inner(words: Any) -> Any:
            return chain.invoke({"words": words.to_string()})

        return PROMPT | RunnableLambda(inner) | RunnableLambda(str)

    @override
    def ask(self, ask: Ask) -> object:
        if ask.tool:
            return self._ask_with_tool(ask)
        return self.chain(ask).invoke({"words": ask.prompt}, self.config)

    def _ask_with_tool(self, ask: Ask) -> object:
        model = self.chosen(ask)

        def rounds(words: str) -> Any:
            messages: list[Any] = [HumanMessage(words)]
            answer: Any = model.invoke(messages)
            while answer.tool_calls:
                messages.append(answer)
                messages += [
                    ToolMessage(look.invoke(call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls
                ]
                answer = model.invoke(messages)
            return answer

        return RunnableLambda(rounds).invoke(ask.prompt, self.config)

    @override
    async def aask(self, ask: Ask) -> object:
        return await self.chain(ask).ainvoke({"words": ask.prompt}, self.config)

    @override
    def stream(self, ask: Ask) -> Iterator[Any]:
        return self.chain(ask).stream({"words": ask.prompt}, self.config)

    @override
    def astream(self, ask: Ask) -> AsyncIterator[Any]:
        return self.chain(ask).astream({"words": ask.prompt}, self.config)

    @override
    def batch(self, asks: list[Ask]) -> object:
        return self.chain(asks[0]).batch([{"words": ask.prompt} for ask in asks], self.config)


class OpenAI(LangChain):
    """langchain-openai."""

    model_name = "gpt-4o-mini"
    wider_name = "gpt-4o"

    @override
    def model(self, ask: Ask, name: str, **more: Any) -> Any:
        given: dict[str, Any] = {
            "base_url": self.lab.provider.openai_url,
            "api_key": "unused",
            "max_retries": ask.client_retries,
            "stream_usage": ask.usage,
            "timeout": ask.timeout_seconds,
            **more,
        }
        if ask.choices > 1:
            given["n"] = ask.choices
        if ask.tier is not None:
            given["service_tier"] = ask.tier
        return ChatOpenAI(model=name, **given)


class Anthropic(LangChain):
    """langchain-anthropic."""

    model_name = "claude-sonnet-4-5"
    wider_name = "claude-sonnet-4-6"

    @override
    def model(self, ask: Ask, name: str, **more: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from langchain_anthropic import ChatAnthropic  # noqa: PLC0415 - not installed at every version

        given: dict[str, Any] = {
            "base_url": self.lab.provider.anthropic_url,
            "api_key": "unused",
            "max_retries": ask.client_retries,
            "stream_usage": ask.usage,
            "timeout": ask.timeout_seconds,
            **more,
        }
        return ChatAnthropic(model_name=name, **given)


_EMBEDDINGS: Final = {"embeddings": "LangChain has no callback for embeddings, so nobody who listens to it sees them."}
_NEVER_READ: Final = promise("LangChain asks when the stream is first read: there is no request.")
_DRAINED: Final = promise("A chain reads what is left of a stream to its end: the call is billed and known.", priced=1)

OPENAI: Final = Row(
    name="langchain-openai",
    title="LangChain on OpenAI",
    frameworks=("langchain",),
    make=OpenAI,
    impossible=_EMBEDDINGS,
    promises={"never-read": _NEVER_READ, "left": _DRAINED},
)
