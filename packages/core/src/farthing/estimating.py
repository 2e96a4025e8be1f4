"""What a call without usage may have used: counted in bytes where it is made, turned into tokens where it is priced.

A plugin hands over counts alone, and takes them only where the user asked for estimates; no text is kept or queued. The
method is one ratio, UTF-8 bytes to tokens, since no tokenizer is known for most models and running one costs the caller
milliseconds. How far it is off is measured by benchmarks/estimate.py and stated in the README.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from farthing.envelope import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BYTES_PER_TOKEN", "METHOD", "estimated_usage", "prompt_bytes", "text_bytes"]

METHOD: Final = "estimated:utf8-bytes"
"""The flag on a cost that was estimated in this way."""

BYTES_PER_TOKEN: Final = 4
"""OpenAI's rule of thumb for English, in letters; in bytes it is near the truth for other scripts too."""

_BYTES_PER_MESSAGE: Final = 16
"""Role and separators are about four tokens (OpenAI cookbook, counting tokens for chat completions)."""
_MAX_NODES: Final = 50_000
_LABELS: Final = {
    *("role", "type", "id", "tool_call_id", "index", "signature", "mime_type", "media_type", "cache_control", "detail")
}
_MEDIA: Final = {
    *("image_url", "image", "input_audio", "audio", "video", "file", "file_data", "inline_data", "source"),
    *("data", "url", "bytes", "b64_json"),
}
_NO_TEXT: Final = frozenset(_LABELS | _MEDIA)
"""Names of what is no text for a model: labels of the wire format, and pictures, sound and files."""
_OF_A_MESSAGE: Final = ("content", "tool_calls", "function", "arguments", "name")


def prompt_bytes(messages: object, *more: object) -> int:
    """Give the size of a prompt's text.

    Args:
        messages: A text, or a list of texts, dicts or message objects of any framework.
        more: What else is sent along with them, such as the definitions of tools.

    Raises:
        Nothing of its own.
    """
    listed: list[object] = cast("list[object]", messages) if isinstance(messages, list) else [messages]
    return len(listed) * _BYTES_PER_MESSAGE + text_bytes(listed) + sum(text_bytes(each) for each in more)


def text_bytes(value: object) -> int:
    """Add up the UTF-8 bytes of all text in a text, a list, a dict or a message object.

    Raises:
        Nothing of its own.
    """
    size, nodes, waiting = 0, 0, [value]
    while waiting and nodes < _MAX_NODES:
        nodes += 1
        found = waiting.pop()
        if isinstance(found, str):
            size += len(found) if found.isascii() else len(found.encode("utf-8", "replace"))
        elif isinstance(found, dict):
            for name, inner in cast("Mapping[object, object]", found).items():
                if name not in _NO_TEXT:
                    waiting.append(inner)
        elif isinstance(found, list | tuple):
            waiting.extend(cast("list[object]", found))
        elif found is not None and not isinstance(found, int | float | bytes | bytearray):
            thing: Any = found
            waiting.extend(getattr(thing, name, None) for name in _OF_A_MESSAGE)
    return size


def estimated_usage(asked_bytes: int, received_bytes: int) -> Usage:
    """Turn sizes into tokens, rounded up.

    Raises:
        Nothing.
    """
    return Usage(input_tokens=-(-asked_bytes // BYTES_PER_TOKEN), output_tokens=-(-received_bytes // BYTES_PER_TOKEN))
