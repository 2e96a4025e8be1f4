"""LiteLLM as an SDK, and its Router."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import litellm
from litellm.caching.caching import Cache
from typing_extensions import override

from matrix.cells import Ask, Attachment, Row, Stack, promise
from matrix.lab import in_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


__all__ = ["ROUTER", "SDK"]

lite: Final[Any] = litellm
"""LiteLLM without its types, half of which are unknown to a checker."""

MODEL: Final = "gpt-4o-mini"
WIDER: Final = "gpt-4o"
UNKNOWN_MODEL: Final = "matrix-unknown-1"
TIERED: Final = "gpt-5"
OTHER: Final = "claude-sonnet-4-5"
TOOL: Final = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
}
SCHEMA: Final = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
            "additionalProperties": False,
        },
    },
}


class Sdk(Stack):
    """`litellm.completion` and its sisters."""

    @override
    def open(self, attachment: Attachment) -> None:
        lite.suppress_debug_info = True
        self._everywhere: list[Any] = []
        lite.callbacks = self.lab.observer.callbacks("litellm")
        if attachment == "twice":
            lite.callbacks = [*lite.callbacks, *self.lab.observer.callbacks("litellm")]
        if attachment == "everywhere":
            self._everywhere = list(lite.callbacks)
            lite.success_callback = list(lite.callbacks)
            lite.failure_callback = list(lite.callbacks)

    @override
    def close(self) -> None:
        lite.logging_callback_manager._reset_all_callbacks()
        lite.callbacks = []
        lite.input_callback = []
        lite.cache = None

    def settings(self, ask: Ask) -> dict[str, Any]:
        """Say what every verb hands over: where the provider is, and how patient to be."""
        given: dict[str, Any] = {
            "model": f"openai/{UNKNOWN_MODEL if ask.unknown else TIERED if ask.tier else MODEL}",
            "api_base": self.lab.provider.openai_url,
            "api_key": "unused",
            "max_retries": ask.client_retries,
        }
        if ask.timeout_seconds is not None:
            given["timeout"] = ask.timeout_seconds
        if ask.retries:
            given |= {"num_retries": ask.retries, "max_retries": 0}
        if ask.fallback:
            other = {"model": f"anthropic/{OTHER}", "api_base": self.lab.provider.anthropic_url, "api_key": "unused"}
            given["fallbacks"] = [other]
        if ask.wider_window:
            given["context_window_fallback_dict"] = {f"openai/{MODEL}": f"openai/{WIDER}"}
        if self._everywhere:
            given["success_callback"] = self._everywhere
        return given

    def arguments(self, ask: Ask) -> dict[str, Any]:
        """Say what a chat hands over."""
        given = self.settings(ask) | {"messages": [{"role": "user", "content": ask.prompt}]}
        if ask.choices > 1:
            given["n"] = ask.choices
        if ask.tool:
            given["tools"] = [TOOL]
        if ask.schema:
            given["response_format"] = SCHEMA
        if ask.tier is not None:
            given["service_tier"] = ask.tier
        if ask.cached:
            lite.cache = lite.cache or Cache(type="local")  # pyright: ignore[reportArgumentType] - a literal in an enum
            given["caching"] = True
        return given

    def streaming(self, ask: Ask) -> dict[str, Any]:
        """Say what a stream hands over."""
        options = {"stream_options": {"include_usage": True}} if ask.usage else {}
        return self.arguments(ask) | {"stream": True} | options

    @override
    def ask(self, ask: Ask) -> object:
        given = self.arguments(ask)
        answer = self.complete(given)
        while ask.tool and (calls := answer.choices[0].message.tool_calls):
            result = {"role": "tool", "tool_call_id": calls[0].id, "content": json.dumps("seen")}
            given["messages"] = [*given["messages"], answer.choices[0].message, result]
            answer = self.complete(given)
        return answer

    @override
    async def aask(self, ask: Ask) -> object:
        return await self.acomplete(self.arguments(ask))

    @override
    def stream(self, ask: Ask) -> Iterator[Any]:
        return self.complete(self.streaming(ask))

    @override
    async def astream(self, ask: Ask) -> AsyncIterator[Any]:
        async for piece in await self.acomplete(self.streaming(ask)):
            yield piece

    @override
    def batch(self, asks: list[Ask]) -> object:
        given = self.arguments(asks[0])
        return lite.batch_completion(**given | {"messages": [given["messages"]] * len(asks)})

    @override
    def embed(self, ask: Ask) -> object:
        return lite.embedding(**self.settings(ask) | {"model": "openai/text-embedding-3-small", "input": [ask.prompt]})

    def complete(self, given: dict[str, Any]) -> Any:
        """Chat."""
        return lite.completion(**given)

    async def acomplete(self, given: dict[str, Any]) -> Any:
        """Chat asynchronously."""
        return await lite.acompletion(**given)


class Routed(Sdk):
    """`litellm.Router`, built for each request with the deployments that it may need."""

    _SETTINGS: Final = ("api_base", "api_key")

    def router(self, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Make a Router, and say what remains to be handed over with the request."""
        fixed = {name: given.pop(name) for name in self._SETTINGS}
        other = {"model": f"anthropic/{OTHER}", "api_base": self.lab.provider.anthropic_url, "api_key": "unused"}
        models = {"small": fixed | {"model": given.pop("model")}, "wide": fixed | {"model": f"openai/{WIDER}"}}
        models["other"] = other
        routed = lite.Router(
            model_list=[{"model_name": name, "litellm_params": each} for name, each in models.items()],
            retry_after=0,
            default_litellm_params={"max_retries": given.pop("max_retries")},
            num_retries=given.pop("num_retries", 0),
            fallbacks=[{"small": ["other"]}] if given.pop("fallbacks", None) else [],
            context_window_fallbacks=[{"small": ["wide"]}] if given.pop("context_window_fallback_dict", None) else [],
            cache_responses=given.pop("caching", None),
        )
        return routed, given | {"model": "small"}

    @override
    def complete(self, given: dict[str, Any]) -> Any:
        routed, rest = self.router(dict(given))
        return routed.completion(**rest)

    @override
    async def acomplete(self, given: dict[str, Any]) -> Any:
        routed, rest = self.router(dict(given))
        return await routed.acompletion(**rest)

    @override
    def batch(self, asks: list[Ask]) -> object:
        async def main() -> None:
            given = self.arguments(asks[0])
            routed, rest = self.router(given)
            rest["messages"] = [given["messages"]] * len(asks)
            await routed.abatch_completion_one_model_multiple_requests(**rest)
            await self.lab.observer.drain()

        return in_loop(main())

    @override
    def embed(self, ask: Ask) -> object:
        given = self.settings(ask) | {"model": "openai/text-embedding-3-small", "input": [ask.prompt]}
        routed, rest = self.router(given)
        return routed.embedding(**rest)


_NOT_NESTED: Final = {"nested": "LiteLLM has no work that holds other work."}

SDK: Final = Row(
    name="litellm",
    title="LiteLLM",
    frameworks=("litellm",),
    make=Sdk,
    impossible=_NOT_NESTED,
    promises={
        "batch": promise(
            "`batch_completion` asks from threads without the caller's context: only tags in `metadata=` reach them.",
            untagged={"priced": 3},
        ),
        "retry": promise(
            "LiteLLM hands `num_retries` on to OpenAI's client, which retries below every callback: the refused "
            "request is not billed and not seen.",
            priced=1,
            hidden=1,
        ),
    },
)

ROUTER: Final = Row(
    name="router",
    title="LiteLLM Router",
    frameworks=("litellm",),
    make=Routed,
    impossible=_NOT_NESTED
    | {"client-retry": "The Router turns the retries of the provider's client off, and retries itself."},
)
