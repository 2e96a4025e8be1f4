"""A second opinion: every row of LiteLLM's cost map that we know too, and what we judged of each disagreement.

The map is read as a file; importing LiteLLM costs seconds and is not needed.
"""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from farthing.envelope import Usage
from farthing.pricing import default_book

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

SAME = Decimal("0.001")
"""Relative: the map's floats and rounded rates are no disagreement."""

USAGES: dict[str, dict[str, int]] = {
    "plain": {"input_tokens": 10_000, "output_tokens": 1_000},
    "cached": {"input_tokens": 10_000, "output_tokens": 1_000, "cache_read_tokens": 8_000},
    "written": {
        "input_tokens": 10_000,
        "output_tokens": 1_000,
        "cache_write_tokens": 6_000,
        "cache_write_5m_tokens": 6_000,
    },
    "long": {"input_tokens": 300_000, "output_tokens": 1_000},
}

JUDGED: list[dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("litellm_judged.toml").read_text(encoding="utf-8")
)["judged"]


def cost_map() -> dict[str, dict[str, Any]]:
    """Read the cost map beside the installed LiteLLM."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        pytest.skip("LiteLLM is not installed here")
    path = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
    rows: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    return {
        name: row
        for name, row in rows.items()
        if isinstance(row, dict)
        and row.get("input_cost_per_token")  # pyright: ignore[reportUnknownMemberType]
        and row.get("mode") in {"chat", "completion", "responses", "embedding"}  # pyright: ignore[reportUnknownMemberType]
        and not row.get("tiered_pricing")  # pyright: ignore[reportUnknownMemberType]
    }


def rate(row: dict[str, Any], key: str, input_tokens: int) -> Decimal | None:
    """Give a rate of a row, with its long-context step."""
    found = row.get(key)
    reached = 0
    for name, value in row.items():
        step = re.fullmatch(rf"{key}_above_(\d+)k_tokens", name)
        if step and input_tokens > int(step[1]) * 1000 > reached:
            reached, found = int(step[1]) * 1000, value
    return None if found is None else Decimal(found)


def their_cost(row: dict[str, Any], usage: dict[str, int]) -> Decimal:
    """Price a usage with a row as LiteLLM does, in decimals; a rate that is missing is the one of input."""
    whole = usage["input_tokens"]
    read, written = usage.get("cache_read_tokens", 0), usage.get("cache_write_tokens", 0)
    fresh = rate(row, "input_cost_per_token", whole) or Decimal(0)
    out = rate(row, "output_cost_per_token", whole) or Decimal(0)
    cached = rate(row, "cache_read_input_token_cost", whole)
    write = rate(row, "cache_creation_input_token_cost", whole)
    return (
        (whole - read - written) * fresh
        + read * (fresh if cached is None else cached)
        + written * (write or fresh)
        + usage["output_tokens"] * out
    )


def disagreements() -> dict[str, str]:
    """Give the rows whose price is another than ours, with the first kind of usage that shows it."""
    book = default_book()
    found: dict[str, str] = {}
    for name, row in cost_map().items():
        for kind, usage in USAGES.items():
            cost = book.price(row.get("litellm_provider"), name, Usage(**usage), at=NOON)  # pyright: ignore[reportArgumentType]
            if cost.amount_usd is None:
                continue
            theirs = their_cost(row, usage)
            if abs(cost.amount_usd - theirs) > SAME * max(cost.amount_usd, theirs):
                found[name] = kind
                break
    return found


def test_every_disagreement_with_litellm_was_judged() -> None:
    """A new disagreement means that one of the two prices models wrongly: find out which, then judge it here."""
    judged = {row for entry in JUDGED for row in entry["rows"]}
    new = {name: kind for name, kind in disagreements().items() if name not in judged}
    assert not new, f"{len(new)} rows: {dict(list(new.items())[:20])}"


def test_most_rows_are_known_and_agree() -> None:
    """A slip in reading model names would turn known models into unknown ones, and this test into nothing."""
    rows = cost_map()
    book = default_book()
    known = [
        name
        for name, row in rows.items()
        if book.price(row.get("litellm_provider"), name, Usage(input_tokens=1), at=NOON).amount_usd is not None
    ]
    assert len(known) > 1_000
    assert len(disagreements()) < len(known) * 0.4


def test_every_judgement_says_why() -> None:
    """An allow-list without reasons is only a way to be green."""
    for entry in JUDGED:
        assert entry["right"] in {"ours", "theirs", "both", "undecided"}
        assert len(entry["why"]) > 20
        assert entry["rows"]
