"""From what a framework calls a model to what a price list calls it: prefixes, paths, ARNs, regions, deployments."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from farthing.providers import canonical_provider, known_provider

__all__ = ["AGGREGATORS", "Target", "collapse", "read_target", "read_tier"]

AGGREGATORS: Final = frozenset(
    {"openrouter", "together_ai", "fireworks_ai", "novita", "groq", "cloudflare", "baseten", "databricks", "modal"}
)
"""Providers whose own model ids begin with a vendor: `openai/gpt-4o` on OpenRouter is one name."""

_SHORTEST_JOINED: Final = 7

_GATEWAYS: Final = frozenset({"litellm", "litellm_proxy"})
"""Not providers: the name in front of the model says who it is."""

_ARN: Final = re.compile(
    r"^arn:aws[a-z-]*:bedrock:(?P<region>[a-z0-9-]*):\d*:"
    r"(?P<kind>inference-profile|foundation-model|application-inference-profile|provisioned-model|[a-z-]+)/(?P<id>.+)$",
    re.IGNORECASE,
)
_REGION: Final = re.compile(r"^[a-z]{2,3}(-gov|-iso[a-z]?)?-[a-z]+-\d$")
_GOOGLE_REGION: Final = re.compile(r"^(global|us|eu|[a-z]+-[a-z]+\d{1,2})$")
_GOOGLE_PATH: Final = re.compile(
    r"^(?:projects/[^/]+/)?(?:locations/(?P<region>[^/]+)/)?publishers/(?P<publisher>[^/]+)/models/(?P<id>[^/]+)$"
)
_BEDROCK_ROUTES: Final = frozenset({"converse", "converse_like", "invoke", "async_invoke", "mantle", "nova", "llama"})
_AZURE_ZONES: Final = {
    "us": "datazone-us",
    "eu": "datazone-eu",
    "apac": "datazone-apac",
    "us-gov": "us-gov",
    "global": "global",
    "global_standard": "global",
    "global-standard": "global",
    "datazone": "datazone",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Which provider and which model ids to look for, in order."""

    provider: str | None
    """Canonical name; None when nothing says who serves the model."""
    names: tuple[str, ...]
    """The model's name as it came, without what only named the provider, then less literal readings of it."""
    context: tuple[tuple[str, str], ...] = ()
    """What the name itself says of region and deployment."""
    flags: tuple[str, ...] = ()
    literal: str | None = None
    """The name untouched, where a provider was given beside it and it begins with a provider all the same."""
    opaque: bool = False
    """A name that stands for an account's own resource: no price list can know it."""


_DATE_TWICE: Final = re.compile(r"(-\d{4}-\d{2}-\d{2})\1$")


def _once(name: str) -> str:
    """Undo what LangChain does to names: chunks joined, and Azure's model version put behind a name that has it."""
    return _DATE_TWICE.sub(r"\1", collapse(name) if len(name) > _SHORTEST_JOINED else name)


def collapse(text: str) -> str:
    """Undo LangChain's joining of repeated chunk metadata: `defaultdefault` is `default`."""
    if not text:
        return text
    index = (text + text).find(text, 1)
    return text[:index] if index < len(text) else text


def read_target(provider: str | None, model: str) -> Target:
    """Read a provider and a model string as any framework writes them; any string is accepted."""
    full = name = _once(model.strip())
    canonical = canonical_provider(provider)
    if canonical in _GATEWAYS:
        canonical = None
    if "/" in name and not name.lower().startswith("arn:"):
        canonical, name = _strip_provider(canonical, name)
    target = _read_name(canonical, name)
    if name != full and not target.opaque:
        # A few ids really begin with their provider's name, e.g. `openrouter/auto`; they come last.
        target = replace(
            target, names=(*target.names, full), literal=full if canonical_provider(provider) == canonical else None
        )
    return target


def _read_name(canonical: str | None, name: str) -> Target:
    if found := _ARN.match(name):
        return _arn(found)
    if canonical == "aws.bedrock":
        return _bedrock(name)
    if canonical in {"azure.ai.openai", "azure.ai.inference"}:
        return _azure(canonical, name)
    if found := _GOOGLE_PATH.match(name):
        context = (("region", found["region"].lower()),) if found["region"] else ()
        return Target(canonical or "gcp.vertex_ai", (found["id"],), context)
    if canonical in {"gcp.gemini", "gcp.gen_ai", "gcp.vertex_ai", None}:
        return _google(canonical, name)
    return Target(canonical, _readings(canonical, name))


