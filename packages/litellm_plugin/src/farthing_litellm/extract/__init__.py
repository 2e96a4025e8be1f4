"""From LiteLLM's objects to plain values: pure, no I/O. The one package where `Any` lives.

LiteLLM's dict is live: it is reused, changed and passed around after the event. Nothing of it is kept but numbers and
names; its `api_key`, headers and `previous_models` are never read, and its messages only counted (see recount.py).
"""

from __future__ import annotations

from farthing_litellm.extract.answering import (
    answered,
    batch,
    must_recount,
    raw_answer,
    tier_of,
    usage_was_withheld,
)
from farthing_litellm.extract.asking import (
    Asked,
    asked,
    is_async,
    is_handed_on,
    is_known,
    is_mock,
    operation_of,
    request_id,
    retries,
)
from farthing_litellm.extract.failing import failed, is_refusal, was_sent
from farthing_litellm.extract.moments import ended_ns, first_chunk_ns, started_ns
from farthing_litellm.extract.sizes import answer_bytes, asked_bytes, piece_bytes
from farthing_litellm.extract.tags import before_setup, is_proxied, trace_headers
from farthing_litellm.extract.told import Told, hear, hear_body, hear_gemini

__all__ = [
    "Asked",
    "Told",
    "answer_bytes",
    "answered",
    "asked",
    "asked_bytes",
    "batch",
    "before_setup",
    "ended_ns",
    "failed",
    "first_chunk_ns",
    "hear",
    "hear_body",
    "hear_gemini",
    "is_async",
    "is_handed_on",
    "is_known",
    "is_mock",
    "is_proxied",
    "is_refusal",
    "must_recount",
    "operation_of",
    "piece_bytes",
    "raw_answer",
    "request_id",
    "retries",
    "started_ns",
    "tier_of",
    "trace_headers",
    "usage_was_withheld",
    "was_sent",
]
