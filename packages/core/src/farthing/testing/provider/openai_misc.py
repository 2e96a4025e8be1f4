"""OpenAI's other endpoints, and the rerankers of Cohere and Jina that OpenAI-shaped clients call beside them."""

from __future__ import annotations

import base64
import struct
from dataclasses import replace
from email.parser import BytesParser
from typing import TYPE_CHECKING

from farthing.testing.provider import sse
from farthing.testing.provider.openai_chat import usage as chat_usage
from farthing.testing.provider.openai_error import broken, refuse
from farthing.testing.provider.plan import Asked, Frame, Outgoing, Plan, Refusal, Wire
from farthing.testing.provider.price_table import PriceTable
from farthing.testing.provider.wire_json import JSON, JSONObject, as_int, as_list, as_object, as_text, dump

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from farthing.testing.provider.script import ReceivedRequest

_VECTOR = (0.25, -0.5, 0.75, 0.125)  # exact in float32, so that both encodings give the same numbers
_PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
_SOUND = b"ID3\x04\x00\x00\x00\x00\x00\x00" + b"\x00" * 64
_DOCUMENTS_PER_SEARCH = 100


def _count(value: JSON) -> int:
    """How many inputs a field holds: a list of texts or of token lists counts each, tokens and a text count one."""
    items = as_list(value)
    return 1 if not items or isinstance(items[0], int) else len(items)


# -- completions ------------------------------------------------------------------------------------------------


def _read_completion(request: ReceivedRequest) -> Asked:
    document = request.document
    return Asked(
        model=request.model or "",
        stream=document.get("stream") is True,
        include_usage=as_object(document.get("stream_options")).get("include_usage") is True,
        choices=_count(document.get("prompt")) * (as_int(document.get("n")) or 1),
    )


def _write_completion(plan: Plan) -> Outgoing:
    response_id = f"cmpl-{plan.token}"
    head: dict[str, JSON] = {
        "id": response_id,
        "object": "text_completion",
        "created": plan.created,
        "model": plan.response_model,
    }
    if plan.asked.stream:
        frames = tuple(_completion_frames(plan, head))
        return Outgoing(content_type=sse.CONTENT_TYPE, frames=frames, response_id=response_id)
    head["choices"] = [_completion_choice(index, plan.text, _finish(plan)) for index in range(plan.asked.choices)]
    if not plan.reply.omit_usage:
        head["usage"] = chat_usage(plan)
    return Outgoing(body=dump(head), response_id=response_id)


def _finish(plan: Plan) -> str:
    return plan.reply.finish_reason or "stop"


def _completion_choice(index: int, text: str, finish_reason: str | None) -> JSON:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _completion_frames(plan: Plan, head: JSONObject) -> Iterator[Frame]:
    for index in range(plan.asked.choices):
        for piece in sse.pieces(plan.text, count=plan.reply.chunks):
            yield sse.data_frame({**head, "choices": [_completion_choice(index, piece, None)]}, content=True)
        yield sse.data_frame({**head, "choices": [_completion_choice(index, "", _finish(plan))]})
    if plan.asked.include_usage and not plan.reply.omit_usage:
        yield sse.data_frame({**head, "choices": [], "usage": chat_usage(plan)})
    yield sse.DONE


# -- embeddings -------------------------------------------------------------------------------------------------


def _read_embeddings(request: ReceivedRequest) -> Asked:
    return Asked(model=request.model or "", inputs=_count(request.document.get("input")), has_output=False)


def _write_embeddings(plan: Plan) -> Outgoing:
    is_base64 = plan.request.document.get("encoding_format") == "base64"
    dimensions = as_int(plan.request.document.get("dimensions")) or len(_VECTOR)
    values = [_VECTOR[index % len(_VECTOR)] for index in range(dimensions)]
    packed = base64.b64encode(struct.pack(f"<{dimensions}f", *values)).decode()
    body: dict[str, JSON] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": packed if is_base64 else values}
            for index in range(plan.asked.inputs)
        ],
        "model": plan.response_model,
    }
    if not plan.reply.omit_usage:
        tokens = plan.counts.input_tokens
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens, **plan.reply.usage_extra}
    return Outgoing(body=dump(body), response_id=f"embd-{plan.token}")


# -- pictures and sound -----------------------------------------------------------------------------------------


def _read_images(request: ReceivedRequest) -> Asked:
    # The images endpoint takes a request without a model and then draws with dall-e-2.
    return Asked(
        model=request.model or "dall-e-2", images=as_int(request.document.get("n")) or 1, is_token_billed=False
    )


def _write_images(plan: Plan) -> Outgoing:
    is_url = plan.request.document.get("response_format", "url") == "url"
    picture: JSON = {"url": "https://example.com/fake.png"} if is_url else {"b64_json": _PIXEL}
    return Outgoing(
        body=dump({"created": plan.created, "data": [picture] * plan.asked.images}), response_id=f"img-{plan.token}"
    )


def _read_transcription(request: ReceivedRequest) -> Asked:
    return Asked(model=request.model or "", has_audio=True, is_token_billed=False)


def _write_transcription(plan: Plan) -> Outgoing:
    seconds = plan.counts.audio_seconds
    response_id = f"tr-{plan.token}"
    wanted = form_fields(plan.request.headers, plan.request.body).get("response_format", "json")
    if wanted in {"text", "srt", "vtt"}:
        return Outgoing(content_type="text/plain", body=plan.text.encode(), response_id=response_id)
    body: dict[str, JSON] = {"text": plan.text}
    if wanted == "verbose_json":
        body |= {"task": "transcribe", "language": "english", "duration": float(seconds), "segments": []}
    if not plan.reply.omit_usage:
        body["usage"] = {"type": "duration", "seconds": seconds}
    return Outgoing(body=dump(body), response_id=response_id)


