"""The vocabulary between scripting, wires and server: what was asked, what is answered, and what is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from farthing.testing.provider.script import ReceivedRequest, Reply, ToolCall
    from farthing.testing.provider.wire_json import JSON, JSONObject

ProviderName: TypeAlias = Literal["openai", "azure", "anthropic", "bedrock", "gemini", "cohere", "jina"]

ANY_TOOL = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool the request offers, with the JSON schema of its arguments."""

    name: str
    schema: JSONObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request asks for, read from its wire format.

    `forced_tool` is the name of the tool that must be called, or ANY_TOOL. `schema` is the JSON schema the text must
    follow. `web_search_tool` is the provider's name of its search tool, when it is offered. Units that are not tokens
    (`images`, `characters`, `audio_seconds`, `rerank_searches`) are those of endpoints that bill them.
    """

    model: str
    stream: bool = False
    tools: Sequence[Tool] = ()
    tool_results: int = 0
    forced_tool: str | None = None
    schema: JSONObject | None = None
    json_mode: bool = False
    service_tier: str | None = None
    include_usage: bool = False
    choices: int = 1
    inputs: int = 1
    web_search_tool: str | None = None
    has_output: bool = True
    images: int = 0
    characters: int = 0
    has_audio: bool = False
    rerank_searches: int = 0
    is_token_billed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Everything one answer is billed for; input and output tokens are inclusive of their parts."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    web_searches: int = 0
    web_search_tool: str | None = None
    code_containers: int = 0
    images: int = 0
    characters: int = 0
    audio_seconds: int = 0
    rerank_searches: int = 0

    @property
    def fresh_input_tokens(self) -> int:
        """Input that was neither read from nor written to a cache. Raises: nothing."""
        return self.input_tokens - self.cache_read_tokens - self.cache_write_tokens

    @property
    def cache_write_tokens(self) -> int:
        """Cache writes of both lifetimes. Raises: nothing."""
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One answer, decided: a wire only has to put it into its format."""

    number: int
    token: str
    created: int
    asked: Asked
    reply: Reply
    counts: Counts
    response_model: str
    tier: str
    text: str
    tool_calls: Sequence[ToolCall]
    request: ReceivedRequest

    def tool_call_id(self, prefix: str, index: int) -> str:
        """Name the index-th tool call, unique over requests. Raises: nothing."""
        return f"{prefix}{self.token}{index:02d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A piece of a streamed body; `content` marks the pieces of text or arguments that faults count."""

    data: bytes
    content: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What goes on the wire: a body, or frames in its place; `response_id` is the id inside it."""

    content_type: str = "application/json"
    status: int = 200
    body: bytes = b""
    frames: Sequence[Frame] = ()
    response_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error to be put into a provider's own error body."""

    status: int
    message: str
    code: str | None
    token: str

    @property
    def is_server_fault(self) -> bool:
        """Whether the provider is to blame and not the request. Raises: nothing."""
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """One endpoint of one provider: how to read its request and write its answers.

    `broken` gives the frame of an error inside a stream, None where the protocol has none. `billed` is False for
    endpoints that cost nothing (model lists, token counting).
    """

    provider: ProviderName
    endpoint: str
    read: Callable[[ReceivedRequest], Asked]
    write: Callable[[Plan], Outgoing]
    refuse: Callable[[Refusal], Outgoing]
    broken: Callable[[Refusal], Frame | None]
    is_billed: bool = True


def drop_none(fields: Mapping[str, JSON]) -> dict[str, JSON]:
    """Give the fields that are not None. Raises: nothing."""
    return {name: value for name, value in fields.items() if value is not None}
