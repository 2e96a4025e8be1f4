"""LangChain's objects to plain values: pure, no I/O, and nothing of a prompt, an output or the text of an error.

Sources: the callback arguments of langchain-core 1.3 to 1.8, the `response_metadata` and `llm_output` of
langchain-openai, -anthropic, -aws, -google-genai, -litellm, -ollama. What a provider leaves out stays None.
"""

from __future__ import annotations

import functools
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from farthing.context import NOTHING
from farthing.dimensions import canonical_name
from farthing.envelope import DIMENSIONS
from farthing.estimating import prompt_bytes, text_bytes
from farthing.failures import error_type, http_status
from farthing.meter import Finish
from farthing.providers import known_provider
from farthing.usage import billed_calls
from farthing.usage.raw import collapse_text
from farthing_langchain import gemini
from farthing_langchain.versions import converse_leaves_the_cache_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from farthing.envelope import Outcome

__all__ = [
    "MAX_NAME_LENGTH",
    "NOTHING",
    "Asked",
    "agent_name",
    "answer_bytes",
    "asked",
    "attempt",
    "failed",
    "finished",
    "is_agent",
    "is_node",
    "is_shared_bill",
    "piece_bytes",
    "prompt_size",
    "scope_outcome",
    "tags_of",
]

MAX_TAGS: Final = 64
"""Metadata keys looked at on one run; a dictionary of thousands is somebody's payload, not tags."""
MAX_NAME_LENGTH: Final = 128

_FRAMEWORK_PREFIXES: Final = ("ls_", "lc_", "langgraph_", "__pregel", "checkpoint_", "langsmith")
_SESSION_KEYS: Final = frozenset({"thread_id", "conversation_id"})
_FRAMEWORK_TAGS: Final = frozenset({"seq", "map", "graph", "retry", "langsmith"})
_RENAMED: dict[str, str | None] = {}
_MAX_RENAMED: Final = 4096
_LITELLM: Final = "litellm"
"""Behind ChatLiteLLM; it gives a broken connection 500 and a timeout 408."""


class Asked(NamedTuple):
    """What is known of a model call before it is made."""

    provider: str | None
    model: str | None
    over_library: bool
    """Whether the model is no provider's own client, so that another layer of ours may see the same call."""
    tags: Mapping[str, object]
    details: Mapping[str, str]
    tier: str | None
    streaming: bool
    attempt: int
    in_agent: bool
    """Whether it is the model step of an agent, whose middleware tries again without saying so."""
    prompts: int
    """How many runs were begun together, for one or for several requests."""
    params: Mapping[str, Any]
    """The request's parameters, of which only marks and sizes are read; runs begun together share the one object."""


def tags_of(metadata: Mapping[str, Any] | None, labels: list[str] | None) -> Mapping[str, object]:
    """Give what may be attribution in a run's config: metadata, and `tags=["feature:x"]` below it.

    Values that are not plain go on only under the name of a dimension, for the policy to refuse; it reads none of them.
    """
    found: dict[str, object] = {}
    for label in labels or ():
        name, colon, value = label.partition(":")
        if colon and name not in _FRAMEWORK_TAGS and len(found) < MAX_TAGS:
            found[name] = value
    session: object = None
    for key, value in metadata.items() if metadata else ():
        name = _RENAMED[key] if key in _RENAMED else _rename(key)
        if name is None:
            continue
        if name == "session_id" and key != name:
            session = value
        elif (value is None or type(value) in _PLAIN or canonical_name(key) in DIMENSIONS) and len(found) < MAX_TAGS:
            found[name] = value
    if session is not None and "session_id" not in found:
        found["session_id"] = session
    return found or NOTHING


_PLAIN: Final = frozenset({str, int, bool, float})


def _rename(key: Any) -> str | None:
    """Decide once what a metadata key is called here; None is the framework's own."""
    if not isinstance(key, str) or key.startswith(_FRAMEWORK_PREFIXES):
        name = None
    else:
        name = "session_id" if key in _SESSION_KEYS else key
    if len(_RENAMED) >= _MAX_RENAMED:
        _RENAMED.clear()
    _RENAMED[key] = name
    return name


