"""The price book as a whole: provenance, doubts, provider-reported charges, threads, swapping."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from farthing.envelope import Cost, Usage
from farthing.pricing import PricesSettings, default_book, replace_default_book
from farthing.pricing.files import make_book
from farthing.providers import canonical_provider

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
USAGE = Usage(input_tokens=1000, output_tokens=100)


def price(provider: str | None, model: str | None, usage: Usage | None = USAGE, **more: Any) -> Cost:
    """Price with the default book."""
    return default_book().price(provider, model, usage, at=more.pop("at", NOW), **more)


def test_a_cost_can_be_defended() -> None:
    """Every figure names engine, data, model, how it matched, and since when the price holds."""
    cost = price("openai", "o3-2025-04-16")
    assert cost.provenance is not None
    told = cost.provenance.model_dump()
    version = told.pop("data_version")
    assert version.startswith("genai-prices-0.2.3+")
    assert told.pop("engine_version")
    assert told == {
        "engine": "farthing",
        "data_source": "bundled",
        "provider_id": "openai",
        "model_id": "o3",
        "matched_by": "alias",
        "effective_from": "2025-06-10",
        "tier": "standard",
        "overrides": (),
        "corrections": (),
    }


def test_a_correction_is_named() -> None:
    """A figure that we changed says by which entry, and since when."""
    cost = price("deepseek", "deepseek-chat", at=datetime(2026, 1, 15, tzinfo=UTC))
    assert cost.source == "correction"
    assert cost.provenance is not None
    assert cost.provenance.corrections == ("deepseek-v3.2-list",)
    assert cost.provenance.effective_from == "2025-09-29"


@pytest.mark.parametrize(
    ("usage", "flag"),
    [
        (Usage(input_tokens=100, output_tokens=1, input_audio_tokens=50), "modality-billed-as-text"),
        (Usage(input_tokens=100, output_tokens=1, cache_write_tokens=50), "cache-billed-as-input"),
        (Usage(input_tokens=100, output_tokens=1, code_executions=1), "code-executions-not-priced"),
    ],
)
def test_what_a_bill_folds_into_another_line_is_flagged(usage: Usage, flag: str) -> None:
    """Audio at the text rate or cached input in full must be visible."""
    cost = price("openai", "gpt-4o", usage)
    assert cost.amount_usd is not None
    assert flag in cost.flags


@pytest.mark.parametrize(
    ("provider", "model", "usage", "flag"),
    [
        (
            "mistral",
            "mistral-small-latest",
            Usage(input_tokens=1, output_tokens=1, web_searches=2),
            "web-searches-not-priced",
        ),
        ("openai", "gpt-4o", Usage(audio_seconds=Decimal(60)), "usage-not-priced"),
        ("openai", "tts-1", Usage(input_tokens=10, output_tokens=10), "usage-not-priced"),
        ("openai", "gpt-4o", Usage(output_images=1), "usage-not-priced"),
    ],
)
def test_usage_without_a_rate_makes_the_total_unknown(provider: str, model: str, usage: Usage, flag: str) -> None:
    """A search or a minute that no rate covers must not be billed as nothing."""
    cost = price(provider, model, usage)
    assert cost.amount_usd is None
    assert cost.status == "unpriced"
    assert flag in cost.flags


def test_no_usage_is_unreported() -> None:
    """A provider that never said what was used cannot be priced, nor cost zero."""
    for usage in (None, Usage()):
        cost = price("openai", "gpt-4o", usage)
        assert (cost.amount_usd, cost.status) == (None, "unreported")
        assert "usage-missing" in cost.flags


def test_zero_tokens_are_zero() -> None:
    """A provider that says zero is believed; the adapters flag a zero that cannot be true."""
    cost = price("openai", "gpt-4o", Usage(input_tokens=0, output_tokens=0))
    assert (cost.amount_usd, cost.status) == (Decimal(0), "priced")


@pytest.mark.parametrize("provider", ["openrouter", "perplexity", "xai"])
def test_the_charge_of_who_bills_by_it_is_a_fact(provider: str) -> None:
    """Where only the provider's own charge is known, it is the cost, and says so."""
    cost = price(provider, "never-heard-of", reported_usd=Decimal("0.12"))
    assert (cost.amount_usd, cost.status, cost.source) == (Decimal("0.12"), "reported", "provider")


@pytest.mark.parametrize(("provider", "model"), [("openai", "gpt-4o"), ("perplexity", "sonar"), ("xai", "grok-4")])
def test_a_reported_figure_never_replaces_a_list_price(provider: str, model: str) -> None:
    """A figure that anybody may have put there is kept beside the list price, for reconciliation."""
    cost = price(provider, model, reported_usd=Decimal(9))
    assert cost.amount_usd == price(provider, model).amount_usd
    assert (cost.status, cost.reported_usd) == ("priced", Decimal(9))


def test_what_openrouter_charged_is_its_bill() -> None:
    """It routes to many houses at many prices, of which the catalogue has one: its own charge is the only bill."""
    cost = price("openrouter", "openai/gpt-4o", reported_usd=Decimal(9))
    assert (cost.amount_usd, cost.status, cost.source) == (Decimal(9), "reported", "provider")
    assert (cost.list_amount_usd, cost.reported_usd, cost.breakdown) == (Decimal("0.0035"), Decimal(9), {})
    unsaid = price("openrouter", "openai/gpt-4o")
    assert (unsaid.amount_usd, unsaid.status) == (Decimal("0.0035"), "priced")


