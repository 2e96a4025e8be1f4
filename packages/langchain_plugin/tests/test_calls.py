"""Every way to call a model: the ledger equals what the provider billed, to the last digit."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_openai import OpenAI
from pydantic import BaseModel

from farthing.testing.provider import FakeProvider, Fault, Reply
from farthing_langchain import FarthingHandler, include_usage

if TYPE_CHECKING:
    from langchain_bench import MakeModel, Settle

    from farthing.testing import Captured

PROMPT = ChatPromptTemplate.from_template("say {x}")
DETAILED = Reply(input_tokens=1000, cache_read_tokens=600, output_tokens=200, reasoning_tokens=150)
WRITTEN = Reply(
    input_tokens=1000, cache_read_tokens=700, cache_write_5m_tokens=150, cache_write_1h_tokens=50, output_tokens=40
)


def config(**more: Any) -> Any:
    """Give a config with a fresh handler."""
    return {"callbacks": [FarthingHandler(feature="chatbot", route="api/chat")], **more}


def test_chain(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A chain is one Call with everything the reply said, below a workflow named after the chain."""
    provider.script(DETAILED)
    (PROMPT | openai() | StrOutputParser()).invoke({"x": "hi"}, config(run_name="answer"))
    (call,) = settle()
    assert (call.framework, call.operation, call.provider) == ("langchain", "chat", "openai")
    assert (call.request_model, call.response_model) == ("gpt-4o", "gpt-4o-2024-08-06")
    assert call.response_id == provider.invoice.lines[0].response_id
    assert (call.finish_reason, call.outcome, call.streaming) == ("stop", "success", False)
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.cache_read_tokens) == (1000, 600)
    assert (call.usage.output_tokens, call.usage.output_reasoning_tokens) == (200, 150)
    assert [(scope.kind, scope.name) for scope in call.scopes] == [("workflow", "answer")]
    assert (call.attribution.feature, call.attribution.route) == ("chatbot", "api/chat")


async def test_chain_async(openai: MakeModel, settle: Settle) -> None:
    """The same asynchronously."""
    await (PROMPT | openai() | StrOutputParser()).ainvoke({"x": "hi"}, config())
    (call,) = settle()
    assert call.attribution.feature == "chatbot"
    assert [scope.name for scope in call.scopes] == ["RunnableSequence"]


def test_bare_model(openai: MakeModel, settle: Settle) -> None:
    """A model without a chain has no scope."""
    openai().invoke("hi", config())
    (call,) = settle()
    assert call.scopes == ()


def test_stream(openai: MakeModel, settle: Settle) -> None:
    """A stream is known as such, with the time to its first piece."""
    assert list((PROMPT | openai(stream_usage=True)).stream({"x": "hi"}, config()))
    (call,) = settle()
    assert call.streaming
    assert call.time_to_first_chunk_seconds is not None
    assert 0 < call.time_to_first_chunk_seconds <= (call.ended_at - call.started_at).total_seconds()


async def test_stream_async(openai: MakeModel, settle: Settle) -> None:
    """The same asynchronously."""
    assert [piece async for piece in (PROMPT | openai(stream_usage=True)).astream({"x": "hi"}, config())]
    (call,) = settle()
    assert call.streaming


async def test_stream_events(openai: MakeModel, settle: Settle) -> None:
    """astream_events turns calls into streams; they are billed once."""
    chain = PROMPT | openai(stream_usage=True)
    assert [event async for event in chain.astream_events({"x": "hi"}, config(), version="v2")]
    assert len(settle()) == 1


def test_stream_without_usage(openai: MakeModel, settle: Settle, caplog: pytest.LogCaptureFixture) -> None:
    """A stream that was not asked for usage is unreported, not free, and the log says once how to mend it."""
    include_usage.forget_told()
    for _ in range(2):
        assert list(openai(stream_usage=False).stream("hi", config()))
    assert caplog.text.count("stream_usage=True") == 1
    call = settle(unknown=2)[0]
    assert call.cost.flags == ("usage-missing",)
    assert call.response_model == "gpt-4o-2024-08-06"


def test_stream_of_anthropic_without_usage(
    provider: FakeProvider, anthropic: MakeModel, settle: Settle, caplog: pytest.LogCaptureFixture
) -> None:
    """Anthropic tells its usage unasked: to ask for it would mend nothing."""
    include_usage.forget_told()
    provider.script(Fault(cut_stream_after=2, cut_with="end"))
    assert list(anthropic().stream("hi", config()))
    settle(unknown=1)
    assert "the stream was cut" in caplog.text
    assert "ChatOpenAI" not in caplog.text


