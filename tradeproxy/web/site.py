"""The one site on the one port: admits each request, then gives it to the endpoint that it names."""

from __future__ import annotations

import json
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from twisted.web.resource import Resource

from tradeproxy.config.accounts import name_variables
from tradeproxy.downstream.admission import Admission, Rejection, RequestInfo
from tradeproxy.downstream.handshake import VERSION
from tradeproxy.downstream.query import (
    SubscribeOptions,
    parse_history_query,
    parse_subscribe_options,
)
from tradeproxy.downstream.sse import SseResponses, resolve_query
from tradeproxy.web import rest_proxy
from tradeproxy.web.channel import ProxySite
from tradeproxy.web.health import healthz, readyz
from tradeproxy.web.metrics import Metrics
from tradeproxy.web.routes import (
    AssetRoute,
    PageRoute,
    SseRoute,
    StreamRoute,
    match_rest_request,
    route,
)
from tradeproxy.web.static import StaticFiles
from tradeproxy.web.status import StatusPage
from tradeproxy.wire.credentials import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from tradeproxy.downstream.factory import DownstreamFactory
    from tradeproxy.downstream.session import ProtocolMode
    from tradeproxy.hub.account import Account
    from tradeproxy.web.rest_proxy import RestProxy
    from tradeproxy.web.routes import RestRequest, Route

READING = (b"GET", b"HEAD")
DEFAULT_OPTIONS = SubscribeOptions()
PROBES = {PageRoute.HEALTHZ: healthz, PageRoute.READYZ: readyz}
METHOD_NOT_ALLOWED = Rejection(405, "only GET and HEAD are answered here")
NO_WEBSOCKET = Rejection(
    400, "here are server-sent events; the WebSocket is at the path before /v2/events/trades"
)
NOT_FOUND = Rejection(404, "nothing is here; the streams are at /trade-updates-<account>")
NOT_LOADED = Rejection(503, "this node has not read the shared log yet; come back in a second")
FULL = Rejection(503, "no connection is free; PROXY_MAX_CLIENTS is the limit")
FOREIGN = Rejection(403, "a page of another origin is not to give orders")

IDLE_TIMEOUT = 75.0
"""Seconds that a connection is kept for a further request, where orders come: one that a bot sends every five
seconds, or every minute, is not to meet the connection's end."""


def build_site(
    accounts: Mapping[str, Account],
    factory: DownstreamFactory,
    admission: Admission,
    clock: IReactorTime,
    passthrough: RestProxy | None = None,
) -> ProxySite:
    """Return the site that serves `accounts`, and passes their REST interface through if it is to."""
    events = SseResponses(factory.clients, factory.limits, clock)
    root = Root(accounts, factory, events, admission, passthrough, clock)
    timeout = factory.limits.handshake_timeout
    site = ProxySite(root, timeout=timeout, reactor=clock, parsePOSTFormSubmission=False)
    site.throttle = factory.throttle
    site.idle_timeout = timeout
    if passthrough is not None:
        site.max_body_kept = rest_proxy.MAX_BODY_SIZE + 1  # enough to see that one is too long
        site.idle_timeout = IDLE_TIMEOUT
    return site


