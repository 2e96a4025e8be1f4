"""Bedrock's wire: Converse as JSON and as a binary event stream, decoded here by hand."""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from farthing.testing.provider import FakeProvider, Fault, Reply
from farthing.testing.provider.bedrock import encode_message

if TYPE_CHECKING:
    import httpx

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PATH = f"/model/{MODEL.replace(':', '%3A')}/converse"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
CACHED = Reply(
    text="hello",
    input_tokens=1000,
    cache_read_tokens=700,
    cache_write_5m_tokens=150,
    cache_write_1h_tokens=50,
    output_tokens=40,
)
USAGE = {
    "inputTokens": 100,
    "outputTokens": 40,
    "totalTokens": 1040,
    "cacheReadInputTokens": 700,
    "cacheWriteInputTokens": 200,
    "cacheDetails": [{"ttl": "5m", "inputTokens": 150}, {"ttl": "1h", "inputTokens": 50}],
}
SPEC: dict[str, Any] = {"name": "weather", "inputSchema": {"json": {"properties": {"city": {}}, "required": ["city"]}}}


def decode(data: bytes) -> list[tuple[dict[str, str], Any]]:
    """Take an event stream apart and check both checksums of each message."""
    messages: list[tuple[dict[str, str], Any]] = []
    while data:
        total, header_length, prelude_crc = struct.unpack(">III", data[:12])
        assert prelude_crc == zlib.crc32(data[:8])
        assert struct.unpack(">I", data[total - 4 : total])[0] == zlib.crc32(data[: total - 4])
        raw, headers = data[12 : 12 + header_length], dict[str, str]()
        while raw:
            name_end = 1 + raw[0]
            kind, length = struct.unpack(">BH", raw[name_end : name_end + 3])
            assert kind == 7
            headers[raw[1:name_end].decode()] = raw[name_end + 3 : name_end + 3 + length].decode()
            raw = raw[name_end + 3 + length :]
        messages.append((headers, json.loads(data[12 + header_length : total - 4])))
        data = data[total:]
    return messages


def test_known_frame() -> None:
    """The smallest frame of AWS's own test vectors: no headers, no payload."""
    assert encode_message({}, b"").hex() == "000000100000000005c248eb7d98c8ff"


def test_converse_usage_is_exclusive(provider: FakeProvider, client: httpx.Client) -> None:
    """Converse leaves cached tokens out of inputTokens and has them in totalTokens."""
    provider.script(CACHED)
    response = client.post(PATH, json=BODY)
    body = response.json()
    assert response.headers["x-amzn-requestid"] == "bedrock-t000001"
    assert body["output"]["message"]["content"] == [{"text": "hello"}]
    assert (body["stopReason"], body["usage"]) == ("end_turn", USAGE)
    (line,) = provider.invoice.lines
    assert (line.provider, line.model, line.response_id) == ("bedrock", MODEL, "bedrock-t000001")


def test_converse_stream(provider: FakeProvider, client: httpx.Client) -> None:
    """The usage comes last, in the metadata event."""
    provider.script(CACHED)
    response = client.post(f"{PATH}-stream", json=BODY)
    assert response.headers["content-type"] == "application/vnd.amazon.eventstream"
    messages = decode(response.content)
    assert [headers[":event-type"] for headers, _ in messages] == [
        "messageStart",
        *["contentBlockDelta"] * 4,
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    assert messages[-1][1]["usage"] == USAGE


@pytest.mark.parametrize("choice", [{"any": None}, {"tool": {"name": "weather"}}])
def test_forced_tool(client: httpx.Client, choice: dict[str, Any]) -> None:
    """A forced tool is called, in a body and in a stream."""
    asked: dict[str, Any] = {**BODY, "toolConfig": {"tools": [{"toolSpec": SPEC}], "toolChoice": choice}}
    body = client.post(PATH, json=asked).json()
    assert body["stopReason"] == "tool_use"
    assert body["output"]["message"]["content"][0]["toolUse"]["input"] == {"city": "example"}
    deltas = [
        event["delta"]["toolUse"]["input"]
        for _, event in decode(client.post(f"{PATH}-stream", json=asked).content)
        if "delta" in event
    ]
    assert json.loads("".join(deltas)) == {"city": "example"}


def test_tool_rounds(provider: FakeProvider, client: httpx.Client) -> None:
    """A tool result in the conversation counts as a round."""
    provider.script(Reply(tool_rounds=1), times=None)
    config = {"tools": [{"toolSpec": SPEC}]}
    result: dict[str, Any] = {"role": "user", "content": [{"toolResult": {"toolUseId": "x", "content": []}}]}
    stops = [
        client.post(PATH, json={"messages": messages, "toolConfig": config}).json()["stopReason"]
        for messages in (BODY["messages"], [*BODY["messages"], result])
    ]
    assert stops == ["tool_use", "end_turn"]


def test_exception_inside_a_stream(provider: FakeProvider, client: httpx.Client) -> None:
    """An error in an event stream is a message of another type, not an HTTP status."""
    provider.script(Fault(cut_stream_after=1, cut_with="error", code="modelStreamErrorException"))
    headers, payload = decode(client.post(f"{PATH}-stream", json=BODY).content)[-1]
    assert (headers[":message-type"], headers[":exception-type"]) == ("exception", "modelStreamErrorException")
    assert payload["message"]


def test_tier_and_omitted_usage(provider: FakeProvider, client: httpx.Client) -> None:
    """The served tier is in the body; an answer may lack its usage."""
    body = client.post("/model/amazon.nova-pro-v1:0/converse", json={**BODY, "serviceTier": {"type": "flex"}}).json()
    assert body["serviceTier"] == {"type": "flex"}
    assert provider.invoice.lines[0].tier == "flex"
    provider.script(Reply(omit_usage=True), times=2)
    assert "usage" not in client.post(PATH, json=BODY).json()
    assert "usage" not in decode(client.post(f"{PATH}-stream", json=BODY).content)[-1][1]


def test_count_tokens_is_free(provider: FakeProvider, client: httpx.Client) -> None:
    """CrewAI counts before each call; that must not take a reply, nor be billed."""
    provider.script(Reply(input_tokens=7))
    assert client.post(f"/model/{MODEL}/count-tokens", json={"input": {"converse": BODY}}).json() == {
        "inputTokens": 101
    }
    assert len(provider.pending) == 1
    assert provider.invoice.lines == ()
