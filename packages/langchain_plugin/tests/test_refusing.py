"""Refused before money is spent: chains, agents, streams and async, and nothing where nobody asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langchain_core.prompts import ChatPromptTemplate

import farthing
from farthing.testing import capture
from farthing_langchain import FarthingHandler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_bench import MakeModel

    from farthing.testing import Captured
    from farthing.testing.provider import FakeProvider

POLICY: dict[str, object] = {"environments": {"*": {"required": ["feature"], "when_missing": "reject"}}}
PROMPT = ChatPromptTemplate.from_template("say {x}")


@pytest.fixture
def strict() -> Iterator[Captured]:
    """Refuse calls without a feature."""
    with capture(policy=POLICY) as captured:
        yield captured


def assert_refused(error: farthing.AttributionError, provider: FakeProvider, strict: Captured) -> None:
    """It says what is missing and how to send it, reached nobody, and left nothing open."""
    assert error.problems == ("feature:missing",)
    assert 'config={"metadata": {"feature": "..."}}' in str(error)
    assert provider.requests == ()
    assert strict.calls == []
    health = strict.health
    assert (health.open_runs, health.faults, health.refused) == (0, {}, {"feature:missing": 1})


def test_invoke_is_stopped(provider: FakeProvider, strict: Captured, openai: MakeModel) -> None:
    """The error leaves the chain as it is, before the request."""
    with pytest.raises(farthing.AttributionError) as refused:
        (PROMPT | openai()).invoke({"x": "hi"}, {"callbacks": [FarthingHandler(team="growth")]})
    assert_refused(refused.value, provider, strict)


def test_streams_are_stopped(provider: FakeProvider, strict: Captured, openai: MakeModel) -> None:
    """A stream begins with the first piece that somebody asks for."""
    with pytest.raises(farthing.AttributionError) as refused:
        list((PROMPT | openai()).stream({"x": "hi"}, {"callbacks": [FarthingHandler()]}))
    assert_refused(refused.value, provider, strict)


async def test_async_calls_are_stopped(provider: FakeProvider, strict: Captured, openai: MakeModel) -> None:
    """Async events run in the caller's task, so the error reaches it."""
    with pytest.raises(farthing.AttributionError) as refused:
        await (PROMPT | openai()).ainvoke({"x": "hi"}, {"callbacks": [FarthingHandler()]})
    assert_refused(refused.value, provider, strict)


async def test_async_streams_are_stopped(provider: FakeProvider, strict: Captured, openai: MakeModel) -> None:
    """As above."""
    with pytest.raises(farthing.AttributionError) as refused:
        [chunk async for chunk in openai().astream("hi", {"callbacks": [FarthingHandler()]})]
    assert_refused(refused.value, provider, strict)


def test_tags_from_every_place_let_a_call_through(provider: FakeProvider, strict: Captured, openai: MakeModel) -> None:
    """What the Call will carry is what the gate must see."""
    chain = PROMPT | openai()
    chain.invoke({"x": "hi"}, {"callbacks": [FarthingHandler(feature="a")]})
    chain.invoke({"x": "hi"}, {"callbacks": [FarthingHandler()], "metadata": {"feature": "b"}})
    with farthing.attribute(feature="c"):
        chain.invoke({"x": "hi"}, {"callbacks": [FarthingHandler()]})
    assert [call.attribution.feature for call in strict.calls] == ["a", "b", "c"]


def test_without_enforcement_nothing_is_ever_raised(captured: Captured, openai: MakeModel) -> None:
    """Never in the way: a handler of a process without such a policy must not even ask LangChain to raise."""
    handler = FarthingHandler()
    assert handler.raise_error is False
    openai().invoke("hi", {"callbacks": [handler]})
    assert len(captured.calls) == 1
