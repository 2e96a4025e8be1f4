"""Answers from LiteLLM's own cache: nothing was bought, and what was saved is known."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from litellm.caching.caching import Cache
from litellm_bench import lite

import farthing

if TYPE_CHECKING:
    from litellm_bench import Bench

    from farthing import Call

pytestmark = pytest.mark.usefixtures("logger")


@pytest.fixture(autouse=True)
def _cache() -> None:
    """Keep answers in memory."""
    lite.cache = Cache(type="local")  # pyright: ignore[reportArgumentType] - a literal in LiteLLM's enum


def assert_hit(calls: list[Call]) -> None:
    """The second of two is a hit that saved what the first cost."""
    paid, hit = calls
    assert (hit.cost.status, hit.cost.amount_usd) == ("cache_hit", Decimal(0))
    assert hit.cost.saved_usd == paid.cost.amount_usd
    assert hit.attribution.tenant == "acme"


def test_sync_hit(bench: Bench) -> None:
    """A hit would be billed again with the tokens of the first answer."""
    pytest.importorskip("fastapi", reason="LiteLLM needs it for this hit")
    for _ in range(2):
        lite.completion(**bench.openai(metadata={"tenant": "acme"}, user="u"))
    bench.captured.calls  # noqa: B018 - flushes
    assert_hit(bench.settled())


def test_async_hit_keeps_the_callers_context(bench: Bench) -> None:
    """As for sync, and the enclosing tags would be lost."""
    pytest.importorskip("fastapi", reason="LiteLLM needs it for this hit")

    async def main() -> None:
        with farthing.attribute(tenant="acme"):
            for _ in range(2):
                await lite.acompletion(**bench.openai())
                await farthing.aflush()
        await asyncio.sleep(0.05)

    asyncio.run(main())
    assert_hit(bench.settled())


def test_async_embedding_hit(bench: Bench) -> None:
    """The one hit that a LiteLLM without fastapi can serve."""

    async def main() -> None:
        with farthing.attribute(tenant="acme"):
            for _ in range(2):
                await lite.aembedding(
                    model="openai/text-embedding-3-small",
                    api_base=bench.provider.openai_url,
                    api_key="sk-secret",
                    input=["same"],
                )
                await asyncio.sleep(0.1)
        await farthing.aflush()

    asyncio.run(main())
    assert_hit(bench.settled())
