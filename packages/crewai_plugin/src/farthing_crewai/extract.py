"""From CrewAI's events to plain values. Pure: no state, no I/O. Providers' answers are read in accounts.py.

Nothing that may be content is read here: no messages, responses, task descriptions, goals or outputs. Of the text of an
error only a status code or a class name leaves this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from crewai.events import event_bus
from crewai.llms import base_llm

from farthing.estimating import prompt_bytes, text_bytes
from farthing.failures import OTHER
from farthing.providers import canonical_provider
from farthing_crewai.accounts import NO_ACCOUNT, shape_of
from farthing_crewai.failing import failure
from farthing_crewai.versions import ANTHROPIC_INPUT_IS_INCLUSIVE, INSTALLED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from farthing_crewai.accounts import Account

__all__ = [
    "NO_REGISTRY",
    "CallEnd",
    "CallStart",
    "Passage",
    "Registry",
    "ScopeEnd",
    "ScopeStart",
    "call_completed",
    "call_failed",
    "call_id",
    "call_started",
    "current_call_id",
    "is_replaying",
    "passage",
    "scope_end",
    "scope_start",
    "summary",
    "tags_before",
]

Entity = tuple[str, ...]
"""Names a running piece of work by what runs: ("task", id), ("agent", agent id, task id), ("crew", id), ..."""

Registry = Mapping[tuple[str, str], Mapping[str, object]]
"""Tags by kind (crew, flow, task, agent) and name."""

NO_REGISTRY: Final[Registry] = {}
_MAX_NAME: Final = 80
_SHAPES: Final = {
    "anthropic": "crewai:anthropic" if INSTALLED >= ANTHROPIC_INPUT_IS_INCLUSIVE else "crewai:anthropic_raw",
    "gcp.gemini": "crewai:gemini",
    "gcp.vertex_ai": "crewai:gemini",
    "aws.bedrock": "crewai:bedrock",
    "azure.ai.openai": "crewai:azure",
    "azure.ai.inference": "crewai:azure",
}
_ERROR_ENDS: Final = ("_failed", "_error")


class CallStart(NamedTuple):
    """A model call begins."""

    call_id: str
    event_id: str
    parent_id: str | None
    previous_id: str | None
    started_ns: int
    provider: str | None
    model: str | None
    streaming: bool
    tier: str | None
    through_litellm: bool
    runs_functions: bool
    """Whether CrewAI itself runs the tools that the model asks for, inside the call."""
    homes: tuple[Entity, ...]
    """The scopes that this belongs to by its own account, the innermost first."""
    prompt_bytes: int | None = None
    """The size of what is asked, where estimates are wanted."""


class CallEnd(NamedTuple):
    """A model call ended, as CrewAI says."""

    start: CallStart
    """What the end itself says of the call, for ends whose start was never seen."""
    event_id: str
    ended_ns: int
    failed: bool
    usage: Mapping[str, object] | None
    usage_shape: str
    finish_reason: str | None
    response_id: str | None
    error_type: str | None
    billed: bool | None
    received_bytes: int | None = None
    """The size of the answer, where estimates are wanted."""
    response_model: str | None = None
    tier_served: str | None = None

    @property
    def has_usage(self) -> bool:
        """Whether any count is above zero: CrewAI writes zeros where the provider reported nothing."""
        usage: Any = self.usage or {}
        counts = usage.get("usage", usage).values()
        return any(isinstance(count, int) and count > 0 for count in counts if not isinstance(count, bool))


class ScopeStart(NamedTuple):
    """A crew, a task, an agent or a user's flow begins."""

    event_id: str
    parent_id: str | None
    started_ns: int
    kind: str
    name: str
    entity: Entity
    answers_to: frozenset[Entity]
    """The entity, and what else names this scope as a home."""
    homes: tuple[Entity, ...]
    """The scopes that this belongs to by its own account, the innermost first."""
    tags: Mapping[str, object]


class ScopeEnd(NamedTuple):
    """A crew, a task, an agent or a user's flow ended."""

    started_id: str | None
    entity: Entity
    ended_ns: int
    failed: bool
    error_type: str | None


