"""The callback: each event of LiteLLM in a few lines to the meter.

`log_pre_api_call` is the one event that runs in the caller's own context on every path, so everything that needs it is
taken there. The events of the end come from pools, workers and loops, late, twice or never.
"""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import litellm
from litellm.integrations.custom_logger import CustomLogger

from farthing.counting import counters
from farthing.dimensions import canonical_name
from farthing.errors import ConfigurationError
from farthing.guard import guarded
from farthing.neighbours import lookers
from farthing.propagation import trace_context
from farthing.setup import expect_the_end, get_meter
from farthing_litellm import ends, extract, first_step, foreseeing, include_usage, pieces, refusing, registration
from farthing_litellm.attempts import STASH, Attempt, Failures, Place, left
from farthing_litellm.corroborating import corroborated, is_wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farthing.meter import Meter
    from farthing.runs import Finish

__all__ = ["FarthingLogger"]

_FRAMEWORK: Final = "litellm"
_NOT_SENT: Final = "litellm_no_upstream_llm_call"
"""What LiteLLM's proxy puts on the events of a request that it refused itself: a bad key, a guardrail, a policy."""

_failures: Final = Failures()


class FarthingLogger(CustomLogger):
    """Attribute and price every LiteLLM call of this process: `litellm.callbacks = [FarthingLogger(feature="search")]`.

    Making one registers it in all of LiteLLM's callback lists, so that it stays when somebody empties
    `litellm.callbacks` (CrewAI does) and async calls are seen although only `success_callback` was set. Two of them
    make one Call with the tags of both; where they differ the first one's hold.

    Args:
        default_tags: Dimensions by name, for those whose names are no Python keywords; weaker than the keywords.
        dimensions: feature, route, task_type, team, tenant, environment, plan, user_id, session_id, job_id, their usual
            spellings, and what farthing.toml declares. A call's metadata and an enclosing `farthing.attribute()` win.

    Raises:
        ConfigurationError: `default_tags` is no mapping of names to values.
    """

    def __init__(self, *, default_tags: Mapping[str, object] | None = None, **dimensions: object) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] - LiteLLM's **kwargs have no type
        self.tags: Final = _checked(default_tags) | {canonical_name(name): tag for name, tag in dimensions.items()}
        # LiteLLM tells instances of a class apart by their public texts and numbers, and drops the second of a kind.
        self.identity: Final = repr(sorted(self.tags.items(), key=repr))
        registration.register(self)
        expect_the_end()
        first_step.install(before=_before, after=_after)
        pieces.install()

    def unregister(self) -> None:
        """Take this callback out of all of LiteLLM's lists again.

        Raises:
            Nothing.
        """
        registration.unregister(self)

    # The events. LiteLLM calls them by keyword, with exactly these names, used or not.

    @guarded
    def log_pre_api_call(self, model: object, messages: object, kwargs: dict[str, object]) -> None:  # noqa: ARG002
        """Begin an attempt, in the caller's context, before its request goes out."""
        meter = get_meter()
        if meter is None:
            return
        registration.remain(self)
        if left:
            ends.end_left(meter)
        foreseeing.take_back(meter, kwargs)
        if kwargs.get(_NOT_SENT):
            return
        if extract.is_handed_on(kwargs):
            pieces.install_handed_on()
        mark, before = kwargs.get("api_call_start_time"), kwargs.get(STASH)
        if isinstance(before, Attempt) and mark is not None and before.mark is mark:
            attempt = before  # a second instance, or the same one in a second list
        else:
            attempt = _next_attempt(meter, kwargs, before if isinstance(before, Attempt) else None)
            kwargs[STASH] = attempt
            if attempt.ended:
                return
        self._start(meter, attempt, kwargs)

    @guarded
    def log_post_api_call(
        self,
        kwargs: dict[str, object],
        response_obj: object,  # noqa: ARG002
        start_time: object,  # noqa: ARG002
        end_time: object,  # noqa: ARG002
    ) -> None:
        """End an attempt whose own end LiteLLM may not report."""
        attempt, meter = kwargs.get(STASH), get_meter()
        if meter is None or not isinstance(attempt, Attempt) or attempt.ended or not attempt.may_go_unreported:
            return
        finish = extract.raw_answer(kwargs, ended=time.time_ns()) or ends.failure_just_raised(kwargs, attempt)
        if finish is not None:
            ends.end_early(meter, attempt, finish)

    @guarded
    def log_success_event(
        self, kwargs: dict[str, object], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """End a call with what the provider reported (sync)."""
        self._succeeded(kwargs, response_obj, start_time, end_time)

    async def async_log_success_event(
        self, kwargs: dict[str, object], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """End a call with what the provider reported (async)."""
        if _takes_long(kwargs, response_obj):
            await asyncio.to_thread(self._succeeded, kwargs, response_obj, start_time, end_time)
        else:
            self._succeeded(kwargs, response_obj, start_time, end_time)

    @guarded
    def log_failure_event(
        self,
        kwargs: dict[str, object],
        response_obj: object,  # noqa: ARG002
        start_time: object,
        end_time: object,
    ) -> None:
        """End a call that failed (sync)."""
        self._failed(kwargs, start_time, end_time)

    async def async_log_failure_event(
        self,
        kwargs: dict[str, object],
        response_obj: object,  # noqa: ARG002 - LiteLLM calls by keyword
        start_time: object,
        end_time: object,
    ) -> None:
        """End a call that failed (async)."""
        self._failed(kwargs, start_time, end_time)

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: object) -> dict[str, Any] | None:
        """Write the tags into a request whose deployment was chosen late; see `corroborating`."""
        return self._corroborated(kwargs, call_type) if is_wanted() else None

    @guarded
    def _corroborated(self, kwargs: dict[str, Any], call_type: object) -> dict[str, Any] | None:
        meter = get_meter()
        if meter is None or not extract.is_proxied(extract.before_setup(kwargs)):
            return None
        kind = str(getattr(call_type, "value", call_type))
        return corroborated(kwargs, kind, tagged=refusing.asking(meter, kwargs, _standing_tags()))

    async def async_post_call_success_deployment_hook(
        self,
        request_data: dict[str, object],
        response: object,
        call_type: object,  # noqa: ARG002 - as above
    ) -> None:
        """End an async call before its caller gets the answer: the event is lost where `asyncio.run()` ends with it."""
        self._answered(request_data, response)

    # What they share.

    @guarded
    def _answered(self, request_data: Mapping[str, object], response: object) -> None:
        kwargs: dict[str, object] | None = getattr(request_data.get("litellm_logging_obj"), "model_call_details", None)
        meter = get_meter()
        if kwargs is None or meter is None or kwargs.get("stream"):
            return
        attempt = kwargs.get(STASH)
        if not isinstance(attempt, Attempt) or attempt.ended:
            return
        finish = extract.answered(kwargs, response, ended=time.time_ns())
        if meter.estimating:
            finish = finish._replace(received_bytes=extract.answer_bytes(response))
        if finish.usage is not None or finish.billed is False:
            ends.end_early(meter, attempt, finish)

    @guarded
    def _succeeded(self, kwargs: dict[str, object], response: object, start_time: object, end_time: object) -> None:
        meter, now = get_meter(), time.time_ns()
        if meter is None:
            return
        attempt = kwargs.get(STASH)
        if not isinstance(attempt, Attempt):
            self._whole(meter, kwargs, response, start_time, now)
            return
        if attempt.ended_early:
            attempt.ended_early = False
            return
        finish = extract.answered(
            kwargs,
            response,
            ended=extract.ended_ns(attempt.started_ns, attempt.mark, end_time, now),
            first_chunk=extract.first_chunk_ns(kwargs, attempt.started_ns, attempt.mark),
            told=attempt.told,
        )
        if attempt.served_tier is not None:
            finish = finish._replace(service_tier=attempt.served_tier)
        if meter.estimating:
            finish = finish._replace(received_bytes=extract.answer_bytes(response))
        if extract.usage_was_withheld(kwargs, finish, attempt.told):
            include_usage.tell_how(finish.provider, finish.response_model, kwargs)
        ends.end(meter, attempt, finish)

    @guarded
    def _failed(self, kwargs: dict[str, object], start_time: object, end_time: object) -> None:
        meter, now = get_meter(), time.time_ns()
        if meter is None:
            return
        attempt, error = kwargs.get(STASH), kwargs.get("exception")
        error = error if isinstance(error, BaseException) else None
        if kwargs.get(_NOT_SENT) is True:
            ends.discard(meter, attempt)
            return
        foreseeing.take_back(meter, kwargs)
        if not isinstance(attempt, Attempt):
            if error is not None and not kwargs.get(_NOT_SENT) and extract.was_sent(error) and extract.is_known(kwargs):
                self._record(meter, kwargs, start_time, now, extract.failed(error, ended=now))
            else:
                counters.add("skipped", "litellm-not-sent")
            return
        if attempt.ended_early:
            attempt.ended_early = False
            return
        ended = extract.ended_ns(attempt.started_ns, attempt.mark, end_time, now)
        began = extract.first_chunk_ns(kwargs, 0, attempt.mark) is not None
        ends.end(meter, attempt, extract.failed(error, ended=ended, began=began, handled=attempt.cause))
        request = extract.request_id(kwargs)
        if request is not None and attempt.operation_id is not None:
            _failures.note(request, Place(attempt.operation_id, attempt.number))

    def _start(self, meter: Meter, attempt: Attempt, kwargs: dict[str, object]) -> None:
        asked = extract.asked(kwargs, meter.policy)
        if "forged" in asked.details:
            counters.add("context", "forged:" + asked.details["forged"])
        headers = extract.trace_headers(kwargs)
        meter.start_call(
            attempt.key,
            framework=_FRAMEWORK,
            operation=asked.operation,
            provider=asked.provider,
            model=asked.model,
            tags=asked.tags,
            handler_tags={**asked.weak_tags, **self.tags} if asked.weak_tags else self.tags,
            details=asked.details,
            streaming=asked.streaming,
            tier=asked.tier,
            attempt=attempt.number,
            operation_id=attempt.operation_id,
            started_ns=attempt.started_ns,
            inner=True,
            late_report=True,
            context=trace_context(headers) if headers else None,
            prompt_bytes=extract.asked_bytes(kwargs) if meter.estimating else None,
        )
        if attempt.operation_id is None and (run := meter.runs.get(attempt.key)) is not None:
            attempt.operation_id = run.operation_id

    def _whole(self, meter: Meter, kwargs: dict[str, object], response: object, start_time: object, now: int) -> None:
        """Record a call that has one event only: an answer from LiteLLM's cache, or a path that reports no request."""
        if not extract.is_known(kwargs) or extract.operation_of(kwargs) == "batch":
            foreseeing.take_back(meter, kwargs)
        if extract.operation_of(kwargs) == "batch":
            done = extract.batch(kwargs, response, ended=now)
            if done is not None:
                self._record(meter, kwargs, start_time, now, done[1], key=("litellm-batch", done[0]))
        elif extract.is_known(kwargs):
            finish = extract.answered(kwargs, response, ended=now)
            if not foreseeing.complete(meter, kwargs, finish, _standing_tags()):
                self._record(meter, kwargs, start_time, now, finish)
        else:
            counters.add("skipped", "litellm-no-model-call")

    def _record(
        self,
        meter: Meter,
        kwargs: dict[str, object],
        start_time: object,
        now: int,
        finish: Finish,
        *,
        key: tuple[str, object] | None = None,
    ) -> None:
        """Begin and end a call at once, from an event of its end."""
        attempt = Attempt(
            call_id=kwargs.get("litellm_call_id"),
            mark=None,
            started_ns=extract.started_ns(kwargs, start_time, now),
            number=1,
            operation_id=None,
            may_go_unreported=False,
            cause=None,
            key=key or ("litellm-event", kwargs.get("litellm_call_id")),
        )
        attempt.ended = True
        meter.finish_call(attempt.key, finish, started=partial(self._start, meter, attempt, kwargs))


# `no-log=True` in a call keeps callbacks from its end, but for those of the proxy itself, which LiteLLM knows by this
# part of their class's name (`Logging.should_run_callback`, litellm 1.100 to 1.110): what was bought would stand there
# without a cost. Nothing of a prompt is recorded here, so nothing that the option is for is undone.
FarthingLogger.__name__ = "FarthingLogger_PROXY_"


def _before(function: str, args: tuple[Any, ...], arguments: dict[str, Any]) -> dict[str, Any]:
    """Look at a call's arguments before anything else does, and give those to go on with."""
    meter = get_meter()
    if meter is None:
        return arguments
    if meter.enforcing:
        refusing.check(meter, arguments, _standing_tags())
    if meter.asks_for_usage and _standing_tags():
        include_usage.ask(function, args, arguments)
    if is_wanted():
        return refusing.corroborate(meter, function, args, arguments, _standing_tags()) or arguments
    return arguments


@guarded
def _after(made: tuple[Any, ...], arguments: dict[str, Any]) -> None:
    """Begin a call that may be answered without a request."""
    if getattr(litellm, "cache", None) is None:
        return
    meter, details = get_meter(), getattr(made[0], "model_call_details", None)
    if meter is not None and isinstance(details, dict) and (handlers := _standing_tags()):
        foreseeing.foresee(meter, cast("dict[str, Any]", details), arguments, handlers)


def _standing_tags() -> list[Mapping[str, object]]:
    """Give the tags of every instance that LiteLLM calls, the first one first."""
    return [each.tags for each in registration.standing() if isinstance(each, FarthingLogger)]


def _next_attempt(meter: Meter, kwargs: dict[str, object], before: Attempt | None) -> Attempt:
    """Make the attempt that is about to go out, ending the one before it if nobody did."""
    place = None
    error = sys.exc_info()[1]
    if before is not None:
        if not before.ended:
            ends.end(meter, before, ends.end_of_replaced(kwargs, before, error))
        place = None if before.answered else Place(before.operation_id or "", before.number)
    elif extract.retries(kwargs):
        place = _failures.take(extract.request_id(kwargs))
    attempt = Attempt(
        call_id=kwargs.get("litellm_call_id"),
        mark=kwargs.get("api_call_start_time"),
        started_ns=time.time_ns(),
        number=1 if place is None else place.number + 1,
        operation_id=None if place is None else place.operation_id or None,
        # After another attempt on the same dict there may be no event at all. The hook that is awaited is only called
        # for what stands in `litellm.callbacks`, which somebody may have emptied.
        may_go_unreported=before is not None or (extract.is_async(kwargs) and not registration.hooked(FarthingLogger)),
        cause=None if error is None else id(error),
    )
    if extract.is_mock(kwargs):
        counters.add("skipped", "litellm-mock")
        attempt.ended = attempt.ended_early = True
    return attempt


lookers.append(registration.tracing)


@guarded
def _takes_long(kwargs: dict[str, object], response: object) -> bool:
    attempt = kwargs.get(STASH)
    heard = isinstance(attempt, Attempt) and attempt.told is not None
    return not heard and extract.must_recount(kwargs, response)


def _checked(default_tags: object) -> dict[str, object]:
    if default_tags is None:
        return {}
    if not isinstance(default_tags, dict):
        kind = type(default_tags).__name__
        raise ConfigurationError(
            f'FarthingLogger: default_tags must be a dict like {{"feature": "search"}}, not {kind}'
        )
    return {canonical_name(str(name)): value for name, value in default_tags.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
