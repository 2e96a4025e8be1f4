"""Writing the tags of a call into its request. Events cannot change a request; an LLM's own interceptor can.

CrewAI takes interceptors for its native OpenAI and Anthropic providers. What goes through LiteLLM is that plugin's; for
Bedrock and Gemini CrewAI (1.15) has no way in.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

import httpx
from crewai.llms.hooks.base import BaseInterceptor

from farthing.corroboration import Endpoint, tags_for, wanted
from farthing.guard import guarded
from farthing.setup import get_meter
from farthing_crewai import refusing
from farthing_crewai.listener import standing_tags

if TYPE_CHECKING:
    from farthing.rules import Tagged

__all__ = ["ProviderTags"]

_ENDPOINTS: Final = {
    "/chat/completions": ("openai", "chat"),
    "/responses": ("openai", "responses"),
    "/v1/messages": ("anthropic", "messages"),
}
_MAX_BYTES: Final = 8 << 20
"""A longer body holds files; it is left alone rather than read once more."""


class ProviderTags(BaseInterceptor[httpx.Request, httpx.Response]):
    """Writes tags into requests, where `[policy.corroboration]` asks for it: `LLM(..., interceptor=ProviderTags())`.

    The tags are those of `attribute()`, of the crew, task and agent as declared, and of the listener. What you pass for
    the provider yourself stays. One instance serves any number of LLMs.
    """

    def on_outbound(self, message: httpx.Request) -> httpx.Request:
        """Write the tags into a request."""
        return (_rewritten(message) if wanted() else None) or message

    async def aon_outbound(self, message: httpx.Request) -> httpx.Request:
        """Write the tags into a request."""
        return self.on_outbound(message)

    def on_inbound(self, message: httpx.Response) -> httpx.Response:
        """Let an answer through as it is."""
        return message

    async def aon_inbound(self, message: httpx.Response) -> httpx.Response:
        """Let an answer through as it is."""
        return message


@guarded
def _rewritten(request: httpx.Request) -> httpx.Request | None:
    found = next((each for path, each in _ENDPOINTS.items() if request.url.path.endswith(path)), None)
    content: Any = getattr(request, "_content", None)  # a body that is streamed has none, and is left alone
    tagged = _tagged()
    if found is None or tagged is None or not isinstance(content, bytes) or len(content) > _MAX_BYTES:
        return None
    read: object = json.loads(content)
    if not isinstance(read, dict):
        return None
    body = cast("dict[str, Any]", read)
    if body.get("metadata"):
        return None
    endpoint = Endpoint(*found, host=request.url.host, stored=body.get("store"))
    tags = tags_for(endpoint, tagged=tagged)
    if not tags:
        return None
    headers = [(name, value) for name, value in request.headers.multi_items() if name.lower() != "content-length"]
    content = json.dumps({**body, "metadata": tags}, ensure_ascii=False, separators=(",", ":")).encode()
    return httpx.Request(request.method, request.url, headers=headers, content=content, extensions=request.extensions)


def _tagged() -> Tagged | None:
    meter = get_meter()
    return None if meter is None else meter.asking(tags=refusing.declared(), handler_tags=standing_tags())
