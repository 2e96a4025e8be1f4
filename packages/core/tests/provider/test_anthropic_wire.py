"""Anthropic's wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from farthing.testing.provider import FakeProvider, Reply

if TYPE_CHECKING:
    import httpx

BODY: dict[str, Any] = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
}
CACHED = Reply(
    text="hello",
    input_tokens=1000,
    cache_read_tokens=700,
    cache_write_5m_tokens=150,
    cache_write_1h_tokens=50,
    output_tokens=40,
    reasoning_tokens=10,
    web_searches=2,
)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "web_search_20250305", "name": "web_search"}, {"name": "weather", "input_schema": SCHEMA}]


def events(text: str) -> list[Any]:
    """The JSON of each event; its name must be its type."""
    parsed: list[Any] = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        parsed.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {parsed[-1]['type']}"
    return parsed


def test_usage_is_exclusive(provider: FakeProvider, client: httpx.Client) -> None:
    """Anthropic's input_tokens leave out what the cache gave or took; reading them as inclusive loses 900 tokens."""
    provider.script(CACHED)
    body = client.post("/v1/messages", json=BODY).json()
    assert (body["id"], body["model"]) == ("msg_t000001", "claude-sonnet-4-5-20250929")
    assert [block["type"] for block in body["content"][:-1]] == ["server_tool_use", "web_search_tool_result"] * 2
    assert body["content"][-1] == {"type": "text", "text": "hello"}
    assert body["stop_reason"] == "end_turn"
    assert body["usage"] == {
        "input_tokens": 100,
        "cache_creation_input_tokens": 200,
        "cache_read_input_tokens": 700,
        "cache_creation": {"ephemeral_5m_input_tokens": 150, "ephemeral_1h_input_tokens": 50},
        "output_tokens": 40,
        "service_tier": "standard",
        "output_tokens_details": {"thinking_tokens": 10},
        "server_tool_use": {"web_search_requests": 2},
    }


def test_stream_events_and_where_usage_is(provider: FakeProvider, client: httpx.Client) -> None:
    """The split of the cache writes and the tier are in message_start only, the final output in message_delta."""
    provider.script(CACHED)
    streamed = events(client.post("/v1/messages", json={**BODY, "stream": True}).text)
    called = ["content_block_start", *["content_block_delta"] * 4, "content_block_stop"]
    found = ["content_block_start", "content_block_stop"]
    searched = [*called, "ping", *found, *called, *found]
    assert [event["type"] for event in streamed] == [
        "message_start",
        *searched,
        *called,
        "message_delta",
        "message_stop",
    ]
    start, delta = streamed[0]["message"]["usage"], streamed[-2]["usage"]
    assert start["output_tokens"] == 1
    assert start["cache_creation"] == {"ephemeral_5m_input_tokens": 150, "ephemeral_1h_input_tokens": 50}
    assert (delta["output_tokens"], delta["input_tokens"], delta["cache_read_input_tokens"]) == (40, 100, 700)
    assert "cache_creation" not in delta
    assert "".join(event.get("delta", {}).get("text", "") for event in streamed) == "hello"


def test_bare_message_delta(provider: FakeProvider, client: httpx.Client) -> None:
    """Proxies send only output_tokens at the end; a reader of the last usage alone then sees no input."""
    provider.script(Reply(bare_message_delta=True, output_tokens=40))
    streamed = events(client.post("/v1/messages", json={**BODY, "stream": True}).text)
    assert streamed[-2]["usage"] == {"output_tokens": 40}


@pytest.mark.parametrize("stream", [False, True])
def test_omitted_usage(provider: FakeProvider, client: httpx.Client, *, stream: bool) -> None:
    """An answer without usage must have none anywhere, and is billed all the same."""
    provider.script(Reply(omit_usage=True))
    assert '"usage"' not in client.post("/v1/messages", json={**BODY, "stream": stream}).text
    assert len(provider.invoice.lines) == 1


def test_tool_rounds_count_tool_results(provider: FakeProvider, client: httpx.Client) -> None:
    """Server tools are not called by us; the first tool of the user's is, until its result is there."""
    provider.script(Reply(tool_rounds=1), times=None)
    first = client.post("/v1/messages", json={**BODY, "tools": TOOLS}).json()
    assert first["stop_reason"] == "tool_use"
    (block,) = first["content"]
    assert (block["type"], block["name"], block["input"]) == ("tool_use", "weather", {"city": "example"})
    result = {"type": "tool_result", "tool_use_id": block["id"], "content": "sun"}
    messages = [*BODY["messages"], {"role": "user", "content": [result]}]
    assert (
        client.post("/v1/messages", json={**BODY, "messages": messages, "tools": TOOLS}).json()["stop_reason"]
        == "end_turn"
    )


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_forced_tool_in_a_stream(client: httpx.Client, choice: dict[str, str]) -> None:
    """Arguments are streamed as partial JSON."""
    streamed = events(
        client.post("/v1/messages", json={**BODY, "tools": TOOLS, "tool_choice": choice, "stream": True}).text
    )
    parts = [event["delta"]["partial_json"] for event in streamed if event["type"] == "content_block_delta"]
    assert json.loads("".join(parts)) == {"city": "example"}


@pytest.mark.parametrize("where", ["output_config", "output_format"])
def test_structured_output(client: httpx.Client, where: str) -> None:
    """Both spellings of structured output must give JSON of the schema."""
    output_format = {"type": "json_schema", "schema": SCHEMA}
    asked = {where: {"format": output_format} if where == "output_config" else output_format}
    body = client.post("/v1/messages", json={**BODY, **asked}).json()
    assert json.loads(body["content"][0]["text"]) == {"city": "example"}


def test_count_tokens_is_free(provider: FakeProvider, client: httpx.Client) -> None:
    """Counting is no model call; it must not take a reply, nor be billed."""
    provider.script(Reply(input_tokens=7))
    assert client.post("/v1/messages/count_tokens", json=BODY).json() == {"input_tokens": 101}
    assert len(provider.pending) == 1
    assert provider.invoice.lines == ()
