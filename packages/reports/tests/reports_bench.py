"""Ledgers for the tests: real calls, written by the real sink."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farthing import Attribution, Call, Cost, Usage
from farthing.sinks.ledger import LedgerSink

if TYPE_CHECKING:
    from farthing.envelope import CostStatus

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)

WriteLedger = Callable[..., Path]

_numbers = itertools.count(1)


def make_call(
    *,
    amount: str | Decimal | None = "0.01",
    status: CostStatus = "priced",
    after_seconds: float = 0.0,
    tags: dict[str, str] | None = None,
    saved: str | None = None,
    **fields: Any,
) -> Call:
    """Build one call that started some seconds after noon."""
    number = next(_numbers)
    started = NOON + timedelta(seconds=after_seconds)
    values: dict[str, Any] = {
        "call_id": f"call-{number}",
        "operation_id": f"operation-{number}",
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "started_at": started,
        "ended_at": started + timedelta(seconds=1.5),
        "framework": "langchain",
        "operation": "chat",
        "provider": "openai",
        "request_model": "gpt-4o",
        "attribution": Attribution.model_validate(tags or {}),
        "usage": Usage(input_tokens=100, output_tokens=10),
        "cost": Cost(
            amount_usd=None if amount is None else Decimal(amount),
            status=status,
            saved_usd=None if saved is None else Decimal(saved),
        ),
        "outcome": "success",
    }
    return Call.model_validate(values | fields)


def build_ledger(folder: Path, *batches: list[Call]) -> Path:
    """Write each batch as a process of its own would."""
    for batch in batches:
        sink = LedgerSink(folder)
        sink.write(batch)
        sink.close()
    return folder
