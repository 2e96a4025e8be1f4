"""What must hold of every price: parts add up, more never costs less, the ambient decimal context does not matter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, localcontext
from functools import cache

from hypothesis import assume, given
from hypothesis import strategies as st

from farthing.envelope import Usage
from farthing.pricing import PriceBook, default_book

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)

count = st.integers(0, 2_000_000)
moment = st.datetimes(datetime(2020, 1, 1), datetime(2027, 6, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds


@cache
def models() -> list[tuple[str, str]]:
    """Give a spread of models: every twelfth of the catalogue."""
    return [(provider.id, model.id) for provider, model in book().catalog.models()][::12]


@cache
def book() -> PriceBook:
    """Give the default book."""
    return default_book()


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Draw a usage whose parts fit their wholes."""
    read, short, long, fresh = draw(count), draw(count), draw(count), draw(count)
    audio = draw(st.integers(0, fresh))
    output = draw(count)
    return Usage(
        input_tokens=read + short + long + fresh,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=short + long,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        input_audio_tokens=audio,
        cache_read_audio_tokens=0,
        output_reasoning_tokens=draw(st.integers(0, output)),
        web_searches=draw(st.integers(0, 5)),
    )


@given(which=st.integers(0), usage=usages(), at=moment, tier=st.sampled_from(["standard", "batch", "flex", "priority"]))
def test_lines_sum_to_the_amount(which: int, usage: Usage, at: datetime, tier: str) -> None:
    """Whoever adds up a bill must get its total, exactly."""
    provider, model = models()[which % len(models())]
    cost = book().price(provider, model, usage, at=at, tier=tier)
    if cost.status == "priced":
        with localcontext(Context(prec=60)):
            assert sum(line.amount_usd for line in cost.breakdown.values()) == cost.amount_usd
    else:
        assert cost.amount_usd in {None, Decimal(0)}
        assert cost.amount_usd is None or cost.status == "free"


@given(which=st.integers(0), usage=usages(), precision=st.integers(1, 9))
def test_the_ambient_context_does_not_matter(which: int, usage: Usage, precision: int) -> None:
    """An application that lowers its decimal precision must not change its costs."""
    provider, model = models()[which % len(models())]
    expected = book().price(provider, model, usage, at=NOW)
    with localcontext(Context(prec=precision)):
        cost = book().price(provider, model, usage, at=NOW)
    assert cost.amount_usd == expected.amount_usd


@given(first=usages(), second=usages())
def test_calls_add_up_where_there_is_no_step(first: Usage, second: Usage) -> None:
    """Two calls cost what one call of both would, on a model without long-context prices."""
    both = Usage.model_validate(
        {name: (getattr(first, name) or 0) + (getattr(second, name) or 0) for name in first.model_fields_set}
    )
    amounts = [
        book().price("anthropic", "claude-haiku-4-5", usage, at=NOW).amount_usd for usage in (first, second, both)
    ]
    assert amounts[0] is not None
    assert amounts[1] is not None
    with localcontext(Context(prec=50)):
        assert amounts[0] + amounts[1] == amounts[2]


@given(which=st.integers(0), usage=usages(), more=st.integers(1, 10_000))
def test_more_output_never_costs_less(which: int, usage: Usage, more: int) -> None:
    """A sign or a subtraction gone wrong would show here."""
    provider, model = models()[which % len(models())]
    bigger = usage.model_copy(update={"output_tokens": (usage.output_tokens or 0) + more})
    small, big = (book().price(provider, model, one, at=NOW).amount_usd for one in (usage, bigger))
    if small is not None and big is not None:
        assert big >= small


@given(which=st.integers(0), total=st.integers(1, 1_000_000), share=st.floats(0, 1))
def test_cached_input_never_costs_more_than_fresh(which: int, total: int, share: float) -> None:
    """A cached token that costs more than a fresh one is a rate in the wrong place."""
    provider, model = models()[which % len(models())]
    cached = book().price(provider, model, Usage(input_tokens=total, cache_read_tokens=int(total * share)), at=NOW)
    fresh = book().price(provider, model, Usage(input_tokens=total), at=NOW)
    if cached.amount_usd is not None and fresh.amount_usd is not None:
        assume((model, provider) not in DEARER_CACHED)
        assert cached.amount_usd <= fresh.amount_usd


DEARER_CACHED: set[tuple[str, str]] = set()
"""Models whose published cached rate is above the fresh one; none in this spread."""


@given(usage=usages(), model=st.sampled_from(["claude-haiku-4-5", "claude-sonnet-4-20250514", "claude-opus-4-1"]))
def test_batch_is_half_where_that_is_documented(usage: Usage, model: str) -> None:
    """Anthropic halves every kind of token and no web search."""
    tokens = usage.model_copy(update={"web_searches": 0})
    standard = book().price("anthropic", model, tokens, at=NOW).amount_usd
    batch = book().price("anthropic", model, tokens, at=NOW, tier="batch").amount_usd
    assert standard is not None
    assert batch is not None
    with localcontext(Context(prec=50)):
        assert batch * 2 == standard


@given(
    provider=st.none() | st.text(max_size=12),
    model=st.none() | st.text(max_size=30),
    tier=st.none() | st.text(max_size=8),
    context=st.none() | st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
    usage=st.none() | usages(),
    at=moment | st.datetimes(),
    reported=st.none() | st.decimals(0, 10, allow_nan=False, places=6),
)
def test_nothing_that_a_framework_says_raises(
    *,
    provider: str | None,
    model: str | None,
    tier: str | None,
    context: dict[str, str] | None,
    usage: Usage | None,
    at: datetime,
    reported: Decimal | None,
) -> None:
    """Whatever stands where a provider or a model should, a call must not break, nor cost zero unless it says free."""
    cost = book().price(provider, model, usage, at=at, tier=tier, context=context, reported_usd=reported)
    assert cost.amount_usd is not None or cost.flags
    if cost.amount_usd == 0 and cost.status not in {"free", "reported"}:
        assert not cost.breakdown


@given(at=moment, minutes=st.integers(0, 600))
def test_the_zone_of_a_moment_does_not_matter(at: datetime, minutes: int) -> None:
    """A price belongs to an instant, not to how a clock shows it."""
    from datetime import timezone  # noqa: PLC0415 - only here

    usage = Usage(input_tokens=1000, output_tokens=100)
    elsewhere = at.astimezone(timezone(timedelta(minutes=minutes)))
    for provider, model in (("deepseek", "deepseek-v4-flash"), ("openai", "o3"), ("google", "gemini-3.8-flash")):
        here = book().price(provider, model, usage, at=at)
        assert book().price(provider, model, usage, at=elsewhere).amount_usd == here.amount_usd
