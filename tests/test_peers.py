"""The judge of `make peers`: a word that is wrong there would be a false claim about somebody else's work."""

from __future__ import annotations

import importlib.util
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

_PATH: Final = Path(__file__).parents[1] / "benchmarks" / "peers" / "verdict.py"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("peers_verdict", _PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


VERDICT: Final = _load()
ONE, TWO = Decimal("0.000101"), Decimal("0.000202")
NOTHING: Final = (None, None, None)
"""A record that says only that there was a call."""


def said(amount: Decimal | None, tokens: int | None = 1, output: int | None = 1, *, own: bool = False) -> Any:
    """Make what a peer recorded."""
    return VERDICT.Seen(amount_usd=amount, input_tokens=tokens, output_tokens=output, own=own)


def word(lines: list[Decimal | None], seen: list[Any], unknown: int = 0) -> str:
    """Judge."""
    made = [VERDICT.Line(amount_usd=amount, input_tokens=7, output_tokens=8) for amount in lines]
    verdict: str = VERDICT.judge(made, seen, unknown=unknown)[0]
    return verdict


@pytest.mark.parametrize(
    ("expected", "lines", "seen", "unknown"),
    [
        ("right", [ONE, TWO], [said(TWO), said(ONE)], 0),
        ("right", [ONE], [said(Decimal("0.000101000000000001"), own=True)], 0),
        ("right", [ONE, TWO], [said(*NOTHING), said(TWO)], 1),
        ("right", [ONE], [said(*NOTHING), said(ONE)], 0),
        ("right", [ONE], [said(ONE), said(Decimal(0), 0, 0)], 0),
        ("right", [ONE], [said(ONE, own=True), said(Decimal(0), own=True)], 0),
        ("right", [None], [said(None, 7, 8)], 0),
        ("lost", [ONE, TWO], [said(TWO)], 0),
        ("lost", [ONE, TWO], [said(TWO)], 1),
        ("lost", [ONE], [said(*NOTHING)], 0),
        ("double", [ONE], [said(ONE), said(ONE)], 0),
        ("wrong", [ONE], [said(TWO)], 0),
        ("wrong", [ONE], [said(TWO)], 1),
        ("wrong", [ONE], [said(Decimal(0), 0, 0)], 1),
        ("wrong", [ONE], [said(ONE), said(TWO)], 0),
        ("wrong", [None], [said(Decimal(0), 7, 8, own=True)], 0),
    ],
)
def test_words(expected: str, lines: list[Decimal | None], seen: list[Any], unknown: int) -> None:
    """Each word means what the page says of it."""
    assert word(lines, seen, unknown) == expected
