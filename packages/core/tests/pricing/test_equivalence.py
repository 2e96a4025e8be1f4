"""The compact catalogue and our own engine give what genai-prices gives, over every model, to the last digit."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, localcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import genai_prices.data
import pytest
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import Usage as TheirUsage

from farthing.envelope import Usage
from farthing.pricing.book import PriceBook
from farthing.pricing.files import bundled_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_prices.types import ModelInfo, Provider

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)

USAGES: dict[str, dict[str, int]] = {
    "plain": {"input_tokens": 12_345, "output_tokens": 678},
    "cached": {"input_tokens": 12_345, "output_tokens": 678, "cache_read_tokens": 10_001},
    "written": {
        "input_tokens": 50_000,
        "output_tokens": 7,
        "cache_read_tokens": 11_111,
        "cache_write_tokens": 22_222,
        "cache_write_5m_tokens": 20_000,
        "cache_write_1h_tokens": 2_222,
    },
    "at 200k": {"input_tokens": 200_000, "output_tokens": 1_000, "cache_read_tokens": 150_000},
    "over 200k": {"input_tokens": 200_001, "output_tokens": 1_000, "cache_read_tokens": 150_000},
    "over 272k": {"input_tokens": 272_001, "output_tokens": 1_000, "cache_write_tokens": 9},
    "far over": {"input_tokens": 1_048_577, "output_tokens": 65_536},
    "modal": {
        "input_tokens": 9_000,
        "output_tokens": 5_000,
        "input_audio_tokens": 1_234,
        "input_image_tokens": 2_345,
        "input_video_tokens": 3_456,
        "output_audio_tokens": 1_111,
        "output_image_tokens": 222,
        "output_reasoning_tokens": 333,
    },
    "cached audio": {
        "input_tokens": 9_000,
        "output_tokens": 5_000,
        "input_audio_tokens": 1_234,
        "cache_read_tokens": 4_000,
        "cache_read_audio_tokens": 999,
    },
    "cached pictures": {
        "input_tokens": 9_000,
        "output_tokens": 5_000,
        "input_image_tokens": 2_345,
        "input_audio_tokens": 0,
        "cache_read_tokens": 4_000,
        "cache_read_image_tokens": 1_111,
        "cache_read_audio_tokens": 0,
        "output_citation_tokens": 77,
    },
    "tools": {"input_tokens": 1_000, "output_tokens": 10, "web_searches": 3, "file_searches": 2},
    "measures": {
        "input_characters": 4_321,
        "document_pages": 17,
        "annotated_document_pages": 4,
        "audio_seconds": 5_400,
    },
    "short audio": {"audio_seconds": 3, "input_messages": 5},
}

THEIR_NAMES = {
    "cache_read_audio_tokens": "cache_audio_read_tokens",
    "cache_read_image_tokens": "cache_image_read_tokens",
    "annotated_document_pages": "input_annotated_document_pages",
    "input_messages": "input_text_messages",
    "file_searches": "storage_searches",
    "document_pages": "input_document_pages",
}

CONTEXTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("standard", {}),
    ("batch", {"processing": "batch"}),
    ("flex", {"service_tier": "flex"}),
    ("priority", {"service_tier": "priority"}),
    ("fast", {"service_tier": "fast", "speed": "fast"}),
)


@cache
def ours() -> PriceBook:
    """Give a book of the bare catalogue, without corrections."""
    return PriceBook(bundled_catalog())


@cache
def theirs() -> DataSnapshot:
    """Give genai-prices' own snapshot."""
    return DataSnapshot(providers=genai_prices.data.providers, from_auto_update=False)


def literals(clause: Any) -> Iterator[str]:
    """Give every literal of a match rule."""
    rule: dict[str, Any] = clause.__dict__
    for name, content in rule.items():
        if name in {"or_", "and_"}:
            for part in content:
                yield from literals(part)
        elif name != "regex":
            yield content


def reference(provider: Provider, model: ModelInfo) -> str | None:
    """Give a name that genai-prices resolves to the model; some ids do not, and earlier models shadow a few."""
    for name in (model.id, *literals(model.match)):
        if provider.find_model(name, all_providers=genai_prices.data.providers) is model:
            return name
    return None


