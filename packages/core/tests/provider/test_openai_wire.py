"""OpenAI's wire: chat, responses and the endpoints beside them, byte for byte as far as clients look."""

from __future__ import annotations

import base64
import json
import struct
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from farthing.testing.provider import FakeProvider, Fault, Reply, ToolCall

if TYPE_CHECKING:
    import httpx

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}


def events(text: str) -> list[Any]:
    """The JSON of each unnamed event, the final [DONE] left out."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(entry) for entry in data if entry != "[DONE]"]


def test_chat_usage_is_inclusive(provider: FakeProvider, client: httpx.Client) -> None:
    """OpenAI counts cached, audio and reasoning tokens inside their wholes."""
    provider.script(
        Reply(
            text="hello",
            input_tokens=1000,
            cache_read_tokens=600,
            input_audio_tokens=100,
            output_tokens=200,
            reasoning_tokens=150,
            output_audio_tokens=20,
            usage_extra={"cost": 0.5},
        )
    )
    body = client.post(CHAT, json=BODY).json()
    assert body["id"] == "chatcmpl-t000001"
    assert body["object"] == "chat.completion"
    assert body["model"] == "gpt-4o-2024-08-06"
    assert body["service_tier"] == "default"
    assert body["choices"][0]["message"]["content"] == "hello"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {
        "prompt_tokens": 1000,
        "completion_tokens": 200,
        "total_tokens": 1200,
        "prompt_tokens_details": {"cached_tokens": 600, "audio_tokens": 100},
        "completion_tokens_details": {
            "reasoning_tokens": 150,
            "audio_tokens": 20,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        "cost": 0.5,
    }


def test_chat_omits_usage_on_demand(provider: FakeProvider, client: httpx.Client) -> None:
    """Some servers report nothing; the bill comes all the same."""
    provider.script(Reply(omit_usage=True), times=2)
    assert "usage" not in client.post(CHAT, json=BODY).json()
    streamed = client.post(CHAT, json={**BODY, "stream": True, "stream_options": {"include_usage": True}}).text
    assert not any(event.get("usage") for event in events(streamed))
    assert len(provider.invoice.lines) == 2


def test_chat_stream_has_usage_only_when_asked(provider: FakeProvider, client: httpx.Client) -> None:
    """A usage chunk that comes unasked would hide that a plugin never asked for it."""
    plain = client.post(CHAT, json={**BODY, "stream": True})
    assert plain.headers["content-type"].startswith("text/event-stream")
    assert plain.text.endswith("data: [DONE]\n\n")
    assert all("usage" not in event for event in events(plain.text))
    asked = events(client.post(CHAT, json={**BODY, "stream": True, "stream_options": {"include_usage": True}}).text)
    assert [event["usage"] for event in asked[:-1]] == [None] * (len(asked) - 1)
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"]["prompt_tokens"] == provider.invoice.lines[1].input_tokens
    assert len({event["id"] for event in asked}) == 1


def test_chat_stream_spells_the_text(provider: FakeProvider, client: httpx.Client) -> None:
    """The pieces must make up the text, in as many chunks as were asked for."""
    provider.script(Reply(text="abcdefgh", chunks=4))
    deltas = [event["choices"][0]["delta"] for event in events(client.post(CHAT, json={**BODY, "stream": True}).text)]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["ab", "cd", "ef", "gh"]


def test_chat_usage_on_every_chunk(provider: FakeProvider, client: httpx.Client) -> None:
    """Servers that repeat the usage make summing readers count it many times."""
    provider.script(Reply(usage_on_every_chunk=True))
    streamed = events(client.post(CHAT, json={**BODY, "stream": True}).text)
    assert len({json.dumps(event["usage"]) for event in streamed}) == 1


def test_chat_choices_share_one_usage(client: httpx.Client) -> None:
    """With n=2 there are two choices and one bill."""
    assert len(client.post(CHAT, json={**BODY, "n": 2}).json()["choices"]) == 2
    streamed = events(client.post(CHAT, json={**BODY, "n": 2, "stream": True}).text)
    assert {event["choices"][0]["index"] for event in streamed} == {0, 1}


def test_chat_tool_rounds(client: httpx.Client, provider: FakeProvider) -> None:
    """An agent must get its tool call until it has called often enough, and then an answer."""
    provider.script(Reply(tool_rounds=1), times=None)
    first = client.post(CHAT, json={**BODY, "tools": [TOOL]}).json()["choices"][0]
    assert first["finish_reason"] == "tool_calls"
    (call,) = first["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "example", "days": 1}
    answered = [*BODY["messages"], first["message"], {"role": "tool", "tool_call_id": call["id"], "content": "sun"}]
    second = client.post(CHAT, json={**BODY, "messages": answered, "tools": [TOOL]}).json()["choices"][0]
    assert second["finish_reason"] == "stop"
    assert second["message"]["content"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_chat_forced_tool_is_called(client: httpx.Client, choice: object) -> None:
    """A provider always obeys tool_choice; structured output by tool depends on it."""
    body = client.post(CHAT, json={**BODY, "tools": [TOOL], "tool_choice": choice}).json()
    assert body["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"


def test_chat_scripted_tool_calls_in_a_stream(provider: FakeProvider, client: httpx.Client) -> None:
    """Streamed arguments come in pieces under one index, the name once."""
    provider.script(Reply(tool_calls=[ToolCall(name="a", arguments={"x": 1}), ToolCall(name="b")]))
    streamed = events(client.post(CHAT, json={**BODY, "stream": True}).text)
    parts = [part for event in streamed for part in event["choices"][0]["delta"].get("tool_calls", [])]
    assert [part["function"]["name"] for part in parts if "name" in part["function"]] == ["a", "b"]
    spelled = "".join(part["function"]["arguments"] for part in parts if part["index"] == 0)
    assert json.loads(spelled) == {"x": 1}


def test_chat_structured_output(client: httpx.Client) -> None:
    """A json_schema response format must be answered with JSON of that schema."""
    response_format = {"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER}}
    body = client.post(CHAT, json={**BODY, "response_format": response_format}).json()
    assert json.loads(body["choices"][0]["message"]["content"]) == {"city": "example", "days": 1}
    loose = client.post(CHAT, json={**BODY, "response_format": {"type": "json_object"}}).json()
    assert json.loads(loose["choices"][0]["message"]["content"]) == {"reply": 2}


def test_react_prompt_gets_a_react_answer(client: httpx.Client) -> None:
    """Agents that parse text for 'Final Answer:' would loop on anything else."""
    messages = [{"role": "system", "content": "... Final Answer: the answer"}]
    body = client.post(CHAT, json={**BODY, "messages": messages}).json()
    assert "Final Answer: Reply 1." in body["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("model", "asked", "served"),
    [
        ("gpt-5-mini", "flex", "flex"),
        ("gpt-4o", "priority", "priority"),
        ("gpt-4o", "flex", "default"),
        ("gpt-4o", "auto", "default"),
    ],
)
def test_service_tier_is_served_where_it_is_sold(
    provider: FakeProvider, client: httpx.Client, model: str, asked: str, served: str
) -> None:
    """The tier in the response decides the price, not the one asked for."""
    body = client.post(CHAT, json={**BODY, "model": model, "service_tier": asked}).json()
    assert body["service_tier"] == served
    assert provider.invoice.lines[0].tier == served
    assert provider.invoice.lines[0].amount_usd is not None


def test_downgraded_tier(provider: FakeProvider, client: httpx.Client) -> None:
    """Priority asked and default served is billed as default: 1000 x 2.50 + 200 x 10."""
    provider.script(Reply(service_tier="default", input_tokens=1000, output_tokens=200))
    client.post(CHAT, json={**BODY, "service_tier": "priority"})
    assert provider.invoice.total_usd == Decimal("0.0045")


def test_azure_deployment_is_served_by_a_model(provider: FakeProvider, client: httpx.Client) -> None:
    """The deployment's name prices nothing; the response names the model."""
    provider.deployment("prod", model="gpt-4.1-mini")
    for path in ("/openai/deployments/prod/chat/completions?api-version=2025-01-01", "/openai/v1/chat/completions"):
        assert client.post(path, json={**BODY, "model": "prod"}).json()["model"] == "gpt-4.1-mini-2025-04-14"
    (line, _) = provider.invoice.lines
    assert (line.provider, line.requested_model, line.model) == ("azure", "prod", "gpt-4.1-mini-2025-04-14")
    missing = client.post("/openai/deployments/nope/chat/completions", json=BODY)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "DeploymentNotFound")


