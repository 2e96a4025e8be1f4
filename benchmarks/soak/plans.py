"""What the provider is to do with a call: every prompt carries its number and the name of a plan.

    soak:001234:e429-ok;

The provider's process reads the plan out of the request's body, whatever framework wrote it, so that nothing has to be
scripted from outside while fifty workers ask at once. The number is the `job_id` under which farthing must book it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from farthing.testing.provider import Fault, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MARKER: Final = re.compile(rb"soak:(\d+):([a-z0-9-]+);")
FIRST_MODEL: Final = "gpt-4.1"
"""Asked first where a fallback follows: plans of the kind `first-...` fail it, and answer any other model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the requests of one call are answered, in turn; the last answer repeats."""

    answers: Sequence[Reply | Fault]
    tells_usage: bool = True
    """Whether who reads the last answer to its end was told the usage."""
    unread: int = 0
    """How many requests before the last are billed although nobody was told their usage."""
    by_model: bool = False
    """Whether the first answer is for FIRST_MODEL and the last for any other, however often each is asked."""


_OK: Final = Reply()
PLANS: Final[Mapping[str, Plan]] = {
    "ok": Plan(answers=[_OK]),
    "cached": Plan(answers=[Reply(cache_read_tokens=64)]),
    "cache-write": Plan(answers=[Reply(cache_read_tokens=700, cache_write_5m_tokens=150, cache_write_1h_tokens=50)]),
    "cache-write-5m": Plan(answers=[Reply(cache_read_tokens=700, cache_write_5m_tokens=150)]),
    "reasoning": Plan(answers=[Reply(reasoning_tokens=40)]),
    "tier-refused": Plan(answers=[Reply(service_tier="default")]),
    "long": Plan(answers=[Reply(chunks=40)]),
    "no-usage": Plan(answers=[Reply(omit_usage=True)], tells_usage=False),
    "slow": Plan(answers=[Reply(delay_seconds=0.4)]),
    "slow-chunks": Plan(answers=[Reply(chunks=8, chunk_delay_seconds=0.05)]),
    "e429": Plan(answers=[Fault(status=429, retry_after_seconds=0)], tells_usage=False),
    "e500": Plan(answers=[Fault(status=500)], tells_usage=False),
    "e400": Plan(answers=[Fault(status=400)], tells_usage=False),
    "drop": Plan(answers=[Fault(drop_connection=True)], tells_usage=False),
    "malformed": Plan(answers=[Fault(malformed_json=True)], tells_usage=False),
    "cut": Plan(answers=[Fault(cut_stream_after=2)], tells_usage=False),
    "cut-error": Plan(answers=[Fault(cut_stream_after=2, cut_with="error")], tells_usage=False),
    "cut-end": Plan(answers=[Fault(cut_stream_after=2, cut_with="end")], tells_usage=False),
    "e429-ok": Plan(answers=[Fault(status=429, retry_after_seconds=0), _OK]),
    "e500-ok": Plan(answers=[Fault(status=500), _OK]),
    "malformed-ok": Plan(answers=[Fault(malformed_json=True), _OK], unread=1),
    "first-e500": Plan(answers=[Fault(status=500), _OK], by_model=True),
    "first-malformed": Plan(answers=[Fault(malformed_json=True), _OK], unread=1, by_model=True),
}


def prompt_of(number: int, plan: str) -> str:
    """Write the prompt that carries both."""
    return f"soak:{number:06d}:{plan}; say something"
