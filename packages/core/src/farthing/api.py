"""The public functions that are neither context nor configuration: price() and aflush()."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from farthing import setup
from farthing.context import NOTHING, current
from farthing.meter import Asking

if TYPE_CHECKING:
    from farthing.envelope import Cost, Usage

__all__ = ["aflush", "price", "require"]

_LATE_SECONDS = 1.0
_POLL_SECONDS = 0.005


def price(provider: str, model: str, usage: Usage, *, at: datetime | None = None, tier: str = "standard") -> Cost:
    """Price a usage as the providers would have billed it at a moment.

    Args:
        provider: In the spelling of the GenAI conventions, LiteLLM or genai-prices: "openai", "aws.bedrock", "bedrock".
        model: The model's name, id, profile or ARN.
        usage: Inclusive token counts.
        at: The call's own time, aware; None is now.
        tier: standard, batch, flex, priority or fast.

    Returns:
        The cost in US dollars with its breakdown, or with `amount_usd` None and a status and flags that say why.

    Raises:
        ValueError: `at` is naive, or a name is no text.
    """
    if at is not None and at.tzinfo is None:
        raise ValueError("at: a naive time is ambiguous; write e.g. datetime(2026, 1, 31, tzinfo=timezone.utc)")
    if not isinstance(provider, str) or not isinstance(model, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError("provider and model are names: give them as text")  # noqa: TRY004 - one class for all bad input
    moment = datetime.now(UTC) if at is None else at
    return setup.price_book().price(provider, model, usage, at=moment, tier=tier)


async def aflush(timeout: float = 5.0) -> bool:  # noqa: ASYNC109 - the counterpart of flush(timeout)
    """Write and send everything that finished so far, without blocking the event loop.

    Frameworks that report from tasks of this loop get their turn first.

    Args:
        timeout: In seconds.

    Returns:
        True when all of it arrived; False when the time ran out or something was refused.

    Raises:
        Nothing.
    """
    deadline = time.monotonic() + timeout
    await asyncio.sleep(0)
    late_until = min(deadline, time.monotonic() + _LATE_SECONDS)
    while setup.late_runs() and time.monotonic() < late_until:  # noqa: ASYNC110 - no framework offers an event for this
        await asyncio.sleep(_POLL_SECONDS)
    return await asyncio.to_thread(setup.flush, max(0.0, deadline - time.monotonic()))


def require(*dimensions: str) -> None:
    """Refuse to go on unless the tags in force here are what they must be: before a call that no plugin of ours sees.

    Args:
        dimensions: What must have a usable value, whatever the policy says; without any, the policy alone decides.

    Raises:
        AttributionError: Something is missing or not allowed. `enforce = false` in the settings switches this off.
    """
    setup.runtime().rules.require(Asking(NOTHING, current(), NOTHING, None, None), names=dimensions)
