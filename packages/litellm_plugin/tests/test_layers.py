"""Below another framework: one bill, with the tags and the place of the layer above."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from litellm_bench import ASK, lite

from farthing.runs import CURRENT_CALL, Finish
from farthing.setup import get_meter

if TYPE_CHECKING:
    from collections.abc import Callable

    from litellm_bench import Bench

pytestmark = pytest.mark.usefixtures("logger")


def beneath(call: Callable[[], Any], *, finish: dict[str, Any]) -> None:
    """Call below a framework of which the real meter knows: a scope with a model call."""
    meter = get_meter()
    assert meter is not None
    scope, outer = ("above", "scope"), ("above", "call")
    meter.start_scope(scope, framework="langchain", kind="workflow", name="chain", tags={"feature": "chatbot"})
    meter.start_call(
        outer, framework="langchain", operation="chat", provider="openai", model="gpt-4o-mini", parent_key=scope
    )
    token = CURRENT_CALL.set(outer)
    try:
        call()
    finally:
        CURRENT_CALL.reset(token)
        meter.finish_call(outer, Finish(ended_ns=time.time_ns(), **finish))
        meter.finish_scope(scope)


SEEN_ABOVE: dict[str, Any] = {"usage": {"input_tokens": 1, "output_tokens": 1}, "usage_shape": "langchain"}


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_one_bill_for_two_layers(bench: Bench, mode: str) -> None:
    """The call would be billed by both, or lose the tags and the place of the layer above."""

    def call() -> None:
        if mode == "sync":
            lite.completion(**bench.openai())
        else:
            asyncio.run(lite.acompletion(**bench.openai()))

    beneath(call, finish=SEEN_ABOVE)
    (billed,) = bench.settled(duplicates=1)
    assert (billed.framework, billed.attribution.feature) == ("litellm", "chatbot")
    assert [scope.name for scope in billed.scopes] == ["chain"]


def test_langchain_over_litellm(bench: Bench) -> None:
    """The two real plugins would bill one call twice."""
    langchain_litellm = pytest.importorskip("langchain_litellm")
    handler = pytest.importorskip("farthing_langchain").FarthingHandler(feature="chatbot")
    model = langchain_litellm.ChatLiteLLM(
        model="openai/gpt-4o-mini", api_base=bench.provider.openai_url, api_key="sk-secret", max_retries=0
    )
    model.invoke(ASK, config={"callbacks": [handler]})
    asyncio.run(model.ainvoke(ASK, config={"callbacks": [handler]}))
    bench.captured.calls  # noqa: B018 - flushes
    calls = bench.settled(duplicates=None)
    assert [(call.framework, call.attribution.feature) for call in calls] == [("litellm", "chatbot")] * 2


def test_call_to_a_proxy_is_marked(bench: Bench) -> None:
    """A call to a LiteLLM proxy may be billed there too: nothing would tell the two apart."""
    lite.completion(
        model="litellm_proxy/gpt-4o-mini", api_base=bench.provider.openai_url, api_key="sk-secret", messages=ASK
    )
    (call,) = bench.captured.calls
    assert call.details["gateway"] == "litellm-proxy"
