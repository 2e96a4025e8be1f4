"""Writing the tags of a call into its request. A callback cannot change a request, so the model itself has to.

`corroborated(model)` gives a copy of a chat model, of the same class, that adds the tags as the last thing before it
builds its request: for the providers that `[policy.corroboration]` names, and for no other.
"""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import urlsplit

from farthing.context import NOTHING
from farthing.corroboration import Endpoint, tags_for, wanted
from farthing.errors import ConfigurationError
from farthing.guard import guarded
from farthing.setup import get_meter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.language_models.chat_models import BaseChatModel

    from farthing.meter import Meter
    from farthing.runs import Run

__all__ = ["LATEST", "corroborated"]

Model = TypeVar("Model", bound="BaseChatModel")

LATEST: Final[ContextVar[tuple[str, int] | None]] = ContextVar("farthing_langchain_latest", default=None)
"""The call that a handler has just seen begin in this context."""

_SYNC: Final = ("_generate", "_stream")
_ASYNC: Final = ("_agenerate", "_astream")
_MARK: Final = "farthing_corroborates"


def corroborated(model: Model) -> Model:
    """Give a copy of a chat model whose requests carry their tags, where `[policy.corroboration]` asks for it.

    Understood are ChatOpenAI, ChatAnthropic, ChatBedrockConverse and ChatGoogleGenerativeAI on Vertex AI; another model
    is given back as it was. The tags are those that the Call will have. What you pass for the provider yourself stays.

    Args:
        model: Before `bind_tools` or `with_structured_output`.

    Raises:
        ConfigurationError: It is no chat model.
    """
    if not hasattr(model, "_generate"):
        kind = type(model).__name__
        raise ConfigurationError(f"corroborated(): takes a chat model, not {kind}; call it before bind_tools() or |")
    if _provider(model) is None or getattr(model, _MARK, False):
        return model
    copy = model.model_copy()
    object.__setattr__(copy, "__class__", _telling(type(model)))
    return copy


@functools.cache
def _telling(kind: type[Any]) -> type[Any]:
    """Make the class of a copy: it passes for the original, and adds arguments to the four ways of asking."""
    methods: dict[str, object] = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
    }

    def adding(name: str) -> Any:
        def asked(self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
            more = _more(self, run_manager, kwargs) or {}
            return getattr(cast("Any", super(telling, self)), name)(messages, stop, run_manager, **kwargs, **more)

        return asked

    for name in (*_SYNC, *_ASYNC):
        if _is_own(kind, name):
            methods[name] = adding(name)
    made = cast("Any", type(kind))
    telling = cast("type[Any]", made(kind.__name__, (kind,), methods))
    setattr(telling, _MARK, True)
    return telling


def _is_own(kind: type[Any], name: str) -> bool:
    """Say whether a class asks its provider in this way itself: LangChain looks whether a model has one."""
    from langchain_core.language_models.chat_models import BaseChatModel  # noqa: PLC0415 - there when a model is

    return getattr(kind, name) is not getattr(BaseChatModel, name, None)


@guarded
def _more(model: Any, run_manager: Any, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give the arguments to add to a request."""
    meter = get_meter() if wanted() else None
    provider = _provider(model)
    if meter is None or provider is None:
        return None
    operation = "responses" if provider == "openai" and _uses_responses(model, given) else _OPERATIONS[provider]
    field = _FIELDS[provider]
    if given.get(field) or "metadata" in (given.get("extra_body") or ()) or _has_own(model, provider):
        return None
    store = given.get("store", getattr(model, "store", None))
    endpoint = Endpoint(provider, operation, host=_host(model), stored=store)
    tags = tags_for(endpoint, tagged=_run(meter, run_manager) or meter.asking(tags=NOTHING))
    return {field: tags} if tags else None


def _run(meter: Meter, run_manager: Any) -> Run | None:
    """Find the call that is being made: `stream()` keeps its run manager to itself (langchain-core 1.8)."""
    run_id: Any = getattr(run_manager, "run_id", None)
    begun = LATEST.get()
    LATEST.set(None)
    key = begun if run_id is None else ("langchain", run_id.int)
    return None if key is None else meter.runs.get(key)


_OPERATIONS: Final = {
    "openai": "chat",
    "anthropic": "messages",
    "aws.bedrock": "converse",
    "gcp.vertex_ai": "generate_content",
}
_FIELDS: Final = {
    "openai": "metadata",
    "anthropic": "metadata",
    "aws.bedrock": "requestMetadata",
    "gcp.vertex_ai": "labels",
}
_OWN: Final = {"aws.bedrock": "request_metadata", "gcp.vertex_ai": "labels"}
_CLASSES: Final = {
    "ChatOpenAI": "openai",
    "ChatAnthropic": "anthropic",
    "ChatBedrockConverse": "aws.bedrock",
}


def _provider(model: Any) -> str | None:
    """Give the provider whose parameters a model class is known to pass on; subclasses for other servers are not."""
    name = type(model).__name__
    if name == "ChatGoogleGenerativeAI":
        return "gcp.vertex_ai" if getattr(model, "_use_vertexai", None) or getattr(model, "vertexai", None) else None
    return _CLASSES.get(name)


def _uses_responses(model: Any, given: Mapping[str, Any]) -> bool:
    asked: Any = getattr(model, "_use_responses_api", None)
    return asked is not None and bool(asked({**(getattr(model, "_default_params", None) or {}), **given}))


def _has_own(model: Any, provider: str) -> bool:
    """Say whether the model was built with something for the provider in the same place."""
    if provider in _OWN:
        return bool(getattr(model, _OWN[provider], None))
    return any("metadata" in (getattr(model, name, None) or {}) for name in ("model_kwargs", "extra_body"))


def _host(model: Any) -> str | None:
    """Give the host that a model asks; None is the provider's own."""
    client: Any = getattr(model, "root_client", None)
    named = (
        getattr(client, "base_url", None),
        getattr(model, "anthropic_api_url", None),
        getattr(model, "endpoint_url", None),
        getattr(getattr(getattr(model, "client", None), "meta", None), "endpoint_url", None),
        getattr(model, "base_url", None),
    )
    base = next((each for each in named if each), None)
    if base is None:
        return None
    return urlsplit(str(base)).hostname or str(base)
