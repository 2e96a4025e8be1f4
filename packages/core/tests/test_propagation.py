"""Tags across processes, services and pools: what travels, what is believed, and what hostile senders get."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

import farthing
from farthing.counting import counters
from farthing.integrations.asgi import AttributionMiddleware
from farthing.integrations.inbound import Inbound
from farthing.integrations.wsgi import AttributionMiddleware as WsgiMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping

    from starlette.requests import Request


def tags() -> dict[str, object]:
    """Give the tags in force as a plain dict."""
    return dict(farthing.current())


def test_out_and_in_again() -> None:
    """A job must find the owner that sent it, in a process that knows nothing of it."""
    written = {"feature": "e-mail, günstig", "team": "growth", "tenant": "acme/7", "job_id": 7}
    with farthing.attribute(**written):  # pyright: ignore[reportArgumentType] - a number is a tag, too
        headers = farthing.export_context()
    assert list(headers) == ["x-farthing-context"]
    assert headers["x-farthing-context"].isascii()
    with farthing.attribute(feature="worker", plan="free"):
        with farthing.resume({"X-Farthing-Context": headers["x-farthing-context"].encode()}):
            assert tags() == {**written, "job_id": "7", "plan": "free"}
        assert tags() == {"feature": "worker", "plan": "free"}
    with farthing.resume(None), farthing.resume({}):
        assert tags() == {}


def test_the_trace_goes_on() -> None:
    """Sender and job must stand in one trace, unless the worker already has a span of its own."""
    tracer = TracerProvider().get_tracer("t")
    with tracer.start_as_current_span("request") as span:
        headers = farthing.export_context()
    with farthing.resume(headers):
        assert trace.get_current_span().get_span_context().trace_id == span.get_span_context().trace_id
    assert not trace.get_current_span().get_span_context().is_valid
    with tracer.start_as_current_span("own") as own, farthing.resume(headers):
        assert trace.get_current_span() is own


def test_baggage_goes_out_only_by_name() -> None:
    """Baggage travels on to every host that an instrumented client calls."""
    with farthing.attribute(feature="a", tenant="acme", team="growth"):
        assert "baggage" not in farthing.export_context()
        assert farthing.export_context(baggage=["tenant_id"])["baggage"] == "tenant=acme"


@pytest.mark.parametrize(
    "target", ["https://api.openai.com/v1", "bedrock-runtime.us-east-1.amazonaws.com", "https://x.openai.azure.com:443"]
)
def test_nothing_goes_to_a_provider_of_models(target: str) -> None:
    """Who spends is nobody's business there."""
    with farthing.attribute(feature="a"):
        assert farthing.export_context(to=target, baggage=["feature"]) == {}
        assert farthing.export_context(to="https://jobs.example.com")


def test_what_is_no_tag_is_not_sent_and_counted() -> None:
    """A prompt put into attribute() by mistake must not travel either."""
    with farthing.attribute(feature="x" * 500, team=object(), tenant="t"):  # pyright: ignore[reportArgumentType]
        assert farthing.export_context() == {"x-farthing-context": "tenant=t"}
    with farthing.attribute(**{f"x{number}": "y" * 100 for number in range(100)}):
        assert len(farthing.export_context()["x-farthing-context"]) <= 4096
    assert farthing.health().context == {"not-sent:no-tag": 2, "not-sent:too-large": 1}


HOSTILE = [
    "feature=" + "x" * 5000,
    ",".join(f"k{number}=v" for number in range(5000)),
    "feature=%00%01,team=%ff%fe",
    "feature=\x00\x01\x02",
    "=,=,,,;;;==",
    "Feature=a,FEATURE NAME=b,__class__=c",
    b"\xff\xfe\x00\x01",
    {"feature": "a"},
    7,
]


@pytest.mark.parametrize("header", HOSTILE)
def test_hostile_headers_give_nothing_and_are_counted(header: Any) -> None:
    """Whoever can put a message on the queue must not be able to break or bloat a worker."""
    with farthing.resume({"x-farthing-context": header}):
        assert not {"feature", "team"} & tags().keys()
        assert len(tags()) <= 64
    assert counters.total("context") >= 1


@given(st.text() | st.binary() | st.none(), st.text())
def test_any_header_is_survived(header: object, baggage: str) -> None:
    """As above, for what nobody thought of."""
    inbound = Inbound(trust=True, baggage={"tenant": "tenant"})
    with farthing.resume({"x-farthing-context": header, "traceparent": baggage, "tracestate": header}):
        for name, value in tags().items():
            assert isinstance(value, str)
            assert 0 < len(value) <= 128
            assert name.isascii()
    inbound.tags([("baggage", baggage), ("x-farthing-context", baggage), ("x-ai-team", baggage)])


def test_inbound_tags_are_believed_only_where_asked() -> None:
    """A forged team is somebody else's bill."""
    forged = [
        ("x-ai-team", "ceo"),
        ("x-ai-feature", "free-lunch"),
        ("x-internal", "secret"),
        ("baggage", "tenant=acme"),
    ]
    assert Inbound(defaults={"team_id": "web"}).tags(forged) == {"team": "web"}
    assert farthing.health().context == {"untrusted": 1}
    believed = {"team": "ceo", "feature": "free-lunch"}
    assert Inbound(trust=True).tags(forged) == believed
    assert Inbound(trust=lambda headers: headers.get("x-internal") == "secret").tags(forged) == believed
    assert Inbound(trust=lambda headers: headers["missing"] == "").tags(forged) == {}
    assert Inbound(trust=True, headers={"X-Internal": "plan"}).tags(forged) == {"plan": "secret"}
    assert Inbound(trust=True, headers={}, baggage={"tenant": "customer"}).tags(forged) == {"tenant": "acme"}
    many = [(f"x-{number}", "y") for number in range(5000)] + [("x-ai-team", "late")]
    assert Inbound(trust=True).tags(many) == {}


