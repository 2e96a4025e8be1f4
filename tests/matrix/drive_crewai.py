"""CrewAI on its own providers, and over LiteLLM."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

import crewai
from crewai.events.event_bus import crewai_event_bus
from crewai.flow.flow import Flow, start
from crewai.tools import tool
from pydantic import BaseModel
from typing_extensions import override

from matrix.cells import Ask, Attachment, Row, Stack, promise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["ANTHROPIC", "BEDROCK", "GEMINI", "LITELLM", "OPENAI"]

framework: Final[Any] = crewai
"""CrewAI without its types, half of which are unknown to a checker."""


class Answer(BaseModel):
    """A structured answer."""

    text: str


@tool("look")
def look(at: str) -> str:
    """Look at something."""
    return f"{at}: seen"


class Native(Stack):
    """A crew of one agent and one task, on a provider of CrewAI's own; a row says which."""

    model_name = ""
    tiered_name = ""
    unknown_name = ""
    """One that CrewAI takes for its provider's all the same: what it does not, it sends through LiteLLM."""

    @override
    def open(self, attachment: Attachment) -> None:
        if attachment == "twice":
            self.lab.observer.callbacks("crewai")

    @override
    def close(self) -> None:
        crewai_event_bus.flush(timeout=10)

    # What a row says.

    def settings(self, ask: Ask) -> dict[str, Any]:
        """Say what the row's provider takes."""
        given: dict[str, Any] = {"max_retries": ask.client_retries}
        if ask.timeout_seconds is not None:
            given["timeout"] = ask.timeout_seconds
        return given

    # What all rows share.

    def llm(self, ask: Ask, *, stream: bool = False) -> Any:
        """Make the LLM as the request wants it."""
        given = self.settings(ask)
        if ask.choices > 1:
            given["n"] = ask.choices
        if ask.tier is not None:
            given["service_tier"] = ask.tier
        name = self.unknown_name if ask.unknown else self.tiered_name if ask.tier else self.model_name
        return framework.LLM(model=name, stream=stream, **given)

    def crew(self, ask: Ask, *, stream: bool = False) -> Any:
        """Make the crew."""
        agent = framework.Agent(
            role="Speaker",
            goal="answer",
            backstory="terse",
            llm=self.llm(ask, stream=stream),
            tools=[look] if ask.tool else [],
            max_retry_limit=ask.retries,
            verbose=False,
        )
        task = framework.Task(
            name="say",
            description=ask.prompt,
            expected_output="text",
            agent=agent,
            output_pydantic=Answer if ask.schema else None,
        )
        return framework.Crew(name="matrix", agents=[agent], tasks=[task], verbose=False, stream=stream)

    @override
    def ask(self, ask: Ask) -> object:
        crew = self.crew(ask)
        if not ask.nested:
            return crew.kickoff()

        class Outer(Flow[dict[str, str]]):
            @start()
            def inside(self) -> None:
                crew.kickoff()

        flow: Any = Outer()
        return flow.kickoff()

    @override
    async def aask(self, ask: Ask) -> object:
        return await self.crew(ask).akickoff()

    @override
    def stream(self, ask: Ask) -> Iterator[Any]:
        return iter(self.crew(ask, stream=True).kickoff())

    @override
    async def astream(self, ask: Ask) -> AsyncIterator[Any]:
        async for piece in await self.crew(ask, stream=True).akickoff():
            yield piece

    @override
    def batch(self, asks: list[Ask]) -> object:
        return self.crew(asks[0]).kickoff_for_each(inputs=[{"number": str(number)} for number, _ in enumerate(asks)])

    @override
    def embed(self, ask: Ask) -> object:
        factory: Any = importlib.import_module("crewai.rag.embeddings.factory")
        settings = {"model_name": "text-embedding-3-small", "api_key": "unused"}
        settings["api_base"] = self.lab.provider.openai_url
        return factory.build_embedder({"provider": "openai", "config": settings})([ask.prompt])


class OpenAI(Native):
    """CrewAI's own OpenAI."""

    model_name = "openai/gpt-4o-mini"
    tiered_name = "openai/gpt-5"
    unknown_name = "openai/gpt-matrix-1"

    @override
    def settings(self, ask: Ask) -> dict[str, Any]:
        return super().settings(ask) | {"base_url": self.lab.provider.openai_url, "api_key": "unused"}


class Anthropic(Native):
    """CrewAI's own Anthropic."""

    model_name = "anthropic/claude-sonnet-4-5"
    unknown_name = "anthropic/claude-matrix-1"

    @override
    def settings(self, ask: Ask) -> dict[str, Any]:
        return super().settings(ask) | {"base_url": self.lab.provider.anthropic_url, "api_key": "unused"}


class Gemini(Native):
    """CrewAI's own Gemini."""

    model_name = "gemini/gemini-2.5-flash"
    unknown_name = "gemini/gemini-matrix-1"

    @override
    def settings(self, ask: Ask) -> dict[str, Any]:
        options: dict[str, Any] = {"base_url": self.lab.provider.gemini_url}
        if ask.timeout_seconds is not None:
            options["timeout"] = int(ask.timeout_seconds * 1000)
        if ask.client_retries:
            options["retry_options"] = {"attempts": ask.client_retries + 1, "initial_delay": 0.01}
        return {"api_key": "unused", "client_params": {"http_options": options}}


