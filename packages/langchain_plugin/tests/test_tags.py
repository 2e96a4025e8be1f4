"""Whose money it was: every form in which LangChain users write it, which wins, and that nothing else leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

import farthing
from farthing.errors import ConfigurationError
from farthing_langchain import FarthingHandler, extract
from farthing_langchain.lineage import Lineage, Place

if TYPE_CHECKING:
    from langchain_bench import MakeModel, Settle

    from farthing.testing import Captured

PROMPT = ChatPromptTemplate.from_template("say {x}")


def test_precedence(openai: MakeModel, settle: Settle) -> None:
    """The call's own metadata wins over attribute(), that over the handler, and the Call says which it was."""
    handler = FarthingHandler(
        feature="handler", route="handler", team="handler", default_tags={"plan": "free", "team": "x"}
    )
    with farthing.attribute(feature="block", route="block"):
        openai().invoke("hi", {"callbacks": [handler], "metadata": {"feature": "call"}})
    (call,) = settle()
    assert call.attribution.items() == [("feature", "call"), ("route", "block"), ("team", "handler"), ("plan", "free")]
    assert call.attribution_source == {"feature": "call", "route": "attribute", "team": "handler", "plan": "handler"}


def test_attribute_inside_a_step(openai: MakeModel, settle: Settle) -> None:
    """attribute() around a nested call tags that call alone."""
    model = openai()

    def step(value: str) -> None:
        model.invoke(value)
        with farthing.attribute(task_type="inner"):
            model.invoke(value)

    RunnableLambda(step).invoke("hi", {"callbacks": [FarthingHandler(feature="f")]})
    outer, inner = settle()
    assert (outer.attribution.task_type, inner.attribution.task_type) == (None, "inner")


async def test_attribute_reaches_async_calls(openai: MakeModel, settle: Settle) -> None:
    """The handler runs in the task of the call, so that it sees the attribute() there."""
    with farthing.attribute(tenant="acme"):
        await (PROMPT | openai()).ainvoke({"x": "hi"}, {"callbacks": [FarthingHandler(feature="f")]})
    (call,) = settle()
    assert call.attribution.tenant == "acme"


def test_spellings(openai: MakeModel, settle: Settle) -> None:
    """Other tools' names for a dimension are understood in metadata, keywords and default_tags."""
    handler = FarthingHandler(team_id="growth", default_tags={"feature_name": "Chat Bot"})
    openai().invoke("hi", {"callbacks": [handler], "metadata": {"customer_id": "acme", "env": "production"}})
    (call,) = settle()
    assert dict(call.attribution.items()) == {
        "feature": "chat-bot",
        "team": "growth",
        "tenant": "acme",
        "environment": "production",
    }


def test_config_tags(openai: MakeModel, settle: Settle) -> None:
    """`tags=["feature:x"]` is understood; LangChain's own tags are not attribution."""
    config: Any = {"callbacks": [FarthingHandler()], "tags": ["feature:tagged", "team:growth", "vip", "url:http://x"]}
    (PROMPT | openai()).invoke({"x": "hi"}, {**config, "metadata": {"team": "metadata-wins"}})
    (call,) = settle()
    assert dict(call.attribution.items()) == {"feature": "tagged", "team": "metadata-wins"}
    assert call.violations == ()


def test_session(openai: MakeModel, settle: Settle) -> None:
    """A thread or conversation is a session, unless the session is given by name."""
    for metadata in ({"thread_id": "t1"}, {"conversation_id": "t2"}, {"thread_id": "t1", "session_id": "t3"}):
        openai().invoke("hi", {"callbacks": [FarthingHandler()], "metadata": metadata})
    assert [call.attribution.session_id for call in settle()] == ["t1", "t2", "t3"]


def test_unusable_values(openai: MakeModel, settle: Settle) -> None:
    """What is no tag is refused by name and never read; other people's metadata is nobody's business."""

    class Loud:
        def __str__(self) -> str:
            raise AssertionError("an object of the application was read")

    metadata: Any = {
        "feature": Loud(),
        "team": ["a"],
        "route": "r" * 10_000,
        "payload": Loud(),
        "prompt": "very secret",
    }
    openai().invoke("hi", {"callbacks": [FarthingHandler()], "metadata": metadata})
    (call,) = settle()
    assert set(call.violations) == {"feature:not-text", "team:not-text", "route:too-long"}
    assert "secret" not in call.model_dump_json()


def test_unknown_keyword(openai: MakeModel, settle: Settle) -> None:
    """A keyword that is no dimension is a mistake that the policy counts; one that is declared is a dimension."""
    openai().invoke("hi", {"callbacks": [FarthingHandler(feture="typo")]})
    (call,) = settle()
    assert call.violations == ("feture:undeclared",)


def test_default_tags_of_a_wrong_kind() -> None:
    """A mistake in the constructor is said at once, with what would be accepted."""
    with pytest.raises(ConfigurationError, match="default_tags must be a dict"):
        FarthingHandler(default_tags=["feature:x"])  # type: ignore[arg-type]


def test_with_config_only_fills(openai: MakeModel, settle: Settle) -> None:
    """LangChain's own rules: the outermost config wins over with_config, an inner call's config over both."""
    model = openai()

    def step(value: str) -> object:
        return model.invoke(value, {"metadata": {"task_type": "nested"}})

    inner = RunnableLambda(step)
    config: Any = {"callbacks": [FarthingHandler()], "metadata": {"feature": "outer", "task_type": "outer"}}
    inner.with_config(metadata={"feature": "bound", "route": "bound"}).invoke("hi", config)
    (call,) = settle()
    assert dict(call.attribution.items()) == {"feature": "outer", "route": "bound", "task_type": "nested"}


def test_many_keys() -> None:
    """Metadata of thousands of keys is looked at up to a bound."""
    assert len(extract.tags_of({f"k{number}": number for number in range(5000)}, None)) == extract.MAX_TAGS


def test_same_handler_twice(openai: MakeModel, settle: Settle) -> None:
    """The same handler on model and chain, or twice in a list, is one Call."""
    handler = FarthingHandler(feature="once")
    (PROMPT | openai(callbacks=[handler])).invoke({"x": "hi"}, {"callbacks": [handler, handler]})
    openai().invoke("hi", {"callbacks": [handler, handler]})
    assert len(settle()) == 2


def test_two_handlers(openai: MakeModel, settle: Settle, captured: Captured) -> None:
    """Two handlers on one call are one Call with the tags of both, and the second report is counted."""
    model = openai(callbacks=[FarthingHandler(team="model", feature="model")])
    (PROMPT | model).invoke({"x": "hi"}, {"callbacks": [FarthingHandler(feature="chain")]})
    (call,) = settle()
    assert (call.attribution.team, call.attribution.feature) == ("model", "chain")
    assert captured.health.duplicates == 1


def test_reused_run_id(openai: MakeModel, settle: Settle) -> None:
    """Run ids are the user's to choose, and may come again."""
    from uuid import UUID  # noqa: PLC0415 - here alone

    for _ in range(2):
        openai().invoke("hi", {"callbacks": [FarthingHandler()], "run_id": UUID(int=7)})
    assert len(settle()) == 2


def test_lineage_is_bounded() -> None:
    """Runs whose end never comes are forgotten, the oldest first."""
    lineage = Lineage(max_open=3000)
    for run in range(10_000):
        lineage.enter(run, Place(None, None, None, "chain"))
    assert 3000 <= len(lineage) <= 3001
    assert 9999 in lineage
    assert 0 not in lineage
