"""FarthingListener: puts farthing on CrewAI's event bus, once, whatever the number of listeners."""

from __future__ import annotations

import importlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Final, TypeAlias

from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import crewai_event_bus
from crewai.events.event_context import SCOPE_STARTING_EVENTS

from farthing import runs, setup
from farthing.corroboration import wanted
from farthing.guard import guarded
from farthing_crewai import extract, refusing
from farthing_crewai.answers import Answers
from farthing_crewai.places import call_key
from farthing_crewai.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

__all__ = ["FarthingListener", "standing_tags"]

log: Final = logging.getLogger("farthing")

_SCOPES: Final = ("crew_kickoff", "task", "agent_execution", "lite_agent_execution", "flow")
_SCOPE_ENDS: Final = ("completed", "failed", "error", "finished", "paused")
_CALLS: Final = ("llm_call_started", "llm_call_completed", "llm_call_failed")
_POOL_THREADS: Final = ("CrewAISyncHandler", "CrewAIEventsLoop")
_OTLP_HEADERS: Final = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
_TELEMETRY_OFF: Final = ("OTEL_SDK_DISABLED", "CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_TRACKING")

Handler: TypeAlias = "Callable[[object, object], None]"


class FarthingListener:
    """Meters every model call that CrewAI makes in this process, from the moment it is constructed.

    It registers itself on CrewAI's event bus. A further listener adds its tags and doubles nothing.

    Args:
        dimensions: Tags of all calls: `feature="research", team="growth"`. They give way to those of `attribute()`.
        default_tags: The same as a mapping; keywords win over it.
        inputs_tags: Keys of `kickoff(inputs={...})` whose values are tags of that kickoff. None by default, since
            inputs hold business data.
        crews: Tags of crews by their `name`: `crews={"research-crew": {"feature": "research"}}`.
        tasks: Tags of tasks by their `name`.
        agents: Tags of agents by their role, as written (with its placeholders).
        flows: Tags of flows by the name of their class.

    Raises:
        Nothing: a tag that cannot be used is reported on the call and in `farthing.health()`.
    """

    def __init__(
        self,
        *,
        default_tags: Mapping[str, object] | None = None,
        inputs_tags: Iterable[str] = (),
        crews: Mapping[str, Mapping[str, object]] | None = None,
        tasks: Mapping[str, Mapping[str, object]] | None = None,
        agents: Mapping[str, Mapping[str, object]] | None = None,
        flows: Mapping[str, Mapping[str, object]] | None = None,
        **dimensions: object,
    ) -> None:
        declared = {"crew": crews, "task": tasks, "agent": agents, "flow": flows}
        self.registry: Final = {
            (kind, " ".join(name.split())): tags
            for kind, named in declared.items()
            for name, tags in (named or {}).items()
        }
        self.tags: Final[Mapping[str, object]] = {**(default_tags or {}), **dimensions}
        self.inputs_tags: Final = (inputs_tags,) if isinstance(inputs_tags, str) else tuple(inputs_tags)
        _bridge.add(self)
        setup.expect_the_end()

    def close(self) -> None:
        """Take this listener's tags off; the last one to leave ends the metering.

        Raises:
            Nothing.
        """
        _bridge.remove(self)


