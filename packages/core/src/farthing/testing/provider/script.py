"""What the fake provider is told to answer: replies, faults, and the rules that choose between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, TypeAlias

from farthing.testing.provider.wire_json import JSON, JSONObject, as_object, parse

if TYPE_CHECKING:
    from datetime import datetime

CutWith: TypeAlias = Literal["disconnect", "end", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """One request exactly as it arrived; header names are lower case, the path is without a scenario prefix.

    `model` is the id on the wire (for Azure the deployment); `scenario` is the name asked for, if any.
    """

    number: int
    at: datetime
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    model: str | None
    scenario: str | None

    @property
    def json(self) -> JSON:
        """The body as JSON, None when it is not JSON. Raises: nothing."""
        return parse(self.body)

    @property
    def document(self) -> JSONObject:
        """The body as a JSON object, empty when it is none. Raises: nothing."""
        return as_object(self.json)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool that the fake model makes; without arguments they are built from the tool's JSON schema."""

    name: str
    arguments: JSONObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A successful answer; what is left None is derived from the request (its number, model, tools and schema).

    Token counts are inclusive: `input_tokens` holds the cache reads, cache writes and audio; `output_tokens` holds
    reasoning and audio, for all choices together. Each wire then reports them the way its provider does.
    `service_tier` is the tier served, in the provider's word; `response_model` the model named in the response
    ("" names none, and the one asked for is billed). `finish_reason` of "" leaves an OpenAI chat without one.
    `pages_read` is how many pages OpenAI's search tool opens or looks through, which is no search and not billed.
    `code_runs` is how often it runs code in one new container, which is billed.
    `chunks` is how many pieces a stream cuts the text into. `tool_rounds=k` calls the first tool offered until the
    conversation holds k tool results. `usage_extra` is merged into the usage object (`{"cost": 0.01}`).
    `usage_on_every_chunk` repeats the usage on each chunk of an OpenAI chat stream, as vLLM does with
    `continuous_usage_stats`, and of a Gemini stream; `bare_message_delta` leaves only output_tokens in Anthropic's
    last usage, as proxies do. `usage_on_finish` puts an OpenAI chat stream's usage on the chunk that finishes its
    choice, as some servers do. `first_output_tokens` is what Anthropic's stream begins its count with,
    `first_service_tier` the tier that the first chunk of an OpenAI chat stream names instead of the one served.

    Raises:
        ValueError: a negative count, or parts above their whole.
    """

    text: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    web_searches: int = 0
    pages_read: int = 0
    code_runs: int = 0
    audio_seconds: int = 60
    service_tier: str | None = None
    first_service_tier: str | None = None
    response_model: str | None = None
    finish_reason: str | None = None
    chunks: int = 4
    chunk_delay_seconds: float = 0.0
    delay_seconds: float = 0.0
    omit_usage: bool = False
    usage_extra: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    usage_on_every_chunk: bool = False
    bare_message_delta: bool = False
    usage_on_finish: bool = False
    first_output_tokens: int = 1
    tool_calls: Sequence[ToolCall] = ()
    tool_rounds: int = 0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        for name in _COUNTS:
            _refuse_negative(name, getattr(self, name))
        if self.chunks < 1:
            raise ValueError("chunks must be at least 1")
        if self.input_tokens is not None and self.input_parts > self.input_tokens:
            raise ValueError(f"input parts ({self.input_parts}) are above input_tokens ({self.input_tokens})")
        if self.output_tokens is not None and self.output_parts > self.output_tokens:
            raise ValueError(f"output parts ({self.output_parts}) are above output_tokens ({self.output_tokens})")

    @property
    def input_parts(self) -> int:
        """The sum of the parts of the input that are counted apart. Raises: nothing."""
        return (
            self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens + self.input_audio_tokens
        )

    @property
    def output_parts(self) -> int:
        """The sum of the parts of the output that are counted apart. Raises: nothing."""
        return self.reasoning_tokens + self.output_audio_tokens


_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "web_searches",
    "pages_read",
    "code_runs",
    "audio_seconds",
    "tool_rounds",
    "first_output_tokens",
    "chunk_delay_seconds",
    "delay_seconds",
)


def _refuse_negative(name: str, value: float | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} must be a number of at least 0, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An answer that goes wrong.

    `status` is an HTTP error with the provider's own error body, `retry_after_seconds` its Retry-After header.
    `drop_connection` closes the socket without an answer. `cut_stream_after=k` sends k content chunks and then, by
    `cut_with`, drops the connection, ends the body cleanly without a terminal event, or sends the provider's in-stream
    error; an answer that is no stream loses its second half. `malformed_json` answers 200 with broken JSON.
    `hang_seconds` sends nothing for that long, then does what the other fields say, or closes the connection.
    `reply` is the answer that was under way; it is what a billed fault bills. `billed=None` bills as a real provider
    does: a cut or malformed answer was generated and is billed, all the rest is not.

    Raises:
        ValueError: no fault at all, a status below 400, or a negative number.
    """

    status: int | None = None
    message: str | None = None
    code: str | None = None
    retry_after_seconds: float | None = None
    drop_connection: bool = False
    cut_stream_after: int | None = None
    cut_with: CutWith = "disconnect"
    malformed_json: bool = False
    hang_seconds: float = 0.0
    billed: bool | None = None
    reply: Reply | None = None

    def __post_init__(self) -> None:
        for name in ("retry_after_seconds", "cut_stream_after", "hang_seconds"):
            _refuse_negative(name, getattr(self, name))
        if self.status is not None and self.status < HTTPStatus.BAD_REQUEST:
            raise ValueError(f"status must be an error of 400 or more, not {self.status}")
        kinds = (self.status is not None, self.drop_connection, self.cut_stream_after is not None, self.malformed_json)
        if sum(kinds) > 1:
            raise ValueError("choose one of status, drop_connection, cut_stream_after, malformed_json")
        if not any(kinds) and not self.hang_seconds:
            raise ValueError("a Fault needs status, drop_connection, cut_stream_after, malformed_json or hang_seconds")

    @property
    def is_billed(self) -> bool:
        """Whether the invoice gets a line for it. Raises: nothing."""
        if self.billed is not None:
            return self.billed
        return self.cut_stream_after is not None or self.malformed_json