def _strip_provider(canonical: str | None, name: str) -> tuple[str | None, str]:
    head, _, rest = name.partition("/")
    if head.lower() in _GATEWAYS and rest:
        return _strip_provider(canonical, rest) if "/" in rest else (canonical, rest)
    named = known_provider(head)
    if named is None or not rest:
        return canonical, name
    if canonical is None:
        return named, rest
    same_house = canonical == named or (canonical.partition(".")[0] == named.partition(".")[0] and "." in canonical)
    if same_house:
        return canonical, rest
    return canonical, name


def _readings(canonical: str | None, name: str) -> tuple[str, ...]:
    """Give the name, and without its vendor prefix where a provider's own ids have none."""
    if "/" not in name:
        return (name,)
    tail = name.rpartition("/")[2]
    if canonical in AGGREGATORS or canonical is None or not tail:
        return (name,)
    return (name, tail)


def _arn(found: re.Match[str]) -> Target:
    region = found["region"].lower()
    context = (("region", region),) if region else ()
    kind = found["kind"].lower()
    name = found["id"].rpartition("/")[2] if kind in {"inference-profile", "foundation-model"} else found["id"]
    opaque = kind not in {"inference-profile", "foundation-model"}
    return Target("aws.bedrock", (name,), context, opaque=opaque)


def _bedrock(name: str) -> Target:
    context: list[tuple[str, str]] = []
    while "/" in name:
        head, _, rest = name.partition("/")
        if found := _ARN.match(rest):
            return _arn(found)
        if head.lower() == "claude_platform":  # Anthropic's own platform, sold through AWS at Anthropic's prices
            return Target("anthropic", (rest,), tuple(context))
        if head.lower() in _BEDROCK_ROUTES:
            name = rest
        elif _REGION.match(head.lower()):
            context.append(("region", head.lower()))
            name = rest
        else:
            break
    if found := _ARN.match(name):
        return _arn(found)
    if name.lower().startswith("us-gov.") and not context:
        context.append(("region", "us-gov-west-1"))
    return Target("aws.bedrock", _readings("aws.bedrock", name), tuple(context))


def _azure(canonical: str, name: str) -> Target:
    context: list[tuple[str, str]] = []
    head, slash, rest = name.partition("/")
    if slash and head.lower() in _AZURE_ZONES:
        context.append(("deployment", _AZURE_ZONES[head.lower()]))
        name = rest
    return Target(canonical, _readings(canonical, name), tuple(context))


def _google(canonical: str | None, name: str) -> Target:
    context: tuple[tuple[str, str], ...] = ()
    if name.startswith("models/"):
        return Target(canonical or "gcp.gemini", (name.removeprefix("models/"),))
    if canonical == "gcp.vertex_ai" and "/" in name:
        head, _, rest = name.partition("/")
        if head.lower() == "endpoints" or rest.isdigit():
            return Target(canonical, (name,), opaque=True)
        if _GOOGLE_REGION.match(head.lower()):
            context, name = (("region", head.lower()),), rest
    if canonical == "gcp.vertex_ai" and name.isdigit():
        return Target(canonical, (name,), opaque=True)
    return Target(canonical, _readings(canonical, name), context)


_TIERS: Final = {
    "": "standard",
    "none": "standard",
    "auto": "standard",
    "default": "standard",
    "standard": "standard",
    "standard_only": "standard",
    "on_demand": "standard",
    "batch": "batch",
    "batches": "batch",
    "flex": "flex",
    "on_demand_flex": "flex",
    "priority": "priority",
    "on_demand_priority": "priority",
    "fast": "fast",
}


def read_tier(tier: str | None) -> str | None:
    """Give the canonical tier; None for one that nobody here knows.

    `auto` is what a request asks for, never a rate: it is standard until the response names a tier.
    """
    if tier is None:
        return "standard"
    plain = tier.strip().lower().replace("-", "_").replace(" ", "_").removeprefix("service_tier_")
    return _TIERS.get(plain) or _TIERS.get(collapse(plain))
