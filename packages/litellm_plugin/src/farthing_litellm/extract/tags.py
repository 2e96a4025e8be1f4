"""Who is spending: the tags of a call in every form that people write, and what a proxy knows of its keys."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import litellm

from farthing.corroboration import is_our_mark
from farthing.dimensions import canonical_name
from farthing.envelope import DIMENSIONS
from farthing.policy import Policy
from farthing.propagation import HEADER, parse_tags
from farthing_litellm.extract.access import Details, Kwargs, as_list, as_text, is_dict, under

if TYPE_CHECKING:
    from farthing.policy.document import Gateway

__all__ = [
    "NO_POLICY",
    "add_callers_tags",
    "add_key_owner",
    "add_routing",
    "before_setup",
    "is_proxied",
    "keep_locked",
    "tags_of",
    "trace_headers",
]

NO_POLICY: Final = Policy()


_KEY_OWNER: Final = "user_api_key"
"""What LiteLLM's proxy says of the virtual key starts with this, the key's hash among it."""


_NOT_TAGS: Final = frozenset({"tags", "requester_metadata", "spend_logs_metadata"})


_FROM_PROXY: Final = frozenset({"endpoint"})
"""What LiteLLM's proxy itself puts into the metadata under a name that is also a dimension's."""


_MAX_TAGS: Final = 64


_NOT_TEXT: Final = ()
"""Stands in for a tag's value of a wrong type, so that the policy can refuse it; the value itself may be content."""


def before_setup(arguments: Any) -> Kwargs:
    """Shape the arguments of a call, as its caller wrote them, like the dict that LiteLLM makes of them."""
    names = ("metadata", "litellm_metadata", "proxy_server_request")
    return {
        "litellm_params": {name: arguments.get(name) for name in names},
        "user": arguments.get("user"),
        "model": arguments.get("model"),
    }


def is_proxied(kwargs: Kwargs) -> bool:
    """Say whether LiteLLM's proxy makes the call, for one of its keys."""
    params = under(kwargs, "litellm_params")
    return any("user_api_key" in under(params, name) for name in ("metadata", "litellm_metadata"))


def tags_of(kwargs: Kwargs, *found: Kwargs) -> dict[str, object]:
    """Collect the tags of a call from every place in which they are written, the strongest first."""
    tags: dict[str, object] = {}
    for metadata in found:
        if metadata:
            _body_tags(under(metadata, "requester_metadata"), tags)
            _body_tags(metadata, tags)
            if "user_api_key" in metadata:
                _header_tags(under(metadata, "headers"), tags)
    if is_our_mark(tags.get("user_id")):
        del tags["user_id"]
    user = kwargs.get("user")
    if user is not None and user != "" and not is_our_mark(user):
        tags.setdefault("user_id", user if isinstance(user, str) else _NOT_TEXT)
    return tags


def _body_tags(metadata: Kwargs, tags: dict[str, object]) -> None:
    """Add the tags of one metadata dict; what is there already is stronger, and `tags` is stronger than the rest."""
    if (written := metadata.get("tags")) is not None:
        _written_tags(written, tags)
    proxied = "user_api_key" in metadata
    for name, value in metadata.items():
        if len(tags) >= _MAX_TAGS:
            return
        if str(name).startswith(_KEY_OWNER) or name in _NOT_TAGS or name in tags or (proxied and name in _FROM_PROXY):
            continue
        _put(name, value, tags)


def _header_tags(headers: Kwargs, tags: dict[str, object]) -> None:
    """Add the request headers that the proxy's `extra_spend_tag_headers` names; no other header is read."""
    for name in as_list(getattr(litellm, "extra_spend_tag_headers", None)):
        value = headers.get(name) if isinstance(name, str) else None
        if isinstance(value, str) and (tag := name.lower().removeprefix("x-")) not in tags:
            tags[tag] = value


