"""A backend that only counts: spans by their ids. `sink.py PORT`; GET /count tells. Run by run.py."""

from __future__ import annotations

import gzip
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SEEN: set[bytes] = set()


class Handler(BaseHTTPRequestHandler):
    """Counts the spans of each request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take an export."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path.endswith("/v1/traces"):
            plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            for resource in ExportTraceServiceRequest.FromString(plain).resource_spans:
                for scope in resource.scope_spans:
                    SEEN.update(span.span_id for span in scope.spans)
        self.answer(b"")

    def do_GET(self) -> None:
        """Tell how many there were."""
        self.answer(str(len(SEEN)).encode())

    def answer(self, body: bytes) -> None:
        """Answer 200."""
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
