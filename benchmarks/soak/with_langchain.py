"""The ways of asking through LangChain: its own clients, and LiteLLM below it with both plugins."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from langchain_anthropic import ChatAnthropic
from langchain_core.caches import InMemoryCache
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from langchain_litellm import ChatLiteLLM
from langchain_openai import ChatOpenAI
from plans import FIRST_MODEL
from work import Tagged, Work, cancelled, given_up, tags_of, way

from farthing_langchain import FarthingHandler

if TYPE_CHECKING:
    from work import Seen

HANDLERS: Final[list[FarthingHandler]] = [FarthingHandler(feature="langchain")]
"""Emptied where the soak runs without farthing."""

_GOOD: Final = ("ok", "ok", "cached", "reasoning")
_BAD: Final = ("e429", "e500", "e400", "drop", "malformed", "no-usage")
_CUT: Final = ("cut", "cut-error")
_lock: Final = threading.Lock()


@lru_cache(maxsize=256)
def _made(kind: str, url: str, settings: tuple[tuple[str, Any], ...]) -> Any:
    more: dict[str, Any] = {"api_key": "unused", "max_retries": 0, **dict(settings)}
    if kind == "anthropic":
        return ChatAnthropic(base_url=url, **{"model_name": "claude-sonnet-4-5", **more})
    if kind == "litellm":
        # ChatLiteLLM hands its max_retries to nobody: OpenAI's client would retry unseen, also what was billed.
        below = {"max_retries": more.pop("max_retries")}
        return ChatLiteLLM(api_base=f"{url}/v1", model_kwargs=below, **{"model": "openai/gpt-4o", **more})
    return ChatOpenAI(base_url=f"{url}/v1", **{"model": "gpt-4o", "stream_usage": True, **more})


def model(work: Work, kind: str, **settings: Any) -> Any:
    """Give a model that all workers share, as applications share theirs."""
    with _lock:
        return _made(kind, work.url, tuple(sorted(settings.items())))


def config(work: Work, tagged: Tagged) -> dict[str, Any]:
    """Give the config of one call; now and then a second handler is on it."""
    handlers = HANDLERS * (2 if work.dice.random() < 0.1 else 1)  # noqa: PLR2004 - one in ten
    return {"callbacks": list(handlers), "metadata": tagged.metadata}


def either(work: Work) -> Any:
    """Give a model of one of the two providers."""
    return model(work, work.dice.choice(["openai", "openai", "anthropic"]))


def chain(work: Work, asked: Any) -> Any:
    """Put the model into a chain, or leave it alone."""
    if work.dice.random() < 0.5:  # noqa: PLR2004 - a coin
        return asked
    return RunnableLambda(_same) | asked | StrOutputParser()


def _same(value: Any) -> Any:
    return value


# On LangChain's own clients.


@way("langchain sync", *_GOOD, *_BAD, weight=8)
def ask(work: Work) -> Seen:
    """Ask and wait."""
    with Tagged(work) as tagged:
        chain(work, either(work)).invoke(work.prompt(), config(work, tagged))
    return "answer"


@way("langchain async", *_GOOD, *_BAD, weight=8)
async def ask_async(work: Work) -> Seen:
    """Ask in a task."""
    with Tagged(work) as tagged:
        await chain(work, either(work)).ainvoke(work.prompt(), config(work, tagged))
    return "answer"


@way("langchain anthropic caches", "cache-write", "cache-write-5m")
def ask_anthropic(work: Work) -> Seen:
    """Ask where the provider's cache is written and read."""
    with Tagged(work) as tagged:
        chain(work, model(work, "anthropic")).invoke(work.prompt(), config(work, tagged))
    return "answer"


@way("langchain stream", *_GOOD, *_CUT, "no-usage", "e429", "e500", weight=6)
def stream(work: Work) -> Seen:
    """Read a stream to its end."""
    with Tagged(work) as tagged:
        for _ in chain(work, either(work)).stream(work.prompt(), config(work, tagged)):
            pass
    return "answer"


@way("langchain async stream", *_GOOD, *_CUT, "no-usage", "e429", "e500", weight=6)
async def stream_async(work: Work) -> Seen:
    """Read an async stream to its end."""
    with Tagged(work) as tagged:
        async for _ in chain(work, either(work)).astream(work.prompt(), config(work, tagged)):
            pass
    return "answer"


