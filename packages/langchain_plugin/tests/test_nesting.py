"""Calls that begin together, inside each other or after one that died: each is billed once, and none is lost."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_openai import OpenAI

from farthing.testing.provider import FakeProvider, Fault, Reply
from farthing_langchain import FarthingHandler

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of the package's own imports are not ours to mend
    from langchain_litellm import ChatLiteLLM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_bench import MakeModel, Settle

    from farthing.testing import Captured

CONVERSATIONS: list[list[BaseMessage]] = [[HumanMessage("one")], [HumanMessage("two")], [HumanMessage("three")]]


def config(**more: Any) -> Any:
    """Give a config with a fresh handler."""
    return {"callbacks": [FarthingHandler(feature="chatbot")], **more}


def over_litellm(provider: FakeProvider) -> Any:
    """Make a model that is no provider's own client."""
    given: dict[str, Any] = {"api_base": provider.openai_url, "api_key": "k"}
    return ChatLiteLLM(model="openai/gpt-4o", max_retries=0, **given)


class Front(BaseChatModel):
    """A model in front of another one, which it asks without passing its callbacks on."""

    inner: Any

    @property
    def _llm_type(self) -> str:
        return "front"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.inner.invoke(messages))])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=await self.inner.ainvoke(messages))])


@pytest.mark.parametrize("handlers", [1, 2])
def test_conversations_begun_together(provider: FakeProvider, settle: Settle, handlers: int) -> None:
    """The conversations of one generate() begin before any is asked; one is not asked by the other."""
    given = [FarthingHandler(feature=f"f{number}") for number in range(handlers)]
    over_litellm(provider).generate(CONVERSATIONS, callbacks=given)
    calls = settle()
    assert [call.cost.status for call in calls] == ["priced"] * 3
    assert len({call.operation_id for call in calls}) == 3


async def test_conversations_begun_together_async(provider: FakeProvider, settle: Settle) -> None:
    """The same in the tasks of agenerate()."""
    await over_litellm(provider).agenerate(CONVERSATIONS, callbacks=config()["callbacks"])
    assert [call.cost.status for call in settle()] == ["priced"] * 3


def test_prompts_begun_together(provider: FakeProvider, settle: Settle, captured: Captured) -> None:
    """The prompts of a plain LLM's generate() are one request, whose bill stands on the first of them."""
    given: dict[str, Any] = {"base_url": provider.openai_url, "api_key": "k"}
    OpenAI(model="gpt-3.5-turbo-instruct", **given).generate(["a", "b", "c"], callbacks=config()["callbacks"])
    (call,) = settle()
    assert call.cost.status == "priced"
    assert captured.health.duplicates == 2


@pytest.mark.parametrize("how", ["sync", "async", "together"])
async def test_model_in_front_of_a_model(openai: MakeModel, settle: Settle, how: str) -> None:
    """A model that asks another one is one bill, though LangChain does not know that it asks."""
    front = Front(inner=openai())

    def together(_: str) -> object:
        return front.generate(CONVERSATIONS)

    async def asked(value: str) -> object:
        return await front.ainvoke(value)

    if how == "sync":
        RunnableLambda(front.invoke).invoke("hi", config())
    elif how == "async":
        await RunnableLambda(asked).ainvoke("hi", config())
    else:
        RunnableLambda(together).invoke("hi", config())
    calls = settle()
    assert [(call.provider, call.cost.status) for call in calls] == [("openai", "priced")] * len(calls)
    assert len(calls) == (3 if how == "together" else 1)


async def test_call_after_one_that_timed_out(provider: FakeProvider, settle: Settle) -> None:
    """Nothing is reported of a call that asyncio.timeout() ended; the next one of its task is not asked by it."""
    provider.script(Reply(delay_seconds=0.8))
    model = over_litellm(provider)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.4):
            await model.ainvoke("hi", config())
    await model.ainvoke("hi", config())
    calls = settle(unknown=1)
    assert sorted((call.outcome, call.cost.status) for call in calls) == [
        ("cancelled", "unreported"),
        ("success", "priced"),
    ]
    assert len({call.operation_id for call in calls}) == 2


@pytest.mark.parametrize("timed_out", [True, False])
async def test_calls_of_a_streaming_endpoint(
    provider: FakeProvider, openai: MakeModel, settle: Settle, timed_out: bool
) -> None:
    """A task that is inside an async generator is followed into it: dead calls end there, and live ones ask."""
    front: Any = RunnableLambda(str) | Front(inner=openai())

    async def answer() -> AsyncIterator[object]:
        if timed_out:
            provider.script(Reply(delay_seconds=0.8))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.4):
                    await over_litellm(provider).ainvoke("hi", config())
        async for piece in front.astream("hi", config()):
            yield piece

    assert [piece async for piece in answer()]
    calls = settle(unknown=int(timed_out))
    assert sorted(call.outcome for call in calls) == [*(["cancelled"] if timed_out else []), "success"]


async def test_front_after_a_call_that_timed_out(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A dead call neither takes the next one's place nor hides that this one asks another."""
    provider.script(Reply(delay_seconds=0.8))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.4):
            await over_litellm(provider).ainvoke("hi", config())

    async def asked(value: str) -> object:
        return await Front(inner=openai()).ainvoke(value)

    await RunnableLambda(asked).ainvoke("hi", config())
    calls = settle(unknown=1)
    assert sorted((call.outcome, call.cost.status) for call in calls) == [
        ("cancelled", "unreported"),
        ("success", "priced"),
    ]


def test_call_after_conversations_that_failed(provider: FakeProvider, settle: Settle) -> None:
    """LangChain forgets the conversations beside one that failed: they end when the next call shows them dead."""
    provider.script(Fault(status=400), when=lambda request: b"two" in request.body)
    with pytest.raises(Exception, match="told to fail"):
        over_litellm(provider).generate(CONVERSATIONS, callbacks=config()["callbacks"])
    over_litellm(provider).invoke("hi", config())
    calls = settle(unknown=2)
    assert sorted((call.outcome, call.cost.status) for call in calls) == [
        ("abandoned", "unreported"),
        ("abandoned", "unreported"),
        ("error", "not_billed"),
        ("success", "priced"),
    ]
