"""Other software in the same process that counts the same tokens, or that farthing's settings reach."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Final

from farthing_reports.checks import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["check_neighbours"]

_PREFIXES: Final = ("opentelemetry-instrumentation-", "openinference-instrumentation-")
_RECORDING: Final = frozenset(
    {
        "agno", "ai21", "alephalpha", "anthropic", "bedrock", "botocore", "cohere", "crewai", "dspy", "fastmcp",
        "google-genai", "google-generativeai", "groq", "haystack", "langchain", "litellm", "llama-index", "llamaindex",
        "mistralai", "ollama", "openai", "openai-agents", "openai-v2", "portkey", "replicate", "sagemaker",
        "smolagents", "together", "transformers", "vertexai", "watsonx", "writer",
    }
)  # fmt: skip
"""What comes after the prefix in the instrumentations that record tokens of models."""
_WHOLE: Final = frozenset({"traceloop-sdk", "openlit", "langtrace-python-sdk", "arize-otel", "agentops"})
_ANTHROPIC_FROM: Final = 2
"""The first major version of the anthropic SDK that makes spans of its own (seen with 2.12.0, not with 0.73.0)."""
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
    found = [*_anthropic(versions, environ), *_crewai(versions, environ), *_instrumentations(versions)]
    if found:
        return found
    return [Check(topic="neighbours", name="none", state="ok", found="nothing else that counts the same tokens.")]


def _anthropic(versions: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[Check]:
    version = versions.get("anthropic")
    major = (version or "").partition(".")[0]
    if not major.isdigit() or int(major) < _ANTHROPIC_FROM:
        return
    if environ.get("ANTHROPIC_OPEN_TELEMETRY", "").lower() in {"false", "0", "off", "no"}:
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


def _instrumentations(versions: Mapping[str, str]) -> Iterator[Check]:
    for name in sorted(versions):
        tail = next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), None)
        if name in _WHOLE or tail in _RECORDING:
            yield Check(
                topic="neighbours",
                name=name,
                state="warn",
                found=f"{versions[name]} records the same tokens in spans of its own.",
                fix="Sum tokens and cost over farthing's spans only: those with the attribute attribution.cost.status.",
            )


def _installed() -> dict[str, str]:
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(name.lower().replace("_", "-"), distribution.version)
    return found
