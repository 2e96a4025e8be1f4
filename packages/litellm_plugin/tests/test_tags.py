"""Who pays: every way of writing tags, and which of them wins."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from litellm_bench import lite

import farthing
from farthing.errors import ConfigurationError
from farthing_litellm import FarthingLogger

if TYPE_CHECKING:
    from litellm_bench import Bench

    from farthing import Call

FORMS: dict[str, Any] = {
    "dict": {"tags": {"feature": "search", "team": "web"}},
    "list": {"tags": ["feature:search", "team:web"]},
    "text": {"tags": "feature:search,team:web"},
    "flat": {"feature": "search", "team": "web"},
    "spellings": {"feature_name": "search", "owner": "web"},
    "mixed": {"tags": ["feature:search", "prod", ":", "a:b:c"], "team_id": "web", "trace_name": "x"},
}


def one(bench: Bench, **more: Any) -> Call:
    """Make a call and give its Call."""
    lite.completion(**bench.openai(**more))
    return bench.settled()[-1]


@pytest.mark.parametrize("name", ["metadata", "litellm_metadata"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("logger")
def test_forms(bench: Bench, form: str, name: str) -> None:
    """A form that people already write would be taken for no tag."""
    call = one(bench, **{name: FORMS[form]})
    assert (call.attribution.feature, call.attribution.team) == ("search", "web")
    assert (call.attribution_source["feature"], call.attribution_source["team"]) == ("call", "call")


@pytest.mark.usefixtures("logger")
def test_both_metadata_and_user(bench: Bench) -> None:
    """Of two metadata only one would be read, or `user` not at all."""
    call = one(
        bench, metadata={"feature": "search"}, litellm_metadata={"feature": "other", "tenant": "acme"}, user="u1"
    )
    assert (call.attribution.feature, call.attribution.tenant, call.attribution.user_id) == ("search", "acme", "u1")


@pytest.mark.usefixtures("logger")
def test_other_operations_carry_tags_too(bench: Bench) -> None:
    """LiteLLM moves metadata to other places for embeddings, responses and messages."""
    tags: dict[str, Any] = {"tags": {"feature": "search"}}
    place: dict[str, Any] = {"api_base": bench.provider.openai_url, "api_key": "sk-secret"}
    lite.embedding(**place, model="openai/text-embedding-3-small", input=["a"], metadata=tags)
    lite.responses(**place, model="openai/gpt-4o-mini", input="a", litellm_metadata=tags)
    asyncio.run(lite.anthropic.messages.acreate(**bench.anthropic(max_tokens=9, litellm_metadata=tags)))
    assert [call.attribution.feature for call in bench.settled()] == ["search"] * 3


def test_which_wins(bench: Bench) -> None:
    """The handler's default would beat the call, or nothing would say where a tag came from."""
    lite.callbacks = [FarthingLogger(feature="h", team="h", tenant="h", default_tags={"plan": "h", "team": "weaker"})]
    with farthing.attribute(team="a", tenant="a"):
        call = one(bench, metadata={"tenant": "c"})
    values = {name: (value, call.attribution_source[name]) for name, value in call.attribution.items()}
    assert values == {
        "feature": ("h", "handler"),
        "team": ("a", "attribute"),
        "tenant": ("c", "call"),
        "plan": ("h", "handler"),
    }


@pytest.mark.usefixtures("logger")
def test_values_that_are_no_tags(bench: Bench) -> None:
    """A list, a megabyte or an object as a tag would break the call or end up in the ledger."""
    call = one(
        bench, metadata={"tags": {"feature": ["a"], "route": "x" * 10_000, 7: "seven"}, "tenant": object(), "other": {}}
    )
    assert set(call.violations) == {"feature:not-text", "route:too-long", "tenant:not-text"}
    assert call.attribution.feature == "__invalid__"


@pytest.mark.usefixtures("logger")
def test_metadata_of_strange_types(bench: Bench) -> None:
    """A strange metadata would lose the cost of the call."""
    for metadata in (None, {}, {"tags": 5}, {"tags": None}, {"tags": [1, None, "x"]}):
        lite.completion(**bench.openai(metadata=metadata))
    assert len(bench.settled()) == 5


def test_default_tags_must_be_a_dict() -> None:
    """A wrong default would be found when the first call fails, not where it is written."""
    with pytest.raises(ConfigurationError, match="default_tags must be a dict"):
        FarthingLogger(default_tags=["feature"])  # pyright: ignore[reportArgumentType]