class Root(Resource):
    """Every path: twisted.web's own lookup would split it before repeated slashes are seen."""

    isLeaf = True

    def __init__(
        self,
        accounts: Mapping[str, Account],
        factory: DownstreamFactory,
        events: SseResponses,
        admission: Admission,
        passthrough: RestProxy | None,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self._accounts = accounts
        self._factory = factory
        self._events = events
        self._admission = admission
        self._rest_proxy = passthrough
        self._clock = clock
        self._status = StatusPage(accounts, factory.clients, clock)
        self._metrics = Metrics(accounts.values(), factory.clients)
        self._pages = StaticFiles()

    def render(self, request: Request) -> bytes | int:
        """Answer, or hand the connection to Autobahn."""
        request.setHeader(b"server", b"tradeproxy")
        answer = self._answer(request)
        if isinstance(answer, bytes) and request.method == b"HEAD":
            request.setHeader(b"content-length", b"%d" % len(answer))
            return b""
        return answer

    def _answer(self, request: Request) -> bytes | int:
        destination = route(request.path)
        visitor = _read_request_info(request, upgradable=isinstance(destination, StreamRoute))
        if (
            isinstance(destination, AssetRoute)
            and _header(request, b"sec-fetch-mode") == "navigate"
        ):
            visitor = replace(
                visitor, fetch_site=None
            )  # a link on another page, or a bookmark, may lead here
        refusal = self._admission.check(visitor, public=_is_public(destination))
        if refusal is not None:
            return self._reject_and_count(request, refusal)
        match destination:
            case StreamRoute(name) | SseRoute(name) if name not in self._accounts:
                return _render_rejection(
                    request, Rejection(404, f"no account {name!r} here: set {name_variables(name)}")
                )
            case StreamRoute(name, manner):
                return self._render_stream(request, self._accounts[name], manner, visitor)
            case SseRoute(name):
                return self._render_events(request, self._accounts[name], visitor)
            case PageRoute.STATUS:
                return self._render_status(request)
            case PageRoute.METRICS:
                return self._render_metrics(request)
            case PageRoute():
                return self._render_page(request, destination)
            case AssetRoute(name):
                return self._render_asset(request, name)
        call = match_rest_request(request.uri)
        if call is not None:
            return self._render_rest(request, call, visitor)
        return _render_rejection(request, NOT_FOUND)

    def _render_page(self, request: Request, page: PageRoute) -> bytes:
        if request.method not in READING:
            return _render_rejection(request, METHOD_NOT_ALLOWED)
        status, document = PROBES[page](self._accounts.values())
        request.setResponseCode(status)
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        return json.dumps(document, indent=2).encode() + b"\n"

    def _render_status(self, request: Request) -> bytes:
        if request.method not in READING:
            return _render_rejection(request, METHOD_NOT_ALLOWED)
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        return self._status.render()

    def _render_metrics(self, request: Request) -> bytes:
        if request.method not in READING:
            return _render_rejection(request, METHOD_NOT_ALLOWED)
        content, content_type = self._metrics.render(_header(request, b"accept") or "")
        request.setHeader(b"content-type", content_type.encode())
        request.setHeader(b"cache-control", b"no-store")
        return content

    def _render_asset(self, request: Request, name: str) -> bytes:
        if request.method not in READING:
            return _render_rejection(request, METHOD_NOT_ALLOWED)
        content = self._pages.render(request, name)
        return _render_rejection(request, NOT_FOUND) if content is None else content

    def _render_stream(
        self, request: Request, account: Account, manner: ProtocolMode, visitor: RequestInfo
    ) -> bytes | int:
        if not visitor.upgrade:
            return _render_rejection(
                request, Rejection(426, "this is a WebSocket: connect to it with ws:// or wss://")
            )
        query = _query(request)
        wishes = parse_subscribe_options(query, self._clock.seconds()) if query else DEFAULT_OPTIONS
        if isinstance(wishes, Rejection):
            return _render_rejection(request, wishes)
        if not account.journal.is_loaded:
            return self._reject_and_count(request, NOT_LOADED)
        if self._factory.clients.is_full:
            return self._reject_and_count(request, FULL)
        answer = self._factory.upgrade(
            request, account, manner, wishes, self._admission.get_authenticator(visitor)
        )
        return _render_rejection(request, answer) if isinstance(answer, Rejection) else answer

    def _render_events(
        self, request: Request, account: Account, visitor: RequestInfo
    ) -> bytes | int:
        if request.method not in READING:
            return _render_rejection(request, METHOD_NOT_ALLOWED)
        if (_header(request, b"upgrade") or "").lower() == "websocket":
            return _render_rejection(request, NO_WEBSOCKET)
        span = parse_history_query(
            _query(request), _header(request, b"last-event-id"), self._clock.seconds()
        )
        if isinstance(span, Rejection):
            return _render_rejection(request, span)
        if not account.journal.is_loaded:
            return self._reject_and_count(request, NOT_LOADED)
        stretch = resolve_query(account, span)
        if isinstance(stretch, Rejection):
            return _render_rejection(request, stretch)
        if self._factory.clients.is_full:
            return self._reject_and_count(request, FULL)
        if visitor.origin is not None:  # it has been admitted, and the browser shall let it read
            request.setHeader(b"access-control-allow-origin", visitor.origin.encode("latin-1"))
            request.setHeader(b"vary", b"origin")
        return self._events.render(request, account, stretch)

    def _render_rest(
        self, request: Request, call: RestRequest, visitor: RequestInfo
    ) -> bytes | int:
        if self._rest_proxy is None:
            return rest_proxy.render_error(request, 404, rest_proxy.OFF)
        if call.account not in self._accounts:
            variables = name_variables(call.account)
            return rest_proxy.render_error(
                request, 404, f"no account {call.account!r} here: set {variables}"
            )
        if self._rest_proxy.admission.check(visitor) is not None:
            return self._reject_and_count(request, FOREIGN)
        if self._factory.clients.is_full:
            self._count_rejection(request, FULL)
            return rest_proxy.render_error(request, FULL.status, FULL.reason)
        return self._rest_proxy.render(request, call)

    def _reject_and_count(self, request: Request, refusal: Rejection) -> bytes:
        self._count_rejection(request, refusal)
        return _render_rejection(request, refusal)

    def _count_rejection(self, request: Request, refusal: Rejection) -> None:
        peer = request.getClientAddress()
        self._factory.clients.rejections.record(getattr(peer, "host", "a client"), refusal.reason)


def _query(request: Request) -> bytes:
    return request.uri.partition(b"?")[2]


def _is_public(destination: Route | None) -> bool:
    """Whether anybody may have it without a token: health, and the dashboard's files, which hold nothing."""
    return isinstance(destination, PageRoute | AssetRoute) and destination not in (
        PageRoute.STATUS,
        PageRoute.METRICS,
    )


def _read_request_info(request: Request, *, upgradable: bool) -> RequestInfo:
    said = {name: _text(values) for name, values in request.requestHeaders.getAllRawHeaders()}
    scheme, _, bearer = said.get(b"Authorization", "").partition(" ")
    offers = (
        bearer.strip() if scheme.lower() == "bearer" else None,
        said.get(b"Apca-Api-Key-Id"),
        said.get(b"Apca-Api-Secret-Key"),
    )
    return RequestInfo(
        host=said.get(b"Host"),
        origin=said.get(b"Origin"),
        secure=request.isSecure(),
        local_address=getattr(request.getHost(), "host", None),
        offers=tuple([Secret(offer) for offer in offers if offer]),
        upgrade=upgradable and said.get(b"Upgrade", "").lower() == "websocket",
        fetch_site=said.get(b"Sec-Fetch-Site"),
    )


def _header(request: Request, name: bytes) -> str | None:
    values = request.requestHeaders.getRawHeaders(name)
    return None if values is None else _text(values)


def _text(values: Sequence[bytes]) -> str:
    # One that was sent twice becomes a list, which is no host, no origin and no token.
    return b", ".join(values).decode("latin-1")


def _render_rejection(request: Request, refusal: Rejection) -> bytes:
    request.setResponseCode(refusal.status, HTTPStatus(refusal.status).phrase.encode())
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    if refusal.status == 401:
        request.setHeader(b"www-authenticate", b"Bearer")
    if refusal.status == 426:
        request.setHeader(b"upgrade", b"websocket")
        request.setHeader(b"sec-websocket-version", VERSION)
    if refusal.status == 503:
        request.setHeader(b"retry-after", b"1")
    if refusal.status == 405:
        request.setHeader(b"allow", b"GET, HEAD")
    return refusal.reason.encode() + b"\n"