class Passage(NamedTuple):
    """Something begins that gets no scope of its own: a tool, memory, a flow's method."""

    event_id: str
    parent_id: str | None
    started_ns: int
    step: str | None
    method: str | None


def call_started(source: Any, event: Any, *, sizes: bool = False) -> CallStart:
    """Read an LLMCallStartedEvent.

    Args:
        source: What emitted it.
        event: The event.
        sizes: Whether the size of the prompt is wanted.
    """
    streaming = getattr(event, "stream", None)
    asked: Any = getattr(event, "messages", None)
    return _call(source, event)._replace(
        prompt_bytes=prompt_bytes(asked, getattr(event, "tools", None)) if sizes and asked else None,
        streaming=bool(getattr(source, "stream", False) if streaming is None else streaming),
        runs_functions=bool(getattr(event, "available_functions", None)),
    )


def call_completed(
    source: Any,
    event: Any,
    *,
    sizes: bool = False,
    account: Account = NO_ACCOUNT,
) -> CallEnd:
    """Read an LLMCallCompletedEvent; see `call_started`.

    Args:
        source: As there.
        event: As there.
        sizes: Whether the size of the answer is wanted.
        account: The provider's own, as far as it is known.
    """
    usage: Any = summary(event)
    end, reason = _call_end(source, event, failed=False), _text(getattr(event, "finish_reason", None))
    if reason is None and end.start.streaming and (account.pieces > 1 or _counts_last(end)):
        usage = None  # it broke off, and this is the count so far
    elif account.usage is not None:
        usage, end = account.usage, end._replace(usage_shape=shape_of(account, end.start.provider))
    return end._replace(
        received_bytes=text_bytes(getattr(event, "response", None)) if sizes else None,
        usage=None if usage is None else dict(usage),
        finish_reason=reason,
        response_id=_text(getattr(event, "response_id", None)),
        response_model=account.model,
        tier_served=account.tier,
    )


def _counts_last(end: CallEnd) -> bool:
    """Say whether the answer's tokens come last, with the reason of the end: in Anthropic's streams.

    Without that event, as where a proxy ended the stream, CrewAI gives the one token that every stream begins with.
    """
    return end.usage_shape.startswith("crewai:anthropic")


def call_failed(source: Any, event: Any, *, began: bool = False) -> CallEnd:
    """Read an LLMCallFailedEvent.

    Args:
        source: What emitted it.
        event: The event.
        began: Whether the provider had begun to answer, so that an error's status is no refusal.
    """
    error_type, billed = failure(str(getattr(event, "error", "")))
    return _call_end(source, event, failed=True)._replace(error_type=error_type, billed=None if began else billed)


def scope_start(
    source: Any, event: Any, *, input_names: Iterable[str] = (), registry: Registry = NO_REGISTRY
) -> ScopeStart | None:
    """Read the start of a crew, task, agent or flow; None for a flow that is CrewAI's own machinery.

    Args:
        source: What emitted the event.
        event: One of CrewAI's ...StartedEvent.
        input_names: The keys of kickoff inputs that are tags.
        registry: The tags of crews, tasks and agents by name.
    """
    entity = _entity(source, event)
    kind = entity[0]
    if kind == "flow" and _is_machinery(source):
        return None
    subject = event.agent if kind == "agent" else source
    return ScopeStart(
        event_id=event.event_id,
        parent_id=event.parent_event_id,
        started_ns=_nanoseconds(event.timestamp),
        kind="workflow" if kind in {"crew", "flow"} else "agent" if kind == "lite-agent" else kind,
        name=_name(kind, subject, event),
        entity=entity,
        answers_to=frozenset((entity, *_members(kind, source))),
        homes=_homes_of_scope(entity),
        tags=_declared(kind, subject, registry) | _chosen(getattr(event, "inputs", None), input_names),
    )