def test_responses_body(provider: FakeProvider, client: httpx.Client) -> None:
    """The responses API has names of its own for the same numbers."""
    provider.script(
        Reply(text="hello", input_tokens=1000, cache_read_tokens=600, output_tokens=200, reasoning_tokens=150)
    )
    body = client.post("/v1/responses", json={"model": "gpt-5", "input": "hi"}).json()
    assert (body["id"], body["status"], body["model"]) == ("resp_t000001", "completed", "gpt-5-2025-08-07")
    assert body["output"][0]["content"][0]["text"] == "hello"
    assert body["usage"] == {
        "input_tokens": 1000,
        "input_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 0},
        "output_tokens": 200,
        "output_tokens_details": {"reasoning_tokens": 150},
        "total_tokens": 1200,
    }


def test_responses_stream_events_in_order(provider: FakeProvider, client: httpx.Client) -> None:
    """The usage is in the completed event and in none before."""
    provider.script(Reply(chunks=2))
    streamed = events(client.post("/v1/responses", json={"model": "gpt-5", "input": "hi", "stream": True}).text)
    assert [event["type"] for event in streamed] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in streamed] == list(range(10))
    assert streamed[0]["response"]["usage"] is None
    assert streamed[-1]["response"]["usage"]["input_tokens"] == 101