def test_missing_usage(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A reply without usage is unreported."""
    provider.script(Reply(omit_usage=True))
    openai().invoke("hi", config())
    settle(unknown=1)


def test_usage_on_every_chunk(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """Names that LangChain joins from the chunks of a stream are given once."""
    provider.script(Reply(input_tokens=0, output_tokens=0, usage_on_every_chunk=True, finish_reason="stop"))
    assert list(openai(stream_usage=True).stream("hi", config()))
    call = settle(unknown=1)[0]
    assert call.response_model == "gpt-4o-2024-08-06"


@pytest.mark.parametrize("chunks", [1, 5])
def test_usage_on_every_chunk_is_billed_once(
    provider: FakeProvider, openai: MakeModel, settle: Settle, chunks: int
) -> None:
    """LangChain adds up what each chunk tells of the whole: the prompt would be billed once a chunk."""
    provider.script(
        Reply(input_tokens=1000, output_tokens=70, cache_read_tokens=400, usage_on_every_chunk=True, chunks=chunks)
    )
    assert list(openai(stream_usage=True).stream("hi", config()))
    (call,) = settle()
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.cache_read_tokens, call.usage.output_tokens) == (1000, 400, 70)


def test_batch(openai: MakeModel, settle: Settle) -> None:
    """Items of a batch are requests of their own, each with its own metadata."""
    chain = PROMPT | openai() | StrOutputParser()
    chain.batch([{"x": "a"}, {"x": "b"}, {"x": "c"}], [config(metadata={"tenant": t}) for t in ("t1", "t2", "t3")])
    calls = settle()
    assert sorted(str(call.attribution.tenant) for call in calls) == ["t1", "t2", "t3"]
    assert len({call.trace_id for call in calls}) == 3


async def test_batch_async(openai: MakeModel, settle: Settle) -> None:
    """The same asynchronously."""
    await (PROMPT | openai()).abatch([{"x": "a"}, {"x": "b"}], config())
    assert len(settle()) == 2


@pytest.mark.filterwarnings("ignore:Unexpected type for token usage")  # langchain-openai's own, on null details
def test_generate(openai: MakeModel, settle: Settle) -> None:
    """generate() makes a request of each conversation."""
    openai().generate([[HumanMessage("a")], [HumanMessage("b")]], callbacks=config()["callbacks"])
    assert len(settle()) == 2


def test_two_choices(openai: MakeModel, settle: Settle) -> None:
    """With n=2 LangChain repeats the usage on each choice; it was billed once."""
    openai(n=2).invoke("hi", config())
    assert len(settle()) == 1


def test_flex(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """Flex renames the details in usage_metadata; the tier served is priced."""
    provider.script(DETAILED)
    openai("gpt-5", service_tier="flex").invoke("hi", config())
    (call,) = settle()
    assert call.service_tier == "flex"
    assert call.usage is not None
    assert (call.usage.cache_read_tokens, call.usage.output_reasoning_tokens) == (600, 150)


def test_flex_refused(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """Flex asked for and the default tier served is billed as the default."""
    provider.script(Reply(service_tier="default"))
    openai("gpt-5", service_tier="flex").invoke("hi", config())
    (call,) = settle()
    assert call.service_tier == "default"


def test_priority_stream(openai: MakeModel, settle: Settle) -> None:
    """The tier of a stream is known as well."""
    assert list(openai("gpt-5", service_tier="priority", stream_usage=True).stream("hi", config()))
    (call,) = settle()
    assert call.service_tier == "priority"


def test_responses(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """The Responses API, with searches that stand in the content and not in the usage."""
    provider.script(Reply(web_searches=2))
    model = openai(use_responses_api=True).bind_tools([{"type": "web_search"}])
    model.invoke("hi", config())
    (call,) = settle()
    assert call.usage is not None
    assert call.usage.web_searches == 2


@pytest.mark.parametrize("version", ["v0", "responses/v1", "v1"])
@pytest.mark.parametrize("stream", [False, True])
def test_pages_read_are_no_searches(
    version: str, stream: bool, provider: FakeProvider, openai: MakeModel, settle: Settle
) -> None:
    """OpenAI bills search actions; a page opened or looked through would be billed as one, in each output version."""
    provider.script(Reply(web_searches=2, pages_read=3))
    model = openai(use_responses_api=True, output_version=version).bind_tools([{"type": "web_search"}])
    assert list(model.stream("hi", config())) if stream else model.invoke("hi", config())
    (call,) = settle()
    assert call.usage is not None
    assert call.usage.web_searches == 2


@pytest.mark.parametrize(
    ("tool", "model", "context"),
    [
        ("web_search_preview", "gpt-4o", {"web_search": "preview"}),
        ("web_search_preview_2025_03_11", "gpt-4.1", {"web_search": "preview"}),
        ("web_search_preview", "gpt-5", {"web_search": "preview"}),
        ("web_search", "gpt-4o", {}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_preview_of_the_search_tool_has_its_own_price(
    *,
    tool: str,
    model: str,
    context: dict[str, str],
    stream: bool,
    provider: FakeProvider,
    openai: MakeModel,
    settle: Settle,
) -> None:
    """Its searches cost more with a model that does not reason; which tool it was stands in the request alone."""
    provider.script(Reply(web_searches=2))
    chat = openai(model, use_responses_api=True).bind_tools([{"type": tool}])
    assert list(chat.stream("hi", config())) if stream else chat.invoke("hi", config())
    (call,) = settle()
    assert call.price_context == context


@pytest.mark.parametrize("version", ["v0", "responses/v1", "v1"])
@pytest.mark.parametrize("stream", [False, True])
def test_code_that_the_provider_ran_is_flagged(
    version: str, stream: bool, provider: FakeProvider, openai: MakeModel, captured: Captured
) -> None:
    """Its container is on the bill and in no amount: the cost says so."""
    provider.script(Reply(code_runs=2))
    model = openai(use_responses_api=True, output_version=version).bind_tools([{"type": "code_interpreter"}])
    assert list(model.stream("hi", config())) if stream else model.invoke("hi", config())
    (call,) = captured.calls
    assert call.cost.amount_usd is not None
    assert provider.invoice.total_usd - call.cost.amount_usd == Decimal("0.03")
    assert "code-executions-not-priced" in call.cost.flags


def test_a_search_tool_that_was_not_used_decides_nothing(openai: MakeModel, settle: Settle) -> None:
    """A price that rests on a tool which was only offered would point to the wrong reason."""
    openai(use_responses_api=True).bind_tools([{"type": "web_search_preview"}]).invoke("hi", config())
    (call,) = settle()
    assert call.price_context == {}


def test_responses_stream(openai: MakeModel, settle: Settle) -> None:
    """The Responses API streamed reports its usage unasked."""
    assert list(openai(use_responses_api=True).stream("hi", config()))
    assert len(settle()) == 1


def test_anthropic(provider: FakeProvider, anthropic: MakeModel, settle: Settle) -> None:
    """Anthropic's cache writes of both lifetimes and its searches are all on the bill."""
    provider.script(WRITTEN)
    provider.script(Reply(web_searches=3))
    model = anthropic()
    model.invoke("hi", config())
    tool = {"type": "web_search_20250305", "name": "web_search"}
    model.bind_tools([tool]).invoke("hi", config())
    written, searched = settle()
    assert (written.provider, written.response_model) == ("anthropic", "claude-sonnet-4-5-20250929")
    assert written.usage is not None
    assert (written.usage.input_tokens, written.usage.cache_write_5m_tokens) == (1000, 150)
    assert written.usage.cache_write_1h_tokens == 50
    assert searched.usage is not None
    assert searched.usage.web_searches == 3


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_anthropic_stream_with_searches(
    version: str, provider: FakeProvider, anthropic: MakeModel, settle: Settle
) -> None:
    """A stream's usage does not count the searches: they are counted in its content, in both output versions."""
    provider.script(Reply(web_searches=3))
    tool = {"type": "web_search_20250305", "name": "web_search"}
    assert list(anthropic(output_version=version).bind_tools([tool]).stream("hi", config()))
    (call,) = settle()
    assert call.usage is not None
    assert call.usage.web_searches == 3


def test_anthropic_stream(provider: FakeProvider, anthropic: MakeModel, settle: Settle) -> None:
    """Streamed, Anthropic's usage is inclusive and complete."""
    provider.script(Reply(input_tokens=1000, cache_read_tokens=700, cache_write_5m_tokens=200, output_tokens=40))
    assert list(anthropic().stream("hi", config()))
    (call,) = settle()
    assert call.streaming


HOUR: Final = {"type": "ephemeral", "ttl": "1h"}
MINUTES: Final = {"type": "ephemeral"}


@pytest.mark.parametrize(
    ("marks", "parameters"),
    [([HOUR], {}), ([HOUR, HOUR], {}), ([None], {"cache_control": HOUR}), ([HOUR], {"cache_control": HOUR})],
    ids=["block", "blocks", "parameter", "both"],
)
def test_anthropic_stream_writes_for_an_hour(
    marks: list[dict[str, str] | None],
    parameters: dict[str, Any],
    provider: FakeProvider,
    anthropic: MakeModel,
    settle: Settle,
) -> None:
    """A stream's usage does not tell the lifetimes of cache writes: the request asks for one, and it is billed."""
    provider.script(Reply(input_tokens=1000, cache_write_1h_tokens=400, output_tokens=40))
    assert list(anthropic().stream(_marked(*marks), config(), **parameters))
    (call,) = settle()
    assert call.usage is not None
    assert (call.usage.cache_write_1h_tokens, call.usage.cache_write_tokens) == (400, 400)
    assert "cache-ttl-assumed" not in call.cost.flags


def test_anthropic_stream_marked_by_a_tool_and_a_result(
    provider: FakeProvider, anthropic: MakeModel, settle: Settle
) -> None:
    """Marks stand on tools and inside results of tools as well."""
    provider.script(Reply(input_tokens=1000, cache_write_1h_tokens=400, output_tokens=40))
    tool = {"name": "look", "description": "Look.", "input_schema": {"type": "object"}, "cache_control": HOUR}
    asked = [
        HumanMessage("hi"),
        AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "t1"}]),
        ToolMessage([{"type": "text", "text": "seen", "cache_control": HOUR}], tool_call_id="t1"),
    ]
    assert list(anthropic().bind_tools([tool]).stream(asked, config()))
    assert len(settle()) == 1


