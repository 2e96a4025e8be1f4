"""Every flag that a cost can carry has a sentence."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Final

import pytest

import farthing
from farthing_reports.flags import FLAG_SENTENCES

SOURCES: Final = Path(farthing.__file__).parent
EMITTING: Final = (*(SOURCES / "pricing").glob("*.py"), *(SOURCES / "usage").glob("*.py"), SOURCES / "billing.py")
NO_FLAGS: Final = re.compile(
    r"(us|eu|ap|datazone|global|cost|whisper|genai|content|gpt|dall)-.*|[a-z]+-[a-z]+-\d|scope-(open|close)|process-ended"
    r"|(foundation|provisioned)-model|(application-)?inference-profile|utf-8"
)
"""Texts of the same look: places, deployments, models, the names of libraries and events."""


def constants() -> set[str]:
    """Give every text of the emitting modules that looks like a flag."""
    found: set[str] = set()
    for path in EMITTING:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return {text for text in found if re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", text) and not NO_FLAGS.fullmatch(text)}


def corrected() -> set[str]:
    """Give the flags that our corrections set."""
    raw = tomllib.loads((files("farthing.pricing") / "data" / "corrections.toml").read_text(encoding="utf-8"))
    return {entry["flag"] for entry in raw["correction"] if "flag" in entry}


def test_the_search_finds_flags() -> None:
    """A search that finds nothing would prove nothing."""
    assert {"context-not-priced", "usage-impossible", "cache-split-assumed", "no-model-name"} <= constants()
    assert "moving-alias" in corrected()


@pytest.mark.parametrize("flag", sorted(constants() | corrected()))
def test_every_flag_has_a_sentence(flag: str) -> None:
    """A flag without one would reach a reader as a bare word: write it into flags.py (or NO_FLAGS, if it is none)."""
    assert flag in FLAG_SENTENCES


@pytest.mark.parametrize("flag", sorted(set(FLAG_SENTENCES) - {"fault"}))
def test_no_sentence_outlives_its_flag(flag: str) -> None:
    """A sentence for a flag that nobody sets any more is removed."""
    assert flag in constants() | corrected()


@pytest.mark.parametrize("sentence", FLAG_SENTENCES.values())
def test_sentences_are_sentences(sentence: str) -> None:
    """They begin with a capital, end with a point and fit a line of a terminal with their label."""
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert len(sentence) <= 100
