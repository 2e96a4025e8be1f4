"""LangChain on every provider that it has a package for."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from typing_extensions import override

from matrix.cells import Ask, Attachment, Row, Stack, promise
from matrix.drive_litellm import Sdk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


__all__ = ["ANTHROPIC", "BEDROCK", "DRAINED", "EMBEDDINGS", "GEMINI", "LAZY", "LITELLM", "OPENAI", "OpenAI", "look"]

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
    tiered_name = ""
    unknown_name = "matrix-unknown-1"

    @override
    def open(self, attachment: Attachment) -> None:
        self.everywhere = attachment == "everywhere"
        self.cache = InMemoryCache()
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

    def name_of(self, ask: Ask) -> str:
        """Choose the model."""
        if ask.unknown:
            return self.unknown_name
        return self.tiered_name if ask.tier else self.model_name

    def chosen(self, ask: Ask) -> Any:
        """Make the model as the request wants it."""
        more: dict[str, Any] = {}
        if ask.cached:
            more["cache"] = self.cache
        if self.everywhere:
            more["callbacks"] = list(self._handlers)
        model: Any = self.model(ask, self.name_of(ask), **more)
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

    def given(self, ask: Ask) -> Any:
        """Say what the chain takes."""
        return {"words": ask.prompt}

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
        return self.chain(ask).invoke(self.given(ask), self.config)

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
        return await self.chain(ask).ainvoke(self.given(ask), self.config)

    @override
    def stream(self, ask: Ask) -> Iterator[Any]:
        return self.chain(ask).stream(self.given(ask), self.config)

    @override
    def astream(self, ask: Ask) -> AsyncIterator[Any]:
        return self.chain(ask).astream(self.given(ask), self.config)

    @override
    def batch(self, asks: list[Ask]) -> object:
        return self.chain(asks[0]).batch([self.given(ask) for ask in asks], self.config)


class OpenAI(LangChain):
    """langchain-openai."""

    model_name = "gpt-4o-mini"
    wider_name = "gpt-4o"
    tiered_name = "gpt-5"

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

    @override
    def embed(self, ask: Ask) -> object:
        given: dict[str, Any] = {"base_url": self.lab.provider.openai_url, "api_key": "unused"}
        model: Any = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False, **given)
        return model.embed_query(ask.prompt)


class Anthropic(LangChain):
    """langchain-anthropic."""

    model_name = "claude-sonnet-4-5"
    wider_name = "claude-sonnet-4-6"

    @override
    def model(self, ask: Ask, name: str, **more: Any) -> Any:
        from langchain_anthropic import ChatAnthropic  # noqa: PLC0415 - each package only where its row is run

        given: dict[str, Any] = {
            "base_url": self.lab.provider.anthropic_url,
            "api_key": "unused",
            "max_retries": ask.client_retries,
            "stream_usage": ask.usage,
            "timeout": ask.timeout_seconds,
            **more,
        }
        return ChatAnthropic(model_name=name, **given)


class Bedrock(LangChain):
    """langchain-aws, on the Converse API."""

    model_name = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    wider_name = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    tiered_name = "amazon.nova-pro-v1:0"

    @override
    def model(self, ask: Ask, name: str, **more: Any) -> Any:
        from langchain_aws import ChatBedrockConverse  # noqa: PLC0415 - as above

        given: dict[str, Any] = {
            "client": _bedrock_client(self.lab.provider.bedrock_url, ask.timeout_seconds, ask.client_retries),
            "service_tier": ask.tier,
            "provider": "amazon" if ask.tier else "anthropic",
            **more,
        }
        return ChatBedrockConverse(model=name, region_name="us-east-1", **given)


@functools.cache
def _bedrock_client(url: str, timeout_seconds: float | None, retries: int) -> Any:
    """Make a client that models share: making one takes a tenth of a second of reading AWS's descriptions."""
    import boto3  # noqa: PLC0415 - as above  # pyright: ignore[reportMissingTypeStubs]
    from botocore.config import Config  # noqa: PLC0415 - as above  # pyright: ignore[reportMissingTypeStubs]

    patience: Any = Config(
        read_timeout=timeout_seconds or 60, retries={"total_max_attempts": retries + 1, "mode": "standard"}
    )
    made: Any = boto3.client  # pyright: ignore[reportUnknownVariableType] - boto3 makes its types when it runs
    return made(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="unused",
        aws_secret_access_key="unused",
        config=patience,
    )