def test_anthropic_stream_writes_for_both(provider: FakeProvider, anthropic: MakeModel, settle: Settle) -> None:
    """Where a request asks for both lifetimes, what the stream wrote for which is not known, and flagged."""
    provider.script(Reply(input_tokens=1000, cache_write_5m_tokens=400, output_tokens=40))
    assert list(anthropic().stream(_marked(HOUR, MINUTES), config()))
    (call,) = settle()
    assert "cache-ttl-assumed" in call.cost.flags


def test_anthropic_tells_better(provider: FakeProvider, anthropic: MakeModel, settle: Settle) -> None:
    """What the provider says of the lifetimes stands above what was asked for."""
    provider.script(WRITTEN)
    anthropic().invoke(_marked(HOUR), config())
    (call,) = settle()
    assert call.usage is not None
    assert (call.usage.cache_write_5m_tokens, call.usage.cache_write_1h_tokens) == (150, 50)


def _marked(*marks: dict[str, str] | None) -> list[HumanMessage]:
    blocks = [{"type": "text", "text": "hi", **({"cache_control": mark} if mark else {})} for mark in marks]
    return [HumanMessage(blocks)]  # type: ignore[arg-type]


def test_anthropic_stream_through_a_proxy(provider: FakeProvider, anthropic: MakeModel, settle: Settle) -> None:
    """A proxy that leaves the input out of the last usage makes LangChain say 0; that is unknown, not free."""
    provider.script(Reply(bare_message_delta=True))
    assert list(anthropic().stream("hi", config()))
    (call,) = settle(unknown=1)
    assert "usage-input-missing" in call.cost.flags


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # langchain-openai's own, on `parsed`
def test_tools_and_structure(openai: MakeModel, settle: Settle) -> None:
    """Structured output is an ordinary call, whichever way it is made."""

    class Answer(BaseModel):
        text: str

    for method in ("function_calling", "json_schema", "json_mode"):
        model = openai(stream_usage=True).with_structured_output(Answer, method=method, include_raw=True)
        model.invoke("answer in json", config())
        assert list(model.stream("answer in json", config()))
    assert len(settle()) == 6


