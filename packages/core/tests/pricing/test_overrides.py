"""The user's own prices: what they may say, which one wins, and what the bill says of it."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from farthing.envelope import Cost, Usage
from farthing.pricing import PriceBook, PriceOverride, PricesSettings
from farthing.pricing.files import make_book

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
USAGE = Usage(input_tokens=1_000_000, output_tokens=100_000, cache_read_tokens=400_000)


def book(toml: str) -> PriceBook:
    """Make a book of the `[prices]` table of a farthing.toml."""
    return make_book(PricesSettings.model_validate(tomllib.loads(toml)["prices"]))


def price(toml: str, provider: str | None = "openai", model: str = "gpt-4o", **more: Any) -> Cost:
    """Price the usual usage under one table."""
    return book(toml).price(provider, model, more.pop("usage", USAGE), at=more.pop("at", NOW), **more)


def override(lines: str) -> str:
    """Write a table with one override."""
    return f"[[prices.overrides]]\n{lines}"


def test_an_absolute_rate_replaces_only_its_bucket() -> None:
    """A negotiated input rate must not lose the list price of output and cached input."""
    cost = price(override('provider = "openai"\nmodel = "gpt-4o"\nrates = { input = "2.00" }'))
    assert cost.amount_usd == Decimal("1.2") + Decimal("0.5") + Decimal(1)
    assert cost.list_amount_usd == Decimal("1.5") + Decimal("0.5") + Decimal(1)
    assert cost.source == "override"
    assert cost.provenance is not None
    assert cost.provenance.overrides == ("openai:gpt-4o",)
    assert sum(line.amount_usd for line in cost.breakdown.values()) == cost.amount_usd


@pytest.mark.parametrize("how", ['multiplier = "0.85"', "multiplier = 0.85", 'discount = "15%"', "discount = 0.15"])
def test_a_discount_scales_the_list_price(how: str) -> None:
    """15 % off must be 15 % off, however it is written, to the last digit."""
    cost = price(override(f'provider = "openai"\nmodel = "gpt-*"\n{how}'))
    assert cost.amount_usd == Decimal(3) * Decimal("0.85")
    assert cost.list_amount_usd == Decimal(3)


def test_an_override_wins_over_what_the_provider_charged() -> None:
    """Who agreed on a price knows better what will be invoiced than a usage object does."""
    table = override('provider = "openrouter"\nmodel = "*"\nmultiplier = "0.9"')
    cost = price(table, "openrouter", "openai/gpt-4o", reported_usd=Decimal(9))
    assert (cost.amount_usd, cost.source, cost.reported_usd) == (Decimal("2.7"), "override", Decimal(9))
    free = override('provider = "openrouter"\nmodel = "*"\nfree = true')
    assert price(free, "openrouter", "openai/gpt-4o", reported_usd=Decimal(9)).amount_usd == 0


def test_a_discount_holds_in_every_tier_and_a_rate_in_standard_only() -> None:
    """A rate agreed for standard calls must not be taken for batch, and a discount must not stop at it."""
    discount = override('provider = "openai"\nmodel = "gpt-4o"\ndiscount = "10%"')
    assert price(discount, tier="batch").amount_usd == Decimal("1.75") * Decimal("0.9")
    rates = override('provider = "openai"\nmodel = "gpt-4o"\nrates = { input = "2" }')
    assert price(rates, tier="batch").source == "catalog"


def test_a_rate_for_a_tier_that_the_list_does_not_price() -> None:
    """A negotiated flex rate must price flex calls, without the doubt about the list."""
    cost = price(override('model = "gpt-4o"\ntier = "flex"\nrates = { input = "1", output = "5" }'), tier="flex")
    assert cost.amount_usd == Decimal(1) + Decimal("0.5")
    assert "context-not-priced" not in cost.flags


def test_a_self_hosted_model_gets_a_price() -> None:
    """A model that no list knows costs what its owner says."""
    cost = price(
        override(
            'provider = "hosted_vllm"\nmodel = "acme/*"\nrates = { input = "0.20", output = "0.60" }\nestimated = true'
        ),
        provider="hosted_vllm",
        model="acme/llama-70b",
        usage=Usage(input_tokens=1_000_000, output_tokens=1_000_000),
    )
    assert cost.amount_usd == Decimal("0.8")
    assert cost.status == "estimated"
    assert cost.flags == ()
    assert cost.list_amount_usd is None


def test_a_rate_without_output_does_not_make_output_free() -> None:
    """Forgetting the output rate of a model of one's own must show, not halve the bill."""
    cost = price(
        override('model = "mine"\nrates = { input = "1" }'),
        provider=None,
        model="mine",
        usage=Usage(input_tokens=1, output_tokens=1),
    )
    assert cost.amount_usd is None
    assert "output-not-priced" in cost.flags