def tags_before(context: Any, *, input_names: Iterable[str], registry: Registry) -> dict[str, object] | None:
    """Read the tags of a model call about to be made from CrewAI's hook context; None where it names no crew or agent.

    CrewAI gives its converter calls (`output_pydantic`) and direct calls no crew, task or agent.
    """
    found: dict[str, object] = {}
    subjects = {kind: getattr(context, kind, None) for kind in ("crew", "task", "agent")}
    for kind, subject in subjects.items():
        if subject is not None:
            found |= _declared(kind, subject, registry)
    if subjects["crew"] is not None:
        found = _chosen(getattr(subjects["crew"], "_inputs", None), input_names) | found
    return None if all(subject is None for subject in subjects.values()) else found


def scope_end(source: Any, event: Any) -> ScopeEnd | None:
    """Read the end of a crew, task, agent or flow; None for a flow that is CrewAI's own machinery."""
    entity = _entity(source, event)
    if entity[0] == "flow" and _is_machinery(source):
        return None
    failed = event.type.endswith(_ERROR_ENDS)
    kind = getattr(event, "error_type", None)
    return ScopeEnd(
        started_id=event.started_event_id,
        entity=entity,
        ended_ns=_nanoseconds(event.timestamp),
        failed=failed,
        error_type=(kind.__name__ if isinstance(kind, type) else OTHER) if failed else None,
    )


def passage(source: Any, event: Any) -> Passage:
    """Read any other event that begins something."""
    step = event.type.removesuffix("_started")
    is_flow = step in {"flow", "method_execution"}
    return Passage(
        event_id=event.event_id,
        parent_id=event.parent_event_id,
        started_ns=_nanoseconds(event.timestamp),
        step=None if is_flow else step,
        method=_clean(event.method_name) if step == "method_execution" and not _is_machinery(source) else None,
    )


def call_id(event: Any) -> str:
    """Give the id of the model call that an event is about."""
    return str(event.call_id)


def summary(event: Any) -> Mapping[str, object] | None:
    """Give what CrewAI makes of the usage of a call that is completed."""
    usage: Mapping[str, object] | None = getattr(event, "usage", None)
    return usage


def current_call_id() -> str | None:
    """Give the id of the model call that CrewAI has open in this context; None where it keeps that elsewhere."""
    variable: Any = getattr(base_llm, "_current_call_id", None)
    return None if variable is None else _text(variable.get(None))


def is_replaying() -> bool:
    """Say whether CrewAI is telling again what a checkpoint has recorded."""
    asked: Any = getattr(event_bus, "is_replaying", None)
    return asked is not None and bool(asked())


def _call(source: Any, event: Any) -> CallStart:
    provider, model = _provider_and_model(source, event)
    through_litellm = bool(getattr(source, "is_litellm", False))
    extra: Any = getattr(source, "additional_params", None) or {}
    return CallStart(
        call_id=event.call_id,
        event_id=event.event_id,
        parent_id=event.parent_event_id,
        previous_id=event.previous_event_id,
        started_ns=_nanoseconds(event.timestamp),
        provider=provider,
        model=model,
        streaming=bool(getattr(source, "stream", False)),
        tier=_text(extra.get("service_tier")),
        through_litellm=through_litellm,
        runs_functions=False,
        homes=_homes_of_call(event.agent_id, event.task_id),
    )


def _call_end(source: Any, event: Any, *, failed: bool) -> CallEnd:
    start = _call(source, event)
    shape = _SHAPES.get(canonical_provider(start.provider) or "", "crewai:openai")
    return CallEnd(
        start=start,
        event_id=event.event_id,
        ended_ns=start.started_ns,
        failed=failed,
        usage=None,
        usage_shape="crewai:litellm" if start.through_litellm else shape,
        finish_reason=None,
        response_id=None,
        error_type=None,
        billed=None,
    )


def _provider_and_model(source: Any, event: Any) -> tuple[str | None, str | None]:
    """Give the provider and the model without its routing prefix; on the LiteLLM path the prefix is the provider."""
    model = _text(getattr(source, "model", None)) or _text(event.model)
    provider = _text(getattr(source, "provider", None))
    if model is not None and getattr(source, "is_litellm", False) and "/" in model:
        provider, _, model = model.partition("/")
    if provider is not None and canonical_provider(provider) == "gcp.gemini" and _is_vertex(source):
        provider = "gcp.vertex_ai"
    return provider, model


