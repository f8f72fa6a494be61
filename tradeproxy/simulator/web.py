"""The simulated account over HTTP: the stream's path, Alpaca's orders and account, and faults to order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autobahn.twisted.resource import WebSocketResource
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tradeproxy.secret import KeyPair, OAuthToken, Secret
from tradeproxy.simulator.account import Account, event_payload
from tradeproxy.simulator.faults import InvalidFault, parse_fault
from tradeproxy.simulator.orders import Order, Refusal, bad_input, parse_amendment, parse_terms
from tradeproxy.simulator.stream import BANNER, StreamFactory

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.secret import Credentials

LARGEST_BODY = 1024 * 1024
"""The largest body of a request, in bytes."""

DEFAULT_LIMIT, LARGEST_LIMIT = 50, 500
"""How many orders GET /v2/orders lists, unasked and at most."""

FORBIDDEN = Refusal(403, 40310000, "forbidden.")
FOREIGN_PAGE = Refusal(403, 40310000, "no web page is to order anything here")
NOT_FOUND = Refusal(404, 40410000, "endpoint not found.")
NOT_JSON = Refusal(400, 40010000, "request body format is invalid")
TOO_LARGE = Refusal(413, 41310000, f"request body is over {LARGEST_BODY} bytes")


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP status and a JSON value; None for no body."""

    status: int
    body: Any


class Api(Resource):
    """All paths; `credentials`, where given, are what the trading API asks for."""

    isLeaf = True

    def __init__(self, account: Account, factory: StreamFactory, credentials: Credentials | None) -> None:
        super().__init__()
        self._account = account
        self._exchange = account.exchange
        self._stream = WebSocketResource(factory)
        self._credentials = credentials

    def render(self, request: Request) -> bytes | int:
        """Answer a request; the stream's connection is Autobahn's from here on."""
        if request.postpath == [b"stream"]:
            taken_over: bytes | int = self._stream.render(request)
            return taken_over
        assert request.content is not None, "the body has been received"
        body = request.content.read()
        answer = TOO_LARGE if len(body) > LARGEST_BODY else self._answer(request, body)
        reply = _refused(answer) if isinstance(answer, Refusal) else answer
        request.setResponseCode(reply.status)
        request.setHeader(b"Server", BANNER.encode())
        if reply.body is None:
            return b""
        request.setHeader(b"Content-Type", b"application/json; charset=UTF-8")
        return json.dumps(reply.body, separators=(",", ":")).encode()

    def _answer(self, request: Request, body: bytes) -> Reply | Refusal:
        if request.requestHeaders.hasHeader(b"Origin"):
            return FOREIGN_PAGE
        match request.method, request.postpath:
            case b"POST", [b"simulator", b"emit"]:
                return self._emit(body)
            case b"POST", [b"simulator", b"fault"]:
                return self._inject(body)
            case _, [b"v2", *_] if not self._admits(request):
                return FORBIDDEN
            case b"GET", [b"v2", b"account"]:
                return Reply(200, self._exchange.account())
            case b"GET", [b"v2", b"orders"]:
                return self._list(request)
            case b"POST", [b"v2", b"orders"]:
                return self._submit(body)
            case b"DELETE", [b"v2", b"orders"]:
                return self._cancel_all()
            case b"GET", [b"v2", b"orders:by_client_order_id"]:
                return _one(self._exchange.order_by_client_id(_argument(request, b"client_order_id")))
            case b"GET", [b"v2", b"orders", order_id]:
                return _one(self._exchange.order(order_id.decode(errors="replace")))
            case b"PATCH", [b"v2", b"orders", order_id]:
                return self._replace(order_id.decode(errors="replace"), body)
            case b"DELETE", [b"v2", b"orders", order_id]:
                return self._cancel(order_id.decode(errors="replace"))
        return NOT_FOUND

    # The simulator's own paths

    def _emit(self, body: bytes) -> Reply:
        match _parse(body):
            case _Json(dict() as data):
                return Reply(200, {"delivered": self._account.emit_payload(event_payload(data))})
        return Reply(400, {"message": "the body is the event's data, a JSON object"})

    def _inject(self, body: bytes) -> Reply:
        document = _parse(body)
        fault = parse_fault(document.value if document else None)
        if isinstance(fault, InvalidFault):
            return Reply(400, {"message": fault.problem})
        self._account.inject(fault)
        return Reply(200, {"injected": fault.kind.value})

    # Alpaca's paths

    def _list(self, request: Request) -> Reply | Refusal:
        status = _argument(request, b"status") or "open"
        direction = _argument(request, b"direction") or "desc"
        limit = _argument(request, b"limit") or str(DEFAULT_LIMIT)
        symbols = [symbol for symbol in _argument(request, b"symbols").split(",") if symbol]
        if status not in ("open", "closed", "all"):
            return bad_input("invalid status")
        if direction not in ("asc", "desc"):
            return bad_input("invalid direction")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= LARGEST_LIMIT):
            return bad_input(f"limit must be from 1 to {LARGEST_LIMIT}")
        found = self._exchange.orders(status, symbols, newest_first=direction == "desc")
        return Reply(200, [order.document() for order in found[: int(limit)]])

    def _submit(self, body: bytes) -> Reply | Refusal:
        document = _parse(body)
        if document is None:
            return NOT_JSON
        terms = parse_terms(document.value)
        if isinstance(terms, Refusal):
            return terms
        return _first(self._account.carry_out(self._exchange.submit(terms)))

    def _replace(self, order_id: str, body: bytes) -> Reply | Refusal:
        document = _parse(body)
        if document is None:
            return NOT_JSON
        amendment = parse_amendment(document.value)
        if isinstance(amendment, Refusal):
            return amendment
        return _first(self._account.carry_out(self._exchange.replace(order_id, amendment)))

    def _cancel(self, order_id: str) -> Reply | Refusal:
        ended = self._account.carry_out(self._exchange.cancel(order_id))
        return ended if isinstance(ended, Refusal) else Reply(204, None)

    def _cancel_all(self) -> Reply:
        outcome = self._exchange.cancel_all()
        self._account.carry_out(outcome)
        return Reply(207, [{"id": order.id, "status": 200} for order in outcome.orders])

    def _admits(self, request: Request) -> bool:
        return self._credentials is None or _credentials(request) == self._credentials