def moments(model: ModelInfo) -> Iterator[datetime]:
    """Give noon of today, and for a price history both sides of each of its edges."""
    yield NOON
    prices: list[Any] = model.prices if isinstance(model.prices, list) else []
    variants: list[Any] = model.price_variants or []
    for part in (*prices, *variants):
        edge: Any = part.constraint
        if hasattr(edge, "start_date"):
            first = datetime.combine(edge.start_date, time(), UTC)
            yield first
            yield first - timedelta(microseconds=1)
        elif hasattr(edge, "start_time"):
            for clock in (edge.start_time, edge.end_time):
                first = datetime.combine(date(2026, 11, 20), clock.replace(tzinfo=None), UTC)
                yield first
                yield first - timedelta(seconds=1)


def their_answer(provider: Provider, name: str, counts: dict[str, int], at: datetime, context: dict[str, str]) -> Any:
    """Price with genai-prices; a refusal comes back as None."""
    usage = TheirUsage(**{THEIR_NAMES.get(name, name): count for name, count in counts.items()})
    try:
        with localcontext(Context(prec=50)):
            return theirs().calc(usage, name, provider.id, None, at, context or None)
    except ValueError:
        return None


def allowed(kind: str, cost: Any, answer: Any) -> bool:
    """Tell whether a difference is one that we want; each is a rule, not a list of models."""
    if answer is None:
        # It refuses cached tokens beside audio without their overlap; we take the upper bound and say so.
        return "cache-split-assumed" in cost.flags or "usage-overlap" in cost.flags
    if cost.amount_usd is None:
        return bool(
            {
                "no-price-listed",  # an empty price list is 0 there
                "context-not-priced",  # a context without a price is the standard price there
                "web-searches-not-priced",  # a search without a price is 0 there
                "file-searches-not-priced",
                "usage-not-priced",  # seconds on a model that bills tokens are 0 there
            }
            & set(cost.flags)
        )
    # One batch figure differs: they quote hours to 50 digits, we round such a line to 28.
    return kind in {"measures", "short audio"} and abs(
        cost.amount_usd - answer.total_price
    ) < answer.total_price.scaleb(-25)


@pytest.mark.parametrize("provider", genai_prices.data.providers, ids=lambda provider: provider.id)
def test_every_model_costs_what_genai_prices_says(provider: Provider) -> None:
    """Without this, an error of the builder or of the arithmetic would misprice whole providers."""
    unreachable: list[str] = []
    for model in provider.models:
        name = reference(provider, model)
        if name is None:
            unreachable.append(model.id)
            continue
        variants = bool(model.price_variants)
        contexts = CONTEXTS if variants else CONTEXTS[:2]
        for at in dict.fromkeys(moments(model)):
            for tier, context in contexts:
                for kind, counts in USAGES.items():
                    if not variants and tier != "standard" and kind != "plain":
                        continue
                    cost = ours().price(provider.id, name, Usage(**counts), at=at, tier=tier)  # pyright: ignore[reportArgumentType]
                    answer = their_answer(provider, name, counts, at, context)
                    if answer is None or cost.amount_usd != answer.total_price:
                        assert allowed(kind, cost, answer), (model.id, tier, at, kind, cost, answer)
    assert len(unreachable) <= len(provider.models) // 50, unreachable


def test_every_name_finds_the_same_model() -> None:
    """A rule of the matcher read otherwise would price one model as another."""
    for provider in genai_prices.data.providers:
        ours_provider = ours().catalog.providers[provider.id]
        for model in provider.models:
            for name in (model.id, model.id.upper(), f"{model.id}-20251211", f"us.{model.id}", f"{model.id}-x"):
                expected = provider.find_model(name, all_providers=genai_prices.data.providers)
                found = ours().catalog.find_model(ours_provider, name)
                assert (found.model.id if found else None) == (expected.id if expected else None), name


def test_every_spelling_of_a_provider_is_understood_as_there() -> None:
    """A provider id of genai-prices must survive our own table of spellings."""
    for provider in genai_prices.data.providers:
        cost = ours().price(provider.id, provider.models[0].id, Usage(input_tokens=1), at=NOON)
        assert cost.provenance is not None
        assert cost.provenance.provider_id == provider.id
