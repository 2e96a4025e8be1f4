"""Streams that tell their usage more than once: what each says of the whole, and what a stream that was cut says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, LLMResult
from langchain_google_genai import ChatGoogleGenerativeAI

from farthing.testing.provider import FakeProvider, Fault, Reply
from farthing_langchain import FarthingHandler, extract
from farthing_langchain.repeating import Told

if TYPE_CHECKING:
    from langchain_bench import MakeModel, Settle

Counts = list[tuple[int, int]]


def config() -> Any:
    """Give a config with a fresh handler."""
    return {"callbacks": [FarthingHandler(feature="chatbot")]}


def gemini(provider: FakeProvider) -> Any:
    """Make a model of langchain-google-genai."""
    given: dict[str, Any] = {"google_api_key": "k", "base_url": provider.gemini_url}
    return ChatGoogleGenerativeAI(model="gemini-2.5-pro", max_retries=1, **given)


def counted(provider: str, told: Counts) -> tuple[int, int]:
    """Give what is read of a stream whose pieces tell these counts of input and output."""
    chunks = [
        ChatGenerationChunk(
            message=AIMessageChunk(
                content="x", usage_metadata=UsageMetadata(input_tokens=into, output_tokens=out, total_tokens=into + out)
            )
        )
        for into, out in told
    ]
    kept = Told(provider)
    for chunk in chunks:
        kept.note(chunk)
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    usage: Any = kept.corrected(extract.finished(LLMResult(generations=[[whole]]), time.time_ns())).usage
    return usage["input_tokens"], usage["output_tokens"]


@pytest.mark.parametrize(
    ("provider", "told", "read"),
    [
        ("openai", [(0, 1), (0, 5), (100, 10)], (100, 10)),
        ("openai", [(99, 1), (99, 5), (100, 10)], (100, 10)),
        ("openai", [(110, 1), (100, 10)], (100, 10)),
        ("azure", [(100, 1), (100, 5), (100, 10)], (100, 10)),
        ("openai", [(100, 0), (0, 10)], (100, 10)),
        ("openai", [(100, 10)], (100, 10)),
        ("anthropic", [(100, 0), (0, 10)], (100, 10)),
        ("google_genai", [(100, 2), (0, 3), (-5, 5)], (95, 10)),
        ("somebody", [(100, 1), (100, 10)], (100, 10)),
        ("somebody", [(60, 4), (40, 6)], (100, 10)),
    ],
)
def test_what_pieces_tell(provider: str, told: Counts, read: tuple[int, int]) -> None:
    """In OpenAI's protocol the last piece tells the whole; where each tells its share the sum is right."""
    assert counted(provider, told) == read


def test_stream_cut_that_told_its_usage_so_far(provider: FakeProvider, openai: MakeModel, settle: Settle) -> None:
    """A body that ends cleanly without a reason was cut: its count so far is not what was billed."""
    reply = Reply(usage_on_every_chunk=True, chunks=6)
    provider.script(Fault(cut_stream_after=3, cut_with="end", reply=reply))
    assert list(openai(stream_usage=True).stream("hi", config()))
    settle(unknown=1)


def test_gemini_stream_cut(provider: FakeProvider, settle: Settle) -> None:
    """Gemini gives a reason with its last piece, and counts with each: without a reason there is more on the bill."""
    counts: Any = {"candidatesTokenCount": 3, "promptTokenCount": 100, "totalTokenCount": 103}
    provider.script(Fault(cut_stream_after=2, cut_with="end", reply=Reply(chunks=6, usage_extra=counts)))
    assert list(gemini(provider).stream("hi", config()))
    settle(unknown=1)


def test_gemini_stream_failed(provider: FakeProvider, settle: Settle) -> None:
    """An error inside a stream that had begun has a status too, and yet is no refusal: it was billed."""
    provider.script(Fault(cut_stream_after=2, cut_with="error"))
    with pytest.raises(Exception, match=r".+"):
        list(gemini(provider).stream("hi", config()))
    (call,) = settle(unknown=1)
    assert call.outcome == "error"
    assert call.streaming


def test_stream_without_a_reason() -> None:
    """A server that never gives a reason, and tells its usage once, is believed."""
    finish = extract.finished(
        LLMResult(generations=[[ChatGenerationChunk(message=AIMessageChunk(content="x"))]]), time.time_ns()
    )._replace(usage={"input_tokens": 1, "output_tokens": 1})
    kept = Told("openai")
    usage = UsageMetadata(input_tokens=1, output_tokens=1, total_tokens=2)
    kept.note(ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=usage)))
    assert not kept.cut(finish)
    kept.note(ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=usage)))
    assert kept.cut(finish)
    assert not kept.cut(finish._replace(finish_reason="stop"))
