"""Refusing a call before it is sent, where the policy says reject; see first_step.py for where that is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from litellm.exceptions import BadRequestError

from farthing.errors import AttributionError
from farthing.guard import guarded
from farthing.runs import outer_probes
from farthing_litellm import extract
from farthing_litellm.corroborating import corroborated
from farthing_litellm.first_step import MODEL_AT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farthing.meter import Asking, Meter

__all__ = ["CallRefusedError", "asking", "check", "corroborate", "merged", "require"]

_HOW: Final = (
    "Send it with metadata={{pairs}} (for responses: litellm_metadata) or `with farthing.attribute({example}): ...`"
)
_CORROBORATED: Final = frozenset({"completion", "acompletion", "responses", "aresponses", "anthropic_messages"})


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


@guarded
def check(meter: Meter, kwargs: Mapping[str, Any], handlers: list[Mapping[str, object]]) -> None:
    """Refuse a call by its arguments.

    Args:
        meter: Whose policy decides.
        kwargs: The arguments.
        handlers: The tags of the callbacks that are registered; without any, nothing is refused.

    Raises:
        CallRefusedError: A rule that says reject is violated.
    """
    if not meter.enforcing or kwargs.get("mock_response") is not None:
        return
    shaped = extract.before_setup(kwargs)
    if handlers and not extract.is_proxied(shaped):  # the proxy has a gate of its own
        require(meter, shaped, handlers)


@guarded
def corroborate(
    meter: Meter,
    call_type: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    handlers: list[Mapping[str, object]],
) -> dict[str, Any] | None:
    """Write the tags of a call into its request; one of the proxy passes the deployment hook.

    Args:
        meter: Whose policy decides.
        call_type: The name of LiteLLM's function.
        args: The positional arguments of `function_setup` behind it.
        kwargs: The arguments of the call.
        handlers: The tags of the callbacks that are registered; without any, nothing is written.

    Returns:
        The arguments to go on with; None leaves them as they are.
    """
    if not handlers or call_type not in _CORROBORATED or extract.is_proxied(extract.before_setup(kwargs)):
        return None
    model = kwargs.get("model", args[MODEL_AT] if len(args) > MODEL_AT else None)
    found = corroborated({**kwargs, "model": model}, call_type, tagged=asking(meter, kwargs, handlers))
    if found is not None and "model" not in kwargs:
        del found["model"]  # it was given by position
    return found


def asking(meter: Meter, arguments: Mapping[str, Any], handlers: list[Mapping[str, object]]) -> Asking:
    """Give the tags of a call that is about to be made."""
    asked = extract.asked(extract.before_setup(arguments), meter.policy)
    return meter.asking(tags=asked.tags, handler_tags=merged(asked, handlers), outer=meter.calling())


def merged(asked: extract.Asked, handlers: list[Mapping[str, object]]) -> dict[str, object]:
    """Give the tags of all callbacks, those of the first one the strongest, over what a proxy knows of the caller."""
    found: dict[str, object] = {}
    for tags in reversed([asked.weak_tags, *handlers]):
        found |= tags
    return found


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
    handler_tags, outer = merged(asked, handlers), meter.calling()
    if outer is None and any(probe() is not None for probe in outer_probes):
        return  # a call of a framework above, which has its own gate and names its crews and tasks there
    try:
        meter.require(how=_HOW, tags=asked.tags, handler_tags=handler_tags, outer=outer)
    except AttributionError as error:
        raise CallRefusedError(str(error), problems=error.problems, model=asked.model or "") from None
