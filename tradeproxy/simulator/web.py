"""The simulated account over HTTP: the stream, orders, what happened, the account, and faults to order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from autobahn.twisted.resource import WebSocketResource
from twisted.web.http import datetimeToString
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from tradeproxy.simulator.activities import (
    list_activities,
    moment,
    parse_activity_query,
    whole_number,
)
from tradeproxy.simulator.errors import ApiError
from tradeproxy.simulator.faults import FaultKind, parse_fault
from tradeproxy.simulator.history import event_payload
from tradeproxy.simulator.orders import choice, parse_order, parse_replacement
from tradeproxy.simulator.replay import Damage, parse_event_range
from tradeproxy.simulator.stream import BANNER, StreamFactory, StreamProtocol
from tradeproxy.wire.credentials import KeyPair, OAuthToken, Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.simulator.faults import Fault
    from tradeproxy.simulator.simulator import Simulator
    from tradeproxy.wire.credentials import Credentials

LARGEST_BODY = 1024 * 1024
"""The largest body of a request, in bytes."""

DEFAULT_LIMIT, LARGEST_LIMIT = 50, 500
"""How many orders GET /v2/orders lists, unasked and at most."""

Answer: TypeAlias = tuple[int, Any]
"""An HTTP status and a JSON value; None for no body."""

Answers: TypeAlias = "Callable[[], Answer | None]"
"""What finds the answer to a request; None is one that is under way, or will be."""


class Api(Resource):
    """All paths."""

    isLeaf = True

    def __init__(self, simulator: Simulator, stream: StreamFactory) -> None:
        super().__init__()
        self._simulator = simulator
        self._exchange = simulator.exchange
        self._stream = WebSocketResource(stream)

    def render(self, request: Request) -> bytes | int:
        """Answer a request; the stream's connection is Autobahn's from here on."""
        path = [part.decode(errors="replace") for part in request.postpath or []]
        if path == ["stream"]:
            taken_over: bytes | int = self._stream.render(request)
            return taken_over
        body = self._respond(request, lambda: self._answer(request, path))
        return NOT_DONE_YET if body is None else body

    def _respond(self, request: Request, answer: Answers) -> bytes | None:
        """Set the status and the headers, and return the body; None if someone else writes it."""
        request.setHeader(b"Server", BANNER.encode())
        request.setHeader(b"Date", datetimeToString(self._simulator.seconds()))
        try:
            answered = answer()
        except ApiError as refusal:
            answered = refusal.status, {"code": refusal.code, "message": refusal.message}
            if refusal.retry_after is not None:
                request.setHeader(b"Retry-After", str(refusal.retry_after).encode())
        if answered is None:
            return None
        status, document = answered
        request.setResponseCode(status)
        if document is None:
            return b""
        request.setHeader(b"Content-Type", b"application/json; charset=UTF-8")
        return json.dumps(document, separators=(",", ":")).encode()

    def _answer(self, request: Request, path: list[str]) -> Answer | None:
        if request.requestHeaders.hasHeader(b"Origin"):
            raise ApiError(403, 40310000, "no web page is to order anything here")
        if path[:1] == ["v2"] and not self._simulator.accepts(_credentials(request)):
            raise ApiError(403, 40310000, "forbidden.")
        if request.method == b"GET" and path[:1] == ["v2"]:
            _refuse_if(self._simulator.fault(FaultKind.REST_REFUSE))
        match request.method, path:
            case b"POST", ["simulator", "emit"]:
                return self._emit(_json(request))
            case b"POST", ["simulator", "fault"]:
                return self._inject(_json(request))
            case b"GET", ["v2", "account"]:
                return 200, self._exchange.account()
            case b"GET", ["v2", "account", "activities"]:
                return 200, list_activities(
                    self._simulator.history, parse_activity_query(_query(request))
                )
            case b"GET", ["v2", "account", "activities", activity_type]:
                page = parse_activity_query(_query(request) | {"activity_types": activity_type})
                return 200, list_activities(self._simulator.history, page)
            case b"GET", ["v2", "events", "trades"]:
                return self._begin_events(request)
            case b"GET", ["v2", "orders"]:
                return self._list(request)
            case b"POST", ["v2", "orders"]:
                return self._submit(_json(request))
            case b"DELETE", ["v2", "orders"]:
                canceled = self._simulator.apply(self._exchange.cancel_all())
                return 207, [{"id": order.id, "status": 200} for order in canceled]
            case b"GET", ["v2", "orders", order_id]:
                return 200, self._exchange.order(order_id).document()
            case b"PATCH", ["v2", "orders", order_id]:
                return self._replace(order_id, _json(request))
            case b"DELETE", ["v2", "orders", order_id]:
                self._simulator.apply(self._exchange.cancel(order_id))
                return 204, None
        raise ApiError(404, 40410000, "endpoint not found.")

    def _emit(self, data: Any) -> Answer:
        if not isinstance(data, dict):
            raise ApiError(400, 40010000, "the body is the event's data, a JSON object")
        return 200, {
            "delivered": self._simulator.emit_payload(event_payload(self._exchange.stamped(data)))
        }

    def _inject(self, document: Any) -> Answer:
        fault = parse_fault(document)
        self._simulator.inject(fault)
        return 200, {"injected": fault.kind.value}

    def _list(self, request: Request) -> Answer:
        fields = {"status": "open", "direction": "desc", "limit": str(DEFAULT_LIMIT)} | _query(
            request
        )
        limit = whole_number(fields, "limit", LARGEST_LIMIT)
        found = self._exchange.orders(
            choice(fields, "status", ("open", "closed", "all")),
            newest_first=choice(fields, "direction", ("asc", "desc")) == "desc",
            after=moment(fields, "after"),
            until=moment(fields, "until"),
        )
        return 200, [order.document() for order in found[:limit]]

    def _begin_events(self, request: Request) -> Answer | None:
        if held := self._simulator.fault(FaultKind.HISTORY_DELAY):
            self._simulator.feeds.delay(request, held.delay, lambda: self._answer_at_last(request))
            return None
        return self._events(request)

    def _answer_at_last(self, request: Request) -> None:
        """Answer a request for events that was held back, as twisted.web would have."""
        body = self._respond(request, lambda: self._events(request))
        if body is not None:
            request.setHeader(b"Content-Length", str(len(body)).encode())
            request.write(body)
            request.finish()

    def _events(self, request: Request) -> Answer | None:
        _refuse_if(self._simulator.fault(FaultKind.HISTORY_REFUSE))
        span = parse_event_range(_query(request))
        cut = self._simulator.fault(FaultKind.HISTORY_TRUNCATE)
        drop = self._simulator.fault(FaultKind.HISTORY_DROP)
        damage = Damage(
            cut_after=cut.events if cut else None,
            drop_after=drop.events if drop else None,
            dropped=drop.dropped if drop else 0,
        )
        self._simulator.feeds.open(request, span, damage)
        return None

    def _submit(self, document: Any) -> Answer:
        (order,) = self._simulator.apply(self._exchange.submit(parse_order(document)))
        return 200, order.document()

    def _replace(self, order_id: str, document: Any) -> Answer:
        (order,) = self._simulator.apply(
            self._exchange.replace(order_id, parse_replacement(document))
        )
        return 200, order.document()


class _BoundedRequest(Request):
    """A request that keeps no more of its body than it takes to see that it is too large."""

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a chunk, or the part of it that still fits."""
        assert self.content is not None, "opened when the headers ended"
        super().handleContentChunk(data[: LARGEST_BODY + 1 - self.content.tell()])


