"""What the handler promises to the application: it never raises, never leaks, and refuses what it cannot serve."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import Generation, LLMResult
from langchain_core.runnables import RunnableLambda
from langchain_openai import OpenAI
from opentelemetry import trace

import farthing
import farthing_langchain
from farthing.testing.provider import FakeProvider, Reply
from farthing_langchain import FarthingHandler, versions

if TYPE_CHECKING:
    from langchain_bench import MakeModel, Settle
    from opentelemetry.sdk.trace import TracerProvider

    from farthing.testing import Captured

SECRETS = ("prompt-secret", "reply-secret", "sk-header-secret", "tool-secret")


def test_public_names() -> None:
    """What is public is a list, and stays."""
    assert farthing_langchain.__all__ == ["FarthingHandler", "corroborated", "install"]


def test_nothing_of_content_leaves(provider: FakeProvider, openai: MakeModel, settle: Settle, spans: Any) -> None:
    """Neither ledger nor spans hold a prompt, a reply, a header or a tool's arguments."""
    provider.script(Reply(text="reply-secret"))
    model = openai(default_headers={"X-Key": "sk-header-secret"}, extra_body={"note": "tool-secret"})
    chain = RunnableLambda(lambda value: value) | model
    chain.invoke("prompt-secret", {"callbacks": [FarthingHandler(feature="f")], "run_name": "private"})
    (call,) = settle()
    exported = call.model_dump_json() + "".join(span.to_json() for span in spans())
    assert "private" in exported
    assert not [secret for secret in SECRETS if secret in exported]


def test_trace(openai: MakeModel, settle: Settle, spans: Any, tracers: TracerProvider) -> None:
    """One trace under the application's own span, cost on the call and rolled up on the root, context untouched."""
    with tracers.get_tracer("application").start_as_current_span("request"):
        chain = RunnableLambda(lambda value: value) | openai()
        chain.batch(["a", "b"], {"callbacks": [FarthingHandler(feature="f")], "run_name": "answer"})
        current = trace.get_current_span().get_span_context()
    calls = settle()
    found = {span.context.span_id: span for span in spans()}
    assert len(calls) == 2
    assert {format(span.context.trace_id, "032x") for span in found.values()} == {calls[0].trace_id}
    roots = [span for span in found.values() if span.name == "invoke_workflow answer"]
    assert [span.parent.span_id for span in roots] == [current.span_id] * 2
    for span in roots:
        assert span.attributes["attribution.rollup.calls"] == 1
    for call in calls:
        span = found[int(call.span_id, 16)]
        assert span.name == "chat gpt-4o"
        assert span.parent.span_id in {root.context.span_id for root in roots}
    assert not trace.get_current_span().get_span_context().is_valid


def test_end_without_start(captured: Captured) -> None:
    """An end whose start LangChain did not report is a call all the same."""
    result = LLMResult(
        generations=[[Generation(text="hi")]],
        llm_output={"token_usage": {"prompt_tokens": 3, "completion_tokens": 2}, "model_name": "gpt-4o"},
    )
    FarthingHandler(feature="late").on_llm_end(result, run_id=uuid4(), tags=["team:growth"])
    (call,) = captured.calls
    assert (call.attribution.feature, call.attribution.team) == ("late", "growth")
    assert call.usage is not None
    assert call.usage.input_tokens == 3


async def test_missing_start(provider: FakeProvider, settle: Settle) -> None:
    """Beside another inline handler, LangChain's async plain LLMs report no start to ordinary ones; ours is inline."""

    class Inline(BaseCallbackHandler):
        run_inline = True

    model = OpenAI(model="gpt-3.5-turbo-instruct", base_url=provider.openai_url, api_key="k")  # type: ignore[arg-type]
    await model.ainvoke("hi", {"callbacks": [Inline(), FarthingHandler(feature="f")]})
    (call,) = settle()
    assert call.request_model == "gpt-3.5-turbo-instruct"


def test_a_fault_of_ours_is_not_the_applications(
    openai: MakeModel, captured: Captured, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that fails is counted and logged once, without the text of the fault."""

    def broken(*_: object, **__: object) -> None:
        raise KeyError("prompt-secret")

    monkeypatch.setattr("farthing_langchain.extract.asked", broken)
    assert openai().invoke("hi", {"callbacks": [FarthingHandler()]}).content
    assert captured.health.faults
    assert "prompt-secret" not in caplog.text


def test_disabled(provider: FakeProvider, openai: MakeModel) -> None:
    """Switched off, the handler does nothing at all."""
    farthing.configure(enabled=False, ledger="off")
    (RunnableLambda(lambda value: value) | openai()).invoke("hi", {"callbacks": [FarthingHandler()]})
    assert farthing.health().calls == 0


def test_raw_thread_is_not_seen(openai: MakeModel, settle: Settle) -> None:
    """LangChain hands no handler to a thread that a step starts itself; `install()` does, see below."""
    model = openai()

    def step(value: str) -> None:
        thread = threading.Thread(target=model.invoke, args=(value,))
        thread.start()
        thread.join()

    RunnableLambda(step).invoke("hi", {"callbacks": [FarthingHandler()]})


INSTALLED = """
import sys, threading, farthing, farthing_langchain
from farthing.testing import capture
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

with capture() as captured:
    handler = farthing_langchain.install(feature="ambient", team="platform")
    assert farthing_langchain.install(feature="other") is handler
    model = ChatOpenAI(model="gpt-4o", base_url=sys.argv[1], api_key="k")
    model.invoke("bare")
    def step(value):
        thread = threading.Thread(target=model.invoke, args=(value,))
        thread.start()
        thread.join()
    RunnableLambda(step).invoke("hi")
    model.invoke("hi", {"callbacks": [farthing_langchain.FarthingHandler(feature="explicit")]})
    for call in captured.calls:
        print(call.attribution.feature, call.attribution.team)
"""


def test_installed(provider: FakeProvider) -> None:
    """Installed for the process, it sees bare models and raw threads, once each, and weaker than an explicit one."""
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", INSTALLED, provider.openai_url], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["ambient platform", "ambient platform", "explicit platform"]


def test_old_langchain_core() -> None:
    """An old langchain-core is refused with both versions and the fix; newer and unusual ones are not."""
    with pytest.raises(ImportError, match=r"needs langchain-core >= 1\.3, found 1\.2\.28: pip install"):
        versions.refuse_older("1.2.28")
    for fine in ("1.3.0", "1.8.3", "2.0.0rc1", "dev"):
        versions.refuse_older(fine)