def test_responses_tools_and_searches(provider: FakeProvider, client: httpx.Client) -> None:
    """Searches show as output items, which is where a reader counts them, and are billed by the tool: 2 x 25 / 1000.

    Pages that the tool reads show as items of the same type, and are not billed.
    """
    provider.script(Reply(tool_rounds=1, web_searches=2, pages_read=3, input_tokens=0, output_tokens=0), times=2)
    function = {"type": "function", "name": "weather", "parameters": WEATHER}
    asked = {"model": "gpt-4o", "input": "hi", "tools": [{"type": "web_search_preview"}, function]}
    body = client.post("/v1/responses", json=asked).json()
    assert [item["type"] for item in body["output"]] == ["web_search_call"] * 5 + ["function_call"]
    actions = [item["action"]["type"] for item in body["output"][:5]]
    assert actions == ["search", "search", "open_page", "find_in_page", "open_page"]
    assert provider.invoice.total_usd == Decimal("0.05")
    answered = {**asked, "input": [{"type": "function_call_output", "call_id": "c", "output": "sun"}], "stream": True}
    kinds = [event["type"] for event in events(client.post("/v1/responses", json=answered).text)]
    assert "response.function_call_arguments.delta" not in kinds
    assert kinds[-1] == "response.completed"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
def test_responses_stream_a_forced_call(client: httpx.Client, choice: object) -> None:
    """The arguments come in pieces and once whole, in an item of their own."""
    function = {"type": "function", "name": "weather", "parameters": WEATHER}
    asked = {"model": "gpt-5", "input": "hi", "tools": [function], "tool_choice": choice, "stream": True}
    streamed = events(client.post("/v1/responses", json=asked).text)
    pieces = [event["delta"] for event in streamed if event["type"] == "response.function_call_arguments.delta"]
    assert json.loads("".join(pieces)) == {"city": "example", "days": 1}
    assert streamed[-1]["response"]["output"][0]["arguments"] == "".join(pieces)


@pytest.mark.parametrize("stream", [False, True])
def test_responses_omit_usage_and_show_searches(provider: FakeProvider, client: httpx.Client, *, stream: bool) -> None:
    """A response without usage has a null, as an interrupted one; searches are items in both forms."""
    provider.script(Reply(omit_usage=True, web_searches=1))
    asked = {"model": "gpt-5", "input": "hi", "tools": [{"type": "web_search"}], "stream": stream}
    response = client.post("/v1/responses", json=asked)
    body = events(response.text)[-1]["response"] if stream else response.json()
    assert body["usage"] is None
    assert [item["type"] for item in body["output"]] == ["web_search_call", "message"]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "a"}),
        ("/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "a"}),
        ("/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "a", "stream": True}),
        ("/v2/rerank", {"model": "rerank-v3.5", "query": "q", "documents": ["d"]}),
        ("/v2/rerank", {"model": "jina-reranker-v2-base-multilingual", "query": "q", "documents": ["d"]}),
    ],
)
def test_every_endpoint_can_omit_usage(
    provider: FakeProvider, client: httpx.Client, path: str, asked: dict[str, object]
) -> None:
    """Whatever reads usage must meet its absence on every endpoint, while the bill comes all the same."""
    provider.script(Reply(omit_usage=True))
    text = client.post(path, json=asked).text
    assert "usage" not in text
    assert "billed_units" not in text
    assert provider.invoice.total_usd > 0


def test_rerank_error_is_cohere_s(provider: FakeProvider, client: httpx.Client) -> None:
    """Cohere's error has its message at the top."""
    provider.script(Fault(status=429, message="slow down"))
    asked = {"model": "rerank-v3.5", "query": "q", "documents": ["d"]}
    assert client.post("/v2/rerank", json=asked).json()["message"] == "slow down"


