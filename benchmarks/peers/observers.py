"""All peers by name."""

from __future__ import annotations

from typing import Final

from callbacks import Farthing, Langfuse, LiteLLMsOwn
from span_writers import OfficialGenAI, OpenInference, Traceloop

__all__ = ["PEERS"]

PEERS: Final = {peer.name: peer for peer in (Farthing, OpenInference, Traceloop, OfficialGenAI, Langfuse, LiteLLMsOwn)}
