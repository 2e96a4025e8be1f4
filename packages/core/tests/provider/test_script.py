"""Scripting: what a reply may claim, and which rule answers which request."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from farthing.testing.provider.script import (
    Fault,
    ReceivedRequest,
    Reply,
    Rule,
    Script,
    ScriptedAnswer,
    UnknownScenarioError,
)


def request_for(
    model: str = "gpt-4o", *, path: str = "/v1/chat/completions", scenario: str | None = None
) -> ReceivedRequest:
    """A request as the server would record it."""
    return ReceivedRequest(
        number=1,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        method="POST",
        path=path,
        query="",
        headers={},
        body=b"{}",
        model=model,
        scenario=scenario,
    )


def test_reply_refuses_parts_above_their_whole() -> None:
    """A reply with more cached than input tokens would make an invoice with negative fresh input."""
    with pytest.raises(ValueError, match="input parts"):
        Reply(input_tokens=10, cache_read_tokens=8, cache_write_5m_tokens=3)
    with pytest.raises(ValueError, match="output parts"):
        Reply(output_tokens=10, reasoning_tokens=11)


@pytest.mark.parametrize("field", ["input_tokens", "cache_read_tokens", "delay_seconds", "web_searches"])
def test_reply_refuses_negative_numbers(field: str) -> None:
    """A negative count would lower the bill."""
    with pytest.raises(ValueError, match=field):
        Reply(**{field: -1})  # pyright: ignore[reportArgumentType] - one field of several, chosen by the parameter


def test_reply_and_rule_refuse_zero() -> None:
    """A stream of no chunks and a rule for no request are mistakes of the script."""
    with pytest.raises(ValueError, match="chunks"):
        Reply(chunks=0)
    with pytest.raises(ValueError, match="times"):
        Rule(answer=Reply(), times=0)
    with pytest.raises(ValueError, match="at least one answer"):
        Script().add_scenario("empty", [])


def test_fault_needs_exactly_one_kind() -> None:
    """A fault that is none, or two at once, would do something nobody asked for."""
    with pytest.raises(ValueError, match="needs"):
        Fault()
    with pytest.raises(ValueError, match="choose one"):
        Fault(status=500, drop_connection=True)
    with pytest.raises(ValueError, match="400"):
        Fault(status=200)


@pytest.mark.parametrize(
    ("fault", "is_billed"),
    [
        (Fault(status=500), False),
        (Fault(status=500, billed=True), True),
        (Fault(drop_connection=True), False),
        (Fault(cut_stream_after=1), True),
        (Fault(malformed_json=True), True),
        (Fault(malformed_json=True, billed=False), False),
        (Fault(hang_seconds=1), False),
    ],
)
def test_fault_is_billed_like_a_real_one(fault: Fault, *, is_billed: bool) -> None:
    """Generated but spoiled answers cost money, refused requests do not; the flag overrules both."""
    assert fault.is_billed is is_billed


def test_rules_answer_in_order_and_run_out() -> None:
    """A rule that is served twice, or out of turn, gives a test the wrong numbers."""
    script = Script()
    first, second, always = Reply(text="1"), Reply(text="2"), Reply(text="3")
    script.add(Rule(answer=first))
    script.add(Rule(answer=second, times=2))
    script.add(Rule(answer=always, times=None))
    served = [script.take(request_for()) for _ in range(5)]
    assert served == [first, second, second, always, always]
    assert [rule.answer for rule in script.pending] == [always]


def test_rules_match_model_path_and_predicate() -> None:
    """A rule for one model that answers another mixes up the two calls of a fallback."""
    script = Script()
    by_model, by_path, by_predicate = Reply(text="m"), Reply(text="p"), Reply(text="w")
    script.add(Rule(answer=by_model, model="claude-*", times=None))
    script.add(Rule(answer=by_path, path="/v1/emb*", times=None))
    script.add(Rule(answer=by_predicate, when=lambda request: request.model == "o3", times=None))
    assert script.take(request_for("claude-opus-4-6")) is by_model
    assert script.take(request_for("x", path="/v1/embeddings")) is by_path
    assert script.take(request_for("o3")) is by_predicate
    assert script.take(request_for("gpt-4o")) is None


def test_free_endpoints_do_not_use_up_replies() -> None:
    """A client that lists the models first would take the reply meant for its completion."""
    script = Script()
    script.add(Rule(answer=Reply()))
    assert script.take(request_for(), is_billed=False) is None
    assert len(script.pending) == 1


def test_scenario_serves_in_turn_and_repeats_the_last() -> None:
    """A retry scenario must fail first and succeed for ever after."""
    script = Script()
    fault, reply = Fault(status=429), Reply(text="ok")
    script.add_scenario("flaky", [fault, reply])
    request = request_for(scenario="flaky")
    assert [script.take(request) for _ in range(3)] == [fault, reply, reply]


def test_unknown_scenario_names_the_known_ones() -> None:
    """A typo in a scenario's name must not be answered as if nothing was asked."""
    script = Script()
    script.add_scenario("a", [Reply()])
    with pytest.raises(UnknownScenarioError, match="registered: a"):
        script.take(request_for(scenario="b"))


def test_rules_are_served_once_under_concurrency() -> None:
    """Two threads that take the same rule would share one reply and its numbers."""
    script = Script()
    answers = [Reply(input_tokens=number) for number in range(200)]
    for answer in answers:
        script.add(Rule(answer=answer))
    taken: list[ScriptedAnswer | None] = []

    def take() -> None:
        taken.extend(script.take(request_for()) for _ in range(25))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(answer) for answer in taken} == {id(answer) for answer in answers}
