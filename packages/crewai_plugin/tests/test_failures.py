"""What goes wrong at the provider or on the way: nothing lost, nothing doubled, nothing that is unknown at zero."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from crewai_bench import SECRET, agent, crew, llm, lookup, scopes, task, total, tracked

import farthing
from farthing.testing.provider import Fault, Reply
from farthing_crewai.failing import failure
from farthing_crewai.versions import INSTALLED

if TYPE_CHECKING:
    from crewai_bench import Bench

RETRIES_RATE_LIMITS = INSTALLED >= (1, 15, 23)
"""Before that, the agent begins its task anew, which is another operation."""

TREE = ["workflow:research", "task:look", "agent:Analyst"]


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once: the delays of crewai and of the openai client are not what is tested."""

    def at_once(**_facts: object) -> float:
        return 0.0

    if RETRIES_RATE_LIMITS:
        monkeypatch.setattr("crewai.llms.retry.get_retry_delay_seconds", at_once)


def test_rate_limit_then_answer(bench: Bench) -> None:
    """A refused attempt would be billed, or its retry stand apart from it and from its agent."""
    bench.listen(feature="research")
    bench.provider.script(Fault(status=429, message=SECRET), times=2)
    crew(task(agent(llm(max_retries=0)))).kickoff()
    calls = bench.settled()
    assert [(call.cost.status, call.error_type) for call in calls] == [
        ("not_billed", "429"),
        ("not_billed", "429"),
        ("priced", None),
    ]
    assert [call.attempt for call in calls] == ([1, 2, 3] if RETRIES_RATE_LIMITS else [1, 1, 1])
    assert len({call.operation_id for call in calls}) == (1 if RETRIES_RATE_LIMITS else 3)
    assert [scopes(call) for call in calls] == [TREE] * 3
    assert tracked() == 0


def test_server_errors_then_failure(bench: Bench) -> None:
    """A crew that fails would leave its scopes open, or its refused calls would look bought."""
    bench.listen(feature="research")
    bench.provider.script(Fault(status=500, message=SECRET), times=None)
    with pytest.raises(Exception, match="500"):
        crew(task(agent(llm(max_retries=0), max_retry_limit=1))).kickoff()
    calls = bench.settled()
    assert {call.cost.status for call in calls} == {"not_billed"}
    assert all(scopes(call) == TREE for call in calls)
    assert tracked() == 0


def test_request_after_a_failed_crew_is_a_tree_of_its_own(bench: Bench) -> None:
    """Failures that CrewAI reports twice upset its stack, and the next request would join the failed one's tree."""
    bench.listen(feature="research")
    bench.provider.script(Fault(status=500), times=2)
    with pytest.raises(Exception, match="500"):
        crew(task(agent(llm(max_retries=0), max_retry_limit=1)), name="failed").kickoff()
    crew(task(agent(llm())), name="next").kickoff()
    llm().call(SECRET)
    assert [scopes(call)[:1] for call in bench.settled()] == [["workflow:failed"]] * 2 + [["workflow:next"], []]


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("anthropic/claude-sonnet-4-5", "429"),
        ("gemini/gemini-2.5-flash", "429"),
        ("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "400"),
    ],
)
def test_refusals_of_other_providers_are_recognised(bench: Bench, model: str, code: str) -> None:
    """A refusal whose wording is not understood would be unreported for ever."""
    bench.listen(feature="research")
    status = int(code)  # botocore would retry a throttled call for half a minute
    bench.provider.script(Fault(status=status, message=SECRET), times=None)
    with pytest.raises(Exception):  # noqa: B017 - each provider's own
        llm(model, max_retries=0).call(SECRET)
    calls = bench.settled()
    assert {(call.cost.status, call.error_type) for call in calls} == {("not_billed", code)}


@pytest.mark.parametrize(("model", "code"), [("gemini/gemini-2.5-flash", "400"), ("gpt-4o-mini", "400")])
def test_prompt_that_is_too_long_is_not_billed(bench: Bench, model: str, code: str) -> None:
    """CrewAI has words of its own for this refusal: it would be unreported for ever."""
    bench.listen(feature="research")
    bench.provider.script(
        Fault(status=400, code="context_length_exceeded", message="maximum context length is 10"), times=None
    )
    with pytest.raises(Exception, match="context length"):
        llm(model, max_retries=0).call(SECRET)
    assert {(call.cost.status, call.error_type) for call in bench.settled()} == {("not_billed", code)}