class Bedrock(Native):
    """CrewAI's own Bedrock."""

    model_name = "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    unknown_name = "bedrock/amazon.matrix-v1:0"
    held_back_seconds = 3.0  # CrewAI keeps the connection of a call that was cancelled

    @override
    def settings(self, ask: Ask) -> dict[str, Any]:
        return {"region_name": "us-east-1"}


class OverLiteLLM(OpenAI):
    """CrewAI over LiteLLM, with the observer at both layers."""

    @override
    def open(self, attachment: Attachment) -> None:
        from matrix.drive_litellm import Sdk  # noqa: PLC0415 - only where litellm is installed

        super().open(attachment)
        self._below = Sdk(self.lab)
        self._below.open("once" if attachment == "everywhere" else attachment)
        self._loggers = self.lab.observer.callbacks("litellm") if attachment == "everywhere" else []

    @override
    def close(self) -> None:
        super().close()
        self._below.close()

    @override
    def settings(self, ask: Ask) -> dict[str, Any]:
        given = super().settings(ask) | {"is_litellm": True}
        if self._loggers:
            given["callbacks"] = self._loggers
        if ask.fallback or ask.wider_window:
            below = self._below.settings(ask)
            names = ("fallbacks", "context_window_fallback_dict")
            given |= {name: below[name] for name in names if name in below}
            for other in given.get("fallbacks", ()):
                other["base_url"] = other["api_base"]  # CrewAI gives both, and LiteLLM then goes by this one
        if ask.retries:
            given["num_retries"] = ask.retries
        return given


_IMPOSSIBLE: Final = {
    "cache-hit": "CrewAI keeps what tools answer, and no answer of a model.",
    "fallback": "CrewAI has no second provider to turn to.",
    "everywhere": "CrewAI has one event bus, and so one place to listen.",
    "silent-stream": "CrewAI always asks for the usage of a stream.",
}
_NO_TIERS: Final = ("flex", "flex-refused", "priority")
_TO_THE_END: Final = promise("A crew goes on to its end, whoever has left its stream: the call is known.", priced=1)
_PROMISES: Final = {
    "embeddings": promise("CrewAI has no event for the embeddings of memory and knowledge.", invisible=1),
    "cancelled": promise(
        "CrewAI tells nobody that a kickoff was cancelled: the call is closed by the sweep, or when the process ends.",
        unreported=1,
        late=3,
    ),
    "left": _TO_THE_END,
    "async-left": _TO_THE_END,
    "never-read": promise("A crew's stream begins when it is first read: there is no request."),
}

OPENAI: Final = Row(
    name="crewai-openai",
    title="CrewAI on OpenAI",
    frameworks=("crewai",),
    make=OpenAI,
    impossible=_IMPOSSIBLE,
    promises=_PROMISES,
)

ANTHROPIC: Final = Row(
    name="crewai-anthropic",
    title="CrewAI on Anthropic",
    frameworks=("crewai",),
    make=Anthropic,
    impossible=_IMPOSSIBLE
    | {"n2": "Anthropic gives one answer a request."}
    | dict.fromkeys(_NO_TIERS, "Anthropic has no flex, and sells priority by contract, without a list price."),
    promises=_PROMISES,
)

GEMINI: Final = Row(
    name="crewai-gemini",
    title="CrewAI on Gemini",
    frameworks=("crewai",),
    make=Gemini,
    impossible=_IMPOSSIBLE
    | {"n2": "CrewAI asks Gemini for one answer."}
    | dict.fromkeys(_NO_TIERS, "CrewAI has no setting for Gemini's tier."),
    promises=_PROMISES,
)

BEDROCK: Final = Row(
    name="crewai-bedrock",
    title="CrewAI on Bedrock",
    frameworks=("crewai",),
    make=Bedrock,
    impossible=_IMPOSSIBLE
    | {
        "n2": "Converse gives one answer a request.",
        "timeout": "CrewAI builds its Bedrock client with a patience of five minutes, which nobody can change.",
    }
    | dict.fromkeys(_NO_TIERS, "CrewAI has no setting for Bedrock's tier."),
    promises=_PROMISES
    | {
        "retry": promise(
            "CrewAI's Bedrock client always retries a server's error, below every callback.", priced=1, hidden=1
        ),
        "cancelled": promise("The call ended with its usage, although its task had been cancelled.", priced=1, late=3),
        "wider-window": promise(
            "CrewAI never tells the end of a call that Bedrock refused as too long.", unreported=1, priced=1
        ),
    },
)

LITELLM: Final = Row(
    name="crewai-litellm",
    title="CrewAI on LiteLLM, both plugins",
    frameworks=("crewai", "litellm"),
    make=OverLiteLLM,
    impossible={
        "cache-hit": _IMPOSSIBLE["cache-hit"],
        "silent-stream": _IMPOSSIBLE["silent-stream"],
    },
    promises=_PROMISES
    | {
        "retry": promise(
            "LiteLLM hands `num_retries` on to OpenAI's client, which retries below every callback.",
            priced=1,
            hidden=1,
        )
    },
)