class _BoundedRequest(Request):
    """A request that keeps no more of its body than it takes to see that it is too large."""

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a chunk, or the part of it that still fits."""
        assert self.content is not None, "opened when the headers ended"
        super().handleContentChunk(data[: LARGEST_BODY + 1 - self.content.tell()])


class ApiSite(Site):
    """The site of one account; it logs no requests."""

    noisy = False

    def __init__(self, reactor: IReactorTime, api: Api) -> None:
        super().__init__(api, requestFactory=_BoundedRequest, reactor=reactor)

    def log(self, request: Any) -> None:
        """Write nothing: a line for each request is no state change."""


@dataclass(frozen=True, slots=True)
class _Json:
    """A JSON value, which may itself be null."""

    value: Any


def _parse(body: bytes) -> _Json | None:
    try:
        return _Json(json.loads(body.decode(), parse_constant=_refuse_constant))
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> Any:
    # Python would read NaN and Infinity, and write them again: no JSON for anyone else.
    raise ValueError(name)


def _refused(refusal: Refusal) -> Reply:
    return Reply(refusal.status, {"code": refusal.code, "message": refusal.message})


def _one(found: Order | Refusal) -> Reply | Refusal:
    return found if isinstance(found, Refusal) else Reply(200, found.document())


def _first(orders: tuple[Order, ...] | Refusal) -> Reply | Refusal:
    return orders if isinstance(orders, Refusal) else _one(orders[0])


def _argument(request: Request, name: bytes) -> str:
    values: list[bytes] = request.args.get(name, [b""])
    return values[0].decode(errors="replace")


def _credentials(request: Request) -> Credentials:
    scheme, _, token = (request.getHeader("authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return OAuthToken(Secret(token))
    key_id, secret_key = request.getHeader("apca-api-key-id"), request.getHeader("apca-api-secret-key")
    return KeyPair(Secret(key_id or ""), Secret(secret_key or ""))
