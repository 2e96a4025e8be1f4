"""One operation, several attempts: retries and fallbacks across two frameworks, and what of it was paid for nothing."""

from __future__ import annotations

import gc
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import litellm
import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from langchain_litellm import ChatLiteLLM
from langchain_openai import ChatOpenAI

from farthing.testing import Captured, capture
from farthing.testing.provider import FakeProvider, Fault
from farthing_langchain import FarthingHandler
from farthing_litellm import FarthingLogger
from farthing_reports.keys import Vocabulary
from farthing_reports.ledger import find_ledger
from farthing_reports.report import Row, aggregate

if TYPE_CHECKING:
    from farthing import Call

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
Lite: Final[Any] = litellm


@pytest.fixture
def captured(captured: Captured) -> Captured:
    """Keep a ledger, with farthing for LiteLLM."""
    Lite.callbacks = [FarthingLogger(feature="gateway")]
    return captured


def over_litellm(provider: FakeProvider) -> Any:
    """Make a model of LangChain's that goes through LiteLLM."""
    return ChatLiteLLM(model="openai/gpt-4o-mini", api_base=provider.openai_url, api_key="sk", max_retries=0)


def native(provider: FakeProvider) -> Any:
    """Make a model of LangChain's own."""
    given: dict[str, Any] = {"base_url": provider.openai_url, "api_key": "sk", "max_retries": 0}
    return ChatOpenAI(model="gpt-4o", **given)


def config() -> Any:
    """Give a config with a fresh handler."""
    return {"callbacks": [FarthingHandler(feature="chatbot")]}


def assert_one_operation(calls: list[Call]) -> None:
    """The attempts count up under one id."""
    assert len({call.operation_id for call in calls}) == 1
    assert [call.attempt for call in calls] == list(range(1, len(calls) + 1))


def by_use(captured: Captured) -> dict[str | None, Row]:
    """Give the report by use."""
    assert captured.calls is not None
    rows = aggregate(find_ledger(captured.folder), [Vocabulary().require("use", "--by")]).rows
    return {row.dimensions["use"]: row for row in rows}


def test_fallback_from_litellm_to_a_native_model(provider: FakeProvider, captured: Captured) -> None:
    """The first attempt is billed by one layer and the second by another: they would be two operations."""
    provider.script(Fault(status=400), model="gpt-4o-mini", times=None)
    over_litellm(provider).with_fallbacks([native(provider)]).invoke("hi", config())
    calls = captured.calls
    assert [(call.framework, call.error_type) for call in calls] == [("litellm", "400"), ("langchain", None)]
    assert_one_operation(calls)
    assert {use: row.calls for use, row in by_use(captured).items()} == {"superseded": 1, "useful": 1}


def test_retry_around_litellms_own_retries(provider: FakeProvider, captured: Captured) -> None:
    """with_retry above and num_retries below are one operation; what the provider's client retries is no attempt."""
    provider.script(Fault(status=500), times=3)
    model = over_litellm(provider).bind(num_retries=1)
    model.with_retry(wait_exponential_jitter=False, stop_after_attempt=3).invoke("hi", config())
    gc.collect()
    calls = captured.calls
    assert len(provider.requests) == 4
    assert len({call.operation_id for call in calls}) == 1
    assert [call.outcome for call in calls] == ["error"] * (len(calls) - 1) + ["success"]
    assert calls[-1].attempt == max(call.attempt for call in calls) > 1
    found = by_use(captured)
    assert (found["superseded"].calls, found["useful"].calls) == (len(calls) - 1, 1)


def test_what_was_paid_for_nothing(provider: FakeProvider, captured: Captured) -> None:
    """Useful and wasted spend add up to the invoice, and what is not known is counted and never zero."""
    tries: list[str] = []

    def picky(text: str) -> str:
        tries.append(text)
        if len(tries) == 1:
            raise ValueError("not good enough")
        return text

    chain = native(provider) | StrOutputParser() | RunnableLambda(picky)
    chain.with_retry(wait_exponential_jitter=False).invoke("hi", config())
    provider.script(Fault(drop_connection=True, billed=True), model="gpt-4o")
    with pytest.raises(Exception, match="onnection"):
        native(provider).invoke("hi", config())
    assert provider.settle()
    found = by_use(captured)
    first, second, broken = provider.invoice.lines
    assert (found["superseded"].cost_usd, found["superseded"].calls) == (first.amount_usd, 1)
    assert (found["useful"].cost_usd, found["useful"].calls) == (second.amount_usd, 1)
    assert (found["failed"].cost_usd, found["failed"].unpriced_calls) == (Decimal(0), 1)
    assert broken.amount_usd


@pytest.mark.parametrize("status", [429, 500])
def test_one_refusal_has_one_name(provider: FakeProvider, status: int) -> None:
    """A chart by error type would show one failure under a name for each framework."""
    provider.script(Fault(status=status), times=None)
    with capture() as captured:
        Lite.callbacks = [FarthingLogger(feature="gateway")]
        with pytest.raises(Exception, match=r"(?i)error"):
            Lite.completion(
                model="openai/gpt-4o", api_base=provider.openai_url, api_key="sk", messages=[], max_retries=0
            )
        with pytest.raises(Exception, match=r"(?i)error"):
            native(provider).invoke("hi", config())
        names = {call.framework: call.error_type for call in captured.calls}
    assert names == {"litellm": str(status), "langchain": str(status)}


def test_a_status_that_litellm_made_up_is_no_refusal(provider: FakeProvider) -> None:
    """LiteLLM gives a broken connection 500: LangChain alone would take what was billed for free."""
    provider.script(Fault(drop_connection=True, billed=True), times=None)
    with capture() as captured:
        with pytest.raises(Exception, match="onnection"):
            over_litellm(provider).invoke("hi", config())
        (call,) = captured.calls
    assert (call.framework, call.cost.status, call.error_type) == ("langchain", "unreported", "InternalServerError")
