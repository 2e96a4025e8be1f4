"""The lifetime of what a request to Anthropic writes into a cache: streams through LangChain lose what was billed.

A write for an hour costs more than one for five minutes. Anthropic splits its count in the first event of a stream;
langchain-anthropic (1.0 to 1.4) reads the last one, which has the sum alone. Where all marks of a request ask for one
lifetime, all that it writes has it. Source: Anthropic, prompt caching, "1-hour cache duration".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from farthing.runs import Finish

__all__ = ["asked_lifetime", "with_lifetime"]

_DEFAULT: Final = "5m"
_FIELDS: Final = {"5m": "ephemeral_5m_input_tokens", "1h": "ephemeral_1h_input_tokens"}
_MARK: Final = "cache_control"


def asked_lifetime(prompt: Any, params: Mapping[str, Any]) -> str | None:
    """Give the one lifetime that a request asks for, of `5m` and `1h`; None where it names none, or both.

    Args:
        prompt: What `on_chat_model_start` was given, one list of messages; of their content only the marks are read.
        params: The `invocation_params` of the call.
    """
    found: set[object] = set()
    for part in (params, *_dicts(params.get("tools")), *_dicts(params.get("system")), *_blocks(prompt)):
        mark = part.get(_MARK)
        if type(mark) is dict:
            found.add(cast("dict[str, object]", mark).get("ttl") or _DEFAULT)
    only = found.pop() if len(found) == 1 else None
    return only if isinstance(only, str) and only in _FIELDS else None


def with_lifetime(finish: Finish, lifetime: str | None) -> Finish:
    """Give the end of a call whose cache writes have the lifetime that was asked for, if their own is lost."""
    if lifetime is None or finish.usage is None or finish.usage_shape != "langchain":
        return finish
    wrapped: Any = finish.usage.get("usage_metadata")
    usage: Mapping[str, Any] = finish.usage if wrapped is None else wrapped
    details: Mapping[str, Any] = usage.get("input_token_details") or {}
    written = details.get("cache_creation")
    if not written or any(details.get(name) for name in _FIELDS.values()):
        return finish
    told = {**usage, "input_token_details": {**details, _FIELDS[lifetime]: written}}
    return finish._replace(usage=told if wrapped is None else {**finish.usage, "usage_metadata": told})


def _blocks(prompt: Any) -> Iterator[dict[str, Any]]:
    """Give the blocks of all messages, and those inside the results of tools."""
    messages: Sequence[Any] = prompt[0] if prompt and isinstance(prompt[0], list) else ()
    for message in messages:
        for block in _dicts(getattr(message, "content", None)):
            yield block
            yield from _dicts(block.get("content"))


def _dicts(blocks: Any) -> Iterable[dict[str, Any]]:
    if not isinstance(blocks, list):
        return ()
    return [cast("dict[str, Any]", each) for each in cast("list[object]", blocks) if type(each) is dict]