def _written_tags(written: Any, tags: dict[str, object]) -> None:
    if is_dict(written):
        for name, value in list(written.items())[:_MAX_TAGS]:
            if name not in tags:
                _put(name, value, tags)
        return
    if isinstance(written, str):
        written = written.split(",")
    for tag in as_list(written)[:_MAX_TAGS]:
        if not isinstance(tag, str):
            continue
        name, colon, value = tag.partition(":")
        # `extra_spend_tag_headers` of the proxy writes a request header as "x-feature: search"
        name = name.strip().removeprefix("x-")
        if colon and name and name not in tags:
            tags[name] = value.strip()


def _put(name: Any, value: Any, tags: dict[str, object]) -> None:
    if not isinstance(name, str):
        return
    if value is None or isinstance(value, (str, int, float, Decimal)):
        tags[name] = value
    elif canonical_name(name) in DIMENSIONS:
        inner = getattr(value, "value", None)  # an Enum's member
        tags[name] = inner if isinstance(inner, (str, int)) else _scalar(value)


def _scalar(value: Any) -> object:
    return str(value) if type(value).__name__ == "UUID" else _NOT_TEXT


def add_routing(metadata: Kwargs, details: dict[str, str]) -> None:
    """Note the model group and the deployment that a router or proxy chose."""
    if group := as_text(metadata.get("model_group")):
        details["model_group"] = group
    info = metadata.get("model_info")
    if is_dict(info) and (deployment := as_text(info.get("id"))):
        details["deployment"] = deployment


def trace_headers(kwargs: Kwargs) -> dict[str, str]:
    """Give the W3C trace headers of the request that a proxy serves."""
    headers = _headers(under(kwargs, "litellm_params")) if is_proxied(kwargs) else {}
    return {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}


def _headers(litellm_params: Kwargs) -> dict[str, str]:
    """Give a proxy's request headers; nothing but named ones may be taken from them."""
    found = under(under(litellm_params, "proxy_server_request"), "headers")
    return {str(name).lower(): value for name, value in found.items() if isinstance(value, str)}


def add_callers_tags(litellm_params: Kwargs, gateway: Gateway, tags: dict[str, object]) -> None:
    """Add what a proxy's caller says outside of the metadata's top: spend-logs metadata, then headers, if trusted."""
    for name in ("metadata", "litellm_metadata"):
        spend = under(under(litellm_params, name), "spend_logs_metadata")
        for key, value in spend.items():
            if key not in tags and len(tags) < _MAX_TAGS:
                _put(key, value, tags)
    if not gateway.trust_headers:
        return
    headers = _headers(litellm_params)
    for header, dimension in gateway.headers.items():
        if header in headers:
            tags.setdefault(dimension, headers[header])
    for name, value in parse_tags(headers.get(HEADER)).items():
        tags.setdefault(name, value)


def keep_locked(policy: Policy, tags: dict[str, object], weak_tags: dict[str, object], details: Details) -> None:
    """Take back what a caller claims, in any spelling, about dimensions that only its key and team may set."""
    if not policy.locked:
        return
    forged: set[str] = set()
    for written in list(tags):
        name = policy.dimension(written)
        if name is None or name not in policy.locked:
            continue
        true = {value for key, value in weak_tags.items() if policy.dimension(key) == name}
        if tags.pop(written) not in true:
            forged.add(name)
    if forged:
        details["forged"] = ",".join(sorted(forged))


def add_key_owner(metadata: Kwargs, weak_tags: dict[str, object], details: dict[str, str]) -> None:
    """Read what the proxy knows of the virtual key: its metadata, its team, its user. The key itself is not read."""
    for source in ("user_api_key_metadata", "user_api_key_team_metadata", "user_api_key_auth_metadata"):
        _body_tags(under(metadata, source), weak_tags)
    for dimension, names in (
        ("team", ("user_api_key_team_alias", "user_api_key_team_id")),
        ("user_id", ("user_api_key_end_user_id", "user_api_key_user_id")),
    ):
        value = next((found for name in names if (found := as_text(metadata.get(name)))), None)
        if value is not None:
            weak_tags.setdefault(dimension, value)
    if alias := as_text(metadata.get("user_api_key_alias")):
        details["key_alias"] = alias
