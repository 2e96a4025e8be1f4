"""Which path belongs to which wire."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from farthing.testing.provider import anthropic, bedrock, bedrock_invoke, gemini, openai_misc
from farthing.testing.provider.openai_chat import CHAT
from farthing.testing.provider.openai_responses import RESPONSES
from farthing.testing.provider.wire_json import as_object, as_text, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farthing.testing.provider.plan import Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A request that was understood: its wire, and the model wherever the protocol names it."""

    wire: Wire
    model: str | None = None


_OPENAI: Mapping[str, Wire] = {
    "chat/completions": CHAT,
    "responses": RESPONSES,
    "completions": openai_misc.COMPLETIONS,
    "embeddings": openai_misc.EMBEDDINGS,
    "images/generations": openai_misc.IMAGES,
    "audio/transcriptions": openai_misc.TRANSCRIPTIONS,
    "audio/speech": openai_misc.SPEECH,
    "moderations": openai_misc.MODERATIONS,
}
_AZURE = {path: replace(wire, provider="azure") for path, wire in _OPENAI.items()}
_ANTHROPIC = {"messages": anthropic.MESSAGES, "messages/count_tokens": anthropic.COUNT_TOKENS}
_RERANK = {"rerank": openai_misc.COHERE_RERANK}
_BEDROCK = {
    "converse": bedrock.CONVERSE,
    "converse-stream": bedrock.CONVERSE,
    "count-tokens": bedrock.COUNT_TOKENS,
    "invoke": bedrock_invoke.INVOKE,
    "invoke-with-response-stream": bedrock_invoke.INVOKE,
}
_GEMINI = {
    "generateContent": gemini.GENERATE,
    "streamGenerateContent": gemini.GENERATE,
    "embedContent": gemini.EMBED,
    "batchEmbedContents": gemini.EMBED,
    "countTokens": gemini.COUNT_TOKENS,
}

# LiteLLM leaves the version out of a Gemini base URL; the second pattern of Gemini is Vertex AI's.
_TABLES: tuple[tuple[re.Pattern[str], Mapping[str, Wire]], ...] = (
    (re.compile(r"/openai/(?:v1|deployments/(?P<model>[^/]+))/(?P<rest>[a-z/]+)"), _AZURE),
    (re.compile(r"/model/(?P<model>[^/]+)/(?P<rest>[a-z-]+)"), _BEDROCK),
    (re.compile(r"(?:/v1[a-z0-9]*)?/models/(?P<model>[^/:]+):(?P<rest>[A-Za-z]+)"), _GEMINI),
    (re.compile(r"/v1[a-z0-9]*/.+/publishers/google/models/(?P<model>[^/:]+):(?P<rest>[A-Za-z]+)"), _GEMINI),
    (re.compile(r"/v[12]/(?P<rest>rerank)"), _RERANK),
    (re.compile(r"/v1/(?P<rest>messages(?:/count_tokens)?)"), _ANTHROPIC),
    (re.compile(r"(?:/v1)?/(?P<rest>[a-z/]+)"), _OPENAI),
)
_MODELS = re.compile(r"(?:/openai)?(?:/v1)?/models")


def route(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Route | None:
    """Find the wire for a request, None when no provider has such a path. Raises: nothing."""
    if method == "GET":
        return Route(wire=openai_misc.MODELS) if _MODELS.fullmatch(path) else None
    for pattern, wires in _TABLES:
        match = pattern.fullmatch(path)
        if match is not None and match["rest"] in wires:
            in_path = match.groupdict().get("model")
            model = unquote(in_path) if in_path else _model_in(headers, body)
            return Route(wire=_by_model(wires[match["rest"]], model), model=model)
    return None


def _model_in(headers: Mapping[str, str], body: bytes) -> str | None:
    in_json = as_text(as_object(parse(body)).get("model"))
    return in_json or openai_misc.form_fields(headers, body).get("model")


def _by_model(wire: Wire, model: str | None) -> Wire:
    """Tell Jina from Cohere, whose rerank paths are the same."""
    if wire is openai_misc.COHERE_RERANK and (model or "").startswith("jina"):
        return openai_misc.JINA_RERANK
    return wire
