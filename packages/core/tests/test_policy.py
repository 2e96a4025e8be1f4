"""Which tag wins, how it is written, and what becomes of one that is no tag."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.policy import INVALID, Layer, Policy, Verdict


def resolve(*layers: Layer, policy: Policy | None = None) -> Verdict:
    """Decide with a fresh policy."""
    return (policy or Policy()).resolve(layers)


def test_the_stronger_layer_wins_and_is_named() -> None:
    """Law 6: call > attribute > handler > process, and the call says which."""
    verdict = resolve(
        Layer("call", {"feature": "a"}, strict=False),
        Layer("attribute", {"feature": "b", "team": "b"}, strict=True),
        Layer("handler", {"feature": "c", "team": "c", "route": "c"}, strict=True),
        Layer("process", {"environment": "Production"}, strict=True),
    )
    assert verdict.attribution.items() == [
        ("feature", "a"),
        ("route", "c"),
        ("team", "b"),
        ("environment", "production"),
    ]
    assert verdict.sources == {"feature": "call", "team": "attribute", "route": "handler", "environment": "process"}
    assert verdict.violations == ()


@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [
        ("feature", "Email Generator", "email-generator"),
        ("feature", "email_generator", "email-generator"),
        ("feature", "  x  ", "x"),
        ("route", "API/Send_Mail/{id}", "api/send_mail/{id}"),
        ("user_id", "User_42", "User_42"),
        ("tenant", 42, "42"),
        ("tenant", Decimal("1.5"), "1.5"),
        ("plan", True, "true"),
        ("team", StrEnum("Team", {"GROWTH": "Growth"}).GROWTH, "growth"),
    ],
)
def test_values_are_written_one_way(name: str, written: object, expected: str) -> None:
    """Two spellings of one value would become two rows of a report; opaque ids are left alone."""
    verdict = resolve(Layer("call", {name: written}, strict=False))
    assert dict(verdict.attribution.items()) == {name: expected}
    assert verdict.violations == ()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("x" * 10_000, "too-long"),
        (["a"], "not-text"),
        ({"a": 1}, "not-text"),
        (object(), "not-text"),
        ("a\nb", "not-printable"),
        ("a\x80b", "not-printable"),
        ("a\ud800b", "not-printable"),
    ],
)
def test_what_is_no_tag_becomes_a_marker(value: object, reason: str) -> None:
    """A prompt used as a tag would otherwise leave the process, or take the call's cost along when refused."""
    verdict = resolve(Layer("call", {"feature": value}, strict=False))
    assert verdict.attribution.feature == INVALID
    assert verdict.violations == (f"feature:{reason}",)


def test_unknown_dimensions_are_counted_only_where_they_are_meant_as_tags() -> None:
    """A framework's metadata is full of foreign keys; attribute(colour=...) is a mistake."""
    verdict = resolve(
        Layer("call", {"ls_provider": "openai", "run": 3}, strict=False),
        Layer("attribute", {"colour": "red", "a b" * 50: "x"}, strict=True),
    )
    assert verdict.attribution.items() == []
    assert verdict.violations == ("colour:undeclared", "(unnamed):undeclared")


def test_declared_dimensions_and_aliases() -> None:
    """farthing.toml may add dimensions and spellings."""
    policy = Policy(extra_dimensions=("cost_center",), aliases={"squad": "team"})
    verdict = resolve(Layer("handler", {"cost-center": "CC 9", "squad": "Growth"}, strict=True), policy=policy)
    assert dict(verdict.attribution.items()) == {"team": "growth", "cost_center": "cc-9"}
    assert verdict.attribution.model_dump(exclude_none=True) == {"team": "growth", "cost_center": "cc-9"}


def test_the_name_itself_beats_its_spellings_in_one_layer() -> None:
    """Otherwise the order of keys in somebody's dict would decide."""
    for written in ({"team": "a", "owner": "b"}, {"owner": "b", "team": "a"}):
        assert resolve(Layer("call", written, strict=False)).attribution.team == "a"


def test_empty_values_leave_the_weaker_layer_its_say() -> None:
    """metadata={"feature": None} is no answer."""
    verdict = resolve(
        Layer("call", {"feature": None, "team": ""}, strict=False), Layer("handler", {"feature": "h"}, strict=True)
    )
    assert dict(verdict.attribution.items()) == {"feature": "h"}


@given(st.dictionaries(st.text(max_size=40), st.text(max_size=300) | st.integers() | st.none() | st.binary()))
def test_any_tags_give_a_verdict(written: dict[str, object]) -> None:
    """Nothing that anybody writes as a tag may raise, and every value that passes is short and printable."""
    for strict in (True, False):
        verdict = resolve(Layer("call", written, strict=strict))
        for name, value in verdict.attribution.items():
            assert 0 < len(value) <= 128
            assert verdict.sources[name] == "call"


@given(st.text(min_size=1, max_size=128))
def test_normalising_twice_is_normalising_once(value: str) -> None:
    """A tag that went through another farthing must stay the same."""
    once = resolve(Layer("call", {"feature": value}, strict=False)).attribution.feature
    assert resolve(Layer("call", {"feature": once}, strict=False)).attribution.feature == once
