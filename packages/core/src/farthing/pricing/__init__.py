"""Exact prices: the price book, the user's settings for it, and the process's default book."""

from __future__ import annotations

from farthing.pricing.book import PriceBook
from farthing.pricing.files import default_book, replace_default_book
from farthing.pricing.overrides import PriceOverride, PricesSettings

__all__ = ["PriceBook", "PriceOverride", "PricesSettings", "default_book", "replace_default_book"]
