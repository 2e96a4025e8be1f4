"""All three frameworks in one process: one total, one tree a request, and not a byte of content."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import litellm
import pytest
from crewai import LLM, Agent, Crew, Task
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_litellm import ChatLiteLLM
from langchain_openai import ChatOpenAI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import farthing
from farthing.testing import capture
from farthing.testing.provider import FakeProvider, Fault, Reply
from farthing.testing.receiver import OtlpReceiver
from farthing_crewai import FarthingListener
from farthing_langchain import FarthingHandler
from farthing_litellm import FarthingLogger

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary-7f3a9"
"""Stands in every prompt, key, header, reply and error text; must stand in nothing that leaves."""


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """Listen to CrewAI, and leave no listener behind for the next test."""
    listener = FarthingListener(feature="research")
    yield
    listener.close()


def use_langchain(provider: FakeProvider) -> None:
    """Ask through a chain."""
    model = ChatOpenAI(
        model="gpt-4o",
        base_url=provider.openai_url,
        api_key=f"sk-{CANARY}",  # pyright: ignore[reportArgumentType] - pydantic makes it a secret
        default_headers={"x-secret": CANARY},
        max_retries=0,
    )
    chain = ChatPromptTemplate.from_template(f"{CANARY} {{q}}") | model | StrOutputParser()
    handler = FarthingHandler(feature="chatbot", route="api/chat")
    chain.invoke({"q": "?"}, config={"callbacks": [handler], "run_name": "answer"})
    provider.script(Fault(status=400, message=f"no: {CANARY}"))
    with pytest.raises(Exception, match=CANARY):
        chain.invoke({"q": "?"}, config={"callbacks": [handler], "run_name": "answer"})


def use_litellm(provider: FakeProvider) -> None:
    """Ask through completion and acompletion."""
    litellm.callbacks = [FarthingLogger(feature="email-generator", route="jobs/mail")]
    facts: dict[str, Any] = {
        "model": "anthropic/claude-sonnet-4-5",
        "api_base": provider.anthropic_url,
        "api_key": f"sk-{CANARY}",
        "messages": [{"role": "user", "content": CANARY}],
        "extra_headers": {"x-secret": CANARY},
        "max_retries": 0,
    }
    litellm.completion(**facts)
    asyncio.run(litellm.acompletion(**facts))
    provider.script(Fault(status=400, message=f"no: {CANARY}"))
    with pytest.raises(litellm.exceptions.BadRequestError):
        litellm.completion(**facts)


def use_crewai(provider: FakeProvider) -> None:
    """Ask through a crew of one."""
    llm = LLM(model="openai/gpt-4.1-mini", base_url=provider.openai_url, api_key=f"sk-{CANARY}")
    agent = Agent(role="Researcher", goal=CANARY, backstory=CANARY, llm=llm)
    task = Task(description=f"{CANARY} find", expected_output=CANARY, agent=agent)
    Crew(name="research-crew", agents=[agent], tasks=[task]).kickoff(inputs={"secret": CANARY})


def test_the_total_of_all_three_is_the_invoice(provider: FakeProvider) -> None:
    """The one number that finance checks."""
    with capture() as found:
        use_langchain(provider)
        use_litellm(provider)
        use_crewai(provider)
        calls = found.calls
        provider.settle()
        assert sum((call.cost.amount_usd or Decimal(0) for call in calls), Decimal(0)) == provider.invoice.total_usd
        assert [call.cost.status for call in calls if call.cost.amount_usd is None] == []
        assert len([call for call in calls if call.cost.status != "not_billed"]) == len(provider.invoice.lines)
        assert {call.attribution.feature for call in calls} == {"chatbot", "email-generator", "research"}
        assert found.health.open_runs == 0
        assert found.health.faults == {}


def test_nothing_of_a_prompt_key_header_or_error_leaves(caplog: pytest.LogCaptureFixture) -> None:
    """Law 5, byte by byte: OTLP requests, the ledger and our own log lines."""
    caplog.set_level(logging.DEBUG, logger="farthing")
    with (
        FakeProvider(usage=Reply(text=f"Final Answer: {CANARY}")) as provider,
        OtlpReceiver() as receiver,
        capture(otlp_endpoint=receiver.endpoint) as found,
    ):
        use_langchain(provider)
        use_litellm(provider)
        use_crewai(provider)
        assert farthing.flush(10) is True
        assert len(receiver.spans) > len(found.calls) >= 6
        for body in receiver.bodies:
            assert CANARY.encode() not in body
        for path in (path for path in found.folder.rglob("*") if path.is_file()):
            assert CANARY.encode() not in path.read_bytes()
        assert not [r for r in caplog.records if r.name == "farthing" and CANARY in r.getMessage()]
        assert not [headers for headers in receiver.headers if CANARY in str(headers)]


def test_each_request_is_one_tree_under_the_applications_span(provider: FakeProvider) -> None:
    """A request that falls into several traces cannot be read in Jaeger or Tempo."""
    exporter = InMemorySpanExporter()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    with capture(tracer_provider=tracing) as found:
        tracer = tracing.get_tracer("application")
        for use in (use_langchain, use_litellm, use_crewai):
            with tracer.start_as_current_span(use.__name__):
                use(provider)
        calls = found.calls
    spans = exporter.get_finished_spans()
    known = {span.get_span_context().span_id for span in spans}
    roots = [span for span in spans if span.parent is None]
    assert sorted(span.name for span in roots) == ["use_crewai", "use_langchain", "use_litellm"]
    assert [span.name for span in spans if span.parent is not None and span.parent.span_id not in known] == []
    assert len({span.get_span_context().trace_id for span in spans}) == 3
    named = {
        name: [scope.name for scope in call.scopes]
        for call in calls
        if (name := call.attribution.feature) is not None and call.outcome == "success"
    }
    assert named["chatbot"] == ["answer"]
    assert named["email-generator"] == []
    assert named["research"][0] == "research-crew"


def test_langchain_over_litellm_is_billed_once(provider: FakeProvider) -> None:
    """Two layers, two callbacks, one call: the peers count it twice."""
    litellm.callbacks = [FarthingLogger(plan="gateway-default")]
    with capture() as found:
        model = ChatLiteLLM(model="openai/gpt-4o", api_base=provider.openai_url, api_key="unused", max_retries=0)
        model.invoke("hello", config={"callbacks": [FarthingHandler(feature="chatbot")]})
        (call,) = found.calls
        provider.settle()
        assert call.cost.amount_usd == provider.invoice.total_usd
        assert call.attribution.feature == "chatbot"
        assert call.response_id == provider.invoice.lines[0].response_id
        assert found.health.duplicates >= 1


def test_crewai_over_litellm_is_billed_once(provider: FakeProvider) -> None:
    """CrewAI empties litellm.callbacks whenever an LLM is built; its calls must neither vanish nor double."""
    litellm.callbacks = [FarthingLogger(plan="gateway-default")]
    with capture() as found:
        llm = LLM(model="openai/gpt-4.1-mini", is_litellm=True, base_url=provider.openai_url, api_key="unused")
        agent = Agent(role="Researcher", goal="find", backstory="curious", llm=llm)
        task = Task(name="collect", description="find", expected_output="list", agent=agent)
        Crew(name="crew", agents=[agent], tasks=[task]).kickoff()
        calls = found.calls
        provider.settle()
        assert sum((call.cost.amount_usd or Decimal(0) for call in calls), Decimal(0)) == provider.invoice.total_usd
        assert len(calls) == len(provider.invoice.lines)
        assert {call.attribution.feature for call in calls} == {"research"}
        assert [scope.name for scope in calls[0].scopes][:2] == ["crew", "collect"]