def test_completion(provider: FakeProvider, settle: Settle) -> None:
    """A plain LLM is a text completion."""
    OpenAI(model="gpt-3.5-turbo-instruct", base_url=provider.openai_url, api_key="k").invoke("hi", config())  # type: ignore[arg-type]
    (call,) = settle()
    assert call.operation == "text_completion"


def test_completion_batch(provider: FakeProvider, settle: Settle, captured: Any) -> None:
    """A batch of a plain LLM is one request, so it is one Call, and the runs it stands for are counted."""
    model = OpenAI(model="gpt-3.5-turbo-instruct", base_url=provider.openai_url, api_key="k")  # type: ignore[arg-type]
    model.batch(["a", "b", "c"], config())
    assert len(provider.requests) == 1
    assert len(settle()) == 1
    assert captured.health.duplicates == 2


async def test_completion_batch_async(provider: FakeProvider, settle: Settle) -> None:
    """The same asynchronously, and with two batches at once."""
    model = OpenAI(model="gpt-3.5-turbo-instruct", base_url=provider.openai_url, api_key="k")  # type: ignore[arg-type]
    await asyncio.gather(model.abatch(["a", "b", "c"], config()), model.abatch(["d", "e"], config()))
    assert len(settle()) == 2


def test_completion_batch_without_usage(provider: FakeProvider, settle: Settle) -> None:
    """A batch whose request reports nothing is one unknown, not none."""
    provider.script(Reply(omit_usage=True))
    model = OpenAI(model="gpt-3.5-turbo-instruct", base_url=provider.openai_url, api_key="k")  # type: ignore[arg-type]
    with pytest.raises(TypeError):  # langchain-openai's own: it reads `usage` without looking whether it is there
        model.batch(["a", "b", "c"], config())
    (call,) = settle(unknown=1)
    assert (call.outcome, call.error_type) == ("error", "TypeError")


