"""The pieces of a stream, looked at where LiteLLM makes them: for their usage, their tier and their size.

LiteLLM loses the tier of a stream when it puts the pieces together, makes the usage anew (see `extract/told.py`), and a
stream that is left has no whole. It has an event for each piece of a sync stream, late and from a pool, and a hook for
the last one of an async stream, unless CrewAI has emptied `litellm.callbacks` by then. Both take each piece through
`CustomStreamWrapper.chunk_creator`; it is wrapped, once, when a `FarthingLogger` is made. Other streams
(anthropic.messages, responses) are estimated by their prompt alone, and their end names its tier itself.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from litellm.litellm_core_utils import streaming_handler

from farthing.guard import guarded
from farthing.setup import get_meter
from farthing_litellm import extract
from farthing_litellm.attempts import STASH, Attempt

__all__ = ["install"]

_WRAPPER: Final = "CustomStreamWrapper"
_METHOD: Final = "chunk_creator"
_MARK: Final = "farthing_wrapped"


@guarded
def install() -> None:
    """Look at pieces from now on."""
    wrapper: Any = getattr(streaming_handler, _WRAPPER, None)
    standing: Any = getattr(wrapper, _METHOD, None)
    if standing is None or getattr(standing, _MARK, False):
        return

    @functools.wraps(standing)
    def chunk_creator(self: Any, *args: Any, **kwargs: Any) -> Any:
        _hear(self, kwargs["chunk"] if "chunk" in kwargs else args[0] if args else None)
        piece = standing(self, *args, **kwargs)
        _note(self, piece)
        return piece

    setattr(chunk_creator, _MARK, True)
    setattr(wrapper, _METHOD, chunk_creator)


@guarded
def _hear(stream: Any, chunk: Any) -> None:
    """Take the usage off a chunk before LiteLLM does: it may end the stream there, or change the chunk."""
    attempt = stream.logging_obj.model_call_details.get(STASH)
    if isinstance(attempt, Attempt):
        attempt.told = extract.hear(attempt.told, chunk, stream.custom_llm_provider)


@guarded
def _note(stream: Any, piece: Any) -> None:
    meter = get_meter()
    attempt = stream.logging_obj.model_call_details.get(STASH)
    if piece is None or meter is None or not isinstance(attempt, Attempt):
        return
    if attempt.served_tier is None:
        attempt.served_tier = extract.tier_of(piece)
    if meter.estimating:
        meter.received(attempt.key, extract.piece_bytes(piece))
