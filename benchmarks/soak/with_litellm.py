"""The ways of asking through LiteLLM, each with its plugin's callback in `litellm.callbacks`."""

from __future__ import annotations

import asyncio
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import litellm
from plans import FIRST_MODEL
from work import Tagged, Work, cancelled, given_up, way

if TYPE_CHECKING:
    from work import Seen

lite: Final[Any] = litellm
_USAGE: Final = {"stream": True, "stream_options": {"include_usage": True}}
_GOOD: Final = ("ok", "ok", "cached", "reasoning")
_BAD: Final = ("e429", "e500", "e400", "drop", "malformed", "no-usage")
_CUT: Final = ("cut", "cut-error", "cut-end")


def openai(work: Work, metadata: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Give the arguments of a chat with OpenAI."""
    model = work.dice.choice(["gpt-4o", "gpt-4o-mini", "gpt-5-mini"])
    given = {"model": f"openai/{model}", "api_base": f"{work.url}/v1", "api_key": "unused", "max_retries": 0}
    return {**given, "messages": work.messages(), "metadata": metadata, **more}


def anthropic(work: Work, metadata: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Give the arguments of a chat with Anthropic."""
    given = {"model": "anthropic/claude-sonnet-4-5", "api_base": work.url, "api_key": "unused", "max_retries": 0}
    return {**given, "messages": work.messages(), "metadata": metadata, **more}


def either(work: Work, metadata: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Give the arguments of a chat with one of the two; Anthropic gives a stream's usage unasked."""
    return (anthropic if work.dice.random() < 0.4 else openai)(work, metadata, **more)  # noqa: PLR2004 - two in five


@way("litellm sync", *_GOOD, *_BAD, weight=8)
def ask(work: Work) -> Seen:
    """Ask and wait."""
    with Tagged(work) as tagged:
        lite.completion(**either(work, tagged.metadata))
    return "answer"


@way("litellm async", *_GOOD, *_BAD, weight=8)
async def ask_async(work: Work) -> Seen:
    """Ask in a task."""
    with Tagged(work) as tagged:
        await lite.acompletion(**either(work, tagged.metadata))
    return "answer"


@way("litellm anthropic caches", "cache-write", "cache-write-5m")
def ask_anthropic(work: Work) -> Seen:
    """Ask where the provider's cache is written and read."""
    with Tagged(work) as tagged:
        lite.completion(**anthropic(work, tagged.metadata))
    return "answer"


@way("litellm stream", *_GOOD, *_CUT, "no-usage", "malformed", "e429", "e500", weight=6)
def stream(work: Work) -> Seen:
    """Read a stream to its end."""
    with Tagged(work) as tagged:
        for _ in lite.completion(**either(work, tagged.metadata, **_USAGE)):
            pass
    return "answer"


@way("litellm stream, other thread", "ok", weight=2)
def stream_elsewhere(work: Work) -> Seen:
    """Begin a stream on one thread and read it on another, where no tag is."""
    with Tagged(work) as tagged:
        answer = lite.completion(**openai(work, tagged.metadata, **_USAGE))
    reader = threading.Thread(target=lambda: list(answer))
    reader.start()
    reader.join()
    return "answer"


@way("litellm async stream", *_GOOD, *_CUT, "no-usage", "malformed", "e429", "e500", weight=6)
async def stream_async(work: Work) -> Seen:
    """Read an async stream to its end."""
    with Tagged(work) as tagged:
        async for _ in await lite.acompletion(**either(work, tagged.metadata, **_USAGE)):
            pass
    return "answer"


@way("litellm stream, left", "long", "slow-chunks")
def leave(work: Work) -> Seen:
    """Leave a stream after some pieces, or before the first."""
    with Tagged(work) as tagged:
        answer = lite.completion(**openai(work, tagged.metadata, **_USAGE))
        stay = work.dice.randrange(4)
        for at, _ in enumerate(answer if stay else ()):
            if at >= stay:
                break
    return "left"


@way("litellm async stream, left", "long", "slow-chunks")
async def leave_async(work: Work) -> Seen:
    """Leave an async stream, with or without closing it."""
    with Tagged(work) as tagged:
        answer = await lite.acompletion(**either(work, tagged.metadata, **_USAGE))
        stay, read = work.dice.randrange(4), 0
        if stay:
            async for _ in answer:
                read += 1
                if read >= stay:
                    break
        if work.dice.random() < 0.5:  # noqa: PLR2004 - a coin
            await answer.aclose()
    return "left"


@way("litellm async, cancelled", "slow", weight=6)
async def cancel(work: Work) -> Seen:
    """Cancel the task at a random moment."""
    with Tagged(work) as tagged:
        return await cancelled(lite.acompletion(**either(work, tagged.metadata)), work.dice.uniform(0, 1.0))


@way("litellm async stream, cancelled", "slow-chunks", weight=6)
async def cancel_stream(work: Work) -> Seen:
    """Cancel the task that reads a stream."""

    async def read() -> None:
        async for _ in await lite.acompletion(**either(work, tagged.metadata, **_USAGE)):
            pass

    with Tagged(work) as tagged:
        return await cancelled(read(), work.dice.uniform(0, 1.2))


@way("litellm async, wait_for", "slow")
async def give_up(work: Work) -> Seen:
    """Wait for so long and no longer."""
    with Tagged(work) as tagged:
        return await given_up(lite.acompletion(**either(work, tagged.metadata)), work.dice.uniform(0.05, 0.8))


@way("litellm sync, timeout", "slow")
def time_out(work: Work) -> Seen:
    """Let the client give up."""
    with Tagged(work) as tagged:
        lite.completion(**either(work, tagged.metadata, timeout=0.2))
    return "answer"


@way("litellm async, timeout", "slow")
async def time_out_async(work: Work) -> Seen:
    """Let the async client give up."""
    with Tagged(work) as tagged:
        await lite.acompletion(**either(work, tagged.metadata, timeout=0.2))
    return "answer"


@way("litellm sync, client retries", "e429-ok", "e500-ok", may_hide=1)
def retry_below(work: Work) -> Seen:
    """Let the provider's client try again, below every callback."""
    with Tagged(work) as tagged:
        lite.completion(**openai(work, tagged.metadata, max_retries=2))
    return "answer"


@way("litellm num_retries", "e429-ok", "e500-ok", "malformed-ok", may_hide=1, weight=3)
def retry(work: Work) -> Seen:
    """Let LiteLLM try again."""
    with Tagged(work) as tagged:
        lite.completion(**openai(work, tagged.metadata, num_retries=1))
    return "answer"


@way("litellm async num_retries", "e429-ok", "e500-ok", "malformed-ok", may_hide=1, weight=3)
async def retry_async(work: Work) -> Seen:
    """Let LiteLLM try again, async."""
    with Tagged(work) as tagged:
        await lite.acompletion(**openai(work, tagged.metadata, num_retries=1))
    return "answer"


def _fallback(work: Work) -> dict[str, Any]:
    return {
        "model": f"openai/{FIRST_MODEL}",
        "fallbacks": [{"model": "openai/gpt-4o-mini", "api_base": f"{work.url}/v1", "api_key": "unused"}],
    }


@way("litellm async fallbacks", "first-e500", "first-malformed")
async def fall_back(work: Work) -> Seen:
    """Fall back to another model."""
    with Tagged(work) as tagged:
        await lite.acompletion(**openai(work, tagged.metadata, **_fallback(work)))
    return "answer"


@cache
def router(url: str, retries: int) -> Any:
    """Make a Router of two deployments, the second of which is the fallback of the first."""
    given = {"api_base": f"{url}/v1", "api_key": "unused", "max_retries": 0}
    models = {"first": FIRST_MODEL, "second": "gpt-4o-mini"}
    return lite.Router(
        model_list=[
            {"model_name": name, "litellm_params": {"model": f"openai/{model}", **given}}
            for name, model in models.items()
        ],
        fallbacks=[{"first": ["second"]}],
        num_retries=retries,
        retry_after=0,
        disable_cooldowns=True,
    )


@way("litellm Router", "ok", "first-e500", "first-malformed")
def route(work: Work) -> Seen:
    """Ask a Router."""
    with Tagged(work) as tagged:
        router(work.url, 0).completion(model="first", messages=work.messages(), metadata=tagged.metadata)
    return "answer"


@way("litellm async Router", "ok", "first-e500", "first-malformed")
async def route_async(work: Work) -> Seen:
    """Ask a Router, async."""
    with Tagged(work) as tagged:
        await router(work.url, 0).acompletion(model="first", messages=work.messages(), metadata=tagged.metadata)
    return "answer"


@way("litellm async Router, retries", "e500-ok", "malformed-ok")
async def route_again(work: Work) -> Seen:
    """Let a Router try again."""
    with Tagged(work) as tagged:
        await router(work.url, 1).acompletion(model="second", messages=work.messages(), metadata=tagged.metadata)
    return "answer"


@way("litellm async Router stream", "ok", "cut", "first-e500")
async def route_stream(work: Work) -> Seen:
    """Read a Router's stream."""
    with Tagged(work) as tagged:
        answer = await router(work.url, 0).acompletion(
            model="first", messages=work.messages(), metadata=tagged.metadata, **_USAGE
        )
        async for _ in answer:
            pass
    return "answer"


@way("litellm n=2", "ok", "cached", weight=2)
def two(work: Work) -> Seen:
    """Ask for two choices, which are billed together."""
    with Tagged(work) as tagged:
        lite.completion(**openai(work, tagged.metadata, n=2))
    return "answer"


@way("litellm flex", "ok", "tier-refused", weight=3)
async def flex(work: Work) -> Seen:
    """Ask for a tier that the provider serves or refuses."""
    with Tagged(work) as tagged:
        stream = _USAGE if work.dice.random() < 0.5 else {}  # noqa: PLR2004 - a coin
        answer = await lite.acompletion(
            **openai(work, tagged.metadata, model="openai/gpt-5-mini", service_tier="flex", **stream)
        )
        if stream:
            async for _ in answer:
                pass
    return "answer"


@way("litellm priority", "ok", "cached", "tier-refused", weight=3)
def priority(work: Work) -> Seen:
    """Ask for the dear tier."""
    with Tagged(work) as tagged:
        lite.completion(**openai(work, tagged.metadata, model="openai/gpt-4o", service_tier="priority"))
    return "answer"


@way("litellm sync cache", "ok", "cached")
def cache_hit(work: Work) -> Seen:
    """Ask twice; LiteLLM's cache answers the second time. Tags stand in the metadata: a sync hit sees no other."""
    with Tagged(work, inside=True) as tagged:
        given = openai(work, tagged.metadata, model="openai/gpt-4o", cache={"use-cache": True})
        lite.completion(**given)
        lite.completion(**{**given, "metadata": dict(tagged.metadata)})
    return "answer"


@way("litellm async cache", "ok", "cached")
async def cache_hit_async(work: Work) -> Seen:
    """Ask twice in a task."""
    with Tagged(work) as tagged:
        given = openai(work, tagged.metadata, model="openai/gpt-4o", cache={"use-cache": True})
        await lite.acompletion(**given)
        await asyncio.sleep(0.2)  # LiteLLM fills its cache in a task of its own
        await lite.acompletion(**{**given, "metadata": dict(tagged.metadata)})
    return "answer"


@way("litellm embeddings", "ok", "e500", weight=3, may_hide=2)
def embed(work: Work) -> Seen:
    """Ask for a vector."""
    with Tagged(work) as tagged:
        given = {"api_base": f"{work.url}/v1", "api_key": "unused", "max_retries": 0, "metadata": tagged.metadata}
        lite.embedding(model="openai/text-embedding-3-small", input=[work.prompt()], **given)
    return "answer"


@way("litellm async embeddings", "ok", "e500", weight=3, may_hide=2)
async def embed_async(work: Work) -> Seen:
    """Ask for a vector in a task."""
    with Tagged(work) as tagged:
        given = {"api_base": f"{work.url}/v1", "api_key": "unused", "max_retries": 0, "metadata": tagged.metadata}
        await lite.aembedding(model="openai/text-embedding-3-small", input=[work.prompt()], **given)
    return "answer"


@way("litellm async responses", "ok", "cached", "e500", weight=3)
async def respond(work: Work) -> Seen:
    """Ask OpenAI's Responses API, whole or streamed."""
    with Tagged(work) as tagged:
        given = {"api_base": f"{work.url}/v1", "api_key": "unused", "litellm_metadata": tagged.metadata}
        stream = work.dice.random() < 0.5  # noqa: PLR2004 - a coin
        answer = await lite.aresponses(model="openai/gpt-4o", input=work.prompt(), stream=stream, **given)
        if stream:
            async for _ in answer:
                pass
    return "answer"
