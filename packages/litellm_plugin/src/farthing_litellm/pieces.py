"""The pieces of a stream that may never be read to its end: counted where LiteLLM makes them, if estimates are wanted.

LiteLLM has an event for each piece of a sync stream, late and from a pool, and none for those of an async one. Both
take each piece through `CustomStreamWrapper.chunk_creator`; it is wrapped, once, and only under `estimate_unreported`.
Others (anthropic.messages, responses) are estimated by their prompt alone.
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
    """Count pieces from now on."""
    wrapper: Any = getattr(streaming_handler, _WRAPPER, None)
    standing: Any = getattr(wrapper, _METHOD, None)
    if standing is None or getattr(standing, _MARK, False):
        return

    @functools.wraps(standing)
    def chunk_creator(self: Any, *args: Any, **kwargs: Any) -> Any:
        piece = standing(self, *args, **kwargs)
        _count(self, piece)
        return piece

    setattr(chunk_creator, _MARK, True)
    setattr(wrapper, _METHOD, chunk_creator)


@guarded
def _count(stream: Any, piece: Any) -> None:
    meter = get_meter()
    if piece is None or meter is None or not meter.estimating:
        return
    attempt = stream.logging_obj.model_call_details.get(STASH)
    if isinstance(attempt, Attempt):
        meter.received(attempt.key, extract.piece_bytes(piece))
