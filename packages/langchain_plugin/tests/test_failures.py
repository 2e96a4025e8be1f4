"""What goes wrong, is retried, left or cancelled: billed as the provider did, or visibly unknown, and never open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import OpenAI
from openai import RateLimitError

import farthing
from farthing.testing import read_calls
from farthing.testing.provider import FakeProvider, Fault, Reply
from farthing_langchain import FarthingHandler

if TYPE_CHECKING:
    from langchain_bench import MakeModel, Settle

    from farthing.testing import Captured

PROMPT = ChatPromptTemplate.from_template("say {x}")
SLOW = Reply(chunks=20, chunk_delay_seconds=0.05)


def config(**more: Any) -> Any:
    """Give a config with a fresh handler."""
    return {"callbacks": [FarthingHandler(feature="chatbot")], **more}


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_provider_error(provider: FakeProvider, openai: MakeModel, settle: Settle, status: int) -> None:
    """An error status of the provider is no bill, and is recorded as a number, without its text."""
    provider.script(Fault(status=status, message="the prompt was: very secret"))
    with pytest.raises(Exception, match="very secret"):
        (PROMPT | openai()).invoke({"x": "hi"}, config())
    (call,) = settle()
    assert (call.cost.status, call.outcome, call.error_type) == ("not_billed", "error", str(status))
    assert "secret" not in call.model_dump_json()


async def test_provider_error_async(provider: FakeProvider, anthropic: MakeModel, settle: Settle) -> None:
    """The same asynchronously, and with another provider's exceptions."""
    provider.script(Fault(status=529))
    with pytest.raises(Exception, match="529"):
        await (PROMPT | anthropic()).ainvoke({"x": "hi"}, config())
    (call,) = settle()
    assert (call.cost.status, call.error_type) == ("not_billed", "529")