@way("langchain stream cut at the end of a piece", "cut-end", weight=2)
def stream_cut(work: Work) -> Seen:
    """Read a stream that ends as if it were whole."""
    with Tagged(work) as tagged:
        for _ in model(work, "openai").stream(work.prompt(), config(work, tagged)):
            pass
    return "answer"


@way("langchain stream, left", "long", "slow-chunks")
def leave(work: Work) -> Seen:
    """Leave a stream after some pieces."""
    with Tagged(work) as tagged:
        stay = work.dice.randrange(4)
        for at, _ in enumerate(chain(work, either(work)).stream(work.prompt(), config(work, tagged))):
            if at >= stay:
                break
    return "left"


@way("langchain async stream, left", "long", "slow-chunks")
async def leave_async(work: Work) -> Seen:
    """Leave an async stream, with or without closing it."""
    with Tagged(work) as tagged:
        answer = chain(work, either(work)).astream(work.prompt(), config(work, tagged))
        stay, read = work.dice.randrange(1, 4), 0
        async for _ in answer:
            read += 1
            if read >= stay:
                break
        if work.dice.random() < 0.5:  # noqa: PLR2004 - a coin
            await answer.aclose()
    return "left"


@way("langchain async, cancelled", "slow", weight=6)
async def cancel(work: Work) -> Seen:
    """Cancel the task at a random moment."""
    with Tagged(work) as tagged:
        asked = chain(work, either(work)).ainvoke(work.prompt(), config(work, tagged))
        return await cancelled(asked, work.dice.uniform(0, 1.0))


@way("langchain async stream, cancelled", "slow-chunks", weight=6)
async def cancel_stream(work: Work) -> Seen:
    """Cancel the task that reads a stream."""

    async def read() -> None:
        async for _ in chain(work, either(work)).astream(work.prompt(), config(work, tagged)):
            pass

    with Tagged(work) as tagged:
        return await cancelled(read(), work.dice.uniform(0, 1.2))


@way("langchain async, wait_for", "slow")
async def give_up(work: Work) -> Seen:
    """Wait for so long and no longer."""
    with Tagged(work) as tagged:
        asked = chain(work, either(work)).ainvoke(work.prompt(), config(work, tagged))
        return await given_up(asked, work.dice.uniform(0.05, 0.8))


@way("langchain sync, timeout", "slow")
def time_out(work: Work) -> Seen:
    """Let the client give up."""
    with Tagged(work) as tagged:
        kind, name = work.dice.choice([("openai", "timeout"), ("anthropic", "default_request_timeout")])
        chain(work, model(work, kind, **{name: 0.2})).invoke(work.prompt(), config(work, tagged))
    return "answer"


@way("langchain sync, client retries", "e429-ok", "e500-ok", may_hide=1)
def retry_below(work: Work) -> Seen:
    """Let the provider's client try again, below every callback."""
    with Tagged(work) as tagged:
        chain(work, model(work, "openai", max_retries=2)).invoke(work.prompt(), config(work, tagged))
    return "answer"


@way("langchain with_retry", "e429-ok", "e500-ok", "malformed-ok")
def retry(work: Work) -> Seen:
    """Let LangChain try again."""
    with Tagged(work) as tagged:
        again = model(work, "openai").with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
        again.invoke(work.prompt(), config(work, tagged))
    return "answer"


@way("langchain async with_fallbacks", "first-e500", "first-malformed")
async def fall_back(work: Work) -> Seen:
    """Fall back to another model."""
    with Tagged(work) as tagged:
        first, second = model(work, "openai", model=FIRST_MODEL), model(work, "openai", model="gpt-4o-mini")
        await first.with_fallbacks([second]).ainvoke(work.prompt(), config(work, tagged))
    return "answer"


@way("langchain batch", "ok", "cached", size=3)
def batch(work: Work) -> Seen:
    """Ask three at once, each with its own tags."""
    configs = [{"callbacks": list(HANDLERS), "metadata": tags_of(work.number + at)} for at in range(3)]
    chain(work, either(work)).batch([work.prompt(at) for at in range(3)], configs)
    return "answer"