def test_embeddings_in_both_encodings(client: httpx.Client, provider: FakeProvider) -> None:
    """The SDK asks for base64 by default; both must be the same numbers, one vector for each input."""
    asked = {"model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 3}
    plain = client.post("/v1/embeddings", json=asked).json()
    packed = client.post("/v1/embeddings", json={**asked, "encoding_format": "base64"}).json()
    decoded = struct.unpack("<3f", base64.b64decode(packed["data"][1]["embedding"]))
    assert list(decoded) == plain["data"][1]["embedding"] == [0.25, -0.5, 0.75]
    assert plain["usage"] == {"prompt_tokens": 101, "total_tokens": 101}
    assert provider.invoice.lines[0].output_tokens == 0
    tokens = client.post("/v1/embeddings", json={**asked, "input": [1, 2, 3]}).json()
    assert len(tokens["data"]) == 1


def test_completions_answer_every_prompt(client: httpx.Client) -> None:
    """A list of prompts gives a choice for each and one usage for all."""
    asked = {"model": "gpt-3.5-turbo-instruct", "prompt": ["a", "b"]}
    body = client.post("/v1/completions", json=asked).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["usage"]["prompt_tokens"] == 101
    streamed = client.post("/v1/completions", json={**asked, "stream": True, "stream_options": {"include_usage": True}})
    assert events(streamed.text)[-1]["usage"]["prompt_tokens"] == 102


def test_images(client: httpx.Client, provider: FakeProvider) -> None:
    """Pictures are billed by the piece: 2 x 0.04."""
    body = client.post("/v1/images/generations", json={"model": "dall-e-3", "prompt": "x", "n": 2}).json()
    assert len(body["data"]) == 2
    packed = client.post("/v1/images/generations", json={"prompt": "x", "response_format": "b64_json"}).json()
    assert base64.b64decode(packed["data"][0]["b64_json"]).startswith(b"\x89PNG")
    assert [line.amount_usd for line in provider.invoice.lines] == [Decimal("0.08"), Decimal("0.02")]


@pytest.mark.parametrize("wanted", ["json", "verbose_json", "text"])
def test_transcription(client: httpx.Client, provider: FakeProvider, wanted: str) -> None:
    """The model of a multipart request must be found, and the sound billed by the second: 90 x 0.0001."""
    provider.script(Reply(text="hello", audio_seconds=90))
    response = client.post(
        "/v1/audio/transcriptions",
        data={"model": "whisper-1", "response_format": wanted},
        files={"file": ("a.wav", b"\x00\x01", "audio/wav")},
    )
    assert "hello" in response.text
    if wanted == "verbose_json":
        assert response.json()["duration"] == 90.0
    assert provider.requests[0].model == "whisper-1"
    assert provider.invoice.total_usd == Decimal("0.009")


def test_speech(client: httpx.Client, provider: FakeProvider) -> None:
    """Speech is bytes, billed by the character: 5 x 15 per million."""
    response = client.post("/v1/audio/speech", json={"model": "tts-1", "voice": "alloy", "input": "hello"})
    assert response.headers["content-type"] == "audio/mpeg"
    assert response.content.startswith(b"ID3")
    assert provider.invoice.total_usd == Decimal("0.000075")


def test_moderations_are_a_line_of_zero(client: httpx.Client, provider: FakeProvider) -> None:
    """Free is a price, and not a missing one."""
    assert client.post("/v1/moderations", json={"input": ["a", "b"]}).json()["results"][1]["flagged"] is False
    (line,) = provider.invoice.lines
    assert (line.amount_usd, line.problem) == (Decimal(0), None)


def test_models_cost_nothing(client: httpx.Client, provider: FakeProvider) -> None:
    """Looking at the list of models must not be billed."""
    assert "gpt-4o" in {model["id"] for model in client.get("/v1/models").json()["data"]}
    assert provider.invoice.lines == ()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_rerank(client: httpx.Client, provider: FakeProvider, version: str) -> None:
    """Cohere bills a search for every hundred documents, Jina tokens; their paths are the same."""
    asked = {"model": "rerank-v3.5", "query": "q", "documents": ["d"] * 101, "top_n": 2}
    body = client.post(f"/{version}/rerank", json=asked).json()
    assert [result["index"] for result in body["results"]] == [0, 1]
    assert body["meta"]["billed_units"] == {"search_units": 2}
    jina = client.post(f"/{version}/rerank", json={**asked, "model": "jina-reranker-v2-base-multilingual"}).json()
    assert jina["usage"] == {"total_tokens": 102}
    assert [line.amount_usd for line in provider.invoice.lines] == [Decimal("0.004"), Decimal("0.0000051")]