class Gemini(LangChain):
    """langchain-google-genai."""

    model_name = "gemini-2.5-flash"
    wider_name = "gemini-2.5-pro"

    @override
    def model(self, ask: Ask, name: str, **more: Any) -> Any:
        from langchain_google_genai import ChatGoogleGenerativeAI  # noqa: PLC0415 - as above

        given: dict[str, Any] = {
            "google_api_key": "unused",
            "base_url": self.lab.provider.gemini_url,
            "max_retries": ask.client_retries + 1,  # its attempts
            "timeout": ask.timeout_seconds,
            **more,
        }
        if ask.choices > 1:
            given["n"] = ask.choices
        return ChatGoogleGenerativeAI(model=name, **given)


class OverLiteLLM(LangChain):
    """langchain-litellm, with the observer at both layers."""

    model_name = "openai/gpt-4o-mini"
    wider_name = "openai/gpt-4o"
    tiered_name = "openai/gpt-5"
    unknown_name = "openai/matrix-unknown-1"

    @override
    def open(self, attachment: Attachment) -> None:
        super().open(attachment)
        self._below = Sdk(self.lab)
        self._below.open("once" if attachment == "everywhere" else attachment)

    @override
    def close(self) -> None:
        self._below.close()

    @override
    def embed(self, ask: Ask) -> object:
        from langchain_litellm import LiteLLMEmbeddings  # noqa: PLC0415 - as above

        given: dict[str, Any] = {"api_base": self.lab.provider.openai_url, "api_key": "unused"}
        return LiteLLMEmbeddings(model="openai/text-embedding-3-small", **given).embed_query(ask.prompt)

    @override
    def model(self, ask: Ask, name: str, **more: Any) -> Any:
        from langchain_litellm import ChatLiteLLM  # noqa: PLC0415 - as above

        passed_on: dict[str, Any] = {"max_retries": ask.client_retries}
        if ask.choices > 1:
            passed_on["n"] = ask.choices
        if ask.tier is not None:
            passed_on["service_tier"] = ask.tier
        return ChatLiteLLM(
            model=name,
            api_base=self.lab.provider.openai_url,
            api_key="unused",
            request_timeout=ask.timeout_seconds,
            stream_options={"include_usage": ask.usage},
            model_kwargs=passed_on,
            **more,
        )


_UNSEEN: Final = "LangChain has no callback for embeddings, so nobody who listens to it sees them."
EMBEDDINGS: Final = {"embeddings": promise(_UNSEEN, invisible=1)}
_ELSEWHERE: Final = {"embeddings": f"{_UNSEEN} The row of OpenAI shows it."}
_NO_TIERS: Final = ("flex", "flex-refused", "priority")
LAZY: Final = promise("LangChain asks when the stream is first read: there is no request.")
DRAINED: Final = promise("A chain reads what is left of a stream to its end: the call is billed and known.", priced=1)
_SHARED: Final = {"never-read": LAZY, "left": DRAINED}

OPENAI: Final = Row(
    name="langchain-openai",
    title="LangChain on OpenAI",
    frameworks=("langchain",),
    make=OpenAI,
    promises=_SHARED | EMBEDDINGS,
)

ANTHROPIC: Final = Row(
    name="langchain-anthropic",
    title="LangChain on Anthropic",
    frameworks=("langchain",),
    make=Anthropic,
    impossible={"embeddings": "Anthropic has no embeddings."}
    | {"n2": "Anthropic gives one answer a request."}
    | dict.fromkeys(_NO_TIERS, "Anthropic has no flex, and sells priority by contract, without a list price."),
    promises=_SHARED,
)

BEDROCK: Final = Row(
    name="langchain-bedrock",
    title="LangChain on Bedrock",
    frameworks=("langchain",),
    make=Bedrock,
    impossible=_ELSEWHERE
    | {
        "n2": "Converse gives one answer a request.",
        "silent-stream": "Converse tells the usage of every stream.",
        "no-usage": "Converse tells the usage of every answer, and langchain-aws raises a KeyError on one without.",
    },
    promises=_SHARED,
)

GEMINI: Final = Row(
    name="langchain-gemini",
    title="LangChain on Gemini",
    frameworks=("langchain",),
    make=Gemini,
    impossible=_ELSEWHERE
    | {"silent-stream": "Gemini tells the usage of every stream."}
    | dict.fromkeys(_NO_TIERS, "langchain-google-genai has no setting for the tier."),
    promises=_SHARED,
)

LITELLM: Final = Row(
    name="langchain-litellm",
    title="LangChain on LiteLLM, both plugins",
    frameworks=("langchain", "litellm"),
    make=OverLiteLLM,
    promises=_SHARED,
)
