"""The providers' own clients against the fake: what they parse is what they would parse from the real thing."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# boto3 has no types, and google-genai's have holes.

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anthropic
import boto3
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from farthing.testing.provider import FakeProvider, Fault, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO: Any = [{"role": "user", "content": "hi"}]
BEDROCK_HELLO: Any = [{"role": "user", "content": [{"text": "hi"}]}]
BEDROCK_MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
CACHED = Reply(
    text="hello world",
    input_tokens=1000,
    cache_read_tokens=700,
    cache_write_5m_tokens=150,
    cache_write_1h_tokens=50,
    output_tokens=40,
    reasoning_tokens=10,
)


class City(BaseModel):
    """What the structured answers are parsed into."""

    name: str
    days: int


@pytest.fixture
def openai_client(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    """OpenAI's client without retries."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="fake", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(provider: FakeProvider) -> Iterator[anthropic.Anthropic]:
    """Anthropic's client without retries."""
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="fake", max_retries=0) as client:
        yield client


@pytest.fixture
def bedrock_client(provider: FakeProvider) -> Iterator[Any]:
    """boto3's client without retries."""
    client: Any = boto3.client(
        "bedrock-runtime",
        endpoint_url=provider.bedrock_url,
        region_name="us-east-1",
        aws_access_key_id="fake",
        aws_secret_access_key="fake",
        config=Config(retries={"max_attempts": 0}),
    )
    yield client
    client.close()


@pytest.fixture
def gemini_client(provider: FakeProvider) -> Iterator[genai.Client]:
    """Google's client."""
    client = genai.Client(api_key="fake", http_options=types.HttpOptions(base_url=provider.gemini_url))
    yield client
    client.close()


def test_openai_chat(provider: FakeProvider, openai_client: openai.OpenAI) -> None:
    """The chat client must parse the body and the stream to the same numbers."""
    provider.script(CACHED, times=2)
    whole = openai_client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert whole.choices[0].message.content == "hello world"
    assert whole.usage is not None
    assert whole.usage.prompt_tokens_details is not None
    assert whole.usage.prompt_tokens_details.cached_tokens == 700
    chunks = list(
        openai_client.chat.completions.create(
            model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "hello world"
    assert chunks[-1].usage == whole.usage


def test_openai_parses_structured_output(openai_client: openai.OpenAI) -> None:
    """The clients' own parsers must accept what is made from their schema."""
    parsed = openai_client.chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=City)
    assert parsed.choices[0].message.parsed == City(name="example", days=1)
    assert openai_client.responses.parse(model="gpt-4o", input="hi", text_format=City).output_parsed == City(
        name="example", days=1
    )


def test_openai_responses_stream_helper(provider: FakeProvider, openai_client: openai.OpenAI) -> None:
    """The stream helper checks the order of events and assembles the response from them."""
    provider.script(CACHED)
    with openai_client.responses.stream(model="gpt-5", input="hi") as stream:
        for _ in stream:
            pass
        response = stream.get_final_response()
    assert response.output_text == "hello world"
    assert response.usage is not None
    assert response.usage.input_tokens_details.cached_tokens == 700


def test_openai_embeddings_decode(openai_client: openai.OpenAI) -> None:
    """The client asks for base64 and decodes it."""
    created = openai_client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert created.data[1].embedding == [0.25, -0.5, 0.75, 0.125]


def test_openai_errors_and_retries(provider: FakeProvider, openai_client: openai.OpenAI) -> None:
    """Each status must raise the client's own class, and a retry must reach the next answer in the script."""
    for status, kind in (
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ):
        provider.script(Fault(status=status))
        with pytest.raises(kind):
            openai_client.chat.completions.create(model="gpt-4o", messages=HELLO)
    provider.script(Fault(status=429, retry_after_seconds=0))
    provider.script(Reply(text="second"))
    patient = openai_client.with_options(max_retries=1)
    assert patient.chat.completions.create(model="gpt-4o", messages=HELLO).choices[0].message.content == "second"
    assert len(provider.invoice.lines) == 1


def test_openai_stream_error(provider: FakeProvider, openai_client: openai.OpenAI) -> None:
    """An error inside the stream and a stream that breaks must both reach the caller."""
    provider.script(Fault(cut_stream_after=1, cut_with="error", message="overloaded"))
    with pytest.raises(openai.APIError, match="overloaded"):
        list(openai_client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
    provider.script(Fault(cut_stream_after=1))
    with pytest.raises(Exception, match=r"."):  # the class differs between versions of the client
        list(openai_client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))


def test_openai_stream_left_early(provider: FakeProvider, openai_client: openai.OpenAI) -> None:
    """Closing the client's stream must reach the server, and be billed whole."""
    provider.script(Reply(chunks=20, chunk_delay_seconds=0.02))
    with openai_client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True) as stream:
        next(iter(stream))
    assert provider.settle()
    assert provider.invoice.lines[0].client_left


