"""The invoice: amounts computed by hand, to the last digit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

import pytest

from farthing.testing.provider import Counts, Invoice, InvoiceLine
from farthing.testing.provider.invoice import charge
from farthing.testing.provider.price_table import RATE_NAMES, PriceTable

if TYPE_CHECKING:
    from pathlib import Path

PRICES = PriceTable()
PROVIDERS = ("openai", "azure", "anthropic", "bedrock", "gemini", "cohere", "jina")


def amount(provider: str, model: str, counts: Counts, tier: str = "standard") -> Decimal | None:
    """Price one request against the published list."""
    return charge(counts, provider=provider, model=model, tier=tier, prices=PRICES).amount_usd


PLAIN = Counts(input_tokens=1000, output_tokens=200)
CACHED = Counts(input_tokens=1000, cache_read_tokens=600, output_tokens=200)
WRITTEN = Counts(
    input_tokens=1000,
    cache_read_tokens=700,
    cache_write_5m_tokens=150,
    cache_write_1h_tokens=50,
    output_tokens=40,
)


@pytest.mark.parametrize(
    ("provider", "model", "tier", "counts", "expected"),
    [
        # 1000 x 2.50 + 200 x 10, per million
        ("openai", "gpt-4o", "default", PLAIN, "0.0045"),
        ("openai", "gpt-4o-2024-08-06", "default", PLAIN, "0.0045"),
        # 400 x 2.50 + 600 x 1.25 + 200 x 10
        ("openai", "gpt-4o", "default", CACHED, "0.00375"),
        # 400 x 0.15 + 600 x 0.075 + 200 x 0.60
        ("openai", "gpt-4o-mini", "default", CACHED, "0.000225"),
        # 400 x 4.25 + 600 x 2.125 + 200 x 17
        ("openai", "gpt-4o", "priority", CACHED, "0.006375"),
        # 400 x 2 + 600 x 0.5 + 200 x 8
        ("openai", "gpt-4.1", "default", CACHED, "0.0027"),
        ("openai", "o3", "default", CACHED, "0.0027"),
        # 400 x 0.25 + 600 x 0.025 + 200 x 2; flex is half, priority 1.8 times
        ("openai", "gpt-5-mini", "default", CACHED, "0.000515"),
        ("openai", "gpt-5-mini", "flex", CACHED, "0.0002575"),
        ("openai", "gpt-5-mini", "priority", CACHED, "0.000927"),
        # batch halves 4o's input and output and keeps its cached rate: 400 x 1.25 + 600 x 1.25 + 200 x 5
        ("openai", "gpt-4o", "batch", CACHED, "0.00225"),
        # reasoning is output: 1000 x 1.25 + 500 x 10
        ("openai", "gpt-5", "default", Counts(input_tokens=1000, output_tokens=500, reasoning_tokens=400), "0.00625"),
        # 900 x 2.50 + 100 x 32 + 150 x 10 + 50 x 64
        (
            "openai",
            "gpt-audio",
            "default",
            Counts(input_tokens=1000, input_audio_tokens=100, output_tokens=200, output_audio_tokens=50),
            "0.01015",
        ),
        ("openai", "text-embedding-3-small", "default", Counts(input_tokens=1000), "0.00002"),
        ("openai", "text-embedding-3-large", "default", Counts(input_tokens=1000), "0.00013"),
        ("openai", "gpt-3.5-turbo-instruct", "default", PLAIN, "0.0019"),
        # 100 x 3 + 700 x 0.30 + 150 x 3.75 + 50 x 6 + 40 x 15
        ("anthropic", "claude-sonnet-4-5-20250929", "standard", WRITTEN, "0.0019725"),
        ("anthropic", "claude-sonnet-4-5", "batch", WRITTEN, "0.00098625"),
        # 100 x 1 + 700 x 0.10 + 150 x 1.25 + 50 x 2 + 40 x 5
        ("anthropic", "claude-haiku-4-5", "standard", WRITTEN, "0.0006575"),
        # 100 x 15 + 700 x 1.5 + 150 x 18.75 + 50 x 30 + 40 x 75
        ("anthropic", "claude-opus-4-1", "standard", WRITTEN, "0.0098625"),
        # 100 x 5 + 700 x 0.5 + 150 x 6.25 + 50 x 10 + 40 x 25
        ("anthropic", "claude-opus-4-6", "standard", WRITTEN, "0.0032875"),
        # a tenth above Anthropic's own
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "default", WRITTEN, "0.00216975"),
        ("bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "default", WRITTEN, "0.0019725"),
        # 400 x 0.80 + 600 x 0.20 + 200 x 3.20
        ("bedrock", "us.amazon.nova-pro-v1:0", "default", CACHED, "0.00108"),
        # 400 x 1.25 + 600 x 0.125 + 200 x 10
        ("gemini", "gemini-2.5-pro", "ON_DEMAND", CACHED, "0.002575"),
        # 400 x 0.30 + 600 x 0.03 + 200 x 2.50
        ("gemini", "gemini-2.5-flash", "ON_DEMAND", CACHED, "0.000638"),
        # 900 x 0.30 + 100 x 1 + 200 x 2.50
        (
            "gemini",
            "gemini-2.5-flash",
            "ON_DEMAND",
            Counts(input_tokens=1000, input_audio_tokens=100, output_tokens=200),
            "0.00087",
        ),
        ("gemini", "gemini-2.0-flash", "ON_DEMAND", PLAIN, "0.00018"),
        ("openai", "whisper-1", "default", Counts(audio_seconds=90), "0.009"),
        ("openai", "tts-1", "default", Counts(characters=1000), "0.015"),
        ("openai", "dall-e-3", "default", Counts(images=2), "0.08"),
        ("openai", "gpt-4o", "priority", Counts(code_containers=1), "0.03"),
        ("cohere", "rerank-v3.5", "standard", Counts(rerank_searches=3), "0.006"),
        ("jina", "jina-reranker-v2-base-multilingual", "standard", Counts(input_tokens=1000), "0.00005"),
        ("openai", "omni-moderation-latest", "default", Counts(input_tokens=1000), "0"),
    ],
)
def test_amounts_by_hand(provider: str, model: str, tier: str, counts: Counts, expected: str) -> None:
    """A wrong rate or a part billed twice makes the invoice useless as an oracle."""
    assert amount(provider, model, counts, tier) == Decimal(expected)


@pytest.mark.parametrize(
    ("provider", "model", "tier", "input_tokens", "expected"),
    [
        ("openai", "gpt-5.4", "default", 272_000, "0.68"),
        ("openai", "gpt-5.4", "default", 272_001, "1.360005"),
        ("openai", "gpt-5.4", "flex", 272_000, "0.34"),
        ("openai", "gpt-5.4", "flex", 272_001, "0.6800025"),
        ("gemini", "gemini-2.5-pro", "ON_DEMAND", 200_000, "0.25"),
        ("gemini", "gemini-2.5-pro", "ON_DEMAND", 200_001, "0.5000025"),
        ("gemini", "gemini-2.5-pro", "ON_DEMAND_PRIORITY", 200_001, "0.9000045"),
    ],
)
def test_long_context_is_a_cliff(provider: str, model: str, tier: str, input_tokens: int, expected: str) -> None:
    """One token above the threshold must reprice the whole request, and the threshold itself must not."""
    assert amount(provider, model, Counts(input_tokens=input_tokens), tier) == Decimal(expected)


def test_long_context_counts_cached_tokens_and_raises_output() -> None:
    """Cached tokens belong to the length: 1 x 5 + 272000 x 0.50 + 1000 x 22.50."""
    counts = Counts(input_tokens=272_001, cache_read_tokens=272_000, output_tokens=1000)
    assert amount("openai", "gpt-5.4", counts, "default") == Decimal("0.158505")


@pytest.mark.parametrize(
    ("provider", "model", "tool", "label", "fee"),
    [
        ("openai", "gpt-4o", "web_search", "web_search", "0.03"),
        ("openai", "gpt-4o", "web_search_preview_2025_03_11", "web_search_preview", "0.075"),
        ("openai", "gpt-5", "web_search_preview", "web_search_preview", "0.03"),
        ("anthropic", "claude-opus-4-6", "web_search_20250305", "web_search", "0.03"),
        ("gemini", "gemini-2.5-pro", "google_search", "grounded_prompt", "0.035"),
    ],
)
def test_search_fees(provider: str, model: str, tool: str, label: str, fee: str) -> None:
    """Searches cost by the thousand and by tool; a grounded Gemini prompt costs once."""
    counts = Counts(input_tokens=1000, web_searches=3, web_search_tool=tool)
    assert charge(counts, provider=provider, model=model, tier="standard", prices=PRICES).items[
        label
    ].amount == Decimal(fee)


@pytest.mark.parametrize(
    ("model", "tier", "counts", "problem"),
    [
        ("gpt-99", "default", PLAIN, "UnknownModel"),
        ("gpt-4o", "flex", PLAIN, "UnknownTier"),
        ("gpt-4.1-nano", "default", Counts(input_tokens=1, web_searches=1), "UnknownRate"),
        # priority is not sold for long context
        ("gpt-5.4", "priority", Counts(input_tokens=300_000), "UnknownTier"),
    ],
)
def test_no_price_is_not_zero(model: str, tier: str, counts: Counts, problem: str) -> None:
    """A price that is missing must show as a problem, or a total would look complete."""
    charged = charge(counts, provider="openai", model=model, tier=tier, prices=PRICES)
    assert (charged.amount_usd, charged.problem) == (None, problem)


def test_amounts_ignore_the_ambient_decimal_context() -> None:
    """A test that lowers the precision must not round the bill."""
    with localcontext() as context:
        context.prec = 3
        assert amount("openai", "gpt-5.4", Counts(input_tokens=272_001), "default") == Decimal("1.360005")


def test_set_price_covers_the_snapshot_behind_an_alias() -> None:
    """A price set for the alias must be billed although the response names the snapshot."""
    prices = PriceTable()
    prices.set_price("gpt-4o", {"input": Decimal(1), "output": Decimal(2)})
    charged = charge(PLAIN, provider="openai", model="gpt-4o-2024-08-06", tier="default", prices=prices)
    assert charged.amount_usd == Decimal("0.0014")
    with pytest.raises(ValueError, match="unknown rates"):
        prices.set_price("x", {"inptu": Decimal(1)})


def line(number: int, model: str, amount_usd: str | None) -> InvoiceLine:
    """A line with nothing but what the sums need."""
    return InvoiceLine(
        number=number,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        provider="openai",
        endpoint="chat.completions",
        requested_model=model,
        model=model,
        response_id=f"id-{number}",
        tier="default",
        status=200,
        streamed=False,
        counts=Counts(),
        items={},
        amount_usd=None if amount_usd is None else Decimal(amount_usd),
        problem="UnknownModel" if amount_usd is None else None,
    )


def test_line_has_an_amount_or_a_problem() -> None:
    """A line with neither would drop out of the total without a trace."""
    with pytest.raises(ValueError, match="either"):
        InvoiceLine(
            number=1,
            at=datetime(2026, 1, 1, tzinfo=UTC),
            provider="openai",
            endpoint="chat.completions",
            requested_model="m",
            model="m",
            response_id="",
            tier="",
            status=200,
            streamed=False,
            counts=Counts(),
            items={},
            amount_usd=None,
        )


def test_totals_groups_and_unpriced_lines() -> None:
    """Sums must leave out what has no price, and say so."""
    invoice = Invoice()
    for entry in (line(1, "a", "0.1"), line(2, "b", "0.2"), line(3, "a", "0.3"), line(4, "c", None)):
        invoice.add(entry)
    assert invoice.total_usd == Decimal("0.6")
    assert invoice.by("model") == {"a": Decimal("0.4"), "b": Decimal("0.2"), "c": Decimal(0)}
    assert [entry.number for entry in invoice.unpriced] == [4]
    assert "1 line(s) without a price" in str(invoice)
    with pytest.raises(ValueError, match="cannot group"):
        invoice.by("colour")


def test_client_left_is_noted_on_a_billed_line_only() -> None:
    """A request that cost nothing must not appear on the bill because its client left."""
    invoice = Invoice()
    invoice.add(line(1, "a", "0.1"))
    invoice.mark_client_left(1)
    invoice.mark_client_left(2)
    assert [(entry.number, entry.client_left) for entry in invoice.lines] == [(1, True)]
    invoice.clear()
    assert invoice.lines == ()


def test_written_file_keeps_exact_decimals(tmp_path: Path) -> None:
    """A float in the file would lose digits that a comparison needs."""
    invoice = Invoice()
    invoice.add(line(1, "a", "0.0000000001"))
    invoice.add(line(2, "b", None))
    invoice.write(tmp_path / "invoice.json")
    written = json.loads((tmp_path / "invoice.json").read_text(encoding="utf-8"))
    assert written["total_usd"] == "0.0000000001"
    assert [entry["amount_usd"] for entry in written["lines"]] == ["0.0000000001", None]
    assert written["unpriced_lines"] == 1


def test_price_list_has_no_misspelt_rate() -> None:
    """A rate under a wrong name would be passed over, and its tokens billed as plain input."""
    models = [PRICES.find(provider, name) for provider in PROVIDERS for name in PRICES.names(provider)]
    named = {rate for model in models if model is not None for rates in model.tiers.values() for rate in rates}
    tiers = {tier.removesuffix("_long") for model in models if model is not None for tier in model.tiers}
    assert named <= RATE_NAMES
    assert tiers == {"standard", "batch", "flex", "priority"}
