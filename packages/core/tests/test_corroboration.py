"""Tags as providers take them: nothing that one would refuse, nothing without being asked, and all of it traceable."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import json
import re
import stat

from hypothesis import given
from hypothesis import strategies as st

import farthing
from farthing import corroboration
from farthing.testing import capture

ALL = {"corroboration": {"providers": ["vertex_ai", "bedrock", "openai", "anthropic"], "dimensions": ["route", "team"]}}
FORMS = {
    "vertex_ai": (r"[a-z][a-z0-9_-]{0,62}", r"[a-z0-9_-]{0,63}", 32),
    "bedrock": (r"[a-zA-Z0-9\s:_@$#=/+,.-]{1,256}", r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}", 16),
    "openai": (r".{1,64}", r"[\x20-\x7e]{0,512}", 16),
    "anthropic": (r"user_id", r"f_[0-9a-f]{32}", 1),
}


def test_nothing_without_being_asked() -> None:
    """Who spends is not the provider's business by default."""
    with farthing.attribute(feature="a", team="growth"):
        for provider in FORMS:
            assert farthing.provider_tags(provider) == {}


def test_each_provider_gets_its_own_form() -> None:
    """A label that Google refuses would make an error of a good request."""
    with capture(policy=ALL) as captured, farthing.attribute(route="POST /api/{id}", team="growth", feature="unnamed"):
        labels = farthing.provider_tags("vertex_ai")
        assert labels["team"] == "growth"
        assert re.fullmatch(r"post--api--id--[0-9a-f]{8}", labels["route"])
        assert farthing.provider_tags("bedrock")["team"] == "growth"
        assert farthing.provider_tags("openai") == {"route": "post-/api/{id}", "team": "growth"}
        assert list(farthing.provider_tags("anthropic")) == ["user_id"]
        assert farthing.provider_tags("mistral") == {}
        assert farthing.flush()
        path = captured.folder / "provider-tags.jsonl"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {
        "provider": "gcp.vertex_ai",
        "dimension": "route",
        "sent": labels["route"],
        "for": "post-/api/{id}",
    }
    assert {line["provider"] for line in lines} == {"gcp.vertex_ai", "aws.bedrock", "anthropic"}


def test_what_is_no_tag_is_not_sent() -> None:
    """A marker says nothing, and what it stands for must not leave."""
    with capture(policy=ALL), farthing.attribute(route="a@example.com", team="growth"):
        assert farthing.provider_tags("openai") == {"team": "growth"}


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_tag_fits_every_provider(route: str, team: str) -> None:
    """Whatever somebody writes, no request may fail for it."""
    for provider, form in corroboration._FORMS.items():
        short = {"gcp.vertex_ai": "vertex_ai", "aws.bedrock": "bedrock", "openai": "openai"}[provider]
        key, value, most = FORMS[short]
        written = corroboration._written({"route": route, "team": team}, form)
        assert len(written) <= most
        for name, text in written.items():
            assert re.fullmatch(key, name)
            assert re.fullmatch(value, text)
