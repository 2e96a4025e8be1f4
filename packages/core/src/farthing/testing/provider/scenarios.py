"""Scenarios that every fake provider knows, for clients that can set a header or a base URL and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farthing.testing.provider.script import Fault, Reply, ScriptedAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

READY_MADE: Mapping[str, ScriptedAnswer] = {
    "rate-limited": Fault(status=429, retry_after_seconds=1),
    "overloaded": Fault(status=503),
    "unauthorized": Fault(status=401),
    "dropped": Fault(drop_connection=True),
    "broken-stream": Fault(cut_stream_after=2),
    "malformed": Fault(malformed_json=True),
    "slow": Reply(delay_seconds=2, chunk_delay_seconds=0.5),
    "cached": Reply(input_tokens=1000, cache_read_tokens=600, output_tokens=200),
    "cache-write": Reply(
        input_tokens=1000,
        cache_read_tokens=700,
        cache_write_5m_tokens=150,
        cache_write_1h_tokens=50,
        output_tokens=40,
    ),
    "reasoning": Reply(input_tokens=1000, output_tokens=500, reasoning_tokens=400),
    "tools": Reply(tool_rounds=1),
    "no-usage": Reply(omit_usage=True),
}
