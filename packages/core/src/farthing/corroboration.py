"""The tags of a call in the form that a provider bills by or logs, so that its own figures can be laid beside ours.

Only for providers and dimensions that `[policy.corroboration]` names, and only where the caller passes the result on.
What a provider would refuse is rewritten, never sent: no good request may become an error. A rewritten value ends in
eight digits of a hash, and `provider-tags.jsonl` beside the ledger says what it stood for.

Limits: Vertex AI labels (cloud.google.com/resource-manager/docs/labels-overview), Bedrock request metadata (AWS API
reference, Converse), OpenAI metadata (API reference, chat completions), Anthropic metadata.user_id (API reference).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from farthing import setup
from farthing.context import NOTHING, current
from farthing.guard import guarded
from farthing.meter import Asking
from farthing.policy.values import MARKERS
from farthing.providers import canonical_provider

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["provider_tags"]

_MAX_REMEMBERED: Final = 100_000
_HASH_LENGTH: Final = 8


class _Form(NamedTuple):
    """How a provider writes a tag."""

    max_pairs: int
    max_key: int
    max_value: int
    not_allowed: re.Pattern[str]
    lower: bool


_FORMS: Final = {
    "gcp.vertex_ai": _Form(32, 63, 63, re.compile(r"[^a-z0-9_-]"), lower=True),
    "aws.bedrock": _Form(16, 256, 256, re.compile(r"[^a-zA-Z0-9\s:_@$#=/+,.-]"), lower=False),
    "openai": _Form(16, 64, 512, re.compile(r"[^\x20-\x7e]"), lower=False),
}
_remembered: Final[set[tuple[str, str, str]]] = set()
_lock: Final = threading.Lock()


def provider_tags(provider: str) -> dict[str, str]:
    """Give the tags in force here as a provider takes them.

    Args:
        provider: In any spelling: "vertex_ai", "bedrock", "openai", "anthropic".

    Returns:
        For Vertex AI `labels`, for Bedrock `requestMetadata`, for OpenAI and Anthropic `metadata`; empty for a provider
        that `[policy.corroboration]` does not name.

    Raises:
        Nothing.
    """
    return _provider_tags(provider) or {}


@guarded
def _provider_tags(provider: str) -> dict[str, str]:
    standing = setup.runtime()
    rules = standing.rules
    chosen = rules.policy.document.corroboration
    name = canonical_provider(provider)
    if name not in {canonical_provider(each) for each in chosen.providers}:
        return {}
    attribution = rules.resolve(Asking(NOTHING, current(), NOTHING, None, None)).attribution
    found = dict(attribution.items())
    wanted = (rules.policy.dimension(each) or each for each in chosen.dimensions)
    tags = {each: found[each] for each in wanted if each in found and found[each] not in MARKERS}
    if name == "anthropic":
        written = _for_anthropic(tags)
    elif name in _FORMS:
        written = _written(tags, _FORMS[name])
    else:
        return {}
    _remember(standing, name, tags, written)
    return written


def _written(tags: Mapping[str, str], form: _Form) -> dict[str, str]:
    written: dict[str, str] = {}
    for name, value in list(tags.items())[: form.max_pairs]:
        text = value.lower() if form.lower else value
        text = form.not_allowed.sub("-", text)
        if text != value or len(text) > form.max_value:
            text = f"{text[: form.max_value - _HASH_LENGTH - 1]}-{_digits(value)}"
        written[name[: form.max_key]] = text
    return written


def _for_anthropic(tags: Mapping[str, str]) -> dict[str, str]:
    """Give the one field that Anthropic has: an opaque id, which it asks to be nobody's name."""
    if not tags:
        return {}
    return {"user_id": f"f_{_digits(json.dumps(tags, sort_keys=True), length=32)}"}


def _digits(text: str, *, length: int = _HASH_LENGTH) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _remember(standing: setup.Runtime, provider: str, tags: Mapping[str, str], written: Mapping[str, str]) -> None:
    """Hand what was rewritten to the worker, once a value, for the map beside the ledger."""
    pairs: list[tuple[str, Any, str]] = []
    if "user_id" in written and provider == "anthropic":
        pairs.append(("user_id", dict(tags), written["user_id"]))
    else:
        pairs += [(name, tags[name], text) for name, text in written.items() if tags.get(name) != text]
    for name, was, text in pairs:
        key = (provider, name, text)
        if key in _remembered:
            continue
        with _lock:
            if len(_remembered) >= _MAX_REMEMBERED:
                _remembered.clear()
            _remembered.add(key)
        standing.note_line("provider-tags.jsonl", {"provider": provider, "dimension": name, "sent": text, "for": was})
