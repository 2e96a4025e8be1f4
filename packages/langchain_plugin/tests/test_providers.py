"""Other providers' LangChain packages, and models that stand in front of models."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_openai import AzureChatOpenAI

from farthing.testing.provider import FakeProvider, Fault, Reply
from farthing_langchain import FarthingHandler
from farthing_langchain.versions import converse_leaves_the_cache_out

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of the packages' own imports are not ours to mend
    from langchain_aws import ChatBedrock, ChatBedrockConverse
    from langchain_google_genai import ChatGoogleGenerativeAI
    from langchain_litellm import ChatLiteLLM

import pytest

if TYPE_CHECKING:
    from langchain_bench import MakeModel, Settle

    from farthing.testing import Captured

WRITTEN = Reply(
    input_tokens=1000, cache_read_tokens=700, cache_write_5m_tokens=150, cache_write_1h_tokens=50, output_tokens=40
)


def config(**more: Any) -> Any:
    """Give a config with a fresh handler."""
    return {"callbacks": [FarthingHandler(feature="chatbot")], **more}


def bedrock(
    provider: FakeProvider, model: str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0", **settings: Any
) -> Any:
    """Make a model of langchain-aws."""
    given: dict[str, Any] = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    given |= {"endpoint_url": provider.bedrock_url, "region_name": "us-east-1"}
    return ChatBedrockConverse(model=model, **given, **settings)


def gemini(provider: FakeProvider, model: str = "gemini-2.5-pro") -> Any:
    """Make a model of langchain-google-genai."""
    given: dict[str, Any] = {"google_api_key": "k", "base_url": provider.gemini_url}
    return ChatGoogleGenerativeAI(model=model, max_retries=1, **given)


def test_bedrock(provider: FakeProvider, settle: Settle) -> None:
    """Bedrock's Converse: read, written with both lifetimes, at the profile's regional price."""
    lifetimes_are_lost = converse_leaves_the_cache_out()  # and then the price is that of five minutes, with a flag
    provider.script(replace(WRITTEN, cache_write_1h_tokens=0) if lifetimes_are_lost else WRITTEN)
    bedrock(provider).invoke("hi", config())
    assert list(bedrock(provider).stream("hi", config()))
    first, second = settle()
    assert (first.provider, second.streaming) == ("aws.bedrock", True)
    assert first.response_id


def test_bedrock_without_converse(provider: FakeProvider, settle: Settle) -> None:
    """ChatBedrock's input leaves out what was cached: half of it would be billed as the whole."""
    given: dict[str, Any] = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    given["endpoint_url"] = provider.bedrock_url
    model = ChatBedrock(model="us.anthropic.claude-sonnet-4-5-20250929-v1:0", **given)
    little = Reply(input_tokens=1000, output_tokens=40, cache_read_tokens=200)
    for reply in (little, replace(little, cache_read_tokens=700, cache_write_5m_tokens=150)):
        provider.script(reply)
        model.invoke("hi", config())
        provider.script(reply)
        assert list(model.stream("hi", config()))
    calls = settle()
    assert [call.usage.input_tokens for call in calls if call.usage] == [1000] * 4
    assert {call.provider for call in calls} == {"aws.bedrock"}


@pytest.mark.parametrize("tier", ["flex", "priority"])
def test_bedrock_tier(provider: FakeProvider, settle: Settle, tier: str) -> None:
    """Bedrock names the tier that it served in an object of its own: flex would be billed at the ordinary price."""
    model = bedrock(provider, "amazon.nova-pro-v1:0", service_tier=tier)
    model.invoke("hi", config())
    assert list(model.stream("hi", config()))
    assert [call.service_tier for call in settle()] == [tier, tier]


def test_bedrock_error(provider: FakeProvider, settle: Settle) -> None:
    """Botocore keeps the status in a dictionary of its own."""
    provider.script(Fault(status=400))
    with pytest.raises(Exception, match=r".+"):
        bedrock(provider).invoke("hi", config())
    (call,) = settle()
    assert (call.cost.status, call.error_type) == ("not_billed", "400")


