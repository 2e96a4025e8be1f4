"""One client connection: reads requests, sends answers, and notices when the client goes away."""

from __future__ import annotations

import socket
import time
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Protocol

from farthing.testing.provider.wire_json import dump

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farthing.testing.provider.delivery import Delivery


class Exchange(Protocol):
    """What a connection needs of the provider."""

    def decide(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Delivery:
        """Record a request and decide its answer."""
        ...

    def bill(self, delivery: Delivery) -> None:
        """Put the answer on the invoice."""
        ...

    def client_left(self, delivery: Delivery) -> None:
        """Note that the client went away before the end."""
        ...

    def finished(self) -> None:
        """Note that one request is over, however it ended."""
        ...


class Connection(BaseHTTPRequestHandler):
    """The handler of one connection; `exchange` is set on a subclass by the server that uses it."""

    protocol_version = "HTTP/1.1"
    server_version = "farthing-fake-provider"
    sys_version = ""
    disable_nagle_algorithm = True
    exchange: Exchange

    def do_GET(self) -> None:
        """Answer a GET. Raises: nothing."""
        self._serve()

    def do_POST(self) -> None:
        """Answer a POST. Raises: nothing."""
        self._serve()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base class
        """Stay quiet: requests are kept in `provider.requests`. Raises: nothing."""

    def _serve(self) -> None:
        try:
            body = self._read_body()
        except (OSError, ValueError):
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            delivery = self.exchange.decide(self.command, self.path, headers, body)
        except Exception as error:  # noqa: BLE001 - a user's predicate may raise anything; the test must see it
            traceback.print_exc()
            self._send_bug(error)
            self.exchange.finished()
            return
        try:
            self._deliver(delivery)
        finally:
            self.exchange.finished()

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._read_chunks()
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            raise ValueError("the client left while it was asking")  # half a request is none, and costs nothing
        return body

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return bytes(body)

    def _deliver(self, delivery: Delivery) -> None:
        has_left = self._leaves_within(delivery.delay_seconds)
        self.exchange.bill(delivery)
        if delivery.ending == "silence":
            self.close_connection = True
        else:
            has_left = has_left or not self._send(delivery)
        if has_left:
            self.close_connection = True
            self.exchange.client_left(delivery)

    def _send(self, delivery: Delivery) -> bool:
        """Send the answer; False when the client went away before its end."""
        try:
            if delivery.outgoing.frames:
                is_whole = self._send_frames(delivery)
            else:
                is_whole = True
                self._send_body(delivery)
        except OSError:  # broken pipe or reset: the client is gone
            return False
        if delivery.ending == "disconnect":
            self.close_connection = True
        return is_whole

    def _send_body(self, delivery: Delivery) -> None:
        body = delivery.outgoing.body
        # A body that is to be cut announces one byte more than it has, so that the client knows it is unfinished.
        length = len(body) + (delivery.ending == "disconnect")
        self.wfile.write(self._head(delivery, f"Content-Length: {length}") + body)

    def _send_frames(self, delivery: Delivery) -> bool:
        self.wfile.write(self._head(delivery, "Transfer-Encoding: chunked"))
        for frame in delivery.outgoing.frames:
            if self._leaves_within(delivery.chunk_delay_seconds if frame.content else 0):
                return False
            self.wfile.write(b"%x\r\n%b\r\n" % (len(frame.data), frame.data))
        if delivery.ending == "complete":
            self.wfile.write(b"0\r\n\r\n")
        return True

    def _head(self, delivery: Delivery, length: str) -> bytes:
        outgoing = delivery.outgoing
        try:
            reason = HTTPStatus(outgoing.status).phrase
        except ValueError:  # 529 is Anthropic's own
            reason = "Overloaded"
        lines = [
            f"HTTP/1.1 {outgoing.status} {reason}",
            f"Server: {self.server_version}",
            f"Date: {self.date_time_string()}",
            f"Content-Type: {outgoing.content_type}",
            *(f"{name}: {value}" for name, value in outgoing.headers.items()),
            length,
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _send_bug(self, error: Exception) -> None:
        body = dump({"error": {"message": f"fake provider: {error!r}", "type": "fake_provider_bug"}})
        self.close_connection = True
        head = f"HTTP/1.1 500 Internal Server Error\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        try:
            self.wfile.write(head.encode() + body)
        except OSError:
            return  # the client is gone, the traceback is printed

    def _leaves_within(self, seconds: float) -> bool:
        """Wait, and tell whether the client closed its side meanwhile."""
        end = time.monotonic() + seconds
        try:
            self.connection.settimeout(seconds)
            try:
                waiting = self.connection.recv(1, socket.MSG_PEEK)
            except (TimeoutError, BlockingIOError):  # still there, and silent
                return False
            finally:
                self.connection.settimeout(None)
        except OSError:  # reset by the client
            return True
        if not waiting:
            return True
        time.sleep(max(0.0, end - time.monotonic()))  # a pipelined request waits; the rest of the delay is plain sleep
        return False