def asked(metadata: Mapping[str, Any] | None, labels: list[str] | None, kwargs: Mapping[str, Any]) -> Asked:
    """Read the start of a model call; of `invocation_params` only the model's name, the tier and two numbers."""
    known = metadata or NOTHING
    params: Mapping[str, Any] = kwargs.get("invocation_params") or NOTHING
    written: Any = known.get("ls_provider")
    model: Any = known.get("ls_model_name") or params.get("model") or params.get("model_name")
    model = model if isinstance(model, str) else None
    provider = written if isinstance(written, str) else None
    over_library = _is_library(provider)
    if provider == "litellm" and model:
        prefix, _, rest = model.partition("/")
        if known_provider(prefix):
            provider, model = prefix, rest or None
    tier: Any = params.get("service_tier")
    batch: Any = kwargs.get("batch_size")
    return Asked(
        provider,
        model,
        over_library,
        tags_of(metadata, labels),
        _details(known),
        tier if isinstance(tier, str) else None,
        params.get("stream") is True or params.get("streaming") is True,
        attempt(labels),
        known.get("langgraph_node") == "model",
        batch if type(batch) is int else 1,
        params,
    )


@functools.lru_cache(maxsize=1024)
def _is_library(provider: str | None) -> bool:
    """Say whether a model is not one of a provider's own: LiteLLM, or a class in front of who knows what."""
    return provider is None or known_provider(provider) is None


def attempt(labels: list[str] | None) -> int:
    """Give the number that `with_retry` puts on a run; the first attempt has none."""
    for label in labels or ():
        if label.startswith(_ATTEMPT):
            number = label[len(_ATTEMPT) :]
            return int(number) if number.isdigit() else 1
    return 1


_ATTEMPT: Final = "retry:attempt:"


def _details(metadata: Mapping[str, Any]) -> Mapping[str, str]:
    """Give the names that LangGraph and LangChain's agents put on a call for free."""
    found: dict[str, str] = {}
    for key, name in _DETAILS:
        if key in metadata and isinstance(value := metadata[key], str):
            found[name] = value[:MAX_NAME_LENGTH]
    return found or _NO_DETAILS


_DETAILS: Final = (("langgraph_node", "node"), ("lc_agent_name", "agent"), ("lc_source", "source"))
_NO_DETAILS: Final[Mapping[str, str]] = {}


def agent_name(metadata: Mapping[str, Any] | None) -> str | None:
    """Give the name of the agent that a run belongs to, if its maker named it."""
    if not metadata or "lc_agent_name" not in metadata:
        return None
    name = metadata["lc_agent_name"]
    return name[:MAX_NAME_LENGTH] if isinstance(name, str) and name else None


def is_agent(metadata: Mapping[str, Any] | None) -> bool:
    """Say whether a root run is one of LangChain's agents."""
    return bool(metadata) and metadata.get("ls_integration") == "langchain_create_agent"  # type: ignore[union-attr]


def is_node(metadata: Mapping[str, Any] | None, labels: list[str] | None, name: object) -> bool:
    """Say whether a chain run is a node of a graph: then the run above it is that graph."""
    if not metadata or not labels or metadata.get("langgraph_node") != name:
        return False
    return any(label.startswith("graph:step:") for label in labels)


def finished(response: Any, ended_ns: int) -> Finish:
    """Read the end of a model call.

    The first generation speaks for all: with n > 1 LangChain repeats the usage of the request on each of them.
    ChatLiteLLM's `response_cost` is LiteLLM's own opinion and is not read.
    """
    generations: Any = response.generations
    first: Any = generations[0][0] if generations and generations[0] else None
    output: Mapping[str, Any] = response.llm_output or NOTHING
    message: Any = getattr(first, "message", None)
    if message is None:
        return _completed(first, output, ended_ns)
    metadata: Mapping[str, Any] = message.response_metadata or NOTHING
    raw, shape, cached = _usage(message, metadata, output)
    reason: Any = metadata.get("finish_reason") or metadata.get("stop_reason") or metadata.get("stopReason")
    return Finish(
        ended_ns,
        usage=raw,
        usage_shape=shape,
        has_content=bool(message.content) or bool(getattr(message, "tool_calls", None)),
        response_model=_text(metadata.get("model_name") or output.get("model_name")),
        response_id=_response_id(message, metadata, output),
        service_tier=_text(_tier(metadata, output)),
        finish_reason=_text(reason),
        cache_hit=cached,
    )