def test_free_is_zero_and_keeps_the_list_price() -> None:
    """A model included in a contract costs nothing, and what it would have cost is known."""
    cost = price(override('model = "gpt-4o"\nfree = true'))
    assert (cost.amount_usd, cost.status, cost.list_amount_usd) == (Decimal(0), "free", Decimal(3))


def test_a_deployment_is_an_alias() -> None:
    """An Azure deployment's name has no price of its own."""
    table = override('provider = "azure"\nmodel = "my-dep"\nalias_of = "gpt-4o"\ndiscount = "10%"')
    cost = price(table, provider="azure", model="my-dep")
    assert cost.amount_usd == Decimal("2.7")
    assert cost.list_amount_usd == Decimal(3)
    assert "unknown-model" not in cost.flags


def test_an_alias_that_leads_in_a_circle_ends() -> None:
    """Two aliases of each other must not hang a worker."""
    table = override('model = "a"\nalias_of = "b"') + "\n" + override('model = "b"\nalias_of = "a"')
    assert price(table, provider="openai", model="a").amount_usd is None


def test_a_period_begins_and_ends_on_the_moment() -> None:
    """A price that begins a day early misbills a day."""
    table = override('model = "gpt-4o"\nfrom = 2026-01-01\nuntil = "2026-02-01"\nmultiplier = "0.5"')
    moments = {
        "2025-12-31T23:59:59Z": None,
        "2026-01-01T00:00:00Z": Decimal(3),
        "2026-01-31T23:59:59Z": Decimal(3),
        "2026-02-01T00:00:00Z": None,
    }
    for text, listed in moments.items():
        assert price(table, at=datetime.fromisoformat(text)).list_amount_usd == listed, text


def test_the_first_that_fits_wins_alone() -> None:
    """Two overrides must not multiply, and which one holds must be foreseeable."""
    table = override('model = "gpt-4o"\nmultiplier = "0.5"') + "\n" + override('model = "gpt-*"\nmultiplier = "0.9"')
    assert price(table).amount_usd == Decimal("1.5")
    assert price(table, model="gpt-4.1", usage=Usage(input_tokens=1_000_000)).amount_usd == Decimal("1.8")


@pytest.mark.parametrize(
    ("lines", "model", "fits"),
    [
        ('model = "gpt-4o"', "gpt-4o-2024-08-06", True),
        ('model = "gpt-4o"', "gpt-4o-mini", False),
        ('model = "gpt-4"\nmatch = "prefix"', "gpt-4o-mini", True),
        ('model = "*mini"', "gpt-4o-mini", True),
        ('model = "^gpt-4o(-mini)?$"\nmatch = "regex"', "GPT-4O-mini", True),
        ('provider = "azure"\nmodel = "*"', "gpt-4o", False),
        ('provider = "text-completion-openai"\nmodel = "*"', "gpt-4o", True),
    ],
)
def test_how_a_pattern_fits(lines: str, model: str, *, fits: bool) -> None:
    """A pattern that fits more, or less, than it says misprices whole families."""
    cost = price(override(f'{lines}\nmultiplier = "0.5"'), model=model)
    assert (cost.source == "override") == fits


def test_a_long_context_price_of_ones_own() -> None:
    """A negotiated long-context step holds above its threshold, for the whole request."""
    table = override(
        'model = "mine"\nrates = { input = "1", output = "2" }\n'
        'long_context = [{ above = 1000, rates = { input = "3", output = "4" } }]'
    )
    for tokens, expected in ((1000, "1002"), (1001, "3007")):
        cost = price(table, model="mine", usage=Usage(input_tokens=tokens, output_tokens=1))
        assert cost.amount_usd == Decimal(expected) / 1_000_000, tokens