@way("langchain async batch", "ok", "cached", size=3)
async def batch_async(work: Work) -> Seen:
    """Ask three at once in a task."""
    configs = [{"callbacks": list(HANDLERS), "metadata": tags_of(work.number + at)} for at in range(3)]
    await chain(work, either(work)).abatch([work.prompt(at) for at in range(3)], configs)
    return "answer"


@way("langchain n=2", "ok", "cached", weight=2)
def two(work: Work) -> Seen:
    """Ask for two choices, which are billed together."""
    with Tagged(work) as tagged:
        model(work, "openai", n=2).invoke(work.prompt(), config(work, tagged))
    return "answer"


@way("langchain tiers", "ok", "tier-refused")
def tiers(work: Work) -> Seen:
    """Ask for a tier that the provider serves or refuses."""
    name, tier = work.dice.choice([("gpt-5-mini", "flex"), ("gpt-4o", "priority")])
    with Tagged(work) as tagged:
        asked = model(work, "openai", model=name, service_tier=tier)
        if work.dice.random() < 0.5:  # noqa: PLR2004 - a coin
            asked.invoke(work.prompt(), config(work, tagged))
        else:
            for _ in asked.stream(work.prompt(), config(work, tagged)):
                pass
    return "answer"


_CACHE: Final = InMemoryCache(maxsize=100)


@way("langchain cache", "ok", "cached")
def cache_hit(work: Work) -> Seen:
    """Ask twice; LangChain's cache answers the second time."""
    asked = model(work, "openai", cache=True)
    asked.cache = _CACHE
    for _ in range(2):
        with Tagged(work) as tagged:
            asked.invoke(work.prompt(), config(work, tagged))
    return "answer"


# LiteLLM below LangChain: two layers see one call.


@way("langchain over litellm, sync", *_GOOD, "e429", "e500", "malformed", "no-usage", weight=6)
def ask_over(work: Work) -> Seen:
    """Ask and wait."""
    with Tagged(work) as tagged:
        chain(work, model(work, "litellm")).invoke(work.prompt(), config(work, tagged))
    return "answer"


@way("langchain over litellm, async", *_GOOD, "e429", "e500", "malformed", "no-usage", weight=6)
async def ask_over_async(work: Work) -> Seen:
    """Ask in a task."""
    with Tagged(work) as tagged:
        await chain(work, model(work, "litellm")).ainvoke(work.prompt(), config(work, tagged))
    return "answer"


@way("langchain over litellm, stream", "ok", "cached", "cut", "no-usage", "e500")
def stream_over(work: Work) -> Seen:
    """Read a stream to its end."""
    with Tagged(work) as tagged:
        for _ in chain(work, model(work, "litellm")).stream(work.prompt(), config(work, tagged)):
            pass
    return "answer"


@way("langchain over litellm, async stream", "ok", "cached", "cut", "no-usage", "e500")
async def stream_over_async(work: Work) -> Seen:
    """Read an async stream to its end."""
    with Tagged(work) as tagged:
        async for _ in chain(work, model(work, "litellm")).astream(work.prompt(), config(work, tagged)):
            pass
    return "answer"


@way("langchain over litellm, left", "long", "slow-chunks")
def leave_over(work: Work) -> Seen:
    """Leave a stream after some pieces."""
    with Tagged(work) as tagged:
        stay = work.dice.randrange(4)
        for at, _ in enumerate(model(work, "litellm").stream(work.prompt(), config(work, tagged))):
            if at >= stay:
                break
    return "left"


@way("langchain over litellm, cancelled", "slow")
async def cancel_over(work: Work) -> Seen:
    """Cancel the task at a random moment."""
    with Tagged(work) as tagged:
        asked = chain(work, model(work, "litellm")).ainvoke(work.prompt(), config(work, tagged))
        return await cancelled(asked, work.dice.uniform(0, 1.0))


@way("langchain over litellm, timeout", "slow")
def time_out_over(work: Work) -> Seen:
    """Let the client give up."""
    with Tagged(work) as tagged:
        model(work, "litellm", request_timeout=0.2).invoke(work.prompt(), config(work, tagged))
    return "answer"
