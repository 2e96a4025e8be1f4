"""Peers that write OpenTelemetry spans, each set up as its README says; the spans go to an exporter in memory."""
# ruff: noqa: ARG002 - the matrix and LiteLLM call by these names

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from reading import first, priced
from watching import Peer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from verdict import Seen


class Spans(Peer):
    """Whoever writes OpenTelemetry spans: they go to an exporter in memory."""

    def __init__(self, frameworks: Collection[str]) -> None:
        super().__init__(frameworks)
        from opentelemetry import trace  # noqa: PLC0415 - each peer has its own version
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415 - as above
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: PLC0415 - as above
            InMemorySpanExporter,
        )

        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        trace.set_tracer_provider(self.provider)
        self.instrument()

    def instrument(self) -> None:
        """Patch the frameworks."""
        raise NotImplementedError

    def start(self, frameworks: Collection[str]) -> None:
        """Forget the spans of the last cell."""
        self.exporter.clear()

    def count(self) -> int:
        """Count the spans."""
        return len(self.exporter.get_finished_spans())

    def read(self) -> list[Seen]:
        """Give those that stand for a model call."""
        found = [dict(span.attributes or {}) for span in self.exporter.get_finished_spans()]
        return [seen for each in found if (seen := self.seen_of(each)) is not None]

    def seen_of(self, attributes: Mapping[str, Any]) -> Seen | None:
        """Read one span; None for one that is no model call."""
        raise NotImplementedError


class OpenInference(Spans):
    """openinference-instrumentation-langchain, -litellm, -crewai."""

    name = "openinference"

    def instrument(self) -> None:
        """As each README says; CrewAI's model calls need the event listener that its README names."""
        if "langchain" in self.frameworks:
            from openinference.instrumentation.langchain import LangChainInstrumentor  # noqa: PLC0415 - this peer's

            LangChainInstrumentor().instrument(tracer_provider=self.provider)
        if "litellm" in self.frameworks:
            from openinference.instrumentation.litellm import LiteLLMInstrumentor  # noqa: PLC0415 - as above

            LiteLLMInstrumentor().instrument(tracer_provider=self.provider)
        if "crewai" in self.frameworks:
            from openinference.instrumentation.crewai import CrewAIInstrumentor  # noqa: PLC0415 - as above

            CrewAIInstrumentor().instrument(tracer_provider=self.provider, use_event_listener=True)

    def seen_of(self, attributes: Mapping[str, Any]) -> Seen | None:
        """Model calls and embeddings are the spans of these two kinds."""
        if attributes.get("openinference.span.kind") not in {"LLM", "EMBEDDING"}:
            return None
        prefix = "llm.token_count."
        return priced(
            provider=attributes.get("llm.provider"),
            models=[attributes.get("llm.model_name"), attributes.get("embedding.model_name")],
            input_tokens=attributes.get(prefix + "prompt"),
            output_tokens=attributes.get(prefix + "completion"),
            cache_read=attributes.get(prefix + "prompt_details.cache_read"),
            cache_write=attributes.get(prefix + "prompt_details.cache_write"),
            own=attributes.get("llm.cost.total"),
        )


_MODEL_CALLS: Final = frozenset({"chat", "text_completion", "completion", "embeddings", "generate_content"})


class GenAI(Spans):
    """Whoever writes the attributes of the OpenTelemetry GenAI conventions."""

    def seen_of(self, attributes: Mapping[str, Any]) -> Seen | None:
        """Model calls are known by their operation; older ones by the model they asked for."""
        operation = attributes.get("gen_ai.operation.name") or attributes.get("llm.request.type")
        if operation not in _MODEL_CALLS:
            return None
        return priced(
            provider=attributes.get("gen_ai.provider.name") or attributes.get("gen_ai.system"),
            models=[attributes.get("gen_ai.response.model"), attributes.get("gen_ai.request.model")],
            input_tokens=first(attributes, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
            output_tokens=first(attributes, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
            cache_read=first(
                attributes, "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"
            ),
            cache_write=first(
                attributes, "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens"
            ),
            tier=first(attributes, "openai.response.service_tier", "gen_ai.openai.response.service_tier"),
            own=first(attributes, "gen_ai.usage.cost", "gen_ai.cost.total_cost"),
        )


class Traceloop(GenAI):
    """opentelemetry-instrumentation-langchain, -litellm, -crewai."""

    name = "traceloop"

    def instrument(self) -> None:
        """As each README says; CrewAI's own clients are left to the package for the client."""
        if "langchain" in self.frameworks:
            from opentelemetry.instrumentation.langchain import LangchainInstrumentor  # noqa: PLC0415 - this peer's

            LangchainInstrumentor().instrument()
        if "litellm" in self.frameworks:
            from opentelemetry.instrumentation.litellm import LiteLLMInstrumentor  # noqa: PLC0415 - as above

            LiteLLMInstrumentor().instrument()
        if "crewai" in self.frameworks:
            from opentelemetry.instrumentation.crewai import CrewAIInstrumentor  # noqa: PLC0415 - as above

            CrewAIInstrumentor().instrument()
            from opentelemetry.instrumentation.openai import OpenAIInstrumentor  # noqa: PLC0415 - as above

            OpenAIInstrumentor().instrument()


class OfficialGenAI(GenAI):
    """opentelemetry-instrumentation-genai-langchain."""

    name = "genai-langchain"

    def instrument(self) -> None:
        """As its README says."""
        from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor  # noqa: PLC0415 - this peer's

        LangChainInstrumentor().instrument()