def test_a_naive_time_is_flagged() -> None:
    """A time without a zone is taken as UTC, visibly."""
    cost = price("openai", "gpt-4o", at=datetime(2026, 11, 24, 12))  # noqa: DTZ001 - the point
    assert cost.flags == ("naive-time",)


def test_old_price_data_is_flagged() -> None:
    """Prices that nobody checked for months may be wrong."""
    released = datetime.fromisoformat(str(default_book().catalog.manifest["released"])).replace(tzinfo=UTC)
    fresh, stale = (price("openai", "gpt-4o", at=released + timedelta(days=days)) for days in (89, 91))
    assert "stale-price-data" not in fresh.flags
    assert "stale-price-data" in stale.flags


def test_a_moment_in_another_zone_is_the_same_moment() -> None:
    """o3 became cheaper at midnight UTC, which is the evening before in New York."""
    new_york = timezone(timedelta(hours=-4))
    before, after = (datetime(2025, 6, 9, hour, 59, 59, tzinfo=new_york) for hour in (19, 20))
    assert price("openai", "o3", at=before).amount_usd == Decimal("0.014")
    assert price("openai", "o3", at=after).amount_usd == Decimal("0.0028")


@pytest.mark.parametrize(
    ("spellings", "canonical"),
    [
        (("openai", "OpenAI", "text-completion-openai", " openai "), "openai"),
        (("aws.bedrock", "bedrock", "aws", "amazon_bedrock", "bedrock_converse", "AWS Bedrock"), "aws.bedrock"),
        (("gcp.gemini", "gemini", "google", "google_genai", "google-gla"), "gcp.gemini"),
        (
            ("gcp.vertex_ai", "vertex_ai", "google_vertexai", "vertex_ai_beta", "vertex_ai-llama_models"),
            "gcp.vertex_ai",
        ),
        (("azure.ai.openai", "azure", "azure_openai", "az.ai.openai"), "azure.ai.openai"),
        (("azure.ai.inference", "azure_ai", "az.ai.inference"), "azure.ai.inference"),
        (("x_ai", "xai", "x-ai"), "x_ai"),
        (("mistral_ai", "mistral", "mistralai", "codestral"), "mistral_ai"),
        (("anthropic", "Anthropic"), "anthropic"),
        (("hosted_vllm",), "hosted_vllm"),
        (("Somebody-New",), "somebody-new"),
        (("", "  ", None), None),
    ],
)
def test_a_provider_has_one_name(spellings: tuple[str | None, ...], canonical: str | None) -> None:
    """Two names for one provider would split its costs in every report."""
    assert {canonical_provider(spelling) for spelling in spellings} == {canonical}


def test_equal_calls_cost_the_same_from_any_spelling() -> None:
    """The same call seen by two frameworks must not have two prices."""
    model = "anthropic.claude-3-haiku-20240307-v1:0"
    ways = [
        ("aws.bedrock", model),
        ("bedrock", f"us.{model}"),
        ("litellm", f"bedrock/us.{model}"),
        ("amazon_bedrock", f"bedrock/converse/us.{model}"),
        ("bedrock", f"bedrock/us-east-1/{model}"),
        (None, f"bedrock/invoke/{model}"),
        (None, f"arn:aws:bedrock:us-east-1::foundation-model/{model}"),
        ("litellm_proxy", f"litellm_proxy/bedrock/{model}"),
    ]
    assert {price(*way).amount_usd for way in ways} == {Decimal("0.000375")}


def test_another_book_is_swapped_in_at_once() -> None:
    """A running process takes new prices without a restart."""
    own = make_book(PricesSettings.model_validate({"overrides": [{"model": "gpt-4o", "free": True}]}))
    before = default_book()
    try:
        assert replace_default_book(own) is before
        assert price("openai", "gpt-4o").status == "free"
    finally:
        replace_default_book(before)
    assert price("openai", "gpt-4o").amount_usd == Decimal("0.0035")


def test_many_threads_agree() -> None:
    """The caches are shared by all threads of a process."""
    book = make_book()
    names = ["gpt-4o", "o3", "gpt-5.4", "nothing", "openai/gpt-4.1", "GPT-4O-MINI"] * 20
    expected = [price("openai", name).amount_usd for name in names]
    answers: list[list[Decimal | None]] = []

    def work() -> None:
        answers.append([book.price("openai", name, USAGE, at=NOW).amount_usd for name in names])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 8


def test_caches_are_bounded() -> None:
    """A stream of made-up model names must not eat the memory."""
    book = make_book()
    for number in range(10_000):
        book.price("openai", f"model-{number}", USAGE, at=NOW)
    assert book.cached_plans <= 4_096


def test_pricing_brings_no_foreign_engine_along() -> None:
    """Neither genai-prices, nor an HTTP client, nor LiteLLM may be imported to price a call."""
    code = (
        "import sys, datetime;"
        "from farthing.envelope import Usage;"
        "from farthing.pricing import default_book;"
        "default_book().price('openai','gpt-4o',Usage(input_tokens=1),at=datetime.datetime.now(datetime.UTC));"
        "print(sorted({'genai_prices','httpx','httpx2','litellm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
    assert done.stdout.strip() == "[]"