def test_connection_dropped(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A connection that breaks proves nothing about the bill."""
    provider.script(Fault(drop_connection=True))
    with pytest.raises(Exception, match="onnection"):
        openai().invoke("hi", config())
    (call,) = settle(unknown=1)
    assert call.outcome == "error"
    assert call.error_type in {"OpenAIConnectionError", "APIConnectionError"}  # langchain-openai before 1.6: the SDK's


def test_timeout(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """Whoever hangs up does not know what the provider billed."""
    provider.script(Reply(delay_seconds=0.5))
    with pytest.raises(Exception, match="imed out"):
        openai(timeout=0.1).invoke("hi", config())
    (call,) = settle(unknown=1)
    assert call.error_type in {"OpenAITimeoutError", "APITimeoutError"}  # as above


@pytest.mark.parametrize("way", ["sync", "async", "chain"])
async def test_timeout_while_a_refusal_is_handled(
    provider: FakeProvider, openai: MakeModel, settle: Settle, way: str
) -> None:
    """What an application handles when it asks again is no refusal of what it asks then: that may be on the bill."""
    provider.script(Fault(status=429), model="gpt-4o-mini")
    provider.script(Reply(delay_seconds=0.5), model="gpt-4o")
    first, second = openai("gpt-4o-mini"), openai(timeout=0.1)

    async def asked() -> None:
        try:
            first.invoke("hi", config())
        except RateLimitError:
            if way == "async":
                await second.ainvoke("hi", config())
            elif way == "sync":
                second.invoke("hi", config())
            else:
                (PROMPT | second).invoke({"x": "hi"}, config())

    with pytest.raises(Exception, match="imed out"):
        await asked()
    refused, timed_out = settle(unknown=1)
    assert (refused.cost.status, refused.error_type) == ("not_billed", "429")
    assert (timed_out.cost.status, timed_out.error_type) == ("unreported", "OpenAITimeoutError")


@pytest.mark.parametrize("cut_with", ["disconnect", "end", "error"])
def test_stream_cut(provider: FakeProvider, openai: MakeModel, settle: Settle, cut_with: Any) -> None:
    """A stream that breaks off, however it does, was billed and is unreported."""
    provider.script(Fault(cut_stream_after=2, cut_with=cut_with))
    expected = contextlib.nullcontext() if cut_with == "end" else pytest.raises(Exception, match=r".+")
    with expected:
        assert list((PROMPT | openai(stream_usage=True)).stream({"x": "hi"}, config()))
    (call,) = settle(unknown=1)
    assert call.streaming
    assert len(provider.invoice.lines) == 1


def test_anthropic_stream_cut(provider: FakeProvider, anthropic: MakeModel, settle: Settle) -> None:
    """An error event inside a stream that began with 200 is no refusal: it was billed."""
    provider.script(Fault(cut_stream_after=2, cut_with="error"))
    with pytest.raises(Exception, match=r".+"):
        list(anthropic().stream("hi", config()))
    settle(unknown=1)


def test_stream_left(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A consumer that leaves a bare stream leaves an abandoned call."""
    provider.script(SLOW)
    stream = openai(stream_usage=True).stream("hi", config())
    next(stream)
    stream.close()
    (call,) = settle(unknown=1)
    assert (call.outcome, call.error_type, call.streaming) == ("abandoned", "GeneratorExit", True)


def test_chain_stream_left(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """LangChain drains a chain's stream when it is left, after the chain's end: the usage still counts."""
    provider.script(SLOW)
    for _ in (PROMPT | openai(stream_usage=True) | StrOutputParser()).stream({"x": "hi"}, config()):
        break
    gc.collect()
    (call,) = settle()
    assert call.outcome == "success"
    assert len(call.scopes) == 1


async def test_async_stream_left(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """Asynchronously nothing is drained: the call is abandoned, one turn of the loop later."""
    provider.script(SLOW, times=2)
    model = openai(stream_usage=True)
    for runnable in (model, PROMPT | model | StrOutputParser()):
        async for _ in runnable.astream({"x": "hi"} if runnable is not model else "hi", config()):
            break
    gc.collect()
    await asyncio.sleep(0.2)
    calls = settle(unknown=2)
    assert [call.outcome for call in calls] == ["abandoned", "abandoned"]


def test_stream_never_read(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A stream that nobody reads is no request."""
    openai().stream("hi", config()).close()
    assert settle() == []
    assert not provider.requests


async def test_cancelled_chain(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """LangChain reports no end of a cancelled call: its chain's end closes it."""
    provider.script(Reply(delay_seconds=0.3))
    task = asyncio.create_task((PROMPT | openai()).ainvoke({"x": "hi"}, config()))
    await asyncio.sleep(0.15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (call,) = settle(unknown=1)
    assert (call.outcome, call.error_type) == ("cancelled", "CancelledError")


async def test_cancelled_model(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """Nothing at all is reported of a cancelled bare model: its task's end closes the call."""
    provider.script(Reply(delay_seconds=0.3), times=2)
    task = asyncio.create_task(openai().ainvoke("hi", config()))
    await asyncio.sleep(0.15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    (call,) = settle(unknown=1)
    assert call.outcome == "cancelled"


async def test_timed_out_inside(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A step that times out on a sub-chain closes that chain's call alone, and the next one is not tied to it."""
    provider.script(Reply(delay_seconds=0.3))
    inner = PROMPT | openai()

    async def step(value: Any) -> Any:
        try:
            return await asyncio.wait_for(inner.ainvoke(value), 0.15)
        except TimeoutError:
            return await inner.ainvoke(value)

    await RunnableLambda(step).ainvoke({"x": "hi"}, config())
    first, second = settle(unknown=1)
    assert (first.outcome, second.outcome) == ("cancelled", "success")
    assert first.trace_id == second.trace_id
    assert first.operation_id != second.operation_id


async def test_cancelled_around_a_thread(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A call in a thread outlives the cancelled request; it is paid for, and its usage still counts."""
    provider.script(Reply(delay_seconds=0.4))
    model = openai()
    chain: Any = RunnableLambda(model.invoke)
    task = asyncio.create_task(chain.ainvoke("hi", config()))
    await asyncio.sleep(0.15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.5)
    (call,) = settle()
    assert call.outcome == "success"
    assert [scope.name for scope in call.scopes] == ["invoke"]


@pytest.mark.parametrize("bare", [True, False])
async def test_cancelled_consumer(provider: FakeProvider, openai: MakeModel, settle: Settle, bare: bool) -> None:
    """A consumer that is cancelled while it reads a stream.

    A cancel that meets the arrival of a piece may be lost, without any handler too (langchain-openai 1.7 waits with
    asyncio.wait_for): then the stream is read to its end and reported.
    """
    provider.script(SLOW)
    reading = asyncio.Event()
    model = openai(stream_usage=True)

    async def consume() -> None:
        source = model.astream("hi", config()) if bare else (PROMPT | model).astream({"x": "hi"}, config())
        async for _ in source:
            reading.set()

    task = asyncio.create_task(consume())
    await reading.wait()
    await asyncio.sleep(0.12)
    task.cancel()
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.05)
    (call,) = settle(unknown=1 if ended else 0)
    assert call.outcome == ("cancelled" if ended else "success")


async def test_stream_read_step_by_step(openai: MakeModel, settle: Settle) -> None:
    """A stream whose every piece is awaited in a task of its own is not taken for cancelled."""
    stream = openai(stream_usage=True).astream("hi", config())
    try:
        while True:
            await asyncio.wait_for(anext(stream), 5)
    except StopAsyncIteration:
        pass
    (call,) = settle()
    assert call.outcome == "success"


def test_client_retry(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """Retries inside the provider's client are one call to any callback; the failed attempt cost nothing."""
    provider.script(Fault(status=500))
    openai(max_retries=2).invoke("hi", config())
    assert len(settle()) == 1
    assert len(provider.requests) == 2


def test_with_retry(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """The attempts of with_retry are Calls of one operation."""
    provider.script(Fault(status=500), times=2)
    openai().with_retry(wait_exponential_jitter=False, stop_after_attempt=3).invoke("hi", config())
    calls = settle()
    assert [(call.attempt, call.cost.status) for call in calls] == [(1, "not_billed"), (2, "not_billed"), (3, "priced")]
    assert len({call.operation_id for call in calls}) == 1
    assert len({call.trace_id for call in calls}) == 1


def test_chain_with_retry(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """The same where a whole chain is tried again."""
    provider.script(Fault(status=500))
    (PROMPT | openai()).with_retry(wait_exponential_jitter=False).invoke({"x": "hi"}, config())
    calls = settle()
    assert [call.attempt for call in calls] == [1, 2]
    assert len({call.operation_id for call in calls}) == 1


def test_paid_twice(openai: MakeModel, settle: Settle) -> None:
    """A retry because of a parser pays the model twice: both are on the bill, as attempts of one operation."""
    seen: list[str] = []

    def parse(message: Any) -> str:
        seen.append(message.content)
        if len(seen) == 1:
            raise ValueError("not good enough")
        return seen[-1]

    (openai() | RunnableLambda(parse)).with_retry(wait_exponential_jitter=False).invoke("hi", config())
    calls = settle()
    assert [(call.attempt, call.cost.status) for call in calls] == [(1, "priced"), (2, "priced")]
    assert len({call.operation_id for call in calls}) == 1


def test_steps_of_a_retried_chain_are_operations(openai: MakeModel, settle: Settle) -> None:
    """Two models in a row are no attempts of each other, also where the chain around them may be tried again."""
    (openai() | StrOutputParser() | openai("gpt-4o-mini")).with_retry(wait_exponential_jitter=False).invoke(
        "hi", config()
    )
    calls = settle()
    assert [call.attempt for call in calls] == [1, 1]
    assert len({call.operation_id for call in calls}) == 2


@pytest.mark.parametrize("shape", ["bare", "step", "chain"])
@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke"])
async def test_fallback(
    provider: FakeProvider, openai: MakeModel, anthropic: MakeModel, settle: Settle, *, way: str, shape: str
) -> None:
    """A fallback is a second attempt of one operation, in one trace, below the chain that LangChain forgets to name."""
    provider.script(Fault(status=429), model="gpt-4o")
    first, second = openai(), anthropic()
    runnable = first.with_fallbacks([second])
    if shape == "step":
        runnable = PROMPT | runnable | StrOutputParser()
    elif shape == "chain":
        runnable = (PROMPT | first).with_fallbacks([PROMPT | second])
    value: Any = "hi" if shape == "bare" else {"x": "hi"}
    if way == "invoke":
        runnable.invoke(value, config())
    elif way == "stream":
        list(runnable.stream(value, config()))
    else:
        await runnable.ainvoke(value, config())
    refused, served = settle()
    assert [(call.provider, call.attempt) for call in (refused, served)] == [("openai", 1), ("anthropic", 2)]
    assert refused.operation_id == served.operation_id
    assert refused.trace_id == served.trace_id
    assert len(served.scopes) == 1


def test_failures_of_several_items_are_not_one_operation(
    provider: FakeProvider, openai: MakeModel, settle: Settle
) -> None:
    """A loop that goes on after a failure begins a new operation."""
    provider.script(Fault(status=400))
    model = openai()

    def each(values: list[str]) -> None:
        for value in values:
            try:
                model.invoke(value)
            except Exception:  # noqa: BLE001, S112 - as applications do
                continue

    RunnableLambda(each).invoke(["a", "b"], config())
    first, second = settle()
    assert first.operation_id != second.operation_id
    assert second.attempt == 1


def test_length_refused_after_it_was_paid(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """Openai refuses to parse a reply that was cut by the token limit; the exception keeps what it cost."""
    provider.script(Reply(finish_reason="length"))
    schema = {"title": "answer", "type": "object", "properties": {"text": {"type": "string"}}}
    model = openai().with_structured_output(schema, method="json_schema", strict=True)
    with pytest.raises(Exception, match="ength"):
        model.invoke("hi", config())
    (call,) = settle()
    assert call.cost.status == "priced"


def test_who_answered_what_was_refused_for_its_length(
    provider: FakeProvider, openai: MakeModel, settle: Settle
) -> None:
    """The exception keeps the whole reply: by the model and the tier that were asked for another price would stand."""
    model = openai("o3", service_tier="flex").with_structured_output({"title": "a", "type": "object", "properties": {}})
    provider.script(Reply(finish_reason="length", service_tier="default"))
    with pytest.raises(Exception, match="ength"):
        model.invoke("hi", config())
    provider.script(Reply(finish_reason="length", response_model="gpt-4o-mini-2024-07-18"))
    with pytest.raises(Exception, match="ength"):
        openai().with_structured_output({"title": "a", "type": "object", "properties": {}}).invoke("hi", config())
    standard, dated = settle()
    assert (standard.service_tier, standard.cost.flags) == ("default", ())
    assert dated.response_model == "gpt-4o-mini-2024-07-18"
    assert dated.response_id
    assert dated.finish_reason == "length"


def test_completion_batch_refused(provider: FakeProvider, settle: Settle) -> None:
    """A refused batch of a plain LLM is one unknown: some of its prompts may have been paid for before."""
    provider.script(Fault(status=400))
    given: dict[str, Any] = {"base_url": provider.openai_url, "api_key": "k", "max_retries": 0}
    with pytest.raises(Exception, match="400"):
        OpenAI(model="gpt-3.5-turbo-instruct", **given).batch(["a", "b", "c"], config())
    (call,) = settle(unknown=1)
    assert call.error_type == "400"


def test_siblings_of_a_failure(provider: FakeProvider, openai: MakeModel, captured: Captured) -> None:
    """LangChain forgets the runs beside a failing one in generate(): they end as abandoned, not as free."""
    provider.script(Fault(status=400), when=lambda request: b"second" in request.body)
    conversations: list[list[BaseMessage]] = [
        [HumanMessage("first")],
        [HumanMessage("second")],
        [HumanMessage("third")],
    ]
    with pytest.raises(Exception, match="400"):
        openai().generate(conversations, callbacks=config()["callbacks"])
    assert captured.health.open_runs == 2
    farthing.shutdown()
    calls = read_calls(captured.folder)
    assert sorted(call.cost.status for call in calls) == ["not_billed", "unreported", "unreported"]


def test_chain_of_errors_is_followed(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """An application's own exception around a model's is the chain's error, not the call's."""
    provider.script(Fault(status=429))
    model = openai()

    def step(value: str) -> None:
        try:
            model.invoke(value)
        except Exception as error:
            raise RuntimeError("try again later") from error

    began = time.monotonic()
    with pytest.raises(RuntimeError):
        RunnableLambda(step).invoke("hi", config())
    assert time.monotonic() - began < 30
    (call,) = settle()
    assert call.error_type == "429"
