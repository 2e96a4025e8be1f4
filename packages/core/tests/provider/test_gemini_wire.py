"""Gemini's wire."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from farthing.testing.provider import FakeProvider, Reply

if TYPE_CHECKING:
    import httpx

PATH = "/v1beta/models/gemini-2.5-pro"
BODY: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
THINKING = Reply(
    text="hello",
    input_tokens=1000,
    cache_read_tokens=600,
    input_audio_tokens=100,
    output_tokens=200,
    reasoning_tokens=150,
)
SCHEMA = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}


def events(text: str) -> list[Any]:
    """The JSON of each event."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]


def test_thoughts_are_beside_the_candidates(provider: FakeProvider, client: httpx.Client) -> None:
    """Reading candidatesTokenCount as the whole output loses the thoughts; the prompt count has the cached ones."""
    provider.script(THINKING)
    body = client.post(f"{PATH}:generateContent", json=BODY).json()
    assert body["candidates"][0]["content"]["parts"] == [{"text": "hello"}]
    assert (body["modelVersion"], body["responseId"]) == ("gemini-2.5-pro", "gemini-t000001")
    assert body["usageMetadata"] == {
        "promptTokenCount": 1000,
        "candidatesTokenCount": 50,
        "totalTokenCount": 1200,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 900}, {"modality": "AUDIO", "tokenCount": 100}],
        "trafficType": "ON_DEMAND",
        "cachedContentTokenCount": 600,
        "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 600}],
        "thoughtsTokenCount": 150,
    }


def test_stream_tells_the_candidates_last(provider: FakeProvider, client: httpx.Client) -> None:
    """Partial answers know the prompt only; a reader of the first usage would miss the output."""
    provider.script(THINKING)
    streamed = events(client.post(f"{PATH}:streamGenerateContent?alt=sse", json=BODY).text)
    assert "".join(event["candidates"][0]["content"]["parts"][0]["text"] for event in streamed) == "hello"
    assert streamed[0]["usageMetadata"]["promptTokenCount"] == 1000
    assert "candidatesTokenCount" not in streamed[0]["usageMetadata"]
    assert streamed[-1]["usageMetadata"]["totalTokenCount"] == 1200
    assert [event["candidates"][0].get("finishReason") for event in streamed] == [None] * 4 + ["STOP"]


@pytest.mark.parametrize("method", [":generateContent", ":streamGenerateContent?alt=sse"])
def test_omitted_usage(provider: FakeProvider, client: httpx.Client, method: str) -> None:
    """An answer without usage has none, and is billed all the same."""
    provider.script(Reply(omit_usage=True))
    assert "usageMetadata" not in client.post(PATH + method, json=BODY).text
    assert len(provider.invoice.lines) == 1


def test_forced_function_in_both_spellings(client: httpx.Client) -> None:
    """Clients write camel case or snake case; mode ANY must be obeyed either way."""
    declaration = {"name": "weather", "parameters": SCHEMA}
    asked = [
        {
            "tools": [{"functionDeclarations": [declaration]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
        },
        {
            "tools": [{"function_declarations": [declaration]}],
            "tool_config": {"function_calling_config": {"mode": "any"}},
        },
    ]
    for extra in asked:
        parts = client.post(f"{PATH}:generateContent", json={**BODY, **extra}).json()["candidates"][0]["content"][
            "parts"
        ]
        assert parts == [{"functionCall": {"name": "weather", "args": {"city": "example"}}}]


def test_tool_rounds_in_a_stream(provider: FakeProvider, client: httpx.Client) -> None:
    """A function response in the conversation counts as a round."""
    provider.script(Reply(tool_rounds=1), times=None)
    tools = [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": SCHEMA}]}]
    answered: dict[str, Any] = {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {}}}]}
    texts = [
        client.post(f"{PATH}:streamGenerateContent?alt=sse", json={"contents": contents, "tools": tools}).text
        for contents in (BODY["contents"], [*BODY["contents"], answered])
    ]
    assert ["functionCall" in text for text in texts] == [True, False]


def test_structured_output(client: httpx.Client) -> None:
    """A response schema must be answered with JSON of it, and JSON mode with some JSON."""
    configs = [{"responseSchema": SCHEMA}, {"responseMimeType": "application/json"}]
    texts = [
        client.post(f"{PATH}:generateContent", json={**BODY, "generationConfig": config}).json()["candidates"][0][
            "content"
        ]["parts"][0]["text"]
        for config in configs
    ]
    assert [json.loads(text) for text in texts] == [{"city": "example"}, {"reply": 2}]


def test_grounding_is_billed_once_a_prompt(provider: FakeProvider, client: httpx.Client) -> None:
    """Three searches in one prompt are one grounded prompt: 35 / 1000."""
    provider.script(Reply(web_searches=3, input_tokens=0, output_tokens=0))
    body = client.post(f"{PATH}:generateContent", json={**BODY, "tools": [{"googleSearch": None}]}).json()
    assert len(body["candidates"][0]["groundingMetadata"]["webSearchQueries"]) == 3
    assert provider.invoice.total_usd == Decimal("0.035")


def test_traffic_type_is_the_tier(provider: FakeProvider, client: httpx.Client) -> None:
    """The traffic type is all that tells flex from on-demand: 1000 x 0.625 + 200 x 5."""
    provider.script(Reply(service_tier="ON_DEMAND_FLEX", input_tokens=1000, output_tokens=200))
    body = client.post(f"{PATH}:generateContent", json=BODY).json()
    assert body["usageMetadata"]["trafficType"] == "ON_DEMAND_FLEX"
    assert provider.invoice.total_usd == Decimal("0.001625")
    asked = client.post(f"{PATH}:generateContent", json={**BODY, "serviceTier": "flex"}).json()
    assert asked["usageMetadata"]["trafficType"] == "ON_DEMAND_FLEX"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-pro:generateContent",
        "/models/gemini-2.5-pro:generateContent",
    ],
)
def test_other_addresses_of_the_same_call(provider: FakeProvider, client: httpx.Client, path: str) -> None:
    """Vertex AI and LiteLLM call the same method under other paths."""
    assert client.post(path, json=BODY).status_code == 200
    assert provider.requests[0].model == "gemini-2.5-pro"


def test_embeddings_and_counting(provider: FakeProvider, client: httpx.Client) -> None:
    """Embeddings are billed though Gemini reports no usage for them; counting is free."""
    single = client.post("/v1beta/models/gemini-embedding-001:embedContent", json={"content": {}}).json()
    assert single["embedding"]["values"]
    two = {"requests": [None, None]}
    batch = client.post("/v1beta/models/gemini-embedding-001:batchEmbedContents", json=two).json()
    assert len(batch["embeddings"]) == 2
    assert client.post(f"{PATH}:countTokens", json=BODY).json() == {"totalTokens": 103}
    assert [line.amount_usd for line in provider.invoice.lines] == [Decimal("0.00001515"), Decimal("0.0000153")]
