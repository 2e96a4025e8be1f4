"""The ways of asking through CrewAI: its LLM alone, on its own clients and on LiteLLM, and sometimes a whole crew."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from crewai import LLM, Agent, Crew, Task
from work import Tagged, Work, cancelled, way

if TYPE_CHECKING:
    from work import Seen

_KINDS: Final = ("openai", "anthropic", "litellm")


def llm(work: Work, *, stream: bool = False) -> Any:
    """Give an LLM that all workers share, since making one takes longer than a call."""
    return made(work.dice.choice(_KINDS), work.url, stream=stream)


def prepare(url: str) -> None:
    """Make all LLMs: each one empties `litellm.callbacks`."""
    for kind in _KINDS:
        for stream in (False, True):
            made(kind, url, stream=stream)


@cache
def made(kind: str, url: str, *, stream: bool) -> Any:
    """Make an LLM."""
    if kind == "anthropic":
        return LLM(model="anthropic/claude-sonnet-4-5", base_url=url, api_key="unused", stream=stream, max_retries=0)
    more: dict[str, Any] = {"is_litellm": True} if kind == "litellm" else {}
    return LLM(model="openai/gpt-4o-mini", base_url=f"{url}/v1", api_key="unused", stream=stream, max_retries=0, **more)


@way("crewai sync", "ok", "ok", "cached", "e429", "e500", "malformed", "no-usage", weight=6)
def ask(work: Work) -> Seen:
    """Ask and wait."""
    with Tagged(work, inside=False):
        llm(work).call(work.messages())
    return "answer"


@way("crewai async", "ok", "ok", "cached", "e429", "e500", "malformed", "no-usage", weight=6)
async def ask_async(work: Work) -> Seen:
    """Ask in a task."""
    with Tagged(work, inside=False):
        await llm(work).acall(work.messages())
    return "answer"


@way("crewai stream", "ok", "cached", "cut", "e500")
def stream(work: Work) -> Seen:
    """Ask an LLM that streams."""
    with Tagged(work, inside=False):
        llm(work, stream=True).call(work.messages())
    return "answer"


@way("crewai async, cancelled", "slow", weight=2)
async def cancel(work: Work) -> Seen:
    """Cancel the task at a random moment."""
    with Tagged(work, inside=False):
        return await cancelled(llm(work).acall(work.messages()), work.dice.uniform(0, 1.0))


@way("crewai kickoff", "ok", "cached", weight=1)
def kick_off(work: Work) -> Seen:
    """Run a crew of one."""
    with Tagged(work, inside=False):
        agent = Agent(role="Analyst", goal="look", backstory="curious", llm=llm(work))
        task = Task(name="look", description=work.prompt(), expected_output="a text", agent=agent)
        Crew(name="crew", agents=[agent], tasks=[task]).kickoff()
    return "answer"
