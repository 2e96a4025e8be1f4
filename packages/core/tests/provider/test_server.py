"""The server: life, concurrency, records, and clients that go away."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING

import httpx
import pytest

from farthing.testing.provider import FakeProvider, Fault, Reply

if TYPE_CHECKING:
    from farthing.testing.provider import ReceivedRequest

CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


def test_start_and_stop_leave_nothing_behind() -> None:
    """A server that leaves threads or its port behind breaks the tests that follow."""
    before = set(threading.enumerate())
    provider = FakeProvider().start()
    with pytest.raises(RuntimeError, match="already"):
        provider.start()
    url = provider.url
    with httpx.Client() as client:  # a kept-alive connection must not keep the server up
        assert client.post(url + CHAT, json=BODY).status_code == 200
        provider.stop()
        provider.stop()
    assert set(threading.enumerate()) <= before
    with pytest.raises(RuntimeError, match="not running"):
        _ = provider.url
    with pytest.raises(httpx.ConnectError):
        httpx.post(url + CHAT, json=BODY)


def test_requests_are_recorded_as_received(provider: FakeProvider, client: httpx.Client) -> None:
    """Leak tests read the records; a header or body that is missing there hides a leak."""
    client.post(CHAT + "?a=1", json=BODY, headers={"X-Secret": "s"})
    (request,) = provider.requests
    assert (request.number, request.method, request.path, request.query) == (1, "POST", CHAT, "a=1")
    assert (request.model, request.scenario) == ("gpt-4o", None)
    assert request.headers["x-secret"] == "s"
    assert request.json == BODY


def test_every_request_has_numbers_and_ids_of_its_own(provider: FakeProvider, client: httpx.Client) -> None:
    """Equal usage on all requests would hide that two of them were mixed up."""
    bodies = [client.post(CHAT, json=BODY).json() for _ in range(3)]
    assert [body["usage"]["prompt_tokens"] for body in bodies] == [101, 102, 103]
    assert len({body["id"] for body in bodies}) == 3


def test_ids_differ_between_providers() -> None:
    """A ledger that drops duplicates by response id must not drop the calls of a second provider."""
    with FakeProvider() as one, FakeProvider() as two:
        ids = {httpx.post(running.url + CHAT, json=BODY).json()["id"] for running in (one, two)}
    assert len(ids) == 2


def test_fixed_usage_for_everything() -> None:
    """The reply given to the constructor must answer all that is not scripted."""
    with FakeProvider(usage=Reply(input_tokens=1000, output_tokens=200, text="ok")) as provider:
        body = httpx.post(provider.url + CHAT, json=BODY).json()
        assert body["usage"]["total_tokens"] == 1200
        assert provider.invoice.total_usd == Decimal("0.0045")


def test_concurrent_requests_are_all_billed_once(provider: FakeProvider) -> None:
    """A race in numbering or billing would lose lines only under load."""
    with httpx.Client(base_url=provider.url, timeout=30) as client, ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(client.post, CHAT, json=BODY) for _ in range(200)]
        bodies = [answer.result().json() for answer in answers]
    lines = provider.invoice.lines
    assert {body["id"] for body in bodies} == {line.response_id for line in lines}
    assert sorted(line.number for line in lines) == list(range(1, 201))
    assert sum(body["usage"]["prompt_tokens"] for body in bodies) == sum(line.input_tokens for line in lines)


def test_line_is_billed_before_the_client_has_the_answer(provider: FakeProvider, client: httpx.Client) -> None:
    """A test that reads the invoice right after its call must find the line."""
    for count in range(1, 30):
        client.post(CHAT, json=BODY)
        assert len(provider.invoice.lines) == count


def test_client_that_leaves_a_stream_is_billed_whole(provider: FakeProvider, client: httpx.Client) -> None:
    """A provider bills what it generated, whoever listens; a lost line would hide what the plugin missed."""
    provider.script(Reply(input_tokens=1000, output_tokens=200, chunks=20, chunk_delay_seconds=0.02))
    with client.stream("POST", CHAT, json={**BODY, "stream": True}) as response:
        next(response.iter_lines())
    assert provider.settle()
    (line,) = provider.invoice.lines
    assert line.client_left
    assert line.amount_usd == Decimal("0.0045")


def test_client_that_times_out_is_billed(provider: FakeProvider, client: httpx.Client) -> None:
    """A client that gives up waiting does not stop the provider from charging."""
    provider.script(Reply(delay_seconds=0.5))
    with pytest.raises(httpx.ReadTimeout):
        client.post(CHAT, json=BODY, timeout=0.1)
    assert provider.settle()
    assert [line.client_left for line in provider.invoice.lines] == [True]


def test_a_client_that_stays_has_not_left(provider: FakeProvider, client: httpx.Client) -> None:
    """Delays must not make a patient client look gone."""
    provider.script(Reply(chunks=5, chunk_delay_seconds=0.01, delay_seconds=0.05))
    text = client.post(CHAT, json={**BODY, "stream": True}).text
    assert provider.settle()
    assert "[DONE]" in text
    assert not provider.invoice.lines[0].client_left


def test_stop_does_not_wait_for_a_hanging_request(provider: FakeProvider) -> None:
    """A hang of a minute must end with the test that asked for it."""
    provider.script(Fault(hang_seconds=60))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(httpx.post, provider.url + CHAT, json=BODY, timeout=30)
        while not provider.requests:
            time.sleep(0.01)
        assert not provider.settle(timeout_seconds=0)
        provider.stop()
        with pytest.raises(httpx.TransportError):
            waiting.result()


def test_connection_is_kept_alive(provider: FakeProvider) -> None:
    """Clients pool connections; one that is closed after each answer hides pooling bugs."""
    raw = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
    host, port = provider.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.settimeout(5)
        for _ in range(2):
            connection.sendall(raw)
            received = b""
            while b'"object": "list"' not in received or not received.endswith(b"]}"):
                received += connection.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")


def test_pipelined_request_does_not_look_like_a_client_that_left(provider: FakeProvider) -> None:
    """A next request that waits in the socket is no end of file, and must not shorten the delay of the first."""
    provider.script(Reply(delay_seconds=0.1))
    body = b'{"model": "gpt-4o", "messages": []}'
    raw = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body)
    host, port = provider.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.settimeout(5)
        connection.sendall(raw * 2)
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 2 or not received.endswith(b"}"):
            received += connection.recv(65536)
    assert provider.settle()
    assert [line.client_left for line in provider.invoice.lines] == [False, False]


@pytest.mark.parametrize(
    "head", [b"Content-Length: x", b"Transfer-Encoding: chunked\r\n\r\nnonsense", b"Content-Length: 5\r\n\r\nab"]
)
def test_broken_request_ends_its_connection_only(provider: FakeProvider, head: bytes) -> None:
    """A client that sends rubbish must not take the server down."""
    host, port = provider.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.settimeout(5)
        connection.sendall(b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    assert httpx.post(provider.url + CHAT, json=BODY).status_code == 200


def test_chunked_request_body_is_read(provider: FakeProvider, client: httpx.Client) -> None:
    """A client that streams its request must not be answered as if it sent nothing."""
    body = client.post(CHAT, content=iter([b'{"model": "gpt-4o"', b', "messages": []}'])).json()
    assert body["model"] == "gpt-4o-2024-08-06"
    assert provider.requests[0].model == "gpt-4o"


def test_scenario_by_header_and_by_path(provider: FakeProvider, client: httpx.Client) -> None:
    """Code under test that can only set a header or a base URL must reach its scenario."""
    provider.scenario("flaky", Fault(status=429), Reply(text="fine"))
    assert client.post(CHAT, json=BODY, headers={"x-fake-scenario": "flaky"}).status_code == 429
    by_path = httpx.post(provider.scenario_url("flaky") + CHAT, json=BODY).json()
    assert by_path["choices"][0]["message"]["content"] == "fine"
    assert provider.requests[1].path == CHAT
    missing = client.post("/s/nope" + CHAT, json=BODY)
    assert missing.status_code == 404
    assert "registered:" in missing.json()["error"]["message"]


def test_ready_made_scenario(client: httpx.Client) -> None:
    """The scenarios that --help lists must exist."""
    assert client.post("/s/rate-limited" + CHAT, json=BODY).headers["retry-after"] == "1"
    usage = client.post("/s/cached" + CHAT, json=BODY).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 600


def test_unknown_path_is_an_error_and_no_charge(provider: FakeProvider, client: httpx.Client) -> None:
    """A client that calls a path nobody has must see it, not a made-up success."""
    response = client.post("/v1/nonsense", json={})
    assert response.status_code == 404
    assert "/v1/nonsense" in response.json()["error"]["message"]
    assert provider.invoice.lines == ()


def test_predicate_that_raises_is_shown(
    provider: FakeProvider, client: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake in a test's own predicate must not look like a provider that is down."""

    def broken(_request: ReceivedRequest) -> bool:
        raise ZeroDivisionError

    provider.script(Reply(), when=broken)
    response = client.post(CHAT, json=BODY)
    assert response.status_code == 500
    assert "ZeroDivisionError" in response.text
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert provider.settle()


def test_own_price_and_unknown_model(provider: FakeProvider, client: httpx.Client) -> None:
    """A model of one's own is billed at the price that was set, and never at zero without one."""
    provider.set_price("mine", input="1", output="2")
    for model in ("mine", "theirs"):
        provider.script(Reply(input_tokens=1000, output_tokens=100))
        client.post(CHAT, json={**BODY, "model": model})
    mine, theirs = provider.invoice.lines
    assert mine.amount_usd == Decimal("0.0012")
    assert (theirs.amount_usd, theirs.problem) == (None, "UnknownModel")