def which(_: object = None) -> tuple[dict[str, object], int]:
    """Say who pays here, and in which process."""
    return tags(), os.getpid()


def test_pools_carry_the_tags_of_who_submits() -> None:
    """Pools of threads and processes know nothing of the context of their users."""
    with farthing.CarryingExecutor(ThreadPoolExecutor(2)) as pool:
        with farthing.attribute(tenant="a"):
            first = pool.submit(which)
            mapped = list(pool.map(which, range(3)))
        second = pool.submit(which)
        assert first.result()[0] == {"tenant": "a"}
        assert [found for found, _ in mapped] == [{"tenant": "a"}] * 3
        assert second.result()[0] == {}
    with farthing.CarryingExecutor(ProcessPoolExecutor(1, mp_context=get_context("spawn"))) as pool:
        with farthing.attribute(tenant="b", feature="f"):
            found, pid = pool.submit(which).result(timeout=60)
        assert found == {"tenant": "b", "feature": "f"}
        assert pid != os.getpid()


async def serve(app: Any, scope: Mapping[str, Any]) -> None:
    """Serve one connection without a server."""
    await app(scope, None, None)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/public/chat/7", "public/chat/{id}"),
        ("/internal/chat/7", "internal/chat/{id}"),
        ("/of/chat/chat/7", "of/{customer}/chat/{id}"),
        ("/chat/7", "chat/{id}"),
    ],
)
@pytest.mark.parametrize("root", ["", "/behind"])
async def test_a_mounted_application_keeps_its_place_in_the_route(path: str, route: str, root: str) -> None:
    """Two applications of one shape are two routes, and a rule for api/public/* must find its own."""

    async def tell(_request: Request) -> JSONResponse:
        return JSONResponse(tags())

    chat = Route("/chat/{id}", tell)
    mounts = [Mount(at, routes=[chat]) for at in ("/public", "/internal", "/of/{customer}")]
    application = AttributionMiddleware(Starlette(routes=[*mounts, chat]))
    transport = httpx.ASGITransport(application, root_path=root)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        assert (await client.get(f"{root}{path}")).json() == {"route": route}


async def test_asgi_route_is_known_once_the_framework_has_routed() -> None:
    """The middleware runs before the router; a block opened in between must see the route all the same."""
    seen: list[dict[str, object]] = []

    class Route:
        path_format = "/api/chat/{id}"

    async def app(scope: MutableMapping[str, Any], receive: object, send: object) -> None:
        with farthing.attribute(team="web"):
            seen.append(tags())
            scope["route"] = Route()
            await asyncio.sleep(0)
            seen.append(tags())
            with farthing.attribute(route=None):
                seen.append(tags())

    scope = {"type": "http", "headers": [(b"X-AI-Tenant", b"acme")], "path": "/api/chat/7"}
    await serve(AttributionMiddleware(app, trust=True), scope)
    assert seen == [
        {"tenant": "acme", "team": "web"},
        {"tenant": "acme", "team": "web", "route": "api/chat/{id}"},
        {"tenant": "acme", "team": "web"},
    ]
    assert tags() == {}


async def test_asgi_survives_errors_and_other_connections() -> None:
    """A request that fails must not leave its tags to the next; a lifespan has none."""

    async def app(scope: MutableMapping[str, Any], receive: object, send: object) -> None:
        assert tags() == ({} if scope["type"] == "lifespan" else {"team": "web"})
        raise KeyError

    middleware = AttributionMiddleware(app, defaults={"team": "web"})
    for scope in ({"type": "lifespan"}, {"type": "http", "headers": [(b"\xff", b"\xff")]}):
        with pytest.raises(KeyError):
            await serve(middleware, scope)
        assert tags() == {}


def test_wsgi_streams_in_the_context_of_their_request() -> None:
    """The answer of a WSGI application is often made after the application has returned."""
    closed: list[bool] = []

    def app(environ: dict[str, Any], start_response: object) -> Iterable[bytes]:
        def pieces() -> Iterator[bytes]:
            try:
                yield str(tags()).encode()
                yield str(tags()).encode()
            finally:
                closed.append(True)

        return pieces()

    middleware = WsgiMiddleware(app, trust=True, route=lambda environ: environ["PATH_INFO"])
    answer: Any = middleware({"HTTP_X_AI_TENANT": "acme", "PATH_INFO": "api"}, None)
    expected = str({"tenant": "acme", "route": "api"}).encode()
    assert next(answer) == expected
    assert tags() == {}
    assert list(answer) == [expected]
    answer.close()
    assert closed == [True]
    plain: Any = WsgiMiddleware(lambda environ, start: [str(tags()).encode()])({"HTTP_X_AI_TENANT": "acme"}, None)
    assert plain == [b"{}"]


async def test_an_instrumented_client_finds_no_baggage_of_ours() -> None:
    """Instrumentation of HTTP clients sends the baggage in force to every host, a provider of models among them."""
    carriers: list[dict[str, str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        carrier: dict[str, str] = {}
        W3CBaggagePropagator().inject(carrier)
        carriers.append(carrier)

    headers = [(b"baggage", b"tenant=acme"), (b"x-farthing-context", b"team=growth"), (b"x-ai-team", b"growth")]
    middleware = AttributionMiddleware(app, trust=True, baggage={"tenant": "tenant"})
    with farthing.attribute(feature="a"), farthing.resume({"baggage": "tenant=acme", "x-farthing-context": "team=b"}):
        await middleware({"type": "http", "headers": headers}, None, None)
    assert carriers == [{}]
