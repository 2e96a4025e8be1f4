"""Faults, as they look from the other end of the wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx
import pytest

from farthing.testing.provider import FakeProvider, Fault, Reply

if TYPE_CHECKING:
    from farthing.testing.provider.script import CutWith

Call: TypeAlias = tuple[str, dict[str, Any]]

CHAT: Call = ("/v1/chat/completions", {"model": "gpt-4o", "messages": []})
MESSAGES: Call = ("/v1/messages", {"model": "claude-opus-4-6", "max_tokens": 9, "messages": []})
CONVERSE: Call = ("/model/us.amazon.nova-pro-v1:0/converse", {"messages": []})
GENERATE: Call = ("/v1beta/models/gemini-2.5-pro:generateContent", {"contents": []})
STREAM: dict[str, Any] = {"model": "gpt-4o", "messages": [], "stream": True}


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
@pytest.mark.parametrize("call", [CHAT, MESSAGES, CONVERSE, GENERATE])
def test_error_bodies(provider: FakeProvider, client: httpx.Client, call: Call, status: int) -> None:
    """SDKs map errors by status and body; a body of the wrong shape tests the wrong branch."""
    path, body = call
    provider.script(Fault(status=status, message="no luck", retry_after_seconds=1.5))
    response = client.post(path, json=body)
    assert response.status_code == status
    assert response.headers["retry-after"] == "2"
    assert response.headers["retry-after-ms"] == "1500"
    error = response.json()
    if call is CONVERSE:
        assert error == {"message": "no luck"}
        assert response.headers["x-amzn-errortype"].endswith("Exception")
    else:
        assert error["error"]["message"] == "no luck"
    assert provider.invoice.lines == ()


def test_error_types_of_each_provider(provider: FakeProvider, client: httpx.Client) -> None:
    """A rate limit must be spelled as each provider spells it."""
    spelled: list[object] = []
    for path, body in (CHAT, MESSAGES, GENERATE):
        provider.script(Fault(status=429))
        error = client.post(path, json=body).json()["error"]
        spelled.append(error.get("status") or error["type"])
    assert spelled == ["requests", "rate_limit_error", "RESOURCE_EXHAUSTED"]
    provider.script(Fault(status=400, code="context_length_exceeded"))
    assert client.post(CHAT[0], json=CHAT[1]).json()["error"]["code"] == "context_length_exceeded"


def test_billed_error_bills_its_reply(provider: FakeProvider, client: httpx.Client) -> None:
    """Some failures are charged for; a fault that says so must have a line with the status."""
    provider.script(Fault(status=500, billed=True, reply=Reply(input_tokens=10, output_tokens=1)))
    client.post(CHAT[0], json=CHAT[1])
    (line,) = provider.invoice.lines
    assert (line.status, line.input_tokens) == (500, 10)


@pytest.mark.parametrize("fault", [Fault(drop_connection=True), Fault(hang_seconds=0.05)])
def test_dropped_connection(provider: FakeProvider, client: httpx.Client, fault: Fault) -> None:
    """A connection that is closed without an answer must reach the client as a transport error."""
    provider.script(fault)
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(CHAT[0], json=CHAT[1])
    assert client.post(CHAT[0], json=CHAT[1]).status_code == 200


def test_hang_then_error(provider: FakeProvider, client: httpx.Client) -> None:
    """A hang with a status must end in that status."""
    provider.script(Fault(hang_seconds=0.01, status=503))
    assert client.post(CHAT[0], json=CHAT[1]).status_code == 503


@pytest.mark.parametrize(("after", "texts"), [(0, 0), (2, 2), (99, 4)])
def test_cut_stream_counts_content_chunks(provider: FakeProvider, client: httpx.Client, after: int, texts: int) -> None:
    """The stream must stop after exactly the content asked for, and never reach its terminal event."""
    provider.script(Fault(cut_stream_after=after, reply=Reply(chunks=4)))
    lines: list[str] = []
    with pytest.raises(httpx.RemoteProtocolError), client.stream("POST", CHAT[0], json=STREAM) as response:
        lines.extend(response.iter_lines())
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines if line]
    assert sum(bool(delta.get("content")) for delta in deltas) == texts
    assert len(provider.invoice.lines) == 1


@pytest.mark.parametrize(("cut_with", "last"), [("end", "content"), ("error", "error")])
def test_cut_stream_that_ends_cleanly(
    provider: FakeProvider, client: httpx.Client, cut_with: CutWith, last: str
) -> None:
    """A stream may also just end, or end in the provider's own error; both are no transport error."""
    provider.script(Fault(cut_stream_after=1, cut_with=cut_with))
    text = client.post(CHAT[0], json=STREAM).text
    assert last in text.strip().splitlines()[-1]
    assert "[DONE]" not in text


@pytest.mark.parametrize("call", [MESSAGES, GENERATE, ("/v1/responses", {"model": "gpt-5", "input": "x"})])
def test_error_inside_a_stream_of_each_wire(provider: FakeProvider, client: httpx.Client, call: Call) -> None:
    """The error inside a stream has a shape of its own for each provider."""
    path = call[0].replace(":generateContent", ":streamGenerateContent?alt=sse")
    provider.script(Fault(cut_stream_after=1, cut_with="error", message="overloaded"))
    text = client.post(path, json={**call[1], "stream": True}).text
    assert "overloaded" in text.strip().splitlines()[-1]


def test_cut_stream_without_any_content(provider: FakeProvider, client: httpx.Client) -> None:
    """A stream of an empty text is cut before its terminal event all the same."""
    provider.script(Fault(cut_stream_after=0, cut_with="end", reply=Reply(text="")))
    text = client.post(CHAT[0], json=STREAM).text
    assert "chat.completion.chunk" in text
    assert "[DONE]" not in text


def test_cut_answer_that_is_no_stream(provider: FakeProvider, client: httpx.Client) -> None:
    """A cut body must not look like a short but complete one."""
    provider.script(Fault(cut_stream_after=0))
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(CHAT[0], json=CHAT[1])
    assert len(provider.invoice.lines) == 1


def test_malformed_json(provider: FakeProvider, client: httpx.Client) -> None:
    """Broken JSON with status 200 must be broken in a body and in a stream alike."""
    provider.script(Fault(malformed_json=True), times=2)
    response = client.post(CHAT[0], json=CHAT[1])
    assert response.status_code == 200
    with pytest.raises(ValueError, match=r"."):
        response.json()
    data = [line.removeprefix("data: ") for line in client.post(CHAT[0], json=STREAM).text.split("\n\n") if line]
    assert data[-1] == "[DONE]"
    with pytest.raises(ValueError, match=r"."):
        json.loads(data[1])
    assert len(provider.invoice.lines) == 2