def test_audio_beside_cached_input_is_not_subtracted_twice() -> None:
    """Rates for cached input and for audio imply one for cached audio."""
    table = override('model = "mine"\nrates = { input = "1", output = "1", cache_read = "0.1", input_audio = "10" }')
    usage = Usage(
        input_tokens=100, output_tokens=0, cache_read_tokens=60, input_audio_tokens=50, cache_read_audio_tokens=30
    )
    cost = price(table, model="mine", usage=usage)
    assert {name: line.quantity for name, line in cost.breakdown.items()} == {
        "input": 20,
        "cache_read": 30,
        "input_audio": 20,
        "cache_read_audio": 30,
    }


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ('model = "x"\nrates = { inptu = "1" }', "unknown bucket 'inptu'. Did you mean 'input'? Known: "),
        ('model = "x"\nrates = { input = "-1" }', "is negative"),
        ('model = "x"\nrates = { input = "1e9" }', "is absurd: prices are per 1,000,000 tokens"),
        ('model = "x"\nrates = { input = "two" }', "is no decimal number"),
        ('model = "x"\nrates = { input = true }', "is no number"),
        ('model = "x"\nrates = { input = nan }', "is no finite number"),
        ('model = "x"\nrates = {}', "rates is empty"),
        ('model = "x"', "nothing to do"),
        ('model = "x"\nfree = true\nmultiplier = "0.5"', "cannot be combined"),
        ('model = "x"\nmultiplier = "0"', "no sensible multiplier"),
        ('model = "x"\nmultiplier = "850"', "no sensible multiplier"),
        ('model = "x"\ndiscount = "15"', "is no discount"),
        ('model = "x"\ndiscout = "15%"', "unknown key 'discout'. Did you mean 'discount'?"),
        ('model = "x"\nfree = true\ntier = "prioriti"', "unknown tier 'prioriti'. Did you mean 'priority'?"),
        ('model = "x"\nfree = true\nfrom = "soon"', "is no date"),
        ('model = "x"\nfree = true\nfrom = 2026-02-01\nuntil = 2026-01-01', "its period is empty"),
        ('model = "["\nmatch = "regex"\nfree = true', "is no regular expression"),
        (
            'model = "x"\nfree = true\nlong_context = [{ above = 1, rates = { input = "1" } }]',
            "long_context needs rates",
        ),
        (
            'model = "x"\nrates = { input = "1" }\nlong_context = [{ above = 1, rates = { output = "1" } }]',
            "long_context has output, for which rates has no base price",
        ),
    ],
)
def test_a_slip_is_refused_with_a_sentence(lines: str, sentence: str) -> None:
    """A typing error in a price must stop the start, and say what to write instead."""
    with pytest.raises(ValidationError) as refusal:
        book(override(lines))
    assert sentence in str(refusal.value)


def test_two_overrides_for_the_same_calls_are_refused() -> None:
    """An override that can never win is a mistake that would show on the invoice."""
    twice = override('model = "x"\nfree = true') + "\n" + override('model = "X"\nmultiplier = "2"')
    with pytest.raises(ValidationError, match="hold at the same time"):
        book(twice)
    first = override('model = "x"\nfree = true\nuntil = 2026-01-01')
    later = override('model = "x"\nmultiplier = "2"\nfrom = 2026-01-01')
    assert len(book(f"{first}\n{later}").overrides) == 2


def test_overrides_that_can_have_no_effect_are_named() -> None:
    """A discount on a model that no list has would silently save nothing."""
    found = book(
        override('provider = "openai"\nmodel = "gtp-4o"\ndiscount = "10%"')
        + "\n"
        + override('provider = "openai"\nmodel = "gpt-4o"\ndiscount = "10%"')
        + "\n"
        + override('provider = "azure"\nmodel = "dep"\nalias_of = "nothing"')
        + "\n"
        + override('provider = "hosted_vllm"\nmodel = "mine"\nrates = { input = "1" }')
    ).doubtful_overrides()
    assert [sentence.split(":")[1].strip(" '") for sentence in found] == [
        "gtp-4o' fits no model of the price book",
        "dep",
    ]


def test_an_override_that_never_wins_is_named() -> None:
    """The narrower entry behind the broader one is the commonest slip of a list where the first wins."""
    broad, narrow = (
        'provider = "azure"\nmodel = "gpt-*"\ndiscount = "5%"',
        'provider = "azure"\nmodel = "gpt-4o"\nfree = true',
    )
    assert (
        "'azure:gpt-4o' never wins: 'azure:gpt-*' comes first"
        in book(override(broad) + "\n" + override(narrow)).doubtful_overrides()[0]
    )
    assert book(override(narrow) + "\n" + override(broad)).doubtful_overrides() == ()
    later = broad + "\nfrom = 2026-01-01"
    assert book(override(later) + "\n" + override(narrow)).doubtful_overrides() == ()


def test_vertex_and_fallback_models_are_known_to_the_check() -> None:
    """A discount on what a provider resells must not be called doubtful."""
    table = override('provider = "vertex_ai"\nmodel = "gemini-2.5-pro"\ndiscount = "5%"')
    assert book(table).doubtful_overrides() == ()


def test_a_discount_without_a_list_price_says_so() -> None:
    """Nothing times 0.9 is not zero."""
    cost = price(override('model = "mine"\ndiscount = "10%"'), model="mine")
    assert cost.amount_usd is None
    assert "override-without-list-price" in cost.flags


def test_an_override_is_a_value() -> None:
    """Settings are shared between threads."""
    entry = PriceOverride(model="x", free=True)
    with pytest.raises(ValidationError):
        entry.model = "y"  # type: ignore[misc]