ScriptedAnswer: TypeAlias = "Reply | Fault"
Predicate: TypeAlias = Callable[[ReceivedRequest], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A scripted answer and the requests it is for; `times=None` means for ever.

    `model` and `path` are shell-style patterns (`claude-*`, `/v1/chat/*`).

    Raises:
        ValueError: `times` below 1.
    """

    answer: ScriptedAnswer
    model: str | None = None
    path: str | None = None
    when: Predicate | None = None
    times: int | None = 1

    def __post_init__(self) -> None:
        if self.times is not None and self.times < 1:
            raise ValueError(f"times must be at least 1, or None for ever, not {self.times}")

    def matches(self, request: ReceivedRequest) -> bool:
        """Whether this rule is for that request. Raises: what the predicate raises."""
        if self.model is not None and not fnmatchcase(request.model or "", self.model):
            return False
        if self.path is not None and not fnmatchcase(request.path, self.path):
            return False
        return self.when is None or self.when(request)


class UnknownScenarioError(LookupError):
    """The request names a scenario that nobody registered."""


class Script:
    """Rules in the order they were added and scenarios by name; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[tuple[Rule, int | None]] = []
        self._scenarios: dict[str, list[ScriptedAnswer]] = {}

    def add(self, rule: Rule) -> None:
        """Put a rule at the end of the queue. Raises: nothing."""
        with self._lock:
            self._rules.append((rule, rule.times))

    def add_scenario(self, name: str, answers: Sequence[ScriptedAnswer]) -> None:
        """Register a scenario, or replace it; its last answer repeats for ever.

        Raises:
            ValueError: no answers.
        """
        if not answers:
            raise ValueError(f"scenario {name!r} needs at least one answer")
        with self._lock:
            self._scenarios[name] = list(answers)

    def take(self, request: ReceivedRequest, *, is_billed: bool = True) -> ScriptedAnswer | None:
        """Give the scripted answer for a request, and use it up; None when nothing is scripted.

        An endpoint that costs nothing is answered only by rules that name a path, so that a client's look at the
        model list does not use up the reply meant for its completion.

        Raises:
            UnknownScenarioError: the request names a scenario that nobody registered.
        """
        with self._lock:
            if request.scenario is not None:
                return self._next_of_scenario(request.scenario)
            return self._next_rule(request, is_billed=is_billed)

    def _next_of_scenario(self, name: str) -> ScriptedAnswer:
        answers = self._scenarios.get(name)
        if answers is None:
            known = ", ".join(sorted(self._scenarios)) or "none"
            raise UnknownScenarioError(f"unknown scenario {name!r}; registered: {known}")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _next_rule(self, request: ReceivedRequest, *, is_billed: bool) -> ScriptedAnswer | None:
        for index, (rule, left) in enumerate(self._rules):
            if not rule.matches(request) or not (is_billed or rule.path):
                continue
            if left is not None:
                if left == 1:
                    del self._rules[index]
                else:
                    self._rules[index] = (rule, left - 1)
            return rule.answer
        return None

    @property
    def pending(self) -> tuple[Rule, ...]:
        """Rules that still wait for requests (those for ever included). Raises: nothing."""
        with self._lock:
            return tuple(rule for rule, _ in self._rules)