class ApiSite(Site):
    """The site of one account; it logs no requests."""

    noisy = False

    def __init__(
        self, simulator: Simulator, protocol: type[StreamProtocol] = StreamProtocol
    ) -> None:
        stream = StreamFactory(simulator)
        stream.protocol = protocol
        super().__init__(
            Api(simulator, stream), requestFactory=_BoundedRequest, reactor=simulator.reactor
        )

    def log(self, request: Any) -> None:
        """Write nothing: a line for each request is no state change."""


def _refuse_if(fault: Fault | None) -> None:
    if fault is not None:
        code = fault.status * 100_000 + 10_000  # as Alpaca's own are made
        raise ApiError(fault.status, code, "refused as ordered", fault.retry_after)


def _query(request: Request) -> dict[str, str]:
    """Return the parameters in the request's URL; of several by one name, the first."""
    return {
        name.decode(errors="replace"): values[0].decode(errors="replace")
        for name, values in request.args.items()
    }


def _json(request: Request) -> Any:
    assert request.content is not None, "the body has been received"
    body = request.content.read()
    if len(body) > LARGEST_BODY:
        raise ApiError(413, 41310000, f"request body is over {LARGEST_BODY} bytes")
    try:
        return json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ApiError(400, 40010000, "request body is not JSON") from None


def _refuse_constant(name: str) -> Any:
    # Python would read NaN and Infinity, and write them again: no JSON for anyone else.
    raise ValueError(name)


def _credentials(request: Request) -> Credentials:
    scheme, _, token = (request.getHeader("authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return OAuthToken(Secret(token))
    key_id, secret_key = (
        request.getHeader("apca-api-key-id"),
        request.getHeader("apca-api-secret-key"),
    )
    return KeyPair(Secret(key_id or ""), Secret(secret_key or ""))
