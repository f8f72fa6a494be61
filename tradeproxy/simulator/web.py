"""The simulated account over HTTP: its stream, its history, the trading API and faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from autobahn.twisted.resource import WebSocketResource
from twisted.web.http import datetimeToString
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from tradeproxy.simulator.completion import complete_event
from tradeproxy.simulator.errors import ApiError, bad_request
from tradeproxy.simulator.faults import Fault, FaultKind, parse_fault, parse_kind
from tradeproxy.simulator.orders import parse_price
from tradeproxy.simulator.replay import Damage, parse_event_range
from tradeproxy.simulator.simulator import Simulator
from tradeproxy.simulator.stream import BANNER, StreamFactory, StreamProtocol
from tradeproxy.simulator.trading import HttpResponse, TradingApi
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret
from tradeproxy.wire.origin_rules import OriginRules, RequestInfo

LARGEST_BODY = 1024 * 1024
"""The maximum of a request's body, in bytes."""

Responder: TypeAlias = "Callable[[], HttpResponse | None]"
"""Computes the response to a request; None if the response is written elsewhere."""


class Api(Resource):
    """The resource for all paths."""

    isLeaf = True

    def __init__(self, simulator: Simulator, stream: StreamFactory) -> None:
        super().__init__()
        self._simulator = simulator
        self._trading = TradingApi(simulator)
        self._stream = WebSocketResource(stream)
        self._origin_rules = OriginRules()

    def render(self, request: Request) -> bytes | int:
        """Respond to a request. Autobahn takes over the connection of the stream."""
        path = [part.decode(errors="replace") for part in request.postpath or []]
        if path == ["stream"] and self._is_admitted(request):
            result: bytes | int = self._stream.render(request)
            return result
        body = self._respond(request, lambda: self._route(request, path))
        return NOT_DONE_YET if body is None else body

    def _respond(self, request: Request, respond: Responder) -> bytes | None:
        """Set status and headers and return the body; None if the body is written elsewhere."""
        request.setHeader(b"Server", BANNER.encode())
        try:
            response = respond()
        except ApiError as error:
            response = error.status, {"code": error.code, "message": error.message}
            if error.retry_after is not None:
                request.setHeader(b"Retry-After", str(error.retry_after).encode())
        if response is None:
            return None
        self._set_date(request)
        status, document = response
        request.setResponseCode(status)
        if document is None:
            return b""
        request.setHeader(b"Content-Type", b"application/json; charset=UTF-8")
        return json.dumps(document, separators=(",", ":")).encode()

    def _set_date(self, request: Request) -> None:
        """Set the Date header; called once for each response."""
        request.setHeader(b"Date", datetimeToString(self._simulator.date()))

    def _route(self, request: Request, path: list[str]) -> HttpResponse | None:
        if not self._is_admitted(request):
            raise ApiError(
                403, 40310000, "Host and Origin must be this machine's: no requests of other sites"
            )
        if path[:1] == ["v2"] and not self._simulator.accepts(_credentials(request)):
            raise ApiError(403, 40310000, "forbidden.")
        if request.method == b"GET" and path[:1] == ["v2"]:
            _raise_fault(self._simulator.fault(FaultKind.REST_REFUSE))
        match request.method, path:
            case b"POST", ["simulator", "emit"]:
                return self._emit(_json(request, is_event=True))
            case b"POST", ["simulator", "fault"]:
                return self._inject(_json(request))
            case b"GET", ["simulator", "fault"]:
                return 200, {"in_force": [kind.value for kind in self._simulator.faults()]}
            case b"DELETE", ["simulator", "fault", *kind] if len(kind) <= 1:
                ended = self._simulator.end_faults(parse_kind(kind[0]) if kind else None)
                return 200, {"ended": [kind.value for kind in ended]}
            case b"POST", ["simulator", "price"]:
                return self._set_price(_json(request))
            case b"GET", ["v2", "events", "trades"]:
                return self._start_events(request)
            case _, ["v2", *rest]:
                return self._trading.respond(
                    request.method, rest, _query(request), lambda: _json(request)
                )
        raise ApiError(404, 40410000, "endpoint not found.")

    def _is_admitted(self, request: Request) -> bool:
        """Whether no web page of another site sent the request: the proxy's rule."""
        headers = RequestInfo(
            _header(request, b"Host"),
            _header(request, b"Origin"),
            request.isSecure(),
            fetch_site=_header(request, b"Sec-Fetch-Site"),
        )
        return self._origin_rules.find_problem(headers) is None

    def _emit(self, data: Any) -> HttpResponse:
        if not isinstance(data, dict):
            raise bad_request("the body is the event's data, a JSON object")
        event = complete_event(data, self._simulator.exchange)
        return 200, {"delivered": self._simulator.emit_stamped(event)}

    def _set_price(self, document: Any) -> HttpResponse:
        symbol, price = parse_price(document)
        reached = self._simulator.apply(self._simulator.exchange.set_price(symbol, price))
        return 200, {"reached": [order.id for order in reached]}

    def _inject(self, document: Any) -> HttpResponse:
        fault = parse_fault(document)
        self._simulator.inject(fault)
        return 200, {"injected": fault.kind.value}

    def _start_events(self, request: Request) -> HttpResponse | None:
        if fault := self._simulator.fault(FaultKind.HISTORY_DELAY):
            self._simulator.feeds.delay(request, fault.delay, lambda: self._respond_late(request))
            return None
        return self._events(request)

    def _respond_late(self, request: Request) -> None:
        """Respond to a delayed request for events, as twisted.web does after render."""
        body = self._respond(request, lambda: self._events(request))
        if body is not None:
            request.setHeader(b"Content-Length", str(len(body)).encode())
            request.write(body)
            request.finish()

    def _events(self, request: Request) -> HttpResponse | None:
        if self._simulator.fault(FaultKind.HISTORY_HANG):
            self._simulator.feeds.hang(request)
            return None
        _raise_fault(self._simulator.fault(FaultKind.HISTORY_REFUSE))
        if fault := self._simulator.fault(FaultKind.HISTORY_NOT_SSE):
            self._send_body(request, fault)
            return None
        event_range = parse_event_range(_query(request))
        cut = self._simulator.fault(FaultKind.HISTORY_TRUNCATE)
        drop = self._simulator.fault(FaultKind.HISTORY_DROP)
        stall = self._simulator.fault(FaultKind.HISTORY_STALL)
        damage = Damage(
            cut_after=cut.events if cut else None,
            drop_after=drop.events if drop else None,
            dropped=drop.dropped if drop else 0,
            stall_after=stall.events if stall else None,
        )
        self._set_date(request)
        self._simulator.feeds.open(request, event_range, damage)
        return None

    def _send_body(self, request: Request, fault: Fault) -> None:
        """Send what is no event stream, with status 200."""
        self._set_date(request)
        request.setHeader(b"Content-Type", fault.content_type.encode())
        request.write(fault.body.encode(errors="replace"))
        request.finish()


