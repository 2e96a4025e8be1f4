"""Turn the installed genai-prices into the one compact price file that ships in the wheel.

    python tools/build_catalog.py           # write it
    python tools/build_catalog.py --check   # exit 1 when the shipped file is not what this command would write

Same genai-prices in, same bytes out. A price key, a constraint or a match clause that our own engine does not know
stops the build; nothing is dropped in silence. Which genai-prices it was, and the SHA-256 of its data, is in the first line.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from farthing.pricing.catalog import FORMAT, Catalog
from farthing.pricing.units import BUCKETS, contains

TARGET: Final = Path(__file__).resolve().parents[1] / "packages/core/src/farthing/pricing/data/catalog.jsonl"

BUCKET_OF_KEY: Final = {unit.price_key: bucket for bucket, unit in BUCKETS.items() if unit.price_key}

MINIMUM_SECONDS: Final = {("groq", "whisper-large-v3"): 10, ("groq", "whisper-large-v3-turbo"): 10}
"""genai-prices states this rule in code, not in data (types.py, `ModelInfo.calc_price`): Groq bills at least 10 s."""


def decimal_text(value: Decimal) -> str:
    """Write a rate without exponent and without idle zeros."""
    return format(value.normalize(), "f")


def rate(value: Any) -> Any:
    """Write one rate: a string, or base and steps for a long-context price."""
    if isinstance(value, Decimal):
        return decimal_text(value)
    return [decimal_text(value.base), [[step.start, decimal_text(step.price)] for step in value.tiers]]


def rates(prices: Any) -> dict[str, Any]:
    """Write one set of rates by bucket, in bill order."""
    found = {BUCKET_OF_KEY[key]: rate(value) for key, value in vars(prices).items() if value is not None}
    return {bucket: found[bucket] for bucket in BUCKETS if bucket in found}


def utc_clock(value: time) -> str:
    """Write a time of day in UTC."""
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime.combine(datetime(2000, 1, 2, tzinfo=UTC), aware).astimezone(UTC).strftime("%H:%M")


def constraint(value: Any) -> Any:
    """Write when a price holds: null, a first UTC day, or a daily UTC window."""
    if value is None:
        return None
    if hasattr(value, "start_date"):
        return value.start_date.isoformat()
    return [utc_clock(value.start_time), utc_clock(value.end_time)]


def clause(value: Any) -> Any:
    """Write a match rule as plain JSON."""
    if value is None:
        return None
    ((name, content),) = vars(value).items()
    if name in {"or_", "and_"}:
        return {name[:-1]: [clause(part) for part in content]}
    if name == "regex":
        return {name: content}
    return {name: content.lower()}


def model_line(provider: Any, model: Any) -> dict[str, Any]:
    """Write one model."""
    prices = model.prices if isinstance(model.prices, list) else None
    line: dict[str, Any] = {
        "id": model.id,
        "match": clause(model.match),
        "prices": [[constraint(part.constraint), rates(part.prices)] for part in prices]
        if prices is not None
        else [[None, rates(model.prices)]],
    }
    if model.price_variants:
        line["variants"] = [
            [dict(sorted(variant.when.items())), constraint(variant.constraint), rates(variant.prices)]
            for variant in model.price_variants
        ]
    if model.deprecated:
        line["deprecated"] = True
    if (provider.id, model.id) in MINIMUM_SECONDS:
        line["minimum_seconds"] = MINIMUM_SECONDS[provider.id, model.id]
    return line


def check_units() -> None:
    """Refuse a genai-prices whose units, or what they contain, are not ours."""
    from genai_prices.data_units import unit_data  # noqa: PLC0415 - a build-time dependency

    theirs = {raw["price_key"]: (usage, raw["per"], raw["dimensions"].items()) for usage, raw in unit_data.items()}
    for key, bucket in BUCKET_OF_KEY.items():
        if key not in theirs:
            sys.exit(f"genai-prices no longer has the unit {key} ({bucket})")
        if theirs[key][1] != BUCKETS[bucket].per:
            sys.exit(f"{key} is quoted per {theirs[key][1]}, ours per {BUCKETS[bucket].per}")
        for other_key, other in BUCKET_OF_KEY.items():
            expected = theirs[key][2] <= theirs[other_key][2]
            if contains(BUCKETS[bucket], BUCKETS[other]) != expected:
                sys.exit(f"{bucket} contains {other}: genai-prices says {expected}")


def build() -> bytes:
    """Give the bytes of the price file."""
    from genai_prices.data import providers  # noqa: PLC0415 - a build-time dependency

    check_units()
    body: list[str] = []
    count = 0
    for provider in providers:
        header = {
            "provider": provider.id,
            "match": clause(provider.provider_match),
            "model_match": clause(provider.model_match),
            "fallback": list(provider.fallback_model_providers or ()),
            "models": len(provider.models),
        }
        body.append(dump(header))
        body.extend(dump(model_line(provider, model)) for model in provider.models)
        count += len(provider.models)
    text = "".join(line + "\n" for line in body).encode()
    spec = importlib.util.find_spec("genai_prices.data")
    if spec is None or spec.origin is None:
        sys.exit("genai-prices is not installed")
    manifest = {
        "format": FORMAT,
        "engine": "genai-prices",
        "version": importlib.metadata.version("genai-prices"),
        "data_sha256": hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest(),
        "released": released(providers),
        "providers": len(providers),
        "models": count,
        "body_sha256": hashlib.sha256(text).hexdigest(),
    }
    return dump(manifest).encode() + b"\n" + text


def released(providers: list[Any]) -> str:
    """Give the last day on which genai-prices says it verified a price: the data is at least as young as that."""
    import re  # noqa: PLC0415

    remarks = " ".join(
        remark
        for provider in providers
        for remark in (provider.price_comments or "", *(model.price_comments or "" for model in provider.models))
    )
    days = re.findall(r"(?:[Cc]hecked|[Vv]erified)[^.]{0,40}?(20\d\d-\d\d-\d\d)", remarks)
    return max(days)


def dump(value: Any) -> str:
    """Write compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare with the shipped file")
    options = parser.parse_args()
    data = build()
    Catalog(data).load_everything()
    if options.check:
        same = TARGET.exists() and TARGET.read_bytes() == data
        print(f"{TARGET.name}: {'up to date' if same else 'differs from what genai-prices gives'}")  # noqa: T201
        return 0 if same else 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(data)
    print(f"{TARGET.name}: {len(data):,} bytes")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
