"""Server-sent events: frames of a stream, and how a text is cut into pieces."""

from __future__ import annotations

from itertools import pairwise

from farthing.testing.provider.plan import Frame
from farthing.testing.provider.wire_json import JSONObject, dump

CONTENT_TYPE = "text/event-stream; charset=utf-8"
DONE = Frame(data=b"data: [DONE]\n\n")


def data_frame(payload: JSONObject, *, content: bool = False) -> Frame:
    """Make an unnamed event (OpenAI chat, Gemini). Raises: nothing."""
    return Frame(data=b"data: " + dump(payload) + b"\n\n", content=content)


def named_frame(name: str, payload: JSONObject, *, content: bool = False) -> Frame:
    """Make a named event (Anthropic, OpenAI responses). Raises: nothing."""
    return Frame(data=b"event: " + name.encode() + b"\ndata: " + dump(payload) + b"\n\n", content=content)


def pieces(text: str, *, count: int) -> list[str]:
    """Cut a text into at most `count` non-empty pieces of near-equal length. Raises: nothing."""
    count = min(count, len(text))
    bounds = [len(text) * index // count for index in range(count + 1)] if count else [0]
    return [text[start:end] for start, end in pairwise(bounds)]