def test_answer_that_cannot_be_read_is_unreported(bench: Bench) -> None:
    """The provider billed an answer that crewai could not use: it must not look free."""
    bench.listen(feature="research")
    bench.provider.script(Fault(malformed_json=True))
    with pytest.raises(Exception):  # noqa: B017 - the client's own
        llm(max_retries=0).call(SECRET)
    (call,) = bench.settled(unreported=1)
    assert (call.outcome, call.cost.status) == ("error", "unreported")


@pytest.mark.parametrize("model", ["gpt-4o-mini", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"])
@pytest.mark.parametrize("again", [False, True])
def test_cut_stream_is_unreported(bench: Bench, model: str, again: bool) -> None:
    """A stream that breaks off has no usage, or the count so far, and would cost nothing or next to it."""
    bench.listen(feature="research")
    bench.provider.script(Fault(cut_stream_after=2, cut_with="end", reply=Reply(usage_on_every_chunk=again)))
    llm(model, stream=True, max_retries=0).call(SECRET)
    (call,) = bench.settled(unreported=1)
    assert call.cost.status == "unreported"


@pytest.mark.parametrize("model", ["gpt-4o-mini", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"])
def test_error_inside_a_stream_is_no_refusal(bench: Bench, model: str) -> None:
    """It has a status, as a refusal has: what had been answered until then was billed."""
    bench.listen(feature="research")
    reply = Reply(usage_on_every_chunk=True)
    bench.provider.script(Fault(cut_stream_after=2, cut_with="error", reply=reply), times=None)
    with pytest.raises(Exception, match=r".+"):
        llm(model, stream=True, max_retries=0).call(SECRET)
    assert {call.cost.status for call in bench.settled(unreported=1)} == {"unreported"}


@pytest.mark.parametrize(
    "text",
    [
        "OpenAI API call failed: Provider returned Error code: 500",
        "Anthropic API call failed: Upstream API error: 503",
        "Google Gemini API call failed: upstream has litellm.RateLimitError: slow down",
    ],
)
def test_a_message_of_the_providers_is_no_status(text: str) -> None:
    """Whoever answers with 200 may say anything in it, and was paid."""
    assert failure(text)[1] is None


def test_billed_calls_of_a_failed_crew_stand(bench: Bench) -> None:
    """What was bought before a crew failed would be lost: crewai's own metrics lose it."""
    bench.listen(feature="research")
    bench.provider.script(Reply(text=None, tool_rounds=1))
    bench.provider.script(Fault(status=400), times=None)
    with pytest.raises(Exception, match="400"):
        crew(task(agent(llm(max_retries=0), tools=[lookup], max_retry_limit=0))).kickoff()
    calls = bench.settled()
    assert total(calls) > 0
    assert tracked() == 0


def test_functions_run_by_crewai_hide_the_usage(bench: Bench) -> None:
    """With available_functions CrewAI ends the call without usage: unknown, not free."""
    bench.listen(feature="research")
    schema = {
        "type": "function",
        "function": {
            "name": "lookup",
            "description": "look up",
            "parameters": {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]},
        },
    }
    bench.provider.script(Reply(tool_rounds=1))

    def look(topic: str) -> str:
        return topic

    llm().call(SECRET, tools=[schema], available_functions={"lookup": look})  # pyright: ignore[reportArgumentType]
    (call,) = bench.settled(unreported=1)
    assert (call.outcome, call.cost.status) == ("success", "unreported")


async def test_cancelled_kickoff_is_written_at_the_end(bench: Bench) -> None:
    """CrewAI says nothing of a cancelled kickoff: its call must at least appear when the process ends."""
    bench.listen(feature="research")
    bench.provider.script(Reply(delay_seconds=1.0))
    running = asyncio.ensure_future(crew(task(agent(llm()))).akickoff())
    while not bench.provider.requests:  # noqa: ASYNC110 - the request arrives on a thread of the provider's
        await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await asyncio.to_thread(bench.calls) == []
    await asyncio.to_thread(farthing.shutdown)
    (call,) = bench.calls()
    assert (call.outcome, call.error_type, call.cost.status) == ("abandoned", "process-ended", "unreported")
    assert scopes(call) == TREE


def test_denied_by_a_hook_is_not_billed(bench: Bench) -> None:
    """A call that a hook stopped never left the process and would be unreported."""
    hooks = pytest.importorskip("crewai.hooks")

    def deny(_context: object) -> bool:
        return False

    bench.listen(feature="research")
    hooks.register_before_llm_call_hook(deny)
    try:
        with pytest.raises(Exception, match="blocked"):
            llm().call(SECRET)
    finally:
        hooks.unregister_before_llm_call_hook(deny)
    assert [(call.cost.status, call.error_type) for call in bench.settled()] == [("not_billed", "denied")]
    assert not bench.provider.requests
