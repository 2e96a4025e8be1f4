"""Other software in the same process that counts the same tokens, or that farthing's settings reach."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Final

from farthing.neighbours import RECORDING, switched_off, traces_itself
from farthing_reports.checks import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["check_neighbours"]

_PREFIXES: Final = ("opentelemetry-instrumentation-", "openinference-instrumentation-")
_WHOLE: Final = frozenset(
    {
        "traceloop-sdk",
        "openlit",
        "langtrace-python-sdk",
        "arize-otel",
        "agentops",
        "langfuse",
        "logfire",
        "opik",
        "weave",
    }
)
"""What records models by ways of its own, once it is started."""
_SUM: Final = "Sum tokens and cost over farthing's spans only: those with the attribute attribution.cost.status."
_LITELLM_TRACING: Final = frozenset(
    {
        "otel",
        "langfuse_otel",
        "weave_otel",
        "arize",
        "arize_phoenix",
        "logfire",
        "langtrace",
        "traceloop",
        "levo",
        "opik",
    }
)
"""LiteLLM's names for callbacks of its own that write spans or traces with tokens."""
_OFF: Final = ("OTEL_SDK_DISABLED", "CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_TRACKING")
_HEADERS: Final = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")


def check_neighbours(environ: Mapping[str, str], *, installed: Mapping[str, str] | None = None) -> list[Check]:
    """Look for them among the installed distributions.

    Args:
        environ: The environment.
        installed: Name to version; None is what is installed here.

    Raises:
        Nothing.
    """
    versions = _installed() if installed is None else installed
    found = [
        *_anthropic(versions, environ),
        *_crewai(versions, environ),
        *_litellm(versions, environ),
        *_instrumentations(versions, environ),
    ]
    if found:
        return found
    return [Check(topic="neighbours", name="none", state="ok", found="nothing else that counts the same tokens.")]


def _anthropic(versions: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[Check]:
    version = versions.get("anthropic")
    if not traces_itself(version):
        return
    if switched_off(environ.get("ANTHROPIC_OPEN_TELEMETRY")):
        yield Check(topic="neighbours", name="anthropic", state="ok", found=f"{version}, its own spans switched off.")
        return
    yield Check(
        topic="neighbours",
        name="anthropic",
        state="warn",
        found=f"{version} makes spans of its own with the same token counts; a sum over all spans counts them twice.",
        fix="Set ANTHROPIC_OPEN_TELEMETRY=false.",
    )


def _crewai(versions: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[Check]:
    named = [name for name in _HEADERS if environ.get(name)]
    if "crewai" not in versions or not named or any(environ.get(name, "").lower() in {"true", "1"} for name in _OFF):
        return
    yield Check(
        topic="neighbours",
        name="crewai",
        state="warn",
        found=f"crewai's own telemetry sends {named[0]}, and so your backend's key, to its vendor.",
        fix="Set CREWAI_DISABLE_TELEMETRY=true.",
    )


def _litellm(versions: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[Check]:
    """Look for LiteLLM's own tracing callbacks where variables switch them on (CrewAI reads the first two)."""
    for variable in ("LITELLM_SUCCESS_CALLBACKS", "LITELLM_FAILURE_CALLBACKS", "LITELLM_CALLBACKS"):
        named = [name.strip() for name in environ.get(variable, "").split(",")]
        tracing = [name for name in named if name in _LITELLM_TRACING]
        if "litellm" in versions and tracing:
            yield Check(
                topic="neighbours",
                name="litellm",
                state="warn",
                found=f"{variable} switches on {', '.join(tracing)}: LiteLLM's own spans with the same token counts.",
                fix=f"Take {', '.join(tracing)} out of {variable}. {_SUM}",
            )


def _instrumentations(versions: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[Check]:
    """Tell what is installed from what is switched on: `opentelemetry-instrument` switches on all that it finds."""
    automatic = "auto_instrumentation" in environ.get("PYTHONPATH", "")
    off = {name.strip().lower() for name in environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}
    for name in sorted(versions):
        tail = next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), None)
        if name not in _WHOLE and tail not in RECORDING:
            continue
        if tail is not None and off & {"*", tail, tail.replace("-", "_")}:
            found = f"{versions[name]}, switched off by OTEL_PYTHON_DISABLED_INSTRUMENTATIONS."
            yield Check(topic="neighbours", name=name, state="ok", found=found)
            continue
        how = "is switched on by opentelemetry-instrument and" if automatic and tail else "once started,"
        yield Check(
            topic="neighbours",
            name=name,
            state="warn",
            found=f"{versions[name]} {how} records the same tokens in spans of its own.",
            fix=(f"Set OTEL_PYTHON_DISABLED_INSTRUMENTATIONS={tail}. " if automatic and tail else "") + _SUM,
        )


def _installed() -> dict[str, str]:
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(name.lower().replace("_", "-"), distribution.version)
    return found
