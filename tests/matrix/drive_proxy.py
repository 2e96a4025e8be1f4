"""LiteLLM's proxy, with farthing inside it, and OpenAI's SDK before it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

import openai
from typing_extensions import override

from matrix.cells import Ask, Attachment, Row, Stack, promise
from matrix.drive_litellm import SCHEMA, TOOL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["PROXY", "URL"]

URL: Final = "MATRIX_PROXY_URL"
"""The variable that holds the address of the running proxy."""

SDK: Final[Any] = openai


class Proxy(Stack):
    """OpenAI's SDK on a proxy: one that asks is elsewhere than the one who is watched."""

    held_back_seconds = 2.0  # the proxy may go on although its own client has left

    @override
    def open(self, attachment: Attachment) -> None:
        given = {"base_url": os.environ[URL] + "/v1", "api_key": "sk-matrix", "timeout": 60}
        self._client: Any = SDK.OpenAI(**given)
        self._aclient: Any = SDK.AsyncOpenAI(**given)

    @override
    def close(self) -> None:
        self._client.close()

    def with_options(self, client: Any, ask: Ask) -> Any:
        """Be as patient as the request says."""
        client = client.with_options(max_retries=ask.client_retries, default_headers=dict(self.lab.observer.headers()))
        return client if ask.timeout_seconds is None else client.with_options(timeout=ask.timeout_seconds)

    def arguments(self, ask: Ask) -> dict[str, Any]:
        """Say what a chat hands over."""
        falls = ask.fallback or ask.wider_window
        names = {
            "falls-back": falls,
            "gpt-5": ask.tier,
            "matrix-unknown-1": ask.unknown,
        }
        given: dict[str, Any] = {
            "model": next((name for name, wanted in names.items() if wanted), "gpt-4o-mini"),
            "messages": [{"role": "user", "content": ask.prompt}],
        }
        if ask.choices > 1:
            given["n"] = ask.choices
        if ask.tool:
            given["tools"] = [TOOL]
        if ask.schema:
            given["response_format"] = SCHEMA
        if ask.tier is not None:
            given["service_tier"] = ask.tier
        if ask.cached:
            given["extra_body"] = {"cache": {"use-cache": True}}
        if ask.retries:
            given["extra_body"] = {"num_retries": ask.retries}
        return given

    @override
    def ask(self, ask: Ask) -> object:
        given = self.arguments(ask)
        completions = self.with_options(self._client, ask).chat.completions
        answer = completions.create(**given)
        while ask.tool and (calls := answer.choices[0].message.tool_calls):
            result = {"role": "tool", "tool_call_id": calls[0].id, "content": json.dumps("seen")}
            given["messages"] = [*given["messages"], answer.choices[0].message.to_dict(), result]
            answer = completions.create(**given)
        return answer

    @override
    async def aask(self, ask: Ask) -> object:
        return await self.with_options(self._aclient, ask).chat.completions.create(**self.arguments(ask))

    @override
    def stream(self, ask: Ask) -> Iterator[Any]:
        return self.with_options(self._client, ask).chat.completions.create(**self.arguments(ask), stream=True)

    @override
    async def astream(self, ask: Ask) -> AsyncIterator[Any]:
        client = self.with_options(self._aclient, ask)
        async for piece in await client.chat.completions.create(**self.arguments(ask), stream=True):
            yield piece

    @override
    def embed(self, ask: Ask) -> object:
        client = self.with_options(self._client, ask)
        return client.embeddings.create(model="text-embedding-3-small", input=[ask.prompt])


_PASSED_ON: Final = promise(
    "The call ended at the proxy with its usage, although its client had left: the answer is a short one.", priced=1
)
_GOES_ON: Final = promise("The call ended at the proxy with its usage, after its client had given up.", priced=1)

PROXY: Final = Row(
    name="proxy",
    title="LiteLLM proxy, asked by OpenAI's SDK",
    frameworks=(),
    make=Proxy,
    impossible={
        "nested": "A gateway has no work that holds other work.",
        "batch": "The client sends one request at a time.",
        "twice": "The proxy makes its one logger itself.",
        "everywhere": "The proxy makes its one logger itself.",
        "silent-stream": "The proxy asks for the usage of every stream by itself.",
    },
    promises={
        "client-retry": promise(
            "The client retries above the proxy, which sees both of its requests.", not_billed=1, priced=1
        ),
        "left": _PASSED_ON,
        "async-left": _PASSED_ON,
        "never-read": _PASSED_ON,
        "cancelled": _GOES_ON,
        "timeout": _GOES_ON,
    },
)