def test_cache(openai: MakeModel, settle: Settle) -> None:
    """What LangChain's cache answers costs nothing, and says what it saved."""
    model = openai(cache=InMemoryCache())
    for _ in range(2):
        (PROMPT | model).invoke({"x": "hi"}, config())
    paid, cached = settle()
    assert (paid.cost.status, cached.cost.status) == ("priced", "cache_hit")
    assert cached.cost.saved_usd == paid.cost.amount_usd


def test_cache_of_a_reply_without_usage(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A cache hit is one even where the first reply reported nothing."""
    provider.script(Reply(omit_usage=True))
    model = openai(cache=InMemoryCache())
    for _ in range(2):
        model.invoke("hi", config())
    _, cached = settle(unknown=1)
    assert cached.cost.status == "cache_hit"


def test_threads(openai: MakeModel, settle: Settle) -> None:
    """One handler in many threads at once keeps every request's tags apart."""
    shared = FarthingHandler(feature="shared")
    chain = PROMPT | openai() | StrOutputParser()

    def request(number: int) -> None:
        chain.invoke({"x": "hi"}, {"callbacks": [shared], "metadata": {"tenant": f"t{number}"}})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(request, range(24)))
    calls = settle()
    assert sorted(str(call.attribution.tenant) for call in calls) == sorted(f"t{number}" for number in range(24))


async def test_tasks(openai: MakeModel, settle: Settle) -> None:
    """One handler in many tasks at once keeps every request's tags apart."""
    shared = FarthingHandler(feature="shared")
    chain = PROMPT | openai() | StrOutputParser()
    await asyncio.gather(
        *(chain.ainvoke({"x": "hi"}, {"callbacks": [shared], "metadata": {"tenant": f"t{n}"}}) for n in range(12))
    )
    calls = settle()
    assert len({call.attribution.tenant for call in calls}) == len({call.trace_id for call in calls}) == 12


def test_nested(openai: MakeModel, settle: Settle) -> None:
    """Chains inside chains are one trace below one scope, whether a config was passed on or not."""
    inner = PROMPT | openai() | StrOutputParser()
    outer = RunnableParallel(a=inner, b=RunnableLambda(inner.invoke)) | RunnableLambda(str)
    outer.invoke({"x": "hi"}, config(run_name="outer"))
    calls = settle()
    assert [[scope.name for scope in call.scopes] for call in calls] == [["outer"], ["outer"]]
    assert len({call.trace_id for call in calls}) == 1


def test_nested_with_its_own_callbacks(openai: MakeModel, settle: Settle) -> None:
    """A nested call that is given callbacks as a list, and so no parent, still belongs to its request."""
    own = FarthingHandler(feature="chatbot")
    model = openai()

    def step(value: str) -> object:
        return model.invoke(value, {"callbacks": [own]})

    RunnableLambda(step).invoke("hi", {"callbacks": [own], "run_name": "outer"})
    (call,) = settle()
    assert [scope.name for scope in call.scopes] == ["outer"]
