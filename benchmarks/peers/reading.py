"""From a peer's figures to what it recorded of one call: its own cost, or its tokens priced."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from verdict import Seen

import farthing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["first", "priced"]


def priced(
    *,
    provider: Any,
    models: Sequence[Any],
    input_tokens: Any,
    output_tokens: Any,
    cache_read: Any = None,
    cache_write: Any = None,
    tier: Any = None,
    own: Any = None,
) -> Seen:
    """Take a peer's own cost, or price its tokens with all that it says about them, as a careful reader would."""
    if own is not None:
        return Seen(amount_usd=Decimal(str(own)), input_tokens=input_tokens, output_tokens=output_tokens, own=True)
    amount = None
    if input_tokens is not None or output_tokens is not None:
        read, wrote = cache_read or 0, cache_write or 0
        usage = farthing.Usage(
            # Less input than came from a cache: a peer that counts the cached tokens apart.
            input_tokens=max(input_tokens or 0, read + wrote),
            output_tokens=output_tokens or 0,
            cache_read_tokens=read,
            cache_write_tokens=wrote,
        )
        for model in filter(None, models):
            name = str(model)
            amount = farthing.price(provider or _maker(name), name, usage, tier=tier).amount_usd
            if amount is None and provider:
                amount = farthing.price(_maker(name), name, usage, tier=tier).amount_usd
            if amount is not None:
                break
    return Seen(amount_usd=amount, input_tokens=input_tokens, output_tokens=output_tokens)


def _maker(model: str) -> str:
    return "anthropic" if "claude" in model else "google" if "gemini" in model else "openai"


def first(attributes: Mapping[str, Any], *names: str) -> Any:
    """Give the first of some attributes that is there."""
    return next((attributes[name] for name in names if attributes.get(name) is not None), None)
