"""A price, explained."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, get_args

import pytest

from farthing import ConfigurationError, Cost, CostLine, Provenance, Usage
from farthing_reports.faults import CommandError
from farthing_reports.price import cost_sentences, cost_table, long_context_buckets, price_usage, usage_of

if TYPE_CHECKING:
    from pathlib import Path

AT = datetime(2026, 11, 1, tzinfo=UTC)


def test_options_become_a_usage() -> None:
    """Counts that were given are in the usage, the others are not reported."""
    usage = usage_of({"input_tokens": 10, "cache_write_1h_tokens": 4, "output_tokens": None})
    assert usage == Usage(input_tokens=10, cache_write_tokens=4, cache_write_1h_tokens=4)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"input_tokens": -1}, "--input: -1 is no count"),
        ({"input_tokens": 5, "cache_read_tokens": 10}, "--cached = 10 is more than --input = 5"),
        ({"cache_write_1h_tokens": 10}, "--cache-write = 10 is more than --input = nothing"),
        ({"output_tokens": 1, "output_reasoning_tokens": 2}, "--reasoning = 2 is more than --output = 1"),
    ],
)
def test_impossible_usage_is_refused_by_option(counts: dict[str, int | None], reason: str) -> None:
    """The message speaks of the options that were typed, not of fields."""
    with pytest.raises(CommandError, match=reason):
        usage_of(counts)


def test_lines_add_up_to_the_price() -> None:
    """A known model gives a line for each bucket, and their sum is the total."""
    usage = Usage(input_tokens=12345, output_tokens=678, cache_read_tokens=1000)
    cost = price_usage("openai", "gpt-4o", usage, at=AT, tier="standard")
    # 11,345 x 2.50 + 1,000 x 1.25 + 678 x 10.00 per million: OpenAI's list price of gpt-4o since October 2024
    assert cost.amount_usd == Decimal("0.0363925")
    assert sum(line.amount_usd for line in cost.breakdown.values()) == cost.amount_usd
    assert cost_table(cost).row_count == len(cost.breakdown) + 1


def test_rates_name_their_unit_and_amounts_line_up() -> None:
    """A rate without its unit, or a column of amounts whose points are not below one another, misleads."""
    usage = Usage(input_tokens=300_000, output_tokens=5_000, web_searches=3)
    cost = price_usage("anthropic", "claude-sonnet-4-5", usage, at=AT, tier="standard")
    cells = [list(column.cells) for column in cost_table(cost).columns]
    assert cells[2] == ["6.00 per 1M tokens", "22.50 per 1M tokens", "10.00 per 1K uses", ""]
    assert [str(cell) for cell in cells[3]] == ["1.8000", "0.1125", "0.0300", "1.9425"]
    found = long_context_buckets(cost, "anthropic", "claude-sonnet-4-5", usage, at=AT, tier="standard")
    assert found == ("input", "output")


def test_every_part_of_a_cost_is_a_sentence() -> None:
    """Status, source, provenance, overrides and flags are all said; an unknown flag is at least named."""
    cost = Cost(
        amount_usd=Decimal("0.5"),
        status="priced",
        source="override",
        breakdown={"input": CostLine(quantity=Decimal(1), rate_usd=Decimal(5), amount_usd=Decimal("0.5"))},
        flags=("stale-price-data", "brand-new-flag", "context-not-priced:region=eu"),
        list_amount_usd=Decimal(1),
        reported_usd=Decimal("0.6"),
        provenance=Provenance(
            engine="farthing",
            engine_version="1",
            data_source="bundled",
            data_version="v7",
            provider_id="openai",
            model_id="gpt-4o",
            matched_by="prefix",
            effective_from="2024-10-01",
            tier="batch",
            overrides=("our-rate",),
            corrections=("a-correction",),
        ),
    )
    text = "\n".join(f"{label}: {sentence}" for label, sentence in cost_sentences(cost, at=AT))
    for part in (
        "status: priced: ",
        "source: override: your own price",
        "moment: 2026-11-01 00:00:00 UTC",
        "list price: $1; yours is 50% below it",
        "provider says: $0.6",
        "model: openai / gpt-4o (matched: prefix)",
        "tier: batch",
        "holds since: 2024-10-01",
        "overrides: our-rate",
        "corrections: a-correction",
        "price data: bundled v7, engine farthing 1",
        "note: The price data is older than",
        "note: brand-new-flag",
        "(region=eu) [context-not-priced]",
    ):
        assert part in text


@pytest.mark.parametrize("status", get_args(Cost.model_fields["status"].annotation))
def test_every_status_has_words(status: str) -> None:
    """A status of the envelope that nobody described would point to nowhere."""
    cost = Cost.model_validate({"amount_usd": None, "status": status})
    words = dict(cost_sentences(cost, at=AT))["status"]
    assert "see the documentation" not in words or status in {"cache_hit", "not_billed"}


def test_broken_settings_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A price under settings that cannot be read would be a price under others: it is refused."""
    file = tmp_path / "farthing.toml"
    file.write_text("[prices", encoding="utf-8")
    monkeypatch.setenv("FARTHING_CONFIG", str(file))
    with pytest.raises(ConfigurationError, match=r"farthing\.toml: not valid TOML"):
        price_usage("openai", "gpt-4o", Usage(input_tokens=1), at=AT, tier="standard")
