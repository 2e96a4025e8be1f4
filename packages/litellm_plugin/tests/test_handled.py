"""Failures of requests that are made while another failure is handled: that one says nothing about this one's bill."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from litellm_bench import lite
from openai import OpenAIError

import farthing
from farthing.testing import capture
from farthing_litellm import FarthingLogger

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Answers(BaseHTTPRequestHandler):
    """Refuses gpt-4.1 with 429, and answers another model with 200 and an error in the body, as gateways do."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps({"error": {"message": "upstream"}}).encode()
        self.send_response(429 if asked["model"] == "gpt-4.1" else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name above
        """Say nothing."""


@pytest.fixture
def base() -> Iterator[str]:
    """Serve for one test."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


@pytest.mark.parametrize("way", ["router", "async router", "by hand"])
async def test_fallback_that_fails_after_it_was_answered(base: str, way: str) -> None:
    """The fallback's 200 may be on the bill; the 429 that it is made after is of another request."""
    asked: Any = {"messages": [{"role": "user", "content": "hi"}]}
    given: Any = {"api_base": base, "api_key": "sk"}
    models = [
        {"model_name": name, "litellm_params": {"model": model, **given}}
        for name, model in (("first", "openai/gpt-4.1"), ("second", "openai/gpt-4o"))
    ]
    router: Any = lite.Router(models, num_retries=0, fallbacks=[{"first": ["second"]}], disable_cooldowns=True)

    async def over_a_router() -> None:
        router.completion("first", **asked)

    async def over_an_async_router() -> None:
        await router.acompletion("first", **asked)

    async def by_hand() -> None:
        try:
            lite.completion("openai/gpt-4.1", **asked, **given, max_retries=0)
        except lite.RateLimitError:
            lite.completion("openai/gpt-4o", **asked, **given, max_retries=0)

    ways = {"router": over_a_router, "async router": over_an_async_router, "by hand": by_hand}

    with capture() as captured:
        FarthingLogger(feature="chatbot")
        with pytest.raises(OpenAIError):
            await ways[way]()
        await farthing.aflush()
        calls = captured.calls
    assert [(call.request_model, call.cost.status) for call in calls] == [
        ("gpt-4.1", "not_billed"),
        ("gpt-4o", "unreported"),
    ]
    assert calls[0].error_type == "429"
