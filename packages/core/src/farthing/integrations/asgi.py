"""An ASGI middleware: every model call of a request knows its route. For FastAPI, Starlette, Litestar and the like.

app.add_middleware(farthing.integrations.asgi.AttributionMiddleware)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from farthing.context import enter_request
from farthing.guard import report_fault
from farthing.integrations.inbound import Inbound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping

    Scope = MutableMapping[str, Any]
    App = Callable[[Scope, Any, Any], Awaitable[None]]

__all__ = ["AttributionMiddleware"]


class AttributionMiddleware:
    """Puts the tags of a request in force for as long as the application works on it, background tasks included.

    The route is the framework's own template ("api/chat/{id}"), known once the request is routed; a path that no
    template stands for gives none, since filled-in paths have no bound.

    Args:
        app: The ASGI application.
        trust: Whether inbound tags are believed: never (False), always (True), or as a function of the headers says.
        headers: Header to dimension; None is x-ai-team, x-ai-feature, x-ai-tenant, x-ai-route, x-ai-task-type.
        baggage: Members of W3C baggage that count, key to dimension; none by default.
        defaults: Tags of every request.

    Raises:
        Nothing of its own.
    """

    def __init__(
        self,
        app: App,
        *,
        trust: bool | Callable[[Mapping[str, str]], bool] = False,
        headers: Mapping[str, str] | None = None,
        baggage: Mapping[str, str] | None = None,
        defaults: Mapping[str, object] | None = None,
    ) -> None:
        self.app: Final = app
        self._inbound: Final = Inbound(trust=trust, headers=headers, baggage=baggage, defaults=defaults)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        try:
            tags = self._inbound.tags(_headers(scope))
        except Exception as error:  # noqa: BLE001 - a request must not fail for its tags
            report_fault("farthing.integrations.asgi", error)
            tags = {}
        leave = enter_request(tags, route=lambda: _route(scope))
        try:
            await self.app(scope, receive, send)
        finally:
            leave()


def _headers(scope: Scope) -> Iterator[tuple[str, str]]:
    for name, value in scope.get("headers", ()):
        yield name.decode("latin-1").lower(), value.decode("latin-1")


def _route(scope: Scope) -> str | None:
    """Give the template that the framework matched: Starlette and FastAPI write it into the scope while routing."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    if path is None:
        path = scope.get("path_template")  # Litestar
    if not isinstance(path, str):
        if "endpoint" not in scope:
            return None
        path = _unfilled(str(scope.get("path", "")), scope.get("path_params") or {})
        return path.strip("/") or "/"
    return f"{_mounted_at(scope, path)}{path}".strip("/") or "/"


def _mounted_at(scope: Scope, path: str) -> str:
    """Give where a mounted application stands: Starlette adds it to the root path, whose own part it keeps beside."""
    if "app_root_path" not in scope:
        return ""
    prefix = str(scope.get("root_path") or "").removeprefix(str(scope["app_root_path"] or ""))
    parameters: Mapping[str, object] = scope.get("path_params") or {}
    return _unfilled(prefix, {name: value for name, value in parameters.items() if f"{{{name}}}" not in path})


def _unfilled(path: str, parameters: Mapping[str, object]) -> str:
    """Put the names of parameters back in the place of their values, for routers that keep no template."""
    parts = path.split("/")
    for name, value in parameters.items():
        text = str(value)
        if "/" in text:
            path = "/".join(parts).replace(text, f"{{{name}}}", 1)
            parts = path.split("/")
        elif text in parts:
            parts[parts.index(text)] = f"{{{name}}}"
    return "/".join(parts)