def _tier(metadata: Mapping[str, Any], output: Mapping[str, Any]) -> Any:
    """Give the tier that was served: OpenAI names it beside the usage, Anthropic inside, Bedrock in an object."""
    served: Any = metadata.get("service_tier") or output.get("service_tier")
    if served is None:
        served = (_dict(metadata.get("usage")) or NOTHING).get("service_tier")
    if served is None:
        served = (_dict(metadata.get("serviceTier")) or NOTHING).get("type")
    return served


def _usage(
    message: Any, metadata: Mapping[str, Any], output: Mapping[str, Any]
) -> tuple[Mapping[str, object] | None, str, bool]:
    """Give the most exact usage of a message, its shape, and whether LangChain's cache answered.

    `total_cost` is what core puts there on a cache hit (from 0.3.79 on). Anthropic's own object, where it is kept,
    also counts searches and the lifetimes of cache writes; OpenAI's searches, and those of Anthropic's streams, stand
    in the content alone.
    """
    usage: Any = getattr(message, "usage_metadata", None)
    if not usage:
        return _mapping(output.get("token_usage")), "openai_chat", False
    cached = "total_cost" in usage
    provider_usage = _dict(metadata.get("usage"))
    if (
        provider_usage is not None
        and "input_tokens" in provider_usage
        and metadata.get("model_provider", "anthropic") == "anthropic"
    ):
        return dict(provider_usage), "anthropic", cached
    plain = dict(usage)
    for name in ("input_token_details", "output_token_details"):
        if details := plain.get(name):
            plain[name] = dict(details)
    if metadata.get("model_provider") == gemini.PROVIDER:
        plain = gemini.with_tool_prompt(plain)
    if _leaves_the_cache_out(metadata):
        into: Mapping[str, Any] = plain.get("input_token_details") or NOTHING
        plain["input_tokens"] += (into.get("cache_read") or 0) + (into.get("cache_creation") or 0)
    has_parts = type(message.content) is not str or bool(message.additional_kwargs)
    calls = billed_calls(list(_tool_calls(message))) if has_parts else []
    if "grounding_metadata" in metadata:
        calls += gemini.searches(metadata)
    if calls:
        return {"usage_metadata": plain, "output": calls}, "langchain", cached
    return plain, "langchain", cached


def _leaves_the_cache_out(metadata: Mapping[str, Any]) -> bool:
    """Say whether input tokens are without cached ones: ChatBedrock's (langchain-aws 1.9 still), older Converse's."""
    maker: Any = metadata.get("model_provider")
    return maker == "bedrock" or (maker == "bedrock_converse" and converse_leaves_the_cache_out())


def _tool_calls(message: Any) -> Iterator[Mapping[str, object]]:
    """Give what a message has of calls that the provider ran itself, as items of OpenAI's Responses API.

    langchain-openai keeps the items as they are, in the content (`responses/v1`) or beside it (`v0`); `v1` makes server
    tool calls of them, with the action among the arguments. Anthropic bills a search that gave a list of results; the
    result of one that failed is an error object.
    """
    content: Any = message.content
    blocks: tuple[Any, ...] = () if isinstance(content, str) else tuple(content)
    for block in (*blocks, *(message.additional_kwargs.get("tool_outputs") or ())):
        known = _dict(block)
        kind: Any = known.get("type") if known else None
        if known is None:
            continue
        if kind == "web_search_tool_result" and type(known.get("content")) is list:
            yield {"type": "web_search_call"}
        elif kind == "server_tool_call":
            yield {"type": f"{known.get('name')}_call", "action": known.get("args")}
        else:
            yield known


def _dict(value: Any) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if type(value) is dict else None


def _completed(first: Any, output: Mapping[str, Any], ended_ns: int) -> Finish:
    """Read the end of a plain LLM, whose usage is the provider's own or Ollama's."""
    about: Any = getattr(first, "generation_info", None) or NOTHING
    raw = _mapping(output.get("token_usage") or output.get("usage") or about.get("token_usage"))
    shape = "openai_chat"
    if raw is None and about.get("eval_count") is not None:
        raw = {"input_tokens": about.get("prompt_eval_count"), "output_tokens": about.get("eval_count")}
        shape = "langchain"
    return Finish(
        ended_ns,
        usage=raw,
        usage_shape=shape,
        has_content=bool(getattr(first, "text", None)),
        response_model=_text(output.get("model_name") or about.get("model_name")),
        response_id=_text(output.get("id")),
        service_tier=_text(output.get("service_tier") or about.get("service_tier")),
        finish_reason=_text(about.get("finish_reason")),
    )


