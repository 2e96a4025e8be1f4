"""Peers that are a callback of the framework's, and farthing itself."""
# ruff: noqa: ARG002 - the matrix and LiteLLM call by these names

from __future__ import annotations

import contextlib
import json
import os
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from reading import first, priced
from verdict import Seen
from watching import Peer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class Langfuse(Peer):
    """langfuse's CallbackHandler, and LiteLLM's `langfuse_otel` callback; a receiver on loopback is its server."""

    name = "langfuse"

    def __init__(self, frameworks: Collection[str]) -> None:
        super().__init__(frameworks)
        from farthing.testing.receiver import OtlpReceiver  # noqa: PLC0415 - only where there is a receiver

        self._receiver = OtlpReceiver()
        self._receiver.__enter__()
        self._from = 0
        os.environ |= {
            "LANGFUSE_PUBLIC_KEY": "pk-lf-unused",
            "LANGFUSE_SECRET_KEY": "sk-lf-unused",
            "LANGFUSE_HOST": self._receiver.endpoint,
            "LANGFUSE_BASE_URL": self._receiver.endpoint,
            "LANGFUSE_OTEL_HOST": self._receiver.endpoint,
        }

    def start(self, frameworks: Collection[str]) -> None:
        """Forget the spans of the last cell."""
        self._flush()
        self._from = len(self._receiver.spans)

    def callbacks(self, framework: str) -> list[Any]:
        """Give the handler, or the name under which LiteLLM knows it."""
        if framework == "litellm":
            return ["langfuse_otel"]
        from langfuse.langchain import CallbackHandler  # noqa: PLC0415 - this peer's

        return [CallbackHandler()]

    def _flush(self) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - each peer has its own version

        if "langchain" in self.frameworks:
            from langfuse import get_client  # noqa: PLC0415 - this peer's

            get_client().flush()
        with contextlib.suppress(Exception):
            trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]  # the SDK's has it
        with contextlib.suppress(Exception):
            import litellm  # noqa: PLC0415 - not in every cell

            for callback in (*litellm.callbacks, *litellm.success_callback, *litellm._async_success_callback):  # noqa: SLF001 - where it puts it
                for name in ("tracer_provider", "_tracer_provider"):
                    if (provider := getattr(callback, name, None)) is not None:
                        provider.force_flush()

    def count(self) -> int:
        """Count what has arrived, after a flush."""
        self._flush()
        return len(self._receiver.spans)

    def read(self) -> list[Seen]:
        """Give the generations."""
        spans = self._receiver.spans[self._from :]
        return [seen for span in spans if (seen := self._seen_of(span.attributes)) is not None]

    def _seen_of(self, attributes: Mapping[str, Any]) -> Seen | None:
        if attributes.get("langfuse.observation.type") not in {"generation", "embedding"}:
            return None
        usage: dict[str, int] = json.loads(attributes.get("langfuse.observation.usage_details") or "{}")
        cost: dict[str, float] = json.loads(attributes.get("langfuse.observation.cost_details") or "{}")
        reads = sum(count for name, count in usage.items() if "cache_read" in name)
        writes = first(usage, "input_cache_creation", "cache_creation_input_tokens") or 0
        tiers = [tier for tier in ("flex", "priority") if any(f"input_{tier}" in name for name in usage)]
        usage = _without_repeats(usage)
        whole = [name for name in usage if name == "input" or name.startswith("input_") or name in _RAW_CACHES]
        # LiteLLM's callback of that name speaks openinference's words.
        counted = "llm.token_count."
        told = attributes.get(counted + "prompt")
        return priced(
            provider=attributes.get("llm.provider"),
            models=[
                attributes.get("langfuse.observation.model.name"),
                attributes.get("llm.response.model"),
                attributes.get("llm.model_name"),
            ],
            input_tokens=sum(usage[name] for name in whole) if usage else told,
            output_tokens=sum(n for name, n in usage.items() if name.startswith("output"))
            if usage
            else attributes.get(counted + "completion"),
            cache_read=reads or attributes.get(counted + "prompt_details.cache_read"),
            cache_write=writes or attributes.get(counted + "prompt_details.cache_write"),
            tier=tiers[0] if tiers else None,
            own=cost.get("total"),
        )


_RAW_CACHES: Final = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens"})


def _without_repeats(usage: dict[str, int]) -> dict[str, int]:
    """Take what langfuse says twice once: `input_priority` is beside an `input` that holds it, `input_flex` is not."""
    told = sum(count for name, count in usage.items() if name.startswith(("input", "output")))
    if told <= usage.get("total", told):
        return usage
    return {name: count for name, count in usage.items() if "priority" not in name and "flex" not in name}


class LiteLLMsOwn(Peer):
    """LiteLLM's own `response_cost`, read by a custom callback as its documentation says."""

    name = "litellm response_cost"

    def __init__(self, frameworks: Collection[str]) -> None:
        super().__init__(frameworks)
        self._costs: list[Seen] = []

    def start(self, frameworks: Collection[str]) -> None:
        """Forget the costs of the last cell."""
        self._costs.clear()

    def callbacks(self, framework: str) -> list[Any]:
        """Give the callback; LangChain has no such thing."""
        if framework != "litellm":
            return []
        from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415 - this peer's

        costs = self._costs

        def note_failure() -> None:
            """Take a failure for a call without a figure, whatever figure it has: what LiteLLM says is of successes."""
            costs.append(Seen(amount_usd=None, input_tokens=None, output_tokens=None))

        def note(kwargs: Mapping[str, Any], response: Any) -> None:
            usage = getattr(response, "usage", None)
            cost = kwargs.get("response_cost")
            costs.append(
                Seen(
                    amount_usd=None if cost is None else Decimal(str(cost)),
                    input_tokens=getattr(usage, "prompt_tokens", None),
                    output_tokens=getattr(usage, "completion_tokens", None),
                    own=True,
                )
            )

        class Tracker(CustomLogger):
            def log_success_event(
                self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any
            ) -> None:
                note(kwargs, response_obj)

            async def async_log_success_event(
                self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any
            ) -> None:
                note(kwargs, response_obj)

            def log_failure_event(
                self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any
            ) -> None:
                note_failure()

            async def async_log_failure_event(
                self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any
            ) -> None:
                note_failure()

        return [Tracker()]

    def count(self) -> int:
        """Count the events."""
        return len(self._costs)

    def read(self) -> list[Seen]:
        """Give the costs."""
        return list(self._costs)


class Farthing(Peer):
    """farthing itself, read as the others are: from its ledger."""

    name = "farthing"

    def __init__(self, frameworks: Collection[str]) -> None:
        super().__init__(frameworks)
        from matrix.observers import FarthingObserver  # noqa: PLC0415 - only in farthing's own environment

        self._inner = FarthingObserver()
        for name in ("start", "callbacks", "tagged", "headers", "drain", "open_calls", "leftovers", "stop"):
            setattr(self, name, getattr(self._inner, name))

    def end(self) -> list[Any]:
        """Read the ledger."""
        self.seen = []
        for record in self._inner.end():
            if record.status not in {"not_billed", "cache_hit"}:
                self.seen.append(
                    Seen(
                        amount_usd=record.amount_usd,
                        input_tokens=record.input_tokens,
                        output_tokens=record.output_tokens,
                        own=record.amount_usd is not None,
                    )
                )
        return []
