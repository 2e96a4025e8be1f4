"""For LiteLLM's proxy: a logger that is ready, under a name for its configuration.

    litellm_settings:
      callbacks: farthing_litellm.proxy.logger

Tags come from the request's metadata and tags, its spend-logs metadata, the headers that `[policy.gateway]` names
(x-ai-feature, x-ai-team, ...), then from the metadata of the key and its team; the team of the key and its user count
where nobody says better. Where the policy says reject, a request that lacks a tag gets a 400 that says how to send it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from farthing.errors import AttributionError
from farthing.guard import guarded
from farthing.setup import get_meter
from farthing_litellm import extract, refusing
from farthing_litellm.logger import FarthingLogger

if TYPE_CHECKING:
    from farthing.policy import Policy

__all__ = ["logger"]

_PASSED_THROUGH: Final = "pass_through_endpoint"
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
        _PASSED_THROUGH,
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
        user_api_key_dict: object,
        cache: object,  # noqa: ARG002 - LiteLLM calls by keyword
        data: dict[str, Any],
        call_type: object,
    ) -> None:
        """Refuse a request before a deployment is chosen for it.

        Raises:
            ProxyException: Status 400, with what is missing and how to send it.
        """
        refused = self._refused(data, call_type, user_api_key_dict)
        if refused is not None:
            raise refused

    @guarded
    def _refused(self, data: dict[str, Any], call_type: object, owner: object) -> Exception | None:
        meter = get_meter()
        policy = None if meter is None else meter.policy
        kind = str(getattr(call_type, "value", call_type))
        if meter is None or policy is None or not meter.enforcing or not {kind, kind.removeprefix("a")} & _MODEL_CALLS:
            return None
        passed_through = kind == _PASSED_THROUGH
        asked = {"metadata": _of_key(owner)} if passed_through else data
        try:
            refusing.require(meter, extract.before_setup(asked), [self.tags])
        except AttributionError as error:
            return _as_answer(error, policy, passed_through=passed_through)
        return None


def _of_key(owner: object) -> dict[str, object]:
    """Give what is known of a key, as LiteLLM writes it into the metadata of every request but those passed through.

    Of one that is passed through LiteLLM shows no headers, and its body is the provider's own.
    """
    names = ("metadata", "team_metadata", "team_alias", "team_id", "end_user_id", "user_id")
    return {"user_api_key": None, **{f"user_api_key_{name}": getattr(owner, name, None) for name in names}}


def _as_answer(error: AttributionError, policy: Policy, *, passed_through: bool) -> Exception:
    """Make the answer that the proxy gives in the shape of the endpoint that was asked."""
    from litellm.proxy._types import ProxyException  # noqa: PLC0415 - the proxy's own packages are there only in a proxy

    names = [problem.partition(":")[0] for problem in error.problems]
    sentences = str(error).partition(" Send it with ")[0]
    locked = frozenset(names) if passed_through else policy.locked
    make: Any = ProxyException
    answer: Any = make(
        message=f"{sentences} {_ways(names, policy, locked=locked)}",
        type="invalid_request_error",
        param=f"metadata.{names[0]}" if names else None,
        code=400,
    )
    answer.status_code = 400  # what /v1/completions reads in place of the code; without it that endpoint says 500
    return answer


def _ways(names: list[str], policy: Policy, *, locked: frozenset[str]) -> str:
    """Say how a caller can send what is wrong or missing, and what is not the caller's to send."""
    own = [name for name in names if name not in locked]
    keys = [name for name in names if name in locked]
    said: list[str] = []
    if own:
        body = ", ".join(f'"{name}": "..."' for name in own)
        way = f'Send it in the body as "metadata": {{{body}}} ("litellm_metadata" for /v1/responses and /v1/messages)'
        gateway = policy.document.gateway
        headers = [header for header, written in gateway.headers.items() if policy.dimension(written) in own]
        if headers and gateway.trust_headers:
            way += f", or as header {', '.join(headers)}"
        said.append(f"{way}, or have it put on the metadata of your key or team.")
    if keys:
        said.append(f"Only your key or its team can say {' and '.join(keys)} here: have it put on their metadata.")
    return " ".join(said)


logger: Final = Farthing_PROXY_Logger()