def _is_vertex(source: Any) -> bool:
    """Tell Vertex AI from the Gemini API: CrewAI calls both "gemini"; a project without a key means the former."""
    if getattr(source, "use_vertexai", False):
        return True
    return bool(getattr(source, "project", None)) and not getattr(source, "api_key", None)


def _entity(source: Any, event: Any) -> Entity:
    kind = event.type.split("_", 1)[0]
    if kind == "agent":
        return ("agent", str(event.agent.id), str(getattr(event.task, "id", "")))
    if kind == "lite":
        return ("lite-agent", str(getattr(source, "id", None) or event.agent_info.get("id")))
    if kind == "flow":
        return ("flow", str(id(source)))
    return (kind, str(getattr(source, "id", "")))


def _members(kind: str, source: Any) -> list[Entity]:
    """Name the tasks of a crew, so that one whose parent has drifted finds it."""
    return [("crew-of", str(task.id)) for task in getattr(source, "tasks", ())] if kind == "crew" else []


def _homes_of_scope(entity: Entity) -> tuple[Entity, ...]:
    if entity[0] == "agent":
        return (("task", entity[2]),)
    return (("crew-of", entity[1]),) if entity[0] == "task" else ()


def _homes_of_call(agent_id: str | None, task_id: str | None) -> tuple[Entity, ...]:
    homes: list[Entity] = []
    if agent_id is not None:
        homes += [("agent", agent_id, task_id or ""), ("lite-agent", agent_id)]
    if task_id is not None:
        homes.append(("task", task_id))
    return tuple(homes)


def _is_machinery(source: Any) -> bool:
    """Say whether a flow is CrewAI's own: its agent loop and its memory are flows too."""
    module = type(source).__module__
    return module.startswith("crewai.") and not module.startswith("crewai.flow.")


def _name(kind: str, subject: Any, event: Any) -> str:
    """Name a scope by what the developer wrote once, never by what a run filled in.

    A task's description and an interpolated role ("Analyst for Jane Doe") are content and have no bound; CrewAI keeps
    the role's template in a private attribute once it has interpolated it, and until then the role is the template.
    """
    if kind in {"agent", "lite-agent"}:
        return _clean(getattr(subject, "_original_role", None) or getattr(subject, "role", None)) or "agent"
    if kind == "flow":
        return _clean(getattr(event, "flow_name", None)) or "flow"
    return _clean(getattr(subject, "name", None)) or kind


def _clean(name: object) -> str:
    """Cut a name to one short line."""
    return " ".join(name.split())[:_MAX_NAME].rstrip() if isinstance(name, str) else ""


def _fingerprint(subject: Any) -> dict[str, object]:
    """Give the metadata of a fingerprint: the only tags that a crew, a task or an agent can hold."""
    fingerprint = getattr(getattr(subject, "security_config", None), "fingerprint", None)
    metadata: Any = getattr(fingerprint, "metadata", None) or {}
    return {str(name): value for name, value in metadata.items() if isinstance(value, str | int | float)}


def _declared(kind: str, subject: Any, registry: Registry) -> dict[str, object]:
    """Give the tags that a crew, task or agent was declared with: by its name, and in its fingerprint."""
    if kind == "flow":
        name = type(subject).__name__
    elif kind in {"agent", "lite-agent"}:
        name, kind = _clean(getattr(subject, "_original_role", None) or getattr(subject, "role", None)), "agent"
    else:
        name = _clean(getattr(subject, "name", None))
    return {**registry.get((kind, name), {}), **_fingerprint(subject)}


def _chosen(inputs: Any, names: Iterable[str]) -> dict[str, object]:
    return {name: inputs[name] for name in names if inputs and name in inputs}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _nanoseconds(moment: datetime) -> int:
    """Give the nanoseconds since the epoch, to the microsecond that a datetime holds."""
    return round(moment.timestamp() * 1_000_000) * 1_000