def test_azure_client(provider: FakeProvider) -> None:
    """The Azure client puts the deployment into the path and the version into the query."""
    provider.deployment("prod", model="gpt-4o")
    with openai.AzureOpenAI(azure_endpoint=provider.azure_url, api_key="fake", api_version="2025-01-01") as client:
        assert client.chat.completions.create(model="prod", messages=HELLO).model == "gpt-4o-2024-08-06"
    assert provider.requests[0].query == "api-version=2025-01-01"


def test_anthropic_messages(provider: FakeProvider, anthropic_client: anthropic.Anthropic) -> None:
    """The client must find the same usage in the body and, accumulated, in the stream."""
    provider.script(CACHED, times=2)
    whole = anthropic_client.messages.create(model="claude-opus-4-6", max_tokens=9, messages=HELLO)
    with anthropic_client.messages.stream(model="claude-opus-4-6", max_tokens=9, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == "hello world"
        streamed = stream.get_final_message()
    assert whole.usage.cache_creation is not None
    assert whole.usage.cache_creation.ephemeral_1h_input_tokens == 50
    assert streamed.usage == whole.usage
    # 100 x 5 + 700 x 0.50 + 150 x 6.25 + 50 x 10 + 40 x 25, twice
    assert provider.invoice.total_usd == Decimal("0.006575")


def test_anthropic_errors(provider: FakeProvider, anthropic_client: anthropic.Anthropic) -> None:
    """Overload has a status of Anthropic's own, and an event of its own inside a stream."""
    provider.script(Fault(status=529))
    with pytest.raises(anthropic.APIStatusError) as refused:
        anthropic_client.messages.create(model="claude-opus-4-6", max_tokens=9, messages=HELLO)
    assert refused.value.status_code == 529
    provider.script(Fault(cut_stream_after=1, cut_with="error", code="overloaded_error"))
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        list(anthropic_client.messages.create(model="claude-opus-4-6", max_tokens=9, messages=HELLO, stream=True))


def test_bedrock_converse(provider: FakeProvider, bedrock_client: Any) -> None:
    """boto3 must decode the binary stream to the same usage as the body."""
    provider.script(CACHED, times=2)
    whole = bedrock_client.converse(modelId=BEDROCK_MODEL, messages=BEDROCK_HELLO)
    events = list(bedrock_client.converse_stream(modelId=BEDROCK_MODEL, messages=BEDROCK_HELLO)["stream"])
    deltas = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert "".join(deltas) == "hello world"
    assert events[-1]["metadata"]["usage"] == whole["usage"]
    assert whole["ResponseMetadata"]["RequestId"] == provider.invoice.lines[0].response_id


def test_bedrock_errors(provider: FakeProvider, bedrock_client: Any) -> None:
    """boto3 reads the error's type from a header, and inside a stream from the message."""
    provider.script(Fault(status=429))
    with pytest.raises(ClientError) as refused:
        bedrock_client.converse(modelId=BEDROCK_MODEL, messages=BEDROCK_HELLO)
    assert refused.value.response["Error"]["Code"] == "ThrottlingException"
    provider.script(Fault(cut_stream_after=1, cut_with="error"))
    with pytest.raises(EventStreamError, match="internalServerException"):
        list(bedrock_client.converse_stream(modelId=BEDROCK_MODEL, messages=BEDROCK_HELLO)["stream"])


def test_gemini_generate(provider: FakeProvider, gemini_client: genai.Client) -> None:
    """Google's client must find thoughts beside the candidates, in the body and at the end of the stream."""
    provider.script(Reply(text="hello", input_tokens=1000, output_tokens=200, reasoning_tokens=150), times=2)
    whole = gemini_client.models.generate_content(model="gemini-2.5-pro", contents="hi")
    assert (whole.text, whole.response_id) == ("hello", "gemini-t000001")
    assert whole.usage_metadata is not None
    assert (whole.usage_metadata.candidates_token_count, whole.usage_metadata.thoughts_token_count) == (50, 150)
    chunks = list(gemini_client.models.generate_content_stream(model="gemini-2.5-pro", contents="hi"))
    assert chunks[-1].usage_metadata == whole.usage_metadata


def test_gemini_structured_output_and_errors(provider: FakeProvider, gemini_client: genai.Client) -> None:
    """Google's schema has types in upper case; its errors have a status of google.rpc."""
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    answer = gemini_client.models.generate_content(model="gemini-2.5-pro", contents="hi", config=config)
    assert answer.text is not None
    assert json.loads(answer.text) == {"name": "example", "days": 1}
    provider.script(Fault(status=429))
    with pytest.raises(errors.ClientError) as refused:
        gemini_client.models.generate_content(model="gemini-2.5-pro", contents="hi")
    assert refused.value.status == "RESOURCE_EXHAUSTED"
