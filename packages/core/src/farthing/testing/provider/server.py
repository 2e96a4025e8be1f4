"""The fake provider itself: a loopback HTTP server that answers like a provider and keeps the bill."""

from __future__ import annotations

import secrets
import socket
import threading
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from farthing.testing.provider.connection import Connection
from farthing.testing.provider.delivery import Delivery, broken
from farthing.testing.provider.invoice import Invoice, InvoiceLine, charge
from farthing.testing.provider.openai_error import refuse as refuse_as_openai
from farthing.testing.provider.plan import Outgoing, Plan, Refusal, Wire
from farthing.testing.provider.price_table import PriceTable
from farthing.testing.provider.resolve import Setting, plan_of
from farthing.testing.provider.routes import route
from farthing.testing.provider.scenarios import READY_MADE
from farthing.testing.provider.script import (
    Fault,
    Predicate,
    ReceivedRequest,
    Reply,
    Rule,
    Script,
    ScriptedAnswer,
    UnknownScenarioError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SCENARIO_HEADER = "x-fake-scenario"
_STOP_SECONDS = 5.0


class FakeProvider:
    """A provider on 127.0.0.1 that speaks the wire formats of OpenAI, Azure, Anthropic, Bedrock and Gemini.

    `usage` is the reply to everything that is not scripted; what it leaves None differs by request, so that two
    requests mixed up show. `tool_rounds` sets that reply's tool rounds. `deployments` maps Azure deployment names to
    models. `port=0` takes a free one. `id_prefix` makes response ids repeatable; by default they are unique to this
    provider.

    Raises:
        OSError: on start, when the port is taken.
    """

    def __init__(
        self,
        *,
        usage: Reply | None = None,
        tool_rounds: int | None = None,
        deployments: Mapping[str, str] | None = None,
        port: int = 0,
        id_prefix: str | None = None,
    ) -> None:
        default = usage or Reply()
        self._default = default if tool_rounds is None else replace(default, tool_rounds=tool_rounds)
        self._port = port
        self._prefix = secrets.token_hex(6) if id_prefix is None else id_prefix
        self._prices = PriceTable()
        self._script = Script()
        for name, answer in READY_MADE.items():
            self._script.add_scenario(name, [answer])
        self._deployments = dict(deployments or {})
        self._requests: list[ReceivedRequest] = []
        self._in_flight = 0
        self._state = threading.Condition()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.invoice = Invoice()

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Bind and serve in threads of its own.

        Raises:
            OSError: the port is taken.
            RuntimeError: it is running already.
        """
        if self._server is not None:
            raise RuntimeError("the fake provider is running already")
        handler = type("_Connection", (Connection,), {"exchange": self})
        self._server = _Server(("127.0.0.1", self._port), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="fake-provider", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close every connection and end every thread; a second call does nothing. Raises: nothing."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is None or thread is None:
            return
        server.shutdown()
        thread.join(_STOP_SECONDS)
        server.server_close()
        server.close_connections(_STOP_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- addresses ----------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The root address, without a trailing slash.

        Raises:
            RuntimeError: it is not running.
        """
        if self._server is None:
            raise RuntimeError("the fake provider is not running; use `with FakeProvider() as provider:`")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def openai_url(self) -> str:
        """What OPENAI_BASE_URL takes. Raises: RuntimeError when it is not running."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """What ANTHROPIC_BASE_URL takes. Raises: RuntimeError when it is not running."""
        return self.url

    @property
    def bedrock_url(self) -> str:
        """What AWS_ENDPOINT_URL_BEDROCK_RUNTIME takes. Raises: RuntimeError when it is not running."""
        return self.url

    @property
    def gemini_url(self) -> str:
        """What GOOGLE_GEMINI_BASE_URL takes. Raises: RuntimeError when it is not running."""
        return self.url

    @property
    def azure_url(self) -> str:
        """What AZURE_OPENAI_ENDPOINT takes. Raises: RuntimeError when it is not running."""
        return self.url

    def scenario_url(self, name: str) -> str:
        """The root address under which every request belongs to a scenario. Raises: RuntimeError when not running."""
        return f"{self.url}/s/{name}"

    # -- scripting ----------------------------------------------------------------------------------------------

    def script(
        self,
        answer: ScriptedAnswer,
        *,
        model: str | None = None,
        path: str | None = None,
        when: Callable[[ReceivedRequest], bool] | None = None,
        times: int | None = 1,
    ) -> None:
        """Answer the next matching requests so; the first rule that matches wins, `times=None` never runs out.

        `model` (as requested) and `path` are shell-style patterns; `when` is called under a lock and must be quick.

        Raises:
            ValueError: `times` below 1.
        """
        predicate: Predicate | None = when
        self._script.add(Rule(answer=answer, model=model, path=path, when=predicate, times=times))

    def scenario(self, name: str, *answers: ScriptedAnswer) -> None:
        """Register answers served in turn, the last one for ever, to requests that name the scenario.

        A request names it with the header `x-fake-scenario` or with the path prefix `/s/<name>`.

        Raises:
            ValueError: no answers.
        """
        self._script.add_scenario(name, answers)

    def deployment(self, name: str, *, model: str) -> None:
        """Say which model an Azure deployment serves. Raises: nothing."""
        with self._state:
            self._deployments[name] = model

    def set_price(self, model: str, **usd: str | Decimal) -> None:
        """Give a model a price: `set_price("my-model", input="0.10", output="0.40")`, in the units of prices.toml.

        Raises:
            ValueError: a rate name that does not exist.
            decimal.InvalidOperation: a rate that is no number.
        """
        self._prices.set_price(model, {name: Decimal(rate) for name, rate in usd.items()})

    @property
    def pending(self) -> tuple[Rule, ...]:
        """Rules that still wait for requests. Raises: nothing."""
        return self._script.pending

    # -- what happened ------------------------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """Everything received so far, in order of arrival. Raises: nothing."""
        with self._state:
            return tuple(self._requests)

    def settle(self, *, timeout_seconds: float = 5.0) -> bool:
        """Wait until no request is in flight; False when some still are. Raises: nothing."""
        with self._state:
            return self._state.wait_for(lambda: self._in_flight == 0, timeout_seconds)

    # -- the server's side (connection.Exchange) ----------------------------------------------------------------

    def decide(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Delivery:
        """Record a request and decide its answer. Raises: what a predicate of the script raises."""
        url = urlsplit(target)
        scenario, path = _scenario_of(url.path, headers)
        found = route(method, path, headers, body)
        request = self._record(
            ReceivedRequest(
                number=0,
                at=datetime.now(UTC),
                method=method,
                path=path,
                query=url.query,
                headers=MappingProxyType(dict(headers)),
                body=body,
                model=found.model if found else None,
                scenario=scenario,
            )
        )
        if found is None:
            refusal = self._refusal(request, 404, f"no provider has {method} {path}")
            return Delivery(number=request.number, outgoing=refuse_as_openai(refusal))
        return self._answer(request, found.wire)

    def bill(self, delivery: Delivery) -> None:
        """Put the answer on the invoice, if it costs anything. Raises: nothing."""
        if delivery.line is not None:
            self.invoice.add(delivery.line)

    def client_left(self, delivery: Delivery) -> None:
        """Note on the invoice that the client went away. Raises: nothing."""
        self.invoice.mark_client_left(delivery.number)

    def finished(self) -> None:
        """Count one request out. Raises: nothing."""
        with self._state:
            self._in_flight -= 1
            self._state.notify_all()

    def _record(self, request: ReceivedRequest) -> ReceivedRequest:
        with self._state:
            numbered = replace(request, number=len(self._requests) + 1)
            self._requests.append(numbered)
            self._in_flight += 1
            return numbered

    def _answer(self, request: ReceivedRequest, wire: Wire) -> Delivery:
        asked = wire.read(request)
        if wire.provider == "azure":
            model = self._model_behind(asked.model)
            if model is None:
                message = f"deployment {asked.model!r} does not exist; add it with provider.deployment(name, model=...)"
                return self._refuse(request, wire, 404, message, code="DeploymentNotFound")
            asked = replace(asked, model=model)
        try:
            answer = self._script.take(request, is_billed=wire.is_billed)
        except UnknownScenarioError as error:
            return self._refuse(request, wire, 404, str(error), code="unknown_scenario")
        fault = answer if isinstance(answer, Fault) else None
        reply = (fault.reply if fault else answer if isinstance(answer, Reply) else None) or self._default
        setting = Setting(
            provider=wire.provider,
            token=self._token(request),
            created=int(request.at.timestamp()),
            prices=self._prices,
        )
        plan = plan_of(request, asked, reply, setting=setting)
        written = wire.write(plan)
        outgoing = replace(written, headers={**written.headers, **reply.headers})
        return self._delivery(plan, wire, outgoing, fault)

    def _delivery(self, plan: Plan, wire: Wire, whole: Outgoing, fault: Fault | None) -> Delivery:
        outgoing, ending, delay_seconds = whole, "complete", plan.reply.delay_seconds
        if fault is not None:
            refusal = self._refusal(
                plan.request, fault.status or 500, fault.message or "the fake provider was told to fail", fault.code
            )
            outgoing, ending = broken(whole, fault, wire=wire, refusal=refusal)
            delay_seconds += fault.hang_seconds
        is_billed = wire.is_billed and (fault is None or fault.is_billed)
        return Delivery(
            number=plan.number,
            outgoing=outgoing,
            ending=ending,
            delay_seconds=delay_seconds,
            chunk_delay_seconds=plan.reply.chunk_delay_seconds,
            line=self._line(plan, wire, whole, status=outgoing.status) if is_billed else None,
        )

    def _line(self, plan: Plan, wire: Wire, whole: Outgoing, *, status: int) -> InvoiceLine:
        charged = charge(
            plan.counts,
            provider=wire.provider,
            model=plan.response_model or plan.asked.model,
            tier=plan.tier,
            prices=self._prices,
        )
        return InvoiceLine(
            number=plan.number,
            at=plan.request.at,
            provider=wire.provider,
            endpoint=wire.endpoint,
            requested_model=plan.request.model or "",
            model=plan.response_model,
            response_id=whole.response_id,
            tier=plan.tier,
            status=status,
            streamed=bool(whole.frames),
            counts=plan.counts,
            items=charged.items,
            amount_usd=charged.amount_usd,
            problem=charged.problem,
        )

    def _model_behind(self, deployment: str) -> str | None:
        with self._state:
            known = self._deployments.get(deployment)
        if known is not None:
            return known
        return deployment if self._prices.find("azure", deployment) else None

    def _refuse(self, request: ReceivedRequest, wire: Wire, status: int, message: str, *, code: str) -> Delivery:
        return Delivery(number=request.number, outgoing=wire.refuse(self._refusal(request, status, message, code)))

    def _refusal(self, request: ReceivedRequest, status: int, message: str, code: str | None = None) -> Refusal:
        return Refusal(status=status, message=message, code=code, token=self._token(request))

    def _token(self, request: ReceivedRequest) -> str:
        return f"{self._prefix}{request.number:06d}"


class _Server(ThreadingHTTPServer):
    """A threading server that can close the connections it still has."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: type[Connection]) -> None:
        super().__init__(address, handler)
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}

    def server_bind(self) -> None:
        """Bind without the base class's look-up of the host name, which hangs without DNS. Raises: OSError."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request_thread(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - the stub allows datagrams too
        with self._lock:
            self._open[request] = threading.current_thread()
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)

    def close_connections(self, timeout_seconds: float) -> None:
        with self._lock:
            still_open = dict(self._open)
        for connection in still_open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed by the client meanwhile
        for thread in still_open.values():
            thread.join(timeout_seconds)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore connections that break: the request's own outcome is noted where it is sent."""


def _scenario_of(path: str, headers: Mapping[str, str]) -> tuple[str | None, str]:
    if path.startswith("/s/"):
        name, _, rest = path.removeprefix("/s/").partition("/")
        return name, f"/{rest}"
    return headers.get(_SCENARIO_HEADER), path