class _BoundedRequest(Request):
    """A request that stores LARGEST_BODY + 1 bytes at most, enough to detect a larger body."""

    def handleContentChunk(self, data: bytes) -> None:
        """Store a chunk, or the part of it below the limit."""
        assert self.content is not None, "twisted.web opens it after the headers"
        super().handleContentChunk(data[: LARGEST_BODY + 1 - self.content.tell()])


class ApiSite(Site):
    """The site of one account. It logs no requests."""

    noisy = False

    def __init__(
        self, simulator: Simulator, protocol: type[StreamProtocol] = StreamProtocol
    ) -> None:
        stream = StreamFactory(simulator)
        stream.protocol = protocol
        api = Api(simulator, stream)
        super().__init__(api, requestFactory=_BoundedRequest, reactor=simulator.reactor)

    def log(self, request: Any) -> None:
        """Log nothing: a request is not a state change."""


def _raise_fault(fault: Fault | None) -> None:
    if fault is not None:
        code = fault.status * 100_000 + 10_000  # Alpaca's codes have this form, such as 40310000
        raise ApiError(fault.status, code, "rejected by an injected fault", fault.retry_after)


def _header(request: Request, name: bytes) -> str | None:
    """Return a header's values, joined; None if it is absent. A repeated one is never valid."""
    values = request.requestHeaders.getRawHeaders(name)
    return None if values is None else b", ".join(values).decode("latin-1")


def _query(request: Request) -> dict[str, str]:
    """Return the parameters of the request's URL; the first of several with one name."""
    return {
        name.decode(errors="replace"): values[0].decode(errors="replace")
        for name, values in request.args.items()
    }


def _json(request: Request, *, is_event: bool = False) -> Any:
    """Return the request's body. Only an event may have NaN and Infinity, which are no JSON."""
    assert request.content is not None, "twisted.web renders after it has the body"
    body = request.content.read()
    if len(body) > LARGEST_BODY:
        raise ApiError(413, 41310000, f"request body is over {LARGEST_BODY} bytes")
    try:
        return json.loads(body.decode(), parse_constant=None if is_event else _reject_constant)
    except (ValueError, RecursionError):
        raise bad_request("request body is not JSON") from None


def _reject_constant(name: str) -> Any:
    # Python accepts and writes NaN and Infinity, but they are not JSON.
    raise ValueError(name)


def _credentials(request: Request) -> Credentials:
    scheme, _, token = (request.getHeader("authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return OAuthToken(Secret(token))
    names = ("apca-api-key-id", "apca-api-secret-key")
    key_id, secret_key = (Secret(request.getHeader(name) or "") for name in names)
    return KeyPair(key_id, secret_key)
