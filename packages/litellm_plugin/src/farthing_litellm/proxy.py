"""For LiteLLM's proxy: a logger that is ready, under a name for its configuration.

    litellm_settings:
      callbacks: farthing_litellm.proxy.logger

Tags come from the request's metadata and tags, its spend-logs metadata, the headers that `[policy.gateway]` names
(x-ai-feature, x-ai-team, ...), then from the metadata of the key and its team; the team of the key and its user count
where nobody says better. Where the policy says reject, a request that lacks a tag gets a 400 that says how to send it.
"""

from __future__ import annotations

from typing import Any, Final

from farthing.errors import AttributionError
from farthing.guard import guarded
from farthing.setup import get_meter
from farthing_litellm import extract, refusing
from farthing_litellm.logger import FarthingLogger

__all__ = ["logger"]

_MODEL_CALLS: Final = frozenset(
    {
        "completion",
        "text_completion",
        "embeddings",
        "embedding",
        "image_generation",
        "image_edit",
        "moderation",
        "audio_transcription",
        "transcription",
        "speech",
        "rerank",
        "responses",
        "anthropic_messages",
        "generate_content",
        "generate_content_stream",
        "ocr",
        "pass_through_endpoint",
    }
)
"""LiteLLM's call types that reach a model, without the `a` of the async ones; files and batches are let through."""


class Farthing_PROXY_Logger(FarthingLogger):  # noqa: N801 - LiteLLM looks for `_PROXY_` in the name, see below
    """A logger that a request cannot switch off, and that refuses what the policy refuses.

    `"no-log": true` in a request's body keeps every callback from seeing it but those of the proxy itself, which
    LiteLLM knows by this part of their class's name (`Logging.should_run_callback`, litellm 1.100 to 1.110).
    """

    async def async_pre_call_hook(
        self,
        user_api_key_dict: object,  # noqa: ARG002 - LiteLLM calls by keyword; what it holds is in the metadata, too
        cache: object,  # noqa: ARG002 - as above
        data: dict[str, Any],
        call_type: object,
    ) -> None:
        """Refuse a request before a deployment is chosen for it.

        Raises:
            ProxyException: Status 400, with what is missing and how to send it.
        """
        refused = self._refused(data, call_type)
        if refused is not None:
            raise refused

    @guarded
    def _refused(self, data: dict[str, Any], call_type: object) -> Exception | None:
        meter = get_meter()
        kind = str(getattr(call_type, "value", call_type))
        if meter is None or not meter.enforcing or not {kind, kind.removeprefix("a")} & _MODEL_CALLS:
            return None
        try:
            refusing.require(meter, extract.before_setup(data), [self.tags])
        except AttributionError as error:
            return _as_answer(error, self._headers_for(error))
        return None

    @staticmethod
    def _headers_for(error: AttributionError) -> list[str]:
        """Name the headers that would have carried what is missing."""
        meter = get_meter()
        policy = None if meter is None else meter.policy
        if policy is None or not policy.document.gateway.trust_headers:
            return []
        wanted = {problem.partition(":")[0] for problem in error.problems} - policy.locked
        headers = policy.document.gateway.headers
        return [header for header, written in headers.items() if policy.dimension(written) in wanted]


def _as_answer(error: AttributionError, headers: list[str]) -> Exception:
    """Make the answer that the proxy gives in the shape of the endpoint that was asked."""
    from litellm.proxy._types import ProxyException  # noqa: PLC0415 - the proxy's own packages are there only in a proxy

    names = [problem.partition(":")[0] for problem in error.problems]
    sentences = str(error).partition(" Send it with ")[0]
    body = ", ".join(f'"{name}": "..."' for name in names)
    ways = f'Send it in the body as "metadata": {{{body}}} ("litellm_metadata" for /v1/responses and /v1/messages)'
    if headers:
        ways += f", or as header {', '.join(headers)}"
    make: Any = ProxyException
    return make(
        message=f"{sentences} {ways}, or have it put on the metadata of your key or team.",
        type="invalid_request_error",
        param=f"metadata.{names[0]}" if names else None,
        code=400,
    )


logger: Final = Farthing_PROXY_Logger()