def _read_speech(request: ReceivedRequest) -> Asked:
    text = as_text(request.document.get("input")) or ""
    return Asked(model=request.model or "", characters=len(text), is_token_billed=False)


def _write_speech(plan: Plan) -> Outgoing:
    return Outgoing(content_type="audio/mpeg", body=_SOUND, response_id=f"tts-{plan.token}")


# -- moderations, models, rerank --------------------------------------------------------------------------------


def _read_moderation(request: ReceivedRequest) -> Asked:
    model = request.model or "omni-moderation-latest"
    return Asked(model=model, inputs=_count(request.document.get("input")), has_output=False)


def _write_moderation(plan: Plan) -> Outgoing:
    result: JSON = {
        "flagged": False,
        "categories": {"violence": False},
        "category_scores": {"violence": 0.0},
        "category_applied_input_types": {"violence": ["text"]},
    }
    response_id = f"modr-{plan.token}"
    body: JSON = {"id": response_id, "model": plan.response_model, "results": [result] * plan.asked.inputs}
    return Outgoing(body=dump(body), response_id=response_id)


def _read_nothing(request: ReceivedRequest) -> Asked:
    return Asked(model=request.model or "")


def _write_models(plan: Plan) -> Outgoing:
    models: list[JSON] = [
        {"id": name, "object": "model", "created": plan.created, "owned_by": "openai"}
        for name in PriceTable().names("openai")
    ]
    return Outgoing(body=dump({"object": "list", "data": models}))


def _read_cohere(request: ReceivedRequest) -> Asked:
    documents = len(as_list(request.document.get("documents")))
    searches = max(1, -(-documents // _DOCUMENTS_PER_SEARCH))
    return Asked(model=request.model or "", inputs=documents, rerank_searches=searches, is_token_billed=False)


def _read_jina(request: ReceivedRequest) -> Asked:
    documents = len(as_list(request.document.get("documents")))
    return Asked(model=request.model or "", inputs=documents, has_output=False)


def _rerank_results(plan: Plan) -> list[JSON]:
    top = as_int(plan.request.document.get("top_n")) or plan.asked.inputs
    return [{"index": index, "relevance_score": 1.0 / (index + 1)} for index in range(min(top, plan.asked.inputs))]


def _write_cohere(plan: Plan) -> Outgoing:
    response_id = f"rerank-{plan.token}"
    body: dict[str, JSON] = {"id": response_id, "results": _rerank_results(plan)}
    if not plan.reply.omit_usage:
        body["meta"] = {
            "api_version": {"version": plan.request.path.split("/")[1].removeprefix("v")},
            "billed_units": {"search_units": plan.counts.rerank_searches},
        }
    return Outgoing(body=dump(body), response_id=response_id)


def _write_jina(plan: Plan) -> Outgoing:
    body: dict[str, JSON] = {"model": plan.response_model, "object": "list", "results": _rerank_results(plan)}
    if not plan.reply.omit_usage:
        body["usage"] = {"total_tokens": plan.counts.input_tokens}
    return Outgoing(body=dump(body), response_id=f"rerank-{plan.token}")


def _refuse_rerank(refusal: Refusal) -> Outgoing:
    body: JSON = {"id": f"rerank-{refusal.token}", "message": refusal.message}
    return Outgoing(status=refusal.status, body=dump(body))


def form_fields(headers: Mapping[str, str], body: bytes) -> dict[str, str]:
    """Read the text fields of a multipart form; files are left out, any other body has none. Raises: nothing."""
    kind = headers.get("content-type", "")
    if not kind.startswith("multipart/"):
        return {}
    message = BytesParser().parsebytes(b"Content-Type: " + kind.encode("latin-1") + b"\r\n\r\n" + body)
    fields: dict[str, str] = {}
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if isinstance(name, str) and part.get_filename() is None and isinstance(payload, bytes):
            fields[name] = payload.decode("utf-8", "replace").strip()
    return fields


COMPLETIONS = Wire(
    provider="openai",
    endpoint="completions",
    read=_read_completion,
    write=_write_completion,
    refuse=refuse,
    broken=broken,
)
EMBEDDINGS = replace(COMPLETIONS, endpoint="embeddings", read=_read_embeddings, write=_write_embeddings)
IMAGES = replace(COMPLETIONS, endpoint="images.generations", read=_read_images, write=_write_images)
TRANSCRIPTIONS = replace(
    COMPLETIONS, endpoint="audio.transcriptions", read=_read_transcription, write=_write_transcription
)
SPEECH = replace(COMPLETIONS, endpoint="audio.speech", read=_read_speech, write=_write_speech)
MODERATIONS = replace(COMPLETIONS, endpoint="moderations", read=_read_moderation, write=_write_moderation)
MODELS = replace(COMPLETIONS, endpoint="models", read=_read_nothing, write=_write_models, is_billed=False)
COHERE_RERANK = Wire(
    provider="cohere",
    endpoint="rerank",
    read=_read_cohere,
    write=_write_cohere,
    refuse=_refuse_rerank,
    broken=broken,
)
JINA_RERANK = replace(COHERE_RERANK, provider="jina", read=_read_jina, write=_write_jina)
