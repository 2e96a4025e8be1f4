"""The callback handler: each event of LangChain in a few lines to the meter.

It runs on the caller's thread, so values are taken and handed on. It never attaches OpenTelemetry context: a run may
end in another context than it began in, and what was attached would stay. `run_inline` keeps async events in the task
that causes them: only there does a call see the `attribute()` around it.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Final

from langchain_core.callbacks import BaseCallbackHandler
from typing_extensions import override

from farthing.corroboration import wanted
from farthing.counting import counters
from farthing.dimensions import canonical_name
from farthing.failures import handled_now
from farthing.guard import guarded
from farthing.runs import CURRENT_CALL
from farthing.setup import expect_the_end, get_meter
from farthing_langchain import extract, include_usage
from farthing_langchain.corroborating import LATEST
from farthing_langchain.declared import checked_registry, checked_tags
from farthing_langchain.lineage import Failure, Place, lineage, parent_of
from farthing_langchain.nesting import nesting
from farthing_langchain.orphans import end_below, in_event_loop, watch
from farthing_langchain.repeating import Told
from farthing_langchain.requested import requested, with_requested

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from farthing.meter import Meter
    from farthing.runs import Run

__all__ = ["FarthingHandler"]

_FRAMEWORK: Final = "langchain"
_UNNAMED_GRAPH: Final = "LangGraph"
_HOW: Final = 'Send it with config={"metadata": {{pairs}}} or `with farthing.attribute({example}): ...`'
_FALLBACKS: Final = "RunnableWithFallbacks"


class FarthingHandler(BaseCallbackHandler):
    """Attribute and price every model call below it; pass it in `config={"callbacks": [...]}` or to a model.

    One instance may serve any number of concurrent requests. Two of them on one call make one Call.

    Args:
        default_tags: Dimensions by name, for those whose names are no Python keywords; weaker than the keywords.
        nodes: Tags of LangGraph's nodes by name: `nodes={"writer": {"feature": "drafting"}}`. They hold for every call
            below the node, the innermost node's first, and give way to a call's own metadata alone.
        agents: The same for agents by the name that `create_agent(name=...)` gives them.
        dimensions: feature, route, task_type, team, tenant, environment, plan, user_id, session_id, job_id, their usual
            spellings, and what farthing.toml declares. A call's own metadata and an enclosing `attribute()` win.

    Raises:
        ConfigurationError: `default_tags`, `nodes` or `agents` are no dicts of that shape.
    """

    run_inline = True

    def __init__(
        self,
        *,
        default_tags: Mapping[str, object] | None = None,
        nodes: Mapping[str, Mapping[str, object]] | None = None,
        agents: Mapping[str, Mapping[str, object]] | None = None,
        **dimensions: object,
    ) -> None:
        self._tags: Final = checked_tags("default_tags", default_tags) | {
            canonical_name(name): value for name, value in dimensions.items()
        }
        self._nodes: Final = checked_registry("nodes", nodes)
        self._agents: Final = checked_registry("agents", agents)
        expect_the_end()

    @property
    def raise_error(self) -> bool:  # type: ignore[override]  # LangChain reads it after an event raised
        """Whether what an event raises stops the call: only a refusal ever leaves one, and only where one may."""
        return (meter := get_meter()) is not None and meter.enforcing

    # Chains, tools, retrievers: the root is a scope, and so is an agent or a named graph inside; the rest is lineage.

    @override
    @guarded
    def on_chain_start(
        self,
        serialized: object,
        inputs: object,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, object] | None = None,
        **kwargs: object,
    ) -> None:
        """Begin a scope, or note where the run stands."""
        run, parent, name = run_id.int, parent_of(parent_run_id), kwargs.get("name")
        above, agent = lineage.get(parent), extract.agent_name(metadata)
        if above.scope is None or (agent is not None and agent != above.agent):
            self._start_scope(run, parent=parent, name=agent or name, agent=agent, metadata=metadata, labels=tags)
            return
        declared = above.tags
        if extract.is_node(metadata, tags, name):
            if above.kind == "chain":
                above = self._promote(parent, above)
            declared = self._below_node(name, above)
        if run not in lineage:
            lineage.enter(run, Place(above.scope, above.agent, parent, "chain", name, tags=declared))
            if lineage.any_failed and (above.name == _FALLBACKS or extract.attempt(tags) > 1):
                lineage.lower_failure(parent, run)

    @override
    @guarded
    def on_chain_end(self, outputs: object, *, run_id: UUID, **kwargs: object) -> None:
        """End the run's scope, if it is one."""
        place = lineage.leave(run_id.int)
        if place is not None and place.kind == "scope" and (meter := get_meter()):
            meter.finish_scope((_FRAMEWORK, run_id.int))

    @override
    @guarded
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: object) -> None:
        """End the run's scope with what went wrong; a cancelled one ends the calls that nobody else will end."""
        meter, run = get_meter(), run_id.int
        if isinstance(error, CancelledError):
            end_below(run, meter)
        lineage.lift_failure(run, lineage.get(run).parent)
        place = lineage.leave(run)
        if place is not None and place.kind == "scope" and meter is not None:
            outcome, kind = extract.scope_outcome(error, place.handled)
            meter.finish_scope((_FRAMEWORK, run), outcome=outcome, error_type=kind)

    @override
    @guarded
    def on_tool_start(
        self,
        serialized: object,
        input_str: object,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: object,
    ) -> None:
        """Note where the run stands."""
        _enter_leaf(run_id, parent_run_id)

    @override
    @guarded
    def on_tool_end(self, output: object, *, run_id: UUID, **kwargs: object) -> None:
        """Forget the run."""
        lineage.leave(run_id.int)

    @override
    @guarded
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: object) -> None:
        """Forget the run."""
        lineage.leave(run_id.int)

    @override
    @guarded
    def on_retriever_start(
        self, serialized: object, query: object, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: object
    ) -> None:
        """Note where the run stands."""
        _enter_leaf(run_id, parent_run_id)

    @override
    @guarded
    def on_retriever_end(self, documents: object, *, run_id: UUID, **kwargs: object) -> None:
        """Forget the run."""
        lineage.leave(run_id.int)

    @override
    @guarded
    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: object) -> None:
        """Forget the run."""
        lineage.leave(run_id.int)

    # Model calls.

    @override
    @guarded
    def on_chat_model_start(
        self,
        serialized: object,
        messages: object,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, object] | None = None,
        **kwargs: object,
    ) -> None:
        """Begin a chat call."""
        asked = extract.asked(metadata, tags, kwargs)
        self._start_call("chat", run_id.int, parent_of(parent_run_id), asked, prompt=messages)

    @override
    @guarded
    def on_llm_start(
        self,
        serialized: object,
        prompts: object,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, object] | None = None,
        **kwargs: object,
    ) -> None:
        """Begin a completion call."""
        asked = extract.asked(metadata, tags, kwargs)
        if asked.prompts > 1 and asked.params and run_id.int not in lineage:
            lineage.join_batch(run_id.int, asked.params, asked.prompts)
        self._start_call("text_completion", run_id.int, parent_of(parent_run_id), asked, prompt=prompts)

    @override
    @guarded
    def on_llm_new_token(self, token: object, *, run_id: UUID, **kwargs: object) -> None:
        """Note the first piece of a streamed reply, and the size of each where estimates are wanted."""
        key = (_FRAMEWORK, run_id.int)
        if meter := get_meter():
            meter.first_chunk(key)
            if (told := lineage.get(run_id.int).told) is not None:
                told.note(kwargs.get("chunk"))
            if meter.estimating:
                meter.received(key, extract.piece_bytes(token, kwargs.get("chunk")))
        if CURRENT_CALL.get() == key:
            CURRENT_CALL.set(None)  # the request is out: what the consumer of the stream calls now is not below it

    @override
    @guarded
    def on_llm_end(
        self,
        response: object,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: object,
    ) -> None:
        """End a model call with what the provider reported."""
        key, place, meter = (_FRAMEWORK, run_id.int), lineage.leave(run_id.int), get_meter()
        if meter is None:
            return
        if lineage.leave_batch(run_id.int) == "follower" and extract.is_shared_bill(response):
            _merge_into_first(meter, key)
            return
        late = None if place is not None else partial(self._start_late, run_id.int, parent_run_id, tags)
        finish = extract.finished(response, time.time_ns())
        if meter.estimating and not finish.usage:
            finish = finish._replace(received_bytes=extract.answer_bytes(response))
        if place is not None and place.told is not None:
            finish = with_requested(place.told.corrected(finish), place.requested)
        if (run := meter.runs.get(key)) is not None:
            if place is not None:
                lineage.note_failure(place.parent, Failure(run.operation_id, run.attempt, paid=True))
            if finish.usage is None and run.first_chunk_ns is not None:
                include_usage.tell_how(run.provider, run.model)
        if place is not None and place.told is not None and place.told.cut(finish):
            finish = finish._replace(usage=None)
        meter.finish_call(key, finish, started=late)

    @override
    @guarded
    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: object,
    ) -> None:
        """End a model call that failed, or whose consumer left."""
        key, place, meter = (_FRAMEWORK, run_id.int), lineage.leave(run_id.int), get_meter()
        member = lineage.leave_batch(run_id.int)
        if meter is None:
            return
        if member == "follower":
            _merge_into_first(meter, key)
            return
        run = meter.runs.get(key)
        if place is not None and run is not None:
            lineage.note_failure(place.parent, Failure(run.operation_id, run.attempt))
        began = run is not None and run.first_chunk_ns is not None
        late = None if place is not None else partial(self._start_late, run_id.int, parent_run_id, tags)
        handled = None if place is None else place.handled
        finish = extract.failed(error, time.time_ns(), uncertain=began or member is not None, handled=handled)
        meter.finish_call(key, finish, started=late)

    # What several events share.

    def _start_scope(
        self,
        run: int,
        *,
        parent: int | None,
        name: object,
        agent: str | None,
        metadata: Mapping[str, object] | None,
        labels: list[str] | None,
    ) -> None:
        if meter := get_meter():
            kind = "agent" if agent is not None or extract.is_agent(metadata) else "workflow"
            above = lineage.get(parent)
            tags = {**above.tags, **self._agents.get(agent or "", {}), **extract.tags_of(metadata, labels)}
            scope = self._open_scope(meter, run, above=above.scope, kind=kind, name=name, tags=tags)
            lineage.enter(run, Place(scope, agent, parent, "scope", name, handled=handled_now()))

    def _below_node(self, node: object, above: Place) -> Mapping[str, object]:
        """Give the declared tags in force below a node that stands below a place."""
        own = self._nodes.get(node) if isinstance(node, str) else None
        return {**above.tags, **own} if own else above.tags

    def _promote(self, run: int | None, place: Place) -> Place:
        """Make a scope of a run that turns out to be a graph with a name of its own."""
        if run is None or place.name in {None, _UNNAMED_GRAPH} or (meter := get_meter()) is None:
            return place
        scope = self._open_scope(meter, run, above=place.scope, kind="workflow", name=place.name)
        promoted = place._replace(scope=scope, kind="scope")
        lineage.enter(run, promoted)
        return promoted

    def _open_scope(
        self,
        meter: Meter,
        run: int,
        *,
        above: Run | None,
        kind: str,
        name: object,
        tags: Mapping[str, object] = extract.NOTHING,
    ) -> Run | None:
        key = (_FRAMEWORK, run)
        short = name[: extract.MAX_NAME_LENGTH] if isinstance(name, str) else ""
        meter.start_scope(
            key, framework=_FRAMEWORK, kind=kind, name=short, parent=above, tags=tags, handler_tags=self._tags
        )
        return meter.runs.get(key)

    def _start_call(
        self, operation: str, run: int, parent: int | None, asked: extract.Asked, *, prompt: object = None
    ) -> None:
        meter = get_meter()
        if meter is None:
            return
        key, above = (_FRAMEWORK, run), lineage.get(parent)
        if meter.asks_for_usage:
            include_usage.install()
        declared = self._below_node(asked.details.get("node"), above)
        tags = {**declared, **asked.tags} if declared else asked.tags
        if meter.enforcing:
            meter.require(how=_HOW, tags=tags, handler_tags=self._tags, parent=above.scope)
        said = requested(asked.provider, prompt, asked.params)
        shared = asked.params if asked.prompts > 1 and asked.params else None
        lineage.enter(
            run,
            Place(
                above.scope,
                above.agent,
                parent,
                "model",
                in_task=in_event_loop(),
                task=watch(key),
                tags=declared,
                told=Told(asked.provider),
                requested=said,
                shared=shared,
                thread=get_ident(),
                handled=handled_now(),
            ),
        )
        stands = nesting(key, parent=parent, shared=shared, meter=meter)
        if stands.above is not None:  # a model that calls another one: the inner one reaches the provider
            CURRENT_CALL.set(stands.above)
        labelled = asked.attempt > 1 or above.name == _FALLBACKS
        earlier = lineage.take_failure(parent, expected=labelled or asked.in_agent, labelled=labelled)
        meter.start_call(
            key,
            framework=_FRAMEWORK,
            operation=operation,
            provider=asked.provider,
            model=asked.model,
            parent=above.scope,
            tags=tags,
            handler_tags=self._tags,
            details=asked.details,
            streaming=asked.streaming,
            tier=asked.tier,
            attempt=asked.attempt if earlier is None else earlier.attempt + 1,
            operation_id=None if earlier is None else earlier.operation_id,
            inner=stands.above is not None,
            prompt_bytes=extract.prompt_size(prompt, asked.params) if meter.estimating and prompt else None,
            together=stands.beside,
        )
        if asked.over_library:
            CURRENT_CALL.set(key)
        if wanted():
            LATEST.set(key)

    def _start_late(self, run: int, parent_run_id: UUID | None, labels: list[str] | None) -> None:
        """Begin a call whose start LangChain did not report (its AsyncCallbackManager.on_llm_start drops some)."""
        self._start_call("chat", run, parent_of(parent_run_id), extract.asked(None, labels, extract.NOTHING))
        lineage.leave(run)


def _enter_leaf(run_id: UUID, parent_run_id: UUID | None) -> None:
    parent = parent_of(parent_run_id)
    above = lineage.get(parent)
    lineage.enter(run_id.int, Place(above.scope, above.agent, parent, "leaf", None, in_event_loop(), above.tags))


def _merge_into_first(meter: Meter, key: tuple[str, int]) -> None:
    """Take back a run that was one prompt of another run's request: one request, one Call.

    The first run of the batch carries the usage of all, and their failure; whose prompt cost what, no provider says.
    """
    if meter.runs.get(key) is not None:
        meter.withdraw_call(key)
        counters.add("duplicates", "batch")
