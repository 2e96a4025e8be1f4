"""Streams whose usage LiteLLM makes anew: what the provider told is billed, and nothing where it told none."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from litellm_bench import lite
from test_streams import WITH_USAGE, run

from farthing.testing.provider import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litellm_bench import Bench

    from farthing import Call

pytestmark = [pytest.mark.usefixtures("logger"), pytest.mark.parametrize("mode", ["sync", "async"])]


def counts(call: Call) -> tuple[int | None, int | None]:
    """Give what went in and what came out."""
    assert call.usage is not None
    return call.usage.input_tokens, call.usage.output_tokens


def test_reasoning_beside_the_output(bench: Bench, mode: str) -> None:
    """LiteLLM makes the total anew, and the reasoning that the provider's total holds would be billed to nobody."""
    told = {"completion_tokens": 200, "total_tokens": 1500}
    bench.provider.script(Reply(input_tokens=1000, output_tokens=500, reasoning_tokens=300, usage_extra=told))
    run(bench, mode, bench.openai(**WITH_USAGE))
    (call,) = bench.settled()
    assert counts(call) == (1000, 500)
    assert "reasoning-beside-output" in call.cost.flags


@pytest.mark.parametrize(
    ("maker", "told"),
    [
        ("openai", {"prompt_tokens": 0, "total_tokens": 200}),
        ("openai", {"prompt_tokens": None, "total_tokens": None}),
        ("openai", {"prompt_tokens": 0, "total_tokens": 200, "prompt_tokens_details": None}),
        ("anthropic", {"input_tokens": 0}),
    ],
)
def test_a_prompt_that_was_not_counted(bench: Bench, mode: str, maker: str, told: Mapping[str, Any]) -> None:
    """LiteLLM counts the prompt itself where the provider told none, and its guess would be priced."""
    bench.provider.script(Reply(input_tokens=1000, output_tokens=200, usage_extra=told))
    run(bench, mode, bench.openai(**WITH_USAGE) if maker == "openai" else bench.anthropic(stream=True))
    (call,) = bench.settled(unknown=1)
    assert (call.usage, call.cost.flags) == (None, ("usage-input-missing",))


def test_usage_on_the_chunk_that_finishes(bench: Bench, mode: str) -> None:
    """LiteLLM drops it in async, and the bill would stand as unknown."""
    bench.provider.script(Reply(input_tokens=1000, output_tokens=200, usage_on_finish=True))
    run(bench, mode, bench.openai(**WITH_USAGE))
    (call,) = bench.settled()
    assert counts(call) == (1000, 200)


def test_usage_on_every_chunk_that_nobody_asked_for(bench: Bench, mode: str) -> None:
    """As vLLM tells it: the last one is the whole."""
    bench.provider.script(Reply(input_tokens=1000, output_tokens=200, usage_on_every_chunk=True))
    run(bench, mode, bench.openai(stream=True))
    (call,) = bench.settled()
    assert counts(call) == (1000, 200)


def test_counts_that_are_texts(bench: Bench, mode: str) -> None:
    """A server that writes a count as text must not cost the ledger the call."""
    bench.provider.script(Reply(input_tokens=1000, output_tokens=200, usage_extra={"prompt_tokens": "1000"}))
    run(bench, mode, bench.openai(**WITH_USAGE))
    (call,) = bench.settled()
    assert counts(call) == (1000, 200)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    ("told", "amount"),
    [
        ({"cost": 0.95}, "0.95"),
        ({"cost": 0.95, "is_byok": True, "cost_details": {"upstream_inference_cost": 19}}, "19.95"),
        ({}, None),
    ],
)
def test_what_openrouter_charged_is_billed(
    *, bench: Bench, mode: str, told: Mapping[str, Any], amount: str | None, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteLLM leaves half of it out of the usage that it makes, and can be told to put a figure of its own there."""
    monkeypatch.setattr(lite, "include_cost_in_streaming_usage", own)
    bench.provider.script(Reply(input_tokens=1000, output_tokens=100, usage_extra=told))
    run(bench, mode, bench.openai(**WITH_USAGE) | {"model": "openrouter/openai/gpt-4o"})
    (call,) = bench.captured.calls
    assert (call.cost.reported_usd, call.cost.status) == (amount and Decimal(amount), "reported" if told else "priced")
    # 1,000 x 2.50 + 100 x 10.00 per million: what OpenRouter lists for gpt-4o
    assert call.cost.amount_usd == Decimal(amount or "0.0035")


@pytest.mark.parametrize("first", ["auto", "default"])
def test_the_last_tier_that_is_named_holds(bench: Bench, mode: str, first: str) -> None:
    """A stream that begins with `auto`, which is no tier that is served, would be billed at twice of what it costs."""
    bench.provider.script(Reply(service_tier="flex", first_service_tier=first))
    run(bench, mode, bench.openai("gpt-5-mini", service_tier="flex", **WITH_USAGE))
    (call,) = bench.settled()
    assert (call.service_tier, call.cost.flags) == ("flex", ())
