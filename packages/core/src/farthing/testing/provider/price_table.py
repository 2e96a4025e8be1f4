"""The fake provider's price list: rates by model, served tier and length of the input."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from importlib.resources import files

from farthing.testing.provider.wire_json import JSON, JSONObject, as_int, as_list, as_object, as_text

RATE_NAMES = frozenset(
    {
        "input",
        "output",
        "cache_read",
        "cache_write_5m",
        "cache_write_1h",
        "input_audio",
        "output_audio",
        "characters",
        "image",
        "audio_second",
        "web_search",
        "web_search_preview",
        "grounded_prompt",
        "code_container",
        "rerank_search",
    }
)

# How the providers spell the tiers of the table in requests and responses; a spelling that is absent names itself.
_TIERS: Mapping[str, str] = {
    "default": "standard",
    "auto": "standard",
    "on_demand": "standard",
    "on_demand_flex": "flex",
    "on_demand_priority": "priority",
}


def canonical_tier(tier: str) -> str:
    """Give the table's name of a tier as a provider spells it. Raises: nothing."""
    return _TIERS.get(tier.lower(), tier.lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrices:
    """The rates of one model; `tiers` maps tier names (`flex`, `flex_long`) to rates as printed on the price page."""

    tiers: Mapping[str, Mapping[str, Decimal]]
    long_above_tokens: int | None = None
    snapshot: str | None = None
    also: tuple[str, ...] = field(default=())

    def rates(self, tier: str, *, input_tokens: int) -> Mapping[str, Decimal] | None:
        """Give the rates of a served tier for a request of that input, None when none are listed. Raises: nothing."""
        name = canonical_tier(tier)
        if self.long_above_tokens is not None and input_tokens > self.long_above_tokens:
            name = f"{name}_long"
        listed = self.tiers.get(name)
        if listed is None:
            return None
        fees = {key: rate for key, rate in self.tiers["standard"].items() if key in _FEES}
        return {**fees, **listed}


_FEES = frozenset({"web_search", "web_search_preview", "grounded_prompt", "code_container"})


class PriceTable:
    """Prices by provider and model id; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[tuple[str, str], ModelPrices] = dict(_published())
        self._set: dict[str, ModelPrices] = {}

    def set_price(self, model: str, rates: Mapping[str, Decimal]) -> None:
        """Give a model (and the snapshot behind it) a price ahead of the list, at every provider, in the standard tier.

        Raises:
            ValueError: a rate name that does not exist.
        """
        unknown = sorted(set(rates) - RATE_NAMES)
        if unknown:
            raise ValueError(f"unknown rates {unknown}; allowed: {sorted(RATE_NAMES)}")
        prices = ModelPrices(tiers={"standard": dict(rates)})
        with self._lock:
            listed = [row for (_, name), row in self._models.items() if name == model]
            for name in {model, *(row.snapshot for row in listed if row.snapshot)}:
                self._set[name] = prices

    def find(self, provider: str, model: str) -> ModelPrices | None:
        """Give the prices of a model id (alias or snapshot), None when it is not listed. Raises: nothing."""
        with self._lock:
            return self._set.get(model) or self._models.get((provider, model))

    def has_tier(self, provider: str, model: str, tier: str) -> bool:
        """Whether the model is sold in that tier. Raises: nothing."""
        found = self.find(provider, model)
        return found is not None and canonical_tier(tier) in found.tiers

    def snapshot_of(self, provider: str, model: str) -> str:
        """Give the dated id behind an alias, or the id itself. Raises: nothing."""
        found = self.find(provider, model)
        if found is None or found.snapshot is None or model in found.also:
            return model
        return found.snapshot

    def names(self, provider: str) -> tuple[str, ...]:
        """List the model ids a provider sells. Raises: nothing."""
        with self._lock:
            return tuple(sorted(model for owner, model in self._models if owner == provider))


@cache
def _published() -> Mapping[tuple[str, str], ModelPrices]:
    text = files("farthing.testing.provider").joinpath("prices.toml").read_text(encoding="utf-8")
    document: JSONObject = tomllib.loads(text)
    models: dict[tuple[str, str], ModelPrices] = {}
    for provider, rows in document.items():
        for model, row in as_object(rows).items():
            prices = _model_prices(as_object(row))
            for name in {model, prices.snapshot or model, *prices.also}:
                models[provider, name] = prices
    return models


def _model_prices(row: JSONObject) -> ModelPrices:
    return ModelPrices(
        tiers={name: _rates(value) for name, value in row.items() if isinstance(value, Mapping)},
        long_above_tokens=as_int(row.get("long_above_tokens")),
        snapshot=as_text(row.get("snapshot")),
        also=tuple(name for name in map(as_text, as_list(row.get("also"))) if name is not None),
    )


def _rates(value: JSON) -> Mapping[str, Decimal]:
    return {name: Decimal(as_text(rate) or "") for name, rate in as_object(value).items()}
