"""The pieces of a stream, looked at where LiteLLM makes them: for their usage, their tier and their size.

LiteLLM loses the tier of a stream when it puts the pieces together, makes the usage anew (see `extract/told.py`), and a
stream that is left has no whole. It has an event for each piece of a sync stream, late and from a pool, and a hook for
the last one of an async stream, unless CrewAI has emptied `litellm.callbacks` by then. Both take each piece through
`CustomStreamWrapper.chunk_creator`; it is wrapped, once, when a `FarthingLogger` is made. Two more places are, for what
is lost before that: where Gemini's events are read, each of which gets a finish reason, and where a stream ends that
was handed on as it came (anthropic.messages, a proxy's pass-through) and gets what it did not tell. Other streams are
estimated by their prompt alone, and their end names its tier itself.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any, Final

from litellm.litellm_core_utils import streaming_handler

from farthing.guard import guarded
from farthing.setup import get_meter
from farthing_litellm import extract
from farthing_litellm.attempts import STASH, Attempt

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["install", "install_handed_on"]

_MARK: Final = "farthing_wrapped"
_GEMINI: Final = "litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini"
_BUILD: Final = "_build_passthrough_logging_result"
_HANDED_ON: Final = "litellm.proxy.pass_through_endpoints.streaming_handler"


@guarded
def install() -> None:
    """Look at pieces from now on."""
    _replace(streaming_handler, "CustomStreamWrapper", "chunk_creator", _listening)
    _replace(sys.modules.get(_GEMINI), "ModelResponseIterator", "chunk_parser", _listening_to_gemini)
    _replace(sys.modules.get(_HANDED_ON), "PassThroughStreamingHandler", _BUILD, _reading_whole)


@guarded
def install_handed_on() -> None:
    """Look at streams that are handed on as they come; LiteLLM imports what does it when the first one is there."""
    if _HANDED_ON not in sys.modules:
        with contextlib.suppress(ImportError):  # parts of its proxy that are not installed: it cannot stream then
            importlib.import_module(_HANDED_ON)
    _replace(sys.modules.get(_HANDED_ON), "PassThroughStreamingHandler", _BUILD, _reading_whole)


def _replace(module: Any, holder: str, name: str, made: Callable[[Any], Any]) -> None:
    owner: Any = getattr(module, holder, None)
    standing: Any = getattr(owner, name, None)
    if standing is None or getattr(standing, _MARK, False):
        return
    wrapped: Any = functools.wraps(standing)(made(standing))
    setattr(wrapped, _MARK, True)
    is_static = isinstance(inspect.getattr_static(owner, name), staticmethod)
    setattr(owner, name, staticmethod(wrapped) if is_static else wrapped)


def _listening(standing: Any) -> Any:
    def chunk_creator(self: Any, *args: Any, **kwargs: Any) -> Any:
        _hear(self, kwargs["chunk"] if "chunk" in kwargs else args[0] if args else None)
        piece = standing(self, *args, **kwargs)
        _note(self, piece)
        return piece

    return chunk_creator


def _listening_to_gemini(standing: Any) -> Any:
    def chunk_parser(self: Any, chunk: Any) -> Any:
        _hear_gemini(self, chunk)
        return standing(self, chunk)

    return chunk_parser


def _reading_whole(standing: Any) -> Any:
    def build(*args: Any, **kwargs: Any) -> Any:
        _read(kwargs.get("litellm_logging_obj"), kwargs.get("raw_bytes"))
        return standing(*args, **kwargs)

    return build


@guarded
def _hear(stream: Any, chunk: Any) -> None:
    """Take the usage off a chunk before LiteLLM does: it may end the stream there, or change the chunk."""
    attempt = stream.logging_obj.model_call_details.get(STASH)
    if isinstance(attempt, Attempt):
        attempt.told = extract.hear(attempt.told, chunk, stream.completion_stream, stream.custom_llm_provider)


@guarded
def _hear_gemini(events: Any, event: Any) -> None:
    attempt = events.logging_obj.model_call_details.get(STASH)
    if isinstance(attempt, Attempt):
        attempt.told = extract.hear_gemini(attempt.told, event)


@guarded
def _read(logging: Any, raw: Any) -> None:
    attempt = logging.model_call_details.get(STASH)
    if isinstance(attempt, Attempt) and (told := extract.hear_body(b"".join(raw))) is not None:
        attempt.told = told


@guarded
def _note(stream: Any, piece: Any) -> None:
    meter = get_meter()
    attempt = stream.logging_obj.model_call_details.get(STASH)
    if piece is None or meter is None or not isinstance(attempt, Attempt):
        return
    attempt.served_tier = extract.tier_of(piece) or attempt.served_tier
    if meter.estimating:
        meter.received(attempt.key, extract.piece_bytes(piece))
