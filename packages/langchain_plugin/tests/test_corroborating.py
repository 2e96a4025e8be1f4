"""Tags in the requests themselves: what a provider gets, byte by byte, from a model that was asked to write them."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import FakeListChatModel
from langchain_openai import ChatOpenAI

import farthing
from farthing.testing import capture
from farthing_langchain import FarthingHandler, corroborated

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of the packages' own imports are not ours to mend
    from langchain import agents
    from langchain_aws import ChatBedrockConverse
    from langchain_google_genai import ChatGoogleGenerativeAI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farthing.testing import Captured
    from farthing.testing.provider import FakeProvider

create_agent: Any = agents.create_agent  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - partially typed
CHOSEN: dict[str, object] = {
    "providers": ["openai", "anthropic", "bedrock", "vertex_ai"],
    "dimensions": ["feature", "tenant"],
    "hosts": ["127.0.0.1"],
}
TAGS = {"feature": "chatbot", "tenant": "acme"}


@pytest.fixture
def told(provider: FakeProvider) -> Iterator[Captured]:
    """Record under a policy that has tags written for every provider."""
    with capture(policy={"corroboration": CHOSEN}) as captured:
        yield captured
        assert provider.settle()
        assert sum(call.cost.amount_usd or 0 for call in captured.calls) == provider.invoice.total_usd
        assert captured.health.faults == {}


def openai(provider: FakeProvider, **more: Any) -> Any:
    """Make a model of langchain-openai."""
    given: dict[str, Any] = {"base_url": provider.openai_url, "api_key": "k", "max_retries": 0, "stream_usage": True}
    return ChatOpenAI(model="gpt-4o-mini", **given, **more)


def config(**metadata: str) -> Any:
    """Give a config with a handler and the call's own tags."""
    return {"callbacks": [FarthingHandler(feature="Chatbot")], "metadata": {"tenant": "acme", **metadata}}


def sent(provider: FakeProvider) -> dict[str, Any]:
    """Give what the provider got last."""
    return json.loads(provider.requests[-1].body)


async def test_every_way_of_asking_carries_the_tags_of_its_call(told: Captured, provider: FakeProvider) -> None:
    """The provider's figures can only be laid beside ours where both carry the same tags."""
    model = corroborated(openai(provider, store=True))
    assert model.invoke("hi", config()).content
    assert sent(provider)["metadata"] == TAGS
    await model.ainvoke("hi", config(tenant="globex"))
    assert sent(provider)["metadata"] == TAGS | {"tenant": "globex"}
    assert list(model.stream("hi", config()))
    assert sent(provider)["metadata"] == TAGS
    assert [chunk async for chunk in model.astream("hi", config())]
    assert sent(provider)["metadata"] == TAGS
    with farthing.attribute(feature="mail"):
        model.invoke("hi", {"callbacks": config()["callbacks"]})
    assert sent(provider)["metadata"] == {"feature": "mail"}
    assert [call.attribution.tenant for call in told.calls[:2]] == ["acme", "globex"]


def test_without_a_store_only_responses_take_metadata(told: Captured, provider: FakeProvider) -> None:
    """Chat completions would answer 400."""
    corroborated(openai(provider)).invoke("hi", config())
    assert "metadata" not in sent(provider)
    corroborated(openai(provider, use_responses_api=True)).invoke("hi", config())
    assert sent(provider)["metadata"] == TAGS
    corroborated(openai(provider, use_responses_api=True, store=False)).invoke("hi", config())
    assert "metadata" not in sent(provider)
    assert told.health.context["provider-tags:not-stored"] == 2


def test_the_copy_is_the_model_in_everything_else(told: Captured, provider: FakeProvider) -> None:
    """Tools, structured output and agents ask the model's class what it can do."""
    plain = openai(provider, store=True)
    model: Any = corroborated(plain)
    assert isinstance(model, ChatOpenAI)
    assert (type(model).__name__, model.lc_id()) == ("ChatOpenAI", plain.lc_id())
    assert corroborated(model) is model
    create_agent(model, tools=[]).invoke({"messages": [("user", "hi")]}, config())
    assert sent(provider)["metadata"] == TAGS
    schema = {"title": "a", "description": "b", "type": "object", "properties": {"x": {"type": "string"}}}
    asked: Any = model
    asked.bind_tools([schema]).invoke("hi", config())
    assert sent(provider)["metadata"] == TAGS
    plain.invoke("hi", config())
    assert "metadata" not in sent(provider)
    assert told.health.faults == {}


def test_other_providers_get_their_own_field(told: Captured, provider: FakeProvider) -> None:
    """A field of one provider is an error at another."""
    claude: Any = ChatAnthropic(model="claude-sonnet-4-5", base_url=provider.anthropic_url, api_key="k")  # pyright: ignore[reportCallIssue, reportArgumentType]
    corroborated(claude).invoke("hi", config())
    assert list(sent(provider)["metadata"]) == ["user_id"]
    given: dict[str, Any] = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    given["endpoint_url"] = provider.bedrock_url
    bedrock = ChatBedrockConverse(model="us.anthropic.claude-sonnet-4-5-20250929-v1:0", **given)
    corroborated(bedrock).invoke("hi", config())
    assert sent(provider)["requestMetadata"] == TAGS
    assert list(corroborated(bedrock).stream("hi", config()))
    assert sent(provider)["requestMetadata"] == TAGS
    api: dict[str, Any] = {"google_api_key": "k", "base_url": provider.gemini_url, "max_retries": 1}
    gemini = ChatGoogleGenerativeAI(model="gemini-2.5-pro", **api)
    assert corroborated(gemini) is gemini
    gemini.invoke("hi", config())
    assert "labels" not in sent(provider)
    assert told.health.context == {"provider-tags:written": 3}


def test_what_the_caller_wrote_for_the_provider_stays(told: Captured, provider: FakeProvider) -> None:
    """Somebody's own dashboard stands on it."""
    corroborated(openai(provider, store=True)).invoke("hi", config(), extra_body={"metadata": {"mine": "1"}})
    assert sent(provider)["metadata"] == {"mine": "1"}
    corroborated(openai(provider, store=True, extra_body={"metadata": {"mine": "2"}})).invoke("hi", config())
    assert sent(provider)["metadata"] == {"mine": "2"}
    assert told.health.context == {}


def test_nothing_is_written_that_nobody_asked_for(provider: FakeProvider) -> None:
    """Without the policy's word, or to another host, a copy is the model that it was."""
    for policy in ({}, {"corroboration": {"providers": ["openai"]}}, {"corroboration": {"hosts": ["127.0.0.1"]}}):
        with capture(policy=policy):
            corroborated(openai(provider, store=True)).invoke("hi", config())
            assert "metadata" not in sent(provider)


def test_other_models_are_given_back_and_chains_refused() -> None:
    """A model whose provider is not known must go on working; a chain would go on without tags, in silence."""
    model = FakeListChatModel(responses=["x"])
    assert corroborated(model) is model
    with pytest.raises(farthing.ConfigurationError, match="before bind_tools"):
        corroborated(model | (lambda message: message))  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportUnknownLambdaType]
