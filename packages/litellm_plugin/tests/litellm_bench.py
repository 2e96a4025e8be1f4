"""A fake provider and a ledger for each test, and the one question they all ask: is the total right?"""

from __future__ import annotations

import gc
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import litellm

if TYPE_CHECKING:
    from farthing import Call
    from farthing.testing import Captured
    from farthing.testing.provider import FakeProvider

__all__ = ["ASK", "SECRET", "Bench", "lite"]

lite: Final[Any] = litellm
"""LiteLLM without its types, half of which are unknown to a checker."""

SECRET: Final = "the-secret-of-the-prompt"
ASK: Final = [{"role": "user", "content": f"say {SECRET}"}]


class Bench:
    """What a test calls, and what it finds afterwards."""

    def __init__(self, provider: FakeProvider, captured: Captured) -> None:
        self.provider: Final = provider
        self.captured: Final = captured

    def openai(self, model: str = "gpt-4o-mini", **more: Any) -> dict[str, Any]:
        """Give the arguments of a chat with OpenAI."""
        return {
            "model": f"openai/{model}",
            "api_base": self.provider.openai_url,
            "api_key": "sk-secret",
            "messages": ASK,
            "max_retries": 0,
            **more,
        }

    def anthropic(self, model: str = "claude-sonnet-4-5", **more: Any) -> dict[str, Any]:
        """Give the arguments of a chat with Anthropic."""
        return {
            "model": f"anthropic/{model}",
            "api_base": self.provider.anthropic_url,
            "api_key": "sk-secret",
            "messages": ASK,
            "max_retries": 0,
            **more,
        }

    def settled(self, *, unknown: int = 0, duplicates: int | None = 0) -> list[Call]:
        """Compare ledger and invoice: to the last digit, or with as many unknowns as the test expects.

        Duplicates of None are as many as come: some second events of LiteLLM's come late or never.
        """
        assert self.provider.settle()
        deadline = time.monotonic() + 20
        gc.collect()
        calls = self.captured.calls
        while self.captured.health.open_runs and time.monotonic() < deadline:
            time.sleep(0.05)  # LiteLLM's pool may still hold a stream that was left
            gc.collect()
            calls = self.captured.calls
        known = [call.cost.amount_usd for call in calls if call.cost.amount_usd is not None]
        without = [call for call in calls if call.cost.amount_usd is None]
        assert len(without) == unknown, [(call.cost.status, call.cost.flags) for call in without]
        assert all(call.cost.status == "unreported" and call.cost.flags for call in without)
        billed = self.provider.invoice.total_usd
        assert sum(known, Decimal(0)) <= billed if unknown else sum(known, Decimal(0)) == billed
        health = self.captured.health
        assert (health.open_runs, health.faults, health.dropped) == (0, {}, {})
        assert duplicates is None or health.duplicates == duplicates
        self.assert_no_content()
        return calls

    def assert_no_content(self) -> None:
        """Nothing of a prompt, key or error text may be in the ledger."""
        for path in filter(Path.is_file, self.captured.folder.rglob("*")):
            written = path.read_text(encoding="utf-8")
            assert SECRET not in written
            assert "sk-secret" not in written
            assert "told to fail" not in written
