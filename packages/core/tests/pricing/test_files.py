"""Price files: built reproducibly, refused when damaged or absurd, compared before they are taken."""

from __future__ import annotations

import hashlib
import json
import os
import runpy
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from farthing.envelope import Usage
from farthing.errors import PriceDataError
from farthing.pricing import PricesSettings, default_book, replace_default_book
from farthing.pricing import files as price_files
from farthing.pricing.files import (
    bundled_catalog,
    compare,
    load_catalog,
    make_book,
    objections,
    read_catalog,
    refresh_default_book,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BUNDLED = (files("farthing.pricing") / "data" / "catalog.jsonl").read_bytes()
TOOL = Path(__file__).resolve().parents[4] / "tools" / "build_catalog.py"


def theirs(**models: dict[str, Any]) -> bytes:
    """Write a small file in genai-prices' published format."""
    listed = [{"id": name, "match": {"equals": name}, "prices": prices} for name, prices in models.items()]
    return json.dumps([{"id": "openai", "name": "OpenAI", "api_pattern": "x", "models": listed}]).encode()


def test_the_shipped_file_is_what_the_builder_writes() -> None:
    """A price file that cannot be reproduced cannot be trusted."""
    assert runpy.run_path(str(TOOL))["build"]() == BUNDLED


def test_our_own_format_is_read() -> None:
    """A file that was built or pulled can be used."""
    catalog = read_catalog(BUNDLED, sha256=hashlib.sha256(BUNDLED).hexdigest())
    assert len(list(catalog.models())) == catalog.manifest["models"] > 2_000


def test_the_published_format_of_genai_prices_is_read(tmp_path: Path) -> None:
    """Prices can be renewed from upstream without a new release of farthing."""
    path = tmp_path / "data.json"
    path.write_bytes(
        theirs(**{"gpt-4o": {"input_mtok": 2.6, "output_mtok": {"base": 10, "tiers": [{"start": 5, "price": 20}]}}})
    )
    book = make_book(PricesSettings(file=path))
    cost = book.price("openai", "gpt-4o", Usage(input_tokens=10, output_tokens=1), at=NOW)
    assert cost.amount_usd == Decimal("0.000046")
    assert cost.provenance is not None
    assert cost.provenance.data_source == "file"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (BUNDLED[: len(BUNDLED) // 2], "damaged or cut off"),
        (BUNDLED[:-1], "damaged or cut off"),
        (BUNDLED.replace(b'"2.5"', b'"2.4"', 1), "damaged or cut off"),
        (b"", "no manifest"),
        (b"<html>", "no manifest"),
        (b"{}", "no manifest"),
        (b"[]", "has no models"),
        (b"[1]", "neither in the format"),
        (theirs(x={"input_mtok": 1})[:-3], "cut off or no JSON"),
        (theirs(x={"input_mtok": -1}), "the price of x for input is absurd"),
        (theirs(x={"input_mtok": 1e12}), "the price of x for input is absurd"),
        (theirs(x={"input_mtok": "free"}), "a price is no number"),
        (theirs(x={"brainwaves_mtok": 1}), "a unit that this version of farthing does not know"),
    ],
)
def test_what_cannot_be_trusted_is_refused(data: bytes, complaint: str) -> None:
    """A file cut in half or with a slipped decimal point must not price a single call."""
    with pytest.raises(PriceDataError, match=complaint):
        read_catalog(data)


def test_another_hash_than_expected_is_refused(tmp_path: Path) -> None:
    """A checksum in the settings pins the file."""
    path = tmp_path / "prices.jsonl"
    path.write_bytes(BUNDLED)
    with pytest.raises(PriceDataError, match="not the expected"):
        load_catalog(path, sha256="0" * 64)
    with pytest.raises(PriceDataError, match="cannot be read"):
        load_catalog(tmp_path / "none")


def test_a_comparison_names_losses_and_moves() -> None:
    """Before another file is taken, a human sees what it changes."""
    old = read_catalog(theirs(a={"input_mtok": 1}, b={"input_mtok": 1}, c={"input_mtok": 1}, d={"input_mtok": 1}))
    new = read_catalog(theirs(a={"input_mtok": 1}, b={"input_mtok": 6}, c={}, e={"input_mtok": 1}))
    found = compare(old, new, at=NOW)
    assert found.lost == ("openai/d",)
    assert found.added == ("openai/e",)
    assert found.unpriced == ("openai/c",)
    assert [(move.model, move.bucket, move.factor) for move in found.moves] == [("b", "input", Decimal(6))]
    sentences = objections(found)
    assert "2 of 4 models lose their price" in sentences[0]
    assert "openai/b: input moves from 1 to 6 US dollars" in sentences[1]
    assert objections(found, max_lost_share=Decimal(1), max_factor=Decimal(10)) == ()


def test_the_same_file_needs_no_consent() -> None:
    """Renewing without a change must be silent."""
    assert objections(compare(bundled_catalog(), bundled_catalog(), at=NOW)) == ()


def test_a_running_process_takes_over_a_changed_file(tmp_path: Path) -> None:
    """`farthing prices use` reaches processes that run; a damaged file changes nothing."""
    before = default_book()
    path = tmp_path / "prices.json"
    path.write_bytes(theirs(x={"input_mtok": 1}))
    usage = Usage(input_tokens=1_000_000)
    try:
        default_book(PricesSettings(file=path))
        assert default_book().price("openai", "x", usage, at=NOW).amount_usd == 1
        assert not refresh_default_book()
        _write(path, theirs(x={"input_mtok": 3}), 1)
        assert refresh_default_book()
        assert default_book().price("openai", "x", usage, at=NOW).amount_usd == 3
        _write(path, b"[{", 2)
        with pytest.raises(PriceDataError):
            refresh_default_book()
        assert default_book().price("openai", "x", usage, at=NOW).amount_usd == 3
        assert not refresh_default_book()
    finally:
        default_book(PricesSettings())
        replace_default_book(before)


def _write(path: Path, data: bytes, seconds: int) -> None:
    path.write_bytes(data)
    os.utime(path, (1_900_000_000 + seconds, 1_900_000_000 + seconds))


def test_the_public_functions_are_these() -> None:
    """The command line is built on them."""
    assert all(hasattr(price_files, name) for name in price_files.__all__)
