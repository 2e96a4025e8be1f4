"""A WSGI middleware: every model call of a request knows its route. For Flask, Django and the like.

app.wsgi_app = farthing.integrations.wsgi.AttributionMiddleware(app.wsgi_app)
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from farthing.context import carry, enter_request
from farthing.guard import report_fault
from farthing.integrations.inbound import Inbound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Environ = dict[str, Any]
    App = Callable[[Environ, Any], Iterable[bytes]]

__all__ = ["AttributionMiddleware"]


class AttributionMiddleware:
    """Puts the tags of a request in force while the application works on it, and while its answer is read.

    Args:
        app: The WSGI application.
        trust: Whether inbound tags are believed: never (False), always (True), or as a function of the headers says.
        headers: Header to dimension; None is x-ai-team, x-ai-feature, x-ai-tenant, x-ai-route, x-ai-task-type.
        baggage: Members of W3C baggage that count, key to dimension; none by default.
        defaults: Tags of every request.
        route: Tells the template of a request's route from its environ; None knows Flask's.

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
        route: Callable[[Environ], str | None] | None = None,
    ) -> None:
        self.app: Final = app
        self._inbound: Final = Inbound(trust=trust, headers=headers, baggage=baggage, defaults=defaults)
        self._route = route

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Serve one request."""
        try:
            tags = self._inbound.tags(_headers(environ))
        except Exception as error:  # noqa: BLE001 - a request must not fail for its tags
            report_fault("farthing.integrations.wsgi", error)
            tags = {}
        tell = self._route or _flask_route
        leave = enter_request(tags, route=lambda: tell(environ))
        try:
            answer = self.app(environ, start_response)
            if isinstance(answer, (list, tuple)):
                return answer
            return _Answer(answer)
        finally:
            leave()


class _Answer:
    """An answer that is made while it is read: each piece in the context of its request."""

    def __init__(self, answer: Iterable[bytes]) -> None:
        self._answer: Final = answer
        self._step: Final = carry(iter(answer).__next__)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._step()

    def close(self) -> None:
        """End the application's own iterator, as WSGI asks for."""
        close = getattr(self._answer, "close", None)
        if close is not None:
            close()


def _headers(environ: Environ) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name.startswith("HTTP_") and isinstance(value, str):
            yield name[5:].replace("_", "-").lower(), value


def _flask_route(environ: Environ) -> str | None:  # noqa: ARG001 - the protocol of `route`
    flask: Any = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return None
    rule = getattr(flask.request, "url_rule", None)
    return None if rule is None else str(rule.rule).strip("/") or "/"
