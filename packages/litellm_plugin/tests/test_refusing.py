"""Refused before money is spent: every way into LiteLLM, and nothing where nobody asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from litellm_bench import ASK, Bench, lite

import farthing
from farthing.testing import capture
from farthing.testing.provider import FakeProvider
from farthing_litellm import FarthingLogger

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICY: dict[str, object] = {"environments": {"*": {"required": ["feature"], "when_missing": "reject"}}}


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """Serve on loopback."""
    with FakeProvider() as served:
        yield served


@pytest.fixture
def strict(provider: FakeProvider) -> Iterator[Bench]:
    """Serve under a policy that refuses calls without a feature."""
    with capture(policy=POLICY) as captured:
        lite.callbacks = [FarthingLogger(team="growth")]
        yield Bench(provider, captured)


def assert_refused(error: BaseException, strict: Bench) -> None:
    """It is a clean 400, says what is missing and how to send it, and cost nothing."""
    assert isinstance(error, farthing.AttributionError)
    assert isinstance(error, lite.BadRequestError)
    assert error.problems == ("feature:missing",)
    assert 'metadata={"feature": "..."}' in str(error)
    assert strict.provider.requests == ()
    assert strict.settled() == []
    assert strict.captured.health.refused["feature:missing"] >= 1


@pytest.mark.parametrize("streaming", [False, True])
def test_sync_calls_are_stopped(strict: Bench, streaming: bool) -> None:
    """LiteLLM swallows what a pre-call event raises, so a hook there would refuse nothing."""
    with pytest.raises(farthing.AttributionError) as refused:
        lite.completion(**strict.openai(stream=streaming, metadata={"tenant": "acme"}))
    assert_refused(refused.value, strict)


@pytest.mark.parametrize("streaming", [False, True])
async def test_async_calls_are_stopped(strict: Bench, streaming: bool) -> None:
    """The async path has a wrapper of its own."""
    with pytest.raises(lite.BadRequestError) as refused:
        await lite.acompletion(**strict.openai(stream=streaming))
    assert_refused(refused.value, strict)


def test_other_endpoints_are_stopped(strict: Bench) -> None:
    """Embeddings and responses cost money too."""
    where = {"api_base": strict.provider.openai_url, "api_key": "sk-secret"}
    with pytest.raises(farthing.AttributionError):
        lite.embedding(model="openai/text-embedding-3-small", input="x", **where)
    with pytest.raises(farthing.AttributionError):
        lite.responses(model="openai/gpt-4o-mini", input="x", **where)
    with pytest.raises(farthing.AttributionError) as refused:
        lite.completion(**strict.openai(), num_retries=2)
    assert_refused(refused.value, strict)


def test_the_router_neither_retries_nor_cools_down(strict: Bench) -> None:
    """A refusal is the caller's fault: no deployment may be taken out of service for it."""
    deployment: dict[str, Any] = {k: v for k, v in strict.openai().items() if k != "messages"}
    router = lite.Router(model_list=[{"model_name": "m", "litellm_params": deployment}], num_retries=3, allowed_fails=0)
    with pytest.raises(farthing.AttributionError) as refused:
        router.completion(model="m", messages=ASK)
    assert_refused(refused.value, strict)
    router.completion(model="m", messages=ASK, metadata={"feature": "search"})
    assert [call.attribution.feature for call in strict.settled()] == ["search"]


def test_tags_from_every_place_let_a_call_through(strict: Bench) -> None:
    """What the Call will carry is what the gate must see: metadata, lists of tags, attribute() and the logger's own."""
    lite.completion(**strict.openai(metadata={"feature": "a"}))
    lite.completion(**strict.openai(metadata={"tags": ["feature:b"]}))
    lite.completion(**strict.openai(litellm_metadata={"feature": "c"}))
    with farthing.attribute(feature="d"):
        lite.completion(**strict.openai())
    FarthingLogger(feature="e")
    lite.completion(**strict.openai())
    assert [call.attribution.feature for call in strict.captured.calls] == ["a", "b", "c", "d", "e"]


async def test_attribute_lets_an_async_call_through(strict: Bench) -> None:
    """As above, in the task of the call."""
    with farthing.attribute(feature="d"):
        await lite.acompletion(**strict.openai())
    assert [call.attribution.feature for call in strict.settled()] == ["d"]


def test_without_enforcement_a_fault_only_marks() -> None:
    """The switch, and a policy that only marks, must let every call through with its cost."""
    lenient: list[dict[str, Any]] = [
        {"policy": POLICY, "enforce": False},
        {"policy": {"environments": {"*": {"required": ["team"]}}}},
    ]
    for settings in lenient:
        with FakeProvider() as provider, capture(**settings) as captured:
            lite.callbacks = [FarthingLogger()]
            lite.completion(**Bench(provider, captured).openai())
            (call,) = Bench(provider, captured).settled()
            assert call.violations in {("feature:missing",), ("team:missing",)}
            assert call.cost.amount_usd


def test_without_our_callback_nothing_is_refused(strict: Bench) -> None:
    """The wrapper outlives the callback; a process that took it out must be as it was."""
    for each in list(lite.callbacks):
        each.unregister()
    lite.completion(**strict.openai())
    assert len(strict.provider.requests) == 1