class _Bridge:
    """The one set of handlers on the bus. They take (source, event): a third would be given CrewAI's state."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: tuple[FarthingListener, ...] = ()
        self._tags: Mapping[str, object] = {}
        self._input_names: tuple[str, ...] = ()
        self._registry: extract.Registry = extract.NO_REGISTRY
        self._has_warned = False
        self.tracker: Final = Tracker(handler_tags=lambda: self._tags)
        self.answers: Final = Answers()

    # -- listeners ----------------------------------------------------------------------------------------------

    def add(self, listener: FarthingListener) -> None:
        """Let a listener take part, and be on the bus."""
        with self._lock:
            self._set((*self._listeners, listener))
            for event_type, handler in self._handlers():
                crewai_event_bus.register_handler(event_type, handler)
            if _settle not in setup.settlers:
                setup.settlers.append(_settle)
            if _current_call not in runs.outer_probes:
                runs.outer_probes.append(_current_call)
            self._warn_of_headers()
            refusing.install(self.before_call)
            self.answers.listen()

    def remove(self, listener: FarthingListener) -> None:
        """Let a listener go; with the last one, leave the bus."""
        with self._lock:
            self._set(tuple(other for other in self._listeners if other is not listener))
            if self._listeners:
                return
            for event_type, handler in self._handlers():
                crewai_event_bus.off(event_type, handler)
            refusing.uninstall(self.before_call)
            self.answers.close()
            self.tracker.clear()

    @property
    def is_listening(self) -> bool:
        """Whether any listener is left."""
        return bool(self._listeners)

    def _set(self, listeners: tuple[FarthingListener, ...]) -> None:
        self._listeners = listeners
        tags: dict[str, object] = {}
        for listener in reversed(listeners):
            tags |= listener.tags  # the first listener's tag wins, as with any handler that is registered twice
        self._tags = tags
        self._registry = {key: tags for each in reversed(listeners) for key, tags in each.registry.items()}
        self._input_names = tuple(dict.fromkeys(name for each in listeners for name in each.inputs_tags))

    def _handlers(self) -> Iterator[tuple[type[BaseEvent], Handler]]:
        """Pair the events that matter with their handlers; never the chunks of a stream, which block the caller."""
        by_name: dict[str, Handler] = dict(zip(_CALLS, (self.on_call, self.on_completed, self.on_failed), strict=True))
        by_name |= {f"{scope}_started": self.on_scope for scope in _SCOPES}
        by_name |= {f"{scope}_{end}": self.on_scope_end for scope in _SCOPES for end in _SCOPE_ENDS}
        by_name |= {name: self.on_passage for name in SCOPE_STARTING_EVENTS if name not in by_name}
        importlib.import_module("crewai.events.event_types")  # defines every event, so that none is missed below
        for event_type in _event_types(BaseEvent):
            name = event_type.model_fields["type"].default
            if isinstance(name, str) and name in by_name:
                yield event_type, by_name[name]

    def _warn_of_headers(self) -> None:
        found = [name for name in _OTLP_HEADERS if os.environ.get(name)]
        is_off = any(os.environ.get(name, "").lower() == "true" for name in _TELEMETRY_OFF)
        if self._has_warned or is_off or not found:
            return
        self._has_warned = True
        log.warning(
            "farthing: %s is set and CrewAI's own telemetry is on: CrewAI sends these headers, and so the key of "
            "your backend, to its own collector. Set CREWAI_DISABLE_TELEMETRY=true, or give the headers in code.",
            found[0],
        )

    # -- handlers -----------------------------------------------------------------------------------------------

    def before_call(self, context: object) -> None:
        """Stand before a model call, on the thread that is about to make it; refuse one that the policy does not allow.

        Raises:
            CallRefusedError: A rule that says reject is violated.
        """
        self.answers.attend(getattr(context, "llm", None))
        meter = setup.get_meter()
        if meter is None or not (meter.enforcing or wanted()):
            return
        refusing.note(extract.tags_before(context, input_names=self._input_names, registry=self._registry))
        if meter.enforcing:
            refusing.require(meter, self._tags)

    @property
    def tags(self) -> Mapping[str, object]:
        """The tags of all listeners."""
        return self._tags

    @guarded
    def on_call(self, source: object, event: object) -> None:
        """Begin a model call."""
        self.answers.attend(source)  # crewai before 1.15.3 has nothing that stands before a call
        if _is_live():
            self.tracker.call_started(extract.call_started(source, event, sizes=_wants_sizes()))

    @guarded
    def on_completed(self, source: object, event: object) -> None:
        """End a model call that was answered."""
        if _is_live():
            account = self.answers.account_for(extract.call_id(event), extract.summary(event))
            self.tracker.call_ended(extract.call_completed(source, event, sizes=_wants_sizes(), account=account))

    @guarded
    def on_failed(self, source: object, event: object) -> None:
        """End a model call that failed."""
        if _is_live():
            began = self.answers.account_for(extract.call_id(event), None).pieces > 0
            self.tracker.call_ended(extract.call_failed(source, event, began=began))

    @guarded
    def on_scope(self, source: object, event: object) -> None:
        """Begin a crew, task, agent or flow."""
        if not _is_live():
            return
        start = extract.scope_start(source, event, input_names=self._input_names, registry=self._registry)
        if start is None:
            self.tracker.passed(extract.passage(source, event))
        else:
            self.tracker.scope_started(start)

    @guarded
    def on_scope_end(self, source: object, event: object) -> None:
        """End a crew, task, agent or flow."""
        if _is_live() and (end := extract.scope_end(source, event)) is not None:
            self.tracker.scope_ended(end)

    @guarded
    def on_passage(self, source: object, event: object) -> None:
        """Note whatever else begins, so that what happens inside it finds the scopes above."""
        if _is_live():
            self.tracker.passed(extract.passage(source, event))


def _event_types(base: type[BaseEvent]) -> Iterator[type[BaseEvent]]:
    for event_type in base.__subclasses__():
        yield event_type
        yield from _event_types(event_type)


def _is_live() -> bool:
    """Say whether this is no replay of a checkpoint's events, and farthing is switched on."""
    return not extract.is_replaying() and setup.get_meter() is not None


def _wants_sizes() -> bool:
    """Say whether the user asked for estimates of what is never reported."""
    meter = setup.get_meter()
    return meter is not None and meter.estimating


def _settle(timeout: float) -> None:
    """Let CrewAI deliver what it has emitted, then finish what waits."""
    if threading.current_thread().name.startswith(_POOL_THREADS):
        return  # the bus would wait for the handler that waits here
    crewai_event_bus.flush(timeout=timeout)
    _bridge.tracker.settle(timeout)


def _current_call() -> Hashable | None:
    """Give the key of the call that CrewAI has open here and sends through LiteLLM, for the layer below."""
    call_id = extract.current_call_id() if _bridge.is_listening else None
    return None if call_id is None or _bridge.tracker.is_native(call_id) else call_key(call_id)


_bridge: Final = _Bridge()


def standing_tags() -> Mapping[str, object]:
    """Give the tags of all listeners, the first one's first."""
    return _bridge.tags
