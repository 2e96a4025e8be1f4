"""Turn the installed genai-prices into the one compact price file that ships in the wheel.

    python tools/build_catalog.py           # write it
    python tools/build_catalog.py --check   # exit 1 when the shipped file is not what this command would write

Same genai-prices in, same bytes out. A unit, a condition or a match rule that our own engine does not know stops the
build. Which genai-prices it was, and the SHA-256 of its data, is in the first line of the file.
"""

# ruff: noqa: INP001 - a script, not a package

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from typing import Any, Final

from farthing.pricing.catalog import Catalog
from farthing.pricing.conversion import compact
from farthing.pricing.units import BUCKETS, contains

TARGET: Final = Path(__file__).resolve().parents[1] / "packages/core/src/farthing/pricing/data/catalog.jsonl"


def check_units() -> None:
    """Refuse a genai-prices whose units, or what they contain, are not ours."""
    from genai_prices.data_units import unit_data  # noqa: PLC0415 - a build-time dependency

    theirs = {raw["price_key"]: (raw["per"], raw["dimensions"].items()) for raw in unit_data.values()}
    ours = {unit.price_key: unit for unit in BUCKETS.values() if unit.price_key}
    for key, unit in ours.items():
        if key not in theirs or theirs[key][0] != unit.per:
            sys.exit(f"{unit.bucket}: genai-prices has no unit {key}, or quotes it otherwise than per {unit.per}")
        for other_key, other in ours.items():
            if contains(unit, other) != (theirs[key][1] <= theirs[other_key][1]):
                sys.exit(f"genai-prices no longer agrees whether {unit.bucket} contains {other.bucket}")


def raw(value: Any) -> Any:
    """Give genai-prices' objects in the shape of its published JSON."""
    if isinstance(value, list):
        return [raw(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return value  # pyright: ignore[reportUnknownVariableType]
    if hasattr(value, "__dict__"):
        held: dict[str, Any] = value.__dict__
        return {name.rstrip("_"): raw(content) for name, content in held.items() if content is not None}
    return value


def build() -> bytes:
    """Give the bytes of the price file."""
    from genai_prices.data import providers  # noqa: PLC0415 - a build-time dependency

    check_units()
    spec = importlib.util.find_spec("genai_prices.data")
    if spec is None or spec.origin is None:
        sys.exit("genai-prices is not installed")
    wanted = ("id", "provider_match", "model_match", "fallback_model_providers", "price_comments", "models")
    return compact(
        [{name: raw(getattr(provider, name)) for name in wanted} for provider in providers],
        version=importlib.metadata.version("genai-prices"),
        data_sha256=hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest(),
    )


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
