"""The one step that every call of LiteLLM's takes on its caller's thread, with all its arguments and nothing sent yet.

LiteLLM swallows whatever a callback raises before a request (`Logging.pre_call`), looks into its cache without a word
to any callback, and its deployment hook is there for async calls alone. `litellm.utils.function_setup` comes before all
that; an error from there reaches the caller, is not retried and reports nothing to any callback. So that function is
wrapped, once, when the first callback is made. May go when LiteLLM has a pre-call event of sync calls that comes before
its cache and can stop them (1.110 does not).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import litellm
from litellm import utils

from farthing.guard import log
from farthing.setup import get_meter

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MODEL_AT", "install"]

MODEL_AT: Final = 2
"""Where the model stands among the positional arguments of `function_setup`."""
_SETUP: Final = "function_setup"
_MARK: Final = "farthing_wrapped"


def install(
    *,
    before: Callable[[str, tuple[Any, ...], dict[str, Any]], dict[str, Any]],
    after: Callable[[tuple[Any, ...], dict[str, Any]], None],
) -> None:
    """Stand before every call of this process, once.

    Args:
        before: Gets the name of LiteLLM's function, the positional arguments behind it and the call's own, and gives
            those to go on with; what it raises reaches the caller.
        after: Gets what LiteLLM made of the call and its arguments, still on the caller's thread; it must not raise.

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
        kwargs = before(original_function, args, kwargs)
        made = standing(original_function, *args, **kwargs)
        after(made, kwargs)
        return made

    setattr(function_setup, _MARK, True)
    setattr(utils, _SETUP, function_setup)
