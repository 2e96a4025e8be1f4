"""The tags of a call in the form that a provider bills by or logs, so that its own figures can be laid beside ours.

Only for providers and dimensions that `[policy.corroboration]` names. What a provider would refuse is rewritten, never
sent, and an endpoint that is not known to take tags gets none: no good request may become an error. A rewritten value
ends in eight digits of a hash, and `provider-tags.jsonl` beside the ledger says what it stood for.

Limits: Vertex AI labels (Google Cloud, "Custom metadata labels"), Bedrock request metadata (AWS API reference,
Converse), OpenAI metadata (API reference; chat completions answer 400 to it without `store`), Anthropic
metadata.user_id (API reference).
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from farthing import setup
from farthing.context import NOTHING, current
from farthing.counting import counters
from farthing.guard import guarded
from farthing.meter import Asking
from farthing.policy.values import MARKERS
from farthing.providers import canonical_provider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farthing.policy.document import Corroboration
    from farthing.rules import Tagged

__all__ = ["Endpoint", "is_our_mark", "provider_tags", "tags_for", "wanted"]

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
_HOSTS: Final = {
    "gcp.vertex_ai": re.compile(r"(?:[a-z0-9-]+-)?aiplatform(?:\.[a-z0-9-]+\.rep)?\.googleapis\.com"),
    "aws.bedrock": re.compile(r"bedrock-runtime(?:-fips)?\.[a-z0-9-]+\.(?:amazonaws\.com(?:\.cn)?|api\.aws)"),
    "openai": re.compile(r"(?:[a-z]{2}\.)?api\.openai\.com"),
    "anthropic": re.compile(r"api\.anthropic\.com"),
}
_OPERATIONS: Final = {
    "gcp.vertex_ai": frozenset({"generate_content"}),
    "aws.bedrock": frozenset({"converse"}),
    "openai": frozenset({"chat", "responses"}),
    "anthropic": frozenset({"messages"}),
}
_MARK: Final = re.compile(r"f_[0-9a-f]{32}")


class Endpoint(NamedTuple):
    """Where a request is about to go."""

    provider: str
    operation: str
    """generate_content, converse, chat, responses or messages; anything else takes no tags."""
    host: str | None = None
    """None is the provider's own."""
    stored: bool | None = None
    """OpenAI's `store` as the caller set it."""


def wanted() -> bool:
    """Say whether tags are to be written for any provider; asked before every request.

    Raises:
        Nothing.
    """
    meter = setup.get_meter()
    policy = None if meter is None else meter.policy
    return policy is not None and bool(policy.document.corroboration.providers)


def tags_for(endpoint: Endpoint, *, tagged: Tagged) -> dict[str, str]:
    """Give the tags that a request may carry, for plugins.

    Args:
        endpoint: Where it goes.
        tagged: Whose tags they are.

    Returns:
        As `provider_tags`; empty also where the endpoint is not known to take them.

    Raises:
        Nothing.
    """
    return _tags_for(endpoint, tagged) or {}


@guarded
def _tags_for(endpoint: Endpoint, tagged: Tagged) -> dict[str, str]:
    chosen = setup.runtime().rules.policy.document.corroboration
    name = canonical_provider(endpoint.provider)
    if name is None or not _is_chosen(name, chosen):
        return {}
    refused = _refused(name, endpoint, chosen)
    counters.add("context", f"provider-tags:{refused or 'written'}")
    return {} if refused else _resolved(name, tagged)


def _is_chosen(name: str | None, chosen: Corroboration) -> bool:
    return name in {canonical_provider(each) for each in chosen.providers}


def _refused(name: str, endpoint: Endpoint, chosen: Corroboration) -> str | None:
    """Say why a request may not carry tags; None where it may."""
    host = endpoint.host
    if host is not None and host.lower() not in chosen.hosts and not _HOSTS[name].fullmatch(host.lower()):
        return "other-host"
    if endpoint.operation not in _OPERATIONS[name]:
        return "other-endpoint"
    if name == "openai" and (endpoint.stored is not True if endpoint.operation == "chat" else endpoint.stored is False):
        return "not-stored"
    return None


def is_our_mark(value: object) -> bool:
    """Say whether an id is one that we gave to Anthropic, and nobody's user.

    Raises:
        Nothing.
    """
    return isinstance(value, str) and _MARK.fullmatch(value) is not None


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
    name = canonical_provider(provider)
    if name is None or not _is_chosen(name, setup.runtime().rules.policy.document.corroboration):
        return {}
    return _resolved(name, Asking(NOTHING, current(), NOTHING, None, None))


def _resolved(name: str, tagged: Tagged) -> dict[str, str]:
    standing = setup.runtime()
    rules = standing.rules
    chosen = rules.policy.document.corroboration
    found = dict(rules.resolve(tagged).attribution.items())
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
        standing.note_line("provider-tags.jsonl", {"provider": provider, "dimension": name, "sent": text, "for": was})
