"""From the published JSON of genai-prices to our own compact price file: nothing is dropped in silence."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime, time
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from farthing.errors import PriceDataError
from farthing.pricing.catalog import FORMAT
from farthing.pricing.units import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["compact"]

_BUCKET_OF_KEY: Final = {unit.price_key: bucket for bucket, unit in BUCKETS.items() if unit.price_key}

_MINIMUM_SECONDS: Final = {("groq", "whisper-large-v3"): 10, ("groq", "whisper-large-v3-turbo"): 10}
"""genai-prices states this rule in code, not in data (types.py, `ModelInfo.calc_price`): Groq bills at least 10 s."""

_CLAUSES: Final = frozenset({"equals", "starts_with", "ends_with", "contains", "regex", "or", "and"})


def compact(raw: Sequence[Mapping[str, Any]], *, version: str, data_sha256: str) -> bytes:
    """Write the compact price file.

    Args:
        raw: genai-prices' providers as its published `new_data/v2/data.json` has them; numbers as Decimal or int.
        version: Which genai-prices, or which download, they are from.
        data_sha256: The SHA-256 of what they were read from.

    Raises:
        PriceDataError: A unit, a condition or a match rule that this version of farthing does not know.
    """
    lines: list[str] = []
    count = 0
    for provider in raw:
        models: list[dict[str, Any]] = provider.get("models") or []
        header = {
            "provider": provider["id"],
            "match": _clause(provider.get("provider_match")),
            "model_match": _clause(provider.get("model_match")),
            "fallback": list(provider.get("fallback_model_providers") or ()),
            "models": len(models),
        }
        lines.append(_dump(header))
        lines.extend(_dump(_model(str(provider["id"]), model)) for model in models)
        count += len(models)
    body = "".join(line + "\n" for line in lines).encode()
    manifest = {
        "format": FORMAT,
        "engine": "genai-prices",
        "version": version,
        "data_sha256": data_sha256,
        "released": _verified(raw),
        "providers": len(raw),
        "models": count,
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
    return _dump(manifest).encode() + b"\n" + body


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _verified(raw: Sequence[Mapping[str, Any]]) -> str:
    """Give the last day on which a remark says that a price was checked: the data is at least as young as that."""
    remarks = " ".join(
        part.get("price_comments") or "" for provider in raw for part in (provider, *(provider.get("models") or ()))
    )
    return max(re.findall(r"(?:[Cc]hecked|[Vv]erified)[^.]{0,40}?(20\d\d-\d\d-\d\d)", remarks), default="")


def _model(provider: str, model: Mapping[str, Any]) -> dict[str, Any]:
    prices = model.get("prices")
    listed: list[Any] = list(prices) if isinstance(prices, list) else [{"prices": prices or {}}]  # pyright: ignore[reportUnknownArgumentType]
    line: dict[str, Any] = {
        "id": model["id"],
        "match": _clause(model["match"]),
        "prices": [[_constraint(part.get("constraint")), _rates(model["id"], part["prices"])] for part in listed],
    }
    if variants := model.get("price_variants"):
        line["variants"] = [
            [
                dict(sorted(part["when"].items())),
                _constraint(part.get("constraint")),
                _rates(model["id"], part["prices"]),
            ]
            for part in variants
        ]
    if model.get("deprecated"):
        line["deprecated"] = True
    if (provider, model["id"]) in _MINIMUM_SECONDS:
        line["minimum_seconds"] = _MINIMUM_SECONDS[provider, model["id"]]
    return line


def _clause(raw: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if raw is None:
        return None
    ((kind, content),) = raw.items()
    if kind not in _CLAUSES:
        message = f"a match rule {kind!r} that this version of farthing does not know: use a newer farthing"
        raise PriceDataError(message)
    if kind in {"or", "and"}:
        return {kind: [_clause(part) for part in content]}
    return {kind: content if kind == "regex" else content.lower()}


def _constraint(raw: Mapping[str, Any] | None) -> Any:
    """Write when a price holds: null, a first UTC day, or a daily UTC window."""
    if raw is None:
        return None
    if raw.get("start_date"):
        return str(raw["start_date"])
    if raw.get("start_time") and raw.get("end_time"):
        return [_clock(str(raw["start_time"])), _clock(str(raw["end_time"]))]
    message = f"a price condition {sorted(raw)} that this version of farthing does not know: use a newer farthing"
    raise PriceDataError(message)


def _clock(text: str) -> str:
    value = time.fromisoformat(text)
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime.combine(datetime(2000, 1, 2, tzinfo=UTC), aware).astimezone(UTC).strftime("%H:%M")


def _rates(model: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in raw.items():
        if value is None:
            continue
        if key not in _BUCKET_OF_KEY:
            message = f"{model} has a price for {key!r}, a unit that this version of farthing does not know"
            raise PriceDataError(message)
        found[_BUCKET_OF_KEY[key]] = _rate(value)
    return {bucket: found[bucket] for bucket in BUCKETS if bucket in found}


def _rate(value: Any) -> Any:
    if isinstance(value, dict):
        tiers: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        return [_plain(tiers["base"]), [[int(step["start"]), _plain(step["price"])] for step in tiers["tiers"]]]
    return _plain(value)


def _plain(value: Any) -> str:
    """Write a rate without exponent and without idle zeros."""
    try:
        return format(Decimal(value).normalize(), "f")
    except (InvalidOperation, TypeError) as error:
        message = f"a price is no number: {value!r}"
        raise PriceDataError(message) from error
