"""Refusing a call before it is sent, where the policy says reject.

LiteLLM swallows whatever a callback raises before a request (`Logging.pre_call`), and its deployment hook is there for
async calls alone. The one step that every call takes on its caller's thread, with all its arguments and with nothing
sent yet, is `litellm.utils.function_setup`; an error from there reaches the caller, is not retried and reports nothing
to any callback. So that function is wrapped, once, when the first callback is made; where nothing can be refused the
wrapper adds one look at a flag. May go when LiteLLM lets a pre-call event of sync calls stop them (1.110 does not).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import litellm
from litellm import utils
from litellm.exceptions import BadRequestError

from farthing.errors import AttributionError
from farthing.guard import guarded, log
from farthing.runs import CURRENT_CALL, outer_probes
from farthing.setup import get_meter
from farthing_litellm import extract
from farthing_litellm.corroborating import corroborated, is_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from farthing.meter import Asking, Meter
    from farthing.runs import Run

__all__ = ["CallRefusedError", "asking", "install", "require"]

_HOW: Final = (
    "Send it with metadata={{pairs}} (for responses: litellm_metadata) or `with farthing.attribute({example}): ...`"
)
_SETUP: Final = "function_setup"
_MARK: Final = "farthing_wrapped"
_CORROBORATED: Final = frozenset({"completion", "acompletion", "responses", "aresponses", "anthropic_messages"})
_MODEL_AT: Final = 2
"""Where the model stands among the positional arguments of `function_setup`."""


class CallRefusedError(AttributionError, BadRequestError):
    """A call that the policy refuses: an AttributionError for who knows farthing, a 400 for who knows LiteLLM.

    LiteLLM's Router neither retries a 400 nor takes a deployment out of service for it.
    """

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), model: str = "") -> None:
        as_bad_request: Any = BadRequestError.__init__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - LiteLLM gives its parameters no types
        as_bad_request(self, message=message, model=model, llm_provider="")
        self.message = message
        self.problems = problems

    def __str__(self) -> str:
        return self.message


def install(loggers: Callable[[], Iterable[Mapping[str, object]]]) -> None:
    """Stand before every call of this process, once.

    Args:
        loggers: Gives the tags of the callbacks that are registered; without any, nothing is refused.

    Raises:
        Nothing: a LiteLLM without such a step is told in the log, where refusing was asked for.
    """
    standing: Any = getattr(utils, _SETUP, None)
    if standing is None:
        meter = get_meter()
        if meter is not None and meter.enforcing:
            version = getattr(litellm, "__version__", "this version")
            log.error("farthing: the policy says reject, but LiteLLM %s cannot be stopped; calls are marked", version)
        return
    if getattr(standing, _MARK, False):
        return

    @functools.wraps(standing)
    def function_setup(original_function: Any, *args: Any, **kwargs: Any) -> Any:
        _check(kwargs, loggers)
        if is_wanted():
            kwargs = _corroborated(original_function, args, kwargs, loggers) or kwargs
        return standing(original_function, *args, **kwargs)

    setattr(function_setup, _MARK, True)
    setattr(utils, _SETUP, function_setup)


@guarded
def _check(kwargs: Mapping[str, Any], loggers: Callable[[], Iterable[Mapping[str, object]]]) -> None:
    meter = get_meter()
    if meter is None or not meter.enforcing or kwargs.get("mock_response") is not None:
        return
    handlers = list(loggers())
    shaped = extract.before_setup(kwargs)
    if handlers and not extract.is_proxied(shaped):  # the proxy has a gate of its own
        require(meter, shaped, handlers)


@guarded
def _corroborated(
    call_type: object,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    loggers: Callable[[], Iterable[Mapping[str, object]]],
) -> dict[str, Any] | None:
    """Write the tags of a call into its request; one of the proxy passes the deployment hook."""
    meter, handlers = get_meter(), list(loggers())
    if (
        meter is None
        or not handlers
        or call_type not in _CORROBORATED
        or extract.is_proxied(extract.before_setup(kwargs))
    ):
        return None
    model = kwargs.get("model", args[_MODEL_AT] if len(args) > _MODEL_AT else None)
    found = corroborated({**kwargs, "model": model}, str(call_type), tagged=asking(meter, kwargs, handlers))
    if found is not None and "model" not in kwargs:
        del found["model"]  # it was given by position
    return found


def asking(meter: Meter, arguments: Mapping[str, Any], handlers: list[Mapping[str, object]]) -> Asking:
    """Give the tags of a call that is about to be made."""
    asked = extract.asked(extract.before_setup(arguments), meter.policy)
    return meter.asking(tags=asked.tags, handler_tags=_merged(asked, handlers), outer=_outer(meter))


def _merged(asked: extract.Asked, handlers: list[Mapping[str, object]]) -> dict[str, object]:
    merged: dict[str, object] = {}
    for tags in reversed([asked.weak_tags, *handlers]):
        merged |= tags
    return merged


def _outer(meter: Meter) -> Run | None:
    key = CURRENT_CALL.get()
    return None if key is None else meter.runs.get(key)


def require(meter: Meter, shaped: dict[str, Any], handlers: list[Mapping[str, object]]) -> None:
    """Refuse a call that the policy does not let go out.

    Args:
        meter: Whose policy decides.
        shaped: The call's arguments, as `extract.before_setup` gives them.
        handlers: The tags of the callbacks.

    Raises:
        CallRefusedError: A rule that says reject is violated.
    """
    asked = extract.asked(shaped, meter.policy)
    merged, outer = _merged(asked, handlers), _outer(meter)
    if outer is None and any(probe() is not None for probe in outer_probes):
        return  # a call of a framework above, which has its own gate and names its crews and tasks there
    try:
        meter.require(how=_HOW, tags=asked.tags, handler_tags=merged, outer=outer)
    except AttributionError as error:
        raise CallRefusedError(str(error), problems=error.problems, model=asked.model or "") from None