def test_gemini(provider: FakeProvider, settle: Settle) -> None:
    """Gemini: thoughts are in the output, what is cached is in the input."""
    provider.script(Reply(input_tokens=1000, cache_read_tokens=600, output_tokens=200, reasoning_tokens=150))
    gemini(provider).invoke("hi", config())
    assert list(gemini(provider).stream("hi", config()))
    first, second = settle()
    assert (first.provider, second.streaming) == ("gcp.gemini", True)


def test_gemini_tool_prompt(provider: FakeProvider, captured: Captured) -> None:
    """What Gemini's own tools put into the prompt is billed as input, and only its total has it in LangChain."""
    told: Any = {"toolUsePromptTokenCount": 3000, "totalTokenCount": 3110}
    provider.script(Reply(input_tokens=100, output_tokens=10, usage_extra=told))
    gemini(provider).invoke("hi", config())
    provider.script(Reply(input_tokens=100, output_tokens=10, usage_extra=told))
    assert list(gemini(provider).stream("hi", config()))
    for call in captured.calls:
        assert call.usage is not None
        assert (call.usage.input_tokens, call.usage.input_tool_tokens, call.usage.output_tokens) == (3100, 3000, 10)


def test_gemini_grounding(provider: FakeProvider, settle: Settle) -> None:
    """A prompt that was grounded in a search costs beside its tokens, once however many searches it took."""
    provider.script(Reply(web_searches=2))
    gemini(provider, "gemini-2.5-flash").invoke("hi", config())
    provider.script(Reply(web_searches=1))
    assert list(gemini(provider, "gemini-2.5-flash").stream("hi", config()))
    assert [call.usage.web_searches for call in settle() if call.usage] == [1, 1]


def test_gemini_error(provider: FakeProvider, settle: Settle) -> None:
    """google-genai's exceptions carry the status as `code`, below LangChain's own."""
    provider.script(Fault(status=400))
    with pytest.raises(Exception, match=r".+"):
        gemini(provider).invoke("hi", config())
    (call,) = settle()
    assert (call.cost.status, call.error_type) == ("not_billed", "400")


def test_azure(provider: FakeProvider, settle: Settle) -> None:
    """On Azure only the reply names the model behind the deployment, and the provider is Azure."""
    provider.deployment("my-deployment", model="gpt-4o")
    given: dict[str, Any] = {"azure_endpoint": provider.azure_url, "api_key": "k", "api_version": "2024-10-21"}
    model = AzureChatOpenAI(azure_deployment="my-deployment", **given)
    model.invoke("hi", config())
    assert list(model.stream("hi", config()))
    for call in settle():
        assert call.provider == "azure.ai.openai"
        assert call.response_model == "gpt-4o-2024-08-06"


def test_litellm_alone(provider: FakeProvider, settle: Settle) -> None:
    """ChatLiteLLM without the other plugin: the provider is the one behind LiteLLM."""
    given: dict[str, Any] = {"api_base": provider.openai_url, "api_key": "k"}
    ChatLiteLLM(model="openai/gpt-4o", **given).invoke("hi", config())
    (call,) = settle()
    assert call.provider == "openai"


def test_litellms_own_figure_is_no_bill(provider: FakeProvider, captured: Captured) -> None:
    """ChatLiteLLM hands on what LiteLLM computed; as OpenRouter's own charge it would be the bill."""
    given: dict[str, Any] = {"api_base": provider.openai_url, "api_key": "k"}
    ChatLiteLLM(model="openrouter/openai/gpt-4o", **given).invoke("hi", config())
    (call,) = captured.calls
    assert (call.provider, call.cost.status, call.cost.reported_usd) == ("openrouter", "priced", None)


def test_model_in_front_of_a_model(openai: MakeModel, settle: Settle, captured: Captured) -> None:
    """A model that calls another one is one bill, below its own chain, and the outer report is counted."""
    inner = openai()

    class Front(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "front"

        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
            reply = inner.invoke(messages)
            return ChatResult(generations=[ChatGeneration(message=reply)])

    def step(value: str) -> str:
        return str(Front().invoke(value).content)

    RunnableLambda(step).invoke("hi", config(run_name="outer"))
    (call,) = settle()
    assert [scope.name for scope in call.scopes] == ["outer"]
    assert (call.provider, call.request_model) == ("openai", "gpt-4o")
    assert captured.health.duplicates == 1
