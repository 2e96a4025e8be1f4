"""Streams that come without usage, and what asks for it: `stream_usage=True` on a model of langchain-openai.

langchain-openai asks its own default endpoint for usage and no other one. Only where the setting `ask_for_usage` is
on, a model that was told nothing asks too; LangChain then yields one more, empty, chunk that holds the usage. Some
servers refuse the option (Mistral's own, Databricks in front of Bedrock): `stream_usage=False` on a model still holds.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Final

from farthing.guard import guarded, log
from farthing.setup import get_meter

__all__ = ["forget_told", "install", "tell_how"]

_MODULE: Final = "langchain_openai.chat_models.base"
_METHOD: Final = "_should_stream_usage"
_MARK: Final = "farthing_wrapped"
_MOST_TOLD: Final = 100

_TELLS_UNASKED: Final = frozenset(
    {"amazon_bedrock", "anthropic", "anthropic_bedrock", "bedrock", "google_genai", "google_vertexai", "ollama"}
)
"""Providers whose streams tell their usage unasked, by LangChain's names."""
_ASK: Final = (
    "set stream_usage=True on the model (ChatOpenAI leaves it off where it is given a base_url), or "
    "FARTHING_ASK_FOR_USAGE=true"
)
_UNASKED: Final = (
    "this provider tells it with the last events of a stream: the stream was cut, something in between dropped them, "
    "or stream_usage=False is set on the model"
)

_told: Final[set[tuple[str | None, str | None]]] = set()


@guarded
def install() -> None:
    """Let models of langchain-openai ask, if it is loaded; once. It has no public place for this (seen up to 1.7.4)."""
    model: Any = getattr(sys.modules.get(_MODULE), "BaseChatOpenAI", None)
    standing: Any = getattr(model, _METHOD, None)
    if standing is None or getattr(standing, _MARK, False):
        return

    @functools.wraps(standing)
    def should_stream_usage(self: Any, stream_usage: bool | None = None, **kwargs: Any) -> bool:  # noqa: FBT001 - as it has it
        if standing(self, stream_usage, **kwargs):
            return True
        meter = get_meter()
        told = (stream_usage, self.stream_usage, kwargs.get("stream_options"), self.model_kwargs.get("stream_options"))
        return meter is not None and meter.asks_for_usage and all(each is None for each in told)

    setattr(should_stream_usage, _MARK, True)
    setattr(model, _METHOD, should_stream_usage)


def tell_how(provider: str | None, model: str | None) -> None:
    """Say, once for each provider and model, how to mend the commonest unknown cost."""
    if (provider, model) in _told or len(_told) >= _MOST_TOLD:
        return
    _told.add((provider, model))
    log.warning(
        "farthing: a streamed LangChain call of %s reported no usage, so its cost is unknown; %s",
        " ".join(name for name in (provider, model) if name) or "a model",
        _UNASKED if provider in _TELLS_UNASKED else _ASK,
    )


def forget_told() -> None:
    """Warn once more: for tests."""
    _told.clear()