def prompt_size(prompt: Any, params: Any) -> int:
    """Give the size of what is asked, for estimates: LangChain's messages or prompts, and the definitions of tools."""
    first: Any = prompt[0] if prompt and isinstance(prompt[0], list) else prompt
    return prompt_bytes(first, params.get("tools"))


def piece_bytes(token: Any, chunk: Any) -> int:
    """Give the size of one piece of a streamed reply: its text, else the piece of a tool's call."""
    message: Any = getattr(chunk, "message", None)
    return text_bytes([token, getattr(message, "tool_call_chunks", None)])


def answer_bytes(response: Any) -> int:
    """Give the size of an answer."""
    first: Any = response.generations[0] if response.generations else []
    return sum(text_bytes(getattr(each, "message", None) or getattr(each, "text", None)) for each in first)


def is_shared_bill(response: Any) -> bool:
    """Say whether a run's usage stands on the first run of its batch: `LLMResult.flatten` empties it on all others."""
    output: Any = response.llm_output
    return output is not None and output.get("token_usage") == {}


def failed(error: BaseException, ended_ns: int, *, uncertain: bool, handled: int | None = None) -> Finish:
    """Read the failure of a model call: a status or a class name, never a text.

    A provider that answered with an error status bills nothing; whoever timed out, hung up or left cannot know.

    Args:
        error: What was raised.
        ended_ns: Nanoseconds since the epoch.
        uncertain: Whether a status proves nothing: the answer had begun, so that the status is a word inside it, or a
            batch of a plain LLM may have made requests before the one that failed.
        handled: As for `farthing.failures.causes`.
    """
    status = http_status(error, invented_in=_LITELLM, handled=handled)
    if status is not None:
        billed = None if uncertain else False
        return Finish(
            ended_ns,
            outcome="error",
            error_type=error_type(error, status=status),
            billed=billed,
            usage_shape="openai_chat",
        )
    outcome: Outcome = "error"
    if isinstance(error, GeneratorExit):
        outcome = "abandoned"
    elif isinstance(error, CancelledError):
        outcome = "cancelled"
    # A reply that was paid for and then refused: openai's LengthFinishReasonError keeps it.
    refused: Any = getattr(error, "completion", None)
    return Finish(
        ended_ns,
        outcome=outcome,
        error_type=error_type(error, invented_in=_LITELLM, handled=handled),
        usage=_mapping(getattr(refused, "usage", None)),
        usage_shape="openai_chat",
        has_content=True,
        response_model=_text(getattr(refused, "model", None)),
        response_id=_text(getattr(refused, "id", None)),
        service_tier=_text(getattr(refused, "service_tier", None)),
        finish_reason="length" if refused is not None else None,
    )


def scope_outcome(error: BaseException, handled: int | None) -> tuple[Outcome, str | None]:
    """Say how a chain ended: a consumer or a canceller leaving is no error, and neither is a detour of LangGraph.

    Its interrupts and commands to a parent graph leave a node as exceptions of the family GraphBubbleUp.
    """
    kind = type(error)
    if isinstance(error, (CancelledError, GeneratorExit)):
        return "abandoned", kind.__name__
    if any(base.__name__ == "GraphBubbleUp" for base in kind.__mro__):
        return "success", None
    return "error", error_type(error, invented_in=_LITELLM, handled=handled)


def _response_id(message: Any, metadata: Mapping[str, Any], output: Mapping[str, Any]) -> str | None:
    found: Any = output.get("id") or metadata.get("id")
    if found is None and (about := metadata.get("ResponseMetadata")):
        found = about.get("RequestId")
    if found is None and isinstance(message.id, str) and not message.id.startswith(("lc_", "run-")):
        found = message.id
    return _text(found)


def _mapping(value: Any) -> dict[str, object] | None:
    if not value:
        return None
    if isinstance(value, dict):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    dump = getattr(value, "model_dump", None)
    return dump() if callable(dump) else None  # type: ignore[return-value]


def _text(value: Any) -> str | None:
    """Give a short text once, however often LangChain joined it from the chunks of a stream."""
    if not isinstance(value, str) or not value:
        return None
    return collapse_text(value)[:MAX_NAME_LENGTH]
