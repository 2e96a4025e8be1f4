"""Other software in this process that writes spans with the same token counts: a sum over all spans counts them twice.

Looked for where they register themselves, on the worker and rarely; nothing is imported for it and nothing is touched.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from farthing.guard import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from farthing.counting import Counters

__all__ = ["RECORDING", "Lookout", "at_work", "lookers", "switched_off", "traces_itself"]

RECORDING: Final = frozenset(
    {
        "agno", "ai21", "alephalpha", "anthropic", "bedrock", "botocore", "cohere", "crewai", "dspy", "fastmcp",
        "genai-langchain", "google-genai", "google-generativeai", "groq", "haystack", "langchain", "litellm",
        "llama-index", "llamaindex", "mistralai", "ollama", "openai", "openai-agents", "openai-v2", "portkey",
        "replicate", "sagemaker", "smolagents", "together", "transformers", "vertexai", "watsonx", "writer",
    }
)  # fmt: skip
"""What comes after `opentelemetry-instrumentation-` and the like in what records the tokens of models."""

lookers: Final[list[Callable[[], list[str]]]] = []
"""Functions of plugins that name what their framework itself writes spans with."""

_FAMILIES: Final = ("opentelemetry.instrumentation.", "openinference.instrumentation.")
_BASE: Final = "opentelemetry.instrumentation.instrumentor"
_ANTHROPIC_FROM: Final = 2
"""The first major version of the anthropic SDK that makes spans of its own (seen with 2.12.0, not with 0.73.0)."""
_EVERY_SECONDS: Final = 60.0


class Lookout:
    """Looks about now and then, and says each name once.

    Args:
        counters: Where they are counted, for health() and the metrics.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._known: set[str] = set()
        self._next = 0.0

    def look(self, *, now: bool = False) -> None:
        """Look, if it is time.

        Raises:
            Nothing of its own.
        """
        moment = time.monotonic()
        if moment < self._next and not now:
            return
        self._next = moment + _EVERY_SECONDS
        for name in at_work():
            if name in self._known:
                continue
            self._known.add(name)
            self._counters.add("neighbours", name)
            log.warning(
                "farthing: %s writes spans with the same token counts as farthing's; switch one of them off, or sum "
                "tokens and cost over spans with the attribute attribution.cost.status alone (see farthing doctor)",
                name,
            )


def at_work() -> list[str]:
    """Name what is switched on in this process.

    Raises:
        Nothing of its own.
    """
    found = [*_instrumentors(), *_anthropic()]
    for looker in tuple(lookers):
        found += looker()
    return list(dict.fromkeys(found))


def traces_itself(version: str | None) -> bool:
    """Say whether a version of the anthropic SDK makes spans of its own, unless told not to."""
    major = (version or "").partition(".")[0]
    return major.isdigit() and int(major) >= _ANTHROPIC_FROM


def switched_off(value: str | None) -> bool:
    """Say whether a variable's value means no."""
    return (value or "").strip().lower() in {"false", "0", "off", "no"}


def _instrumentors() -> Iterator[str]:
    """Name the active instrumentations: each is a subclass of OpenTelemetry's base, with one instance that knows."""
    base: Any = getattr(sys.modules.get(_BASE), "BaseInstrumentor", None)
    if base is None:
        return
    for kind in base.__subclasses__():
        module: str = kind.__module__
        family = next((each for each in _FAMILIES if module.startswith(each)), None)
        if family is None or not getattr(kind._instance, "is_instrumented_by_opentelemetry", False):  # noqa: SLF001 - the singleton stands nowhere else
            continue
        tail = module.removeprefix(family).partition(".")[0].replace("_", "-")
        if tail in RECORDING:
            yield f"{family.replace('.', '-')}{tail}"


def _anthropic() -> Iterator[str]:
    version = str(getattr(sys.modules.get("anthropic"), "__version__", ""))
    if traces_itself(version) and not switched_off(os.environ.get("ANTHROPIC_OPEN_TELEMETRY")):
        yield f"anthropic {version}"
