"""The site: it checks the admission of each request and calls the endpoint that the path names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tradeproxy.config.accounts import name_variables
from tradeproxy.downstream.admission import Admission, Rejection
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.downstream.log_range import resolve_query
from tradeproxy.downstream.session import ProtocolMode
from tradeproxy.downstream.sse import HEADERS, SseContext, SseResponse, free_head
from tradeproxy.hub.account import Account
from tradeproxy.query.parameters import QueryError
from tradeproxy.query.stream import SubscribeOptions, parse_history_query, parse_subscribe_options
from tradeproxy.runtime.peer import format_peer
from tradeproxy.web.channel import ProxySite
from tradeproxy.web.cors import allow_reading, answer_preflight, is_preflight, is_shared
from tradeproxy.web.health import drop_counts, healthz, readyz
from tradeproxy.web.metrics import Metrics
from tradeproxy.web.request_info import TrustedProxies, read_header, read_request_info
from tradeproxy.web.responses import render_rejection, send_body, set_uncached
from tradeproxy.web.rest_proxy import MAX_BODY_SIZE, OFF, RestProxy
from tradeproxy.web.routes import (
    AssetRoute,
    PageRoute,
    RestRequest,
    Route,
    SseRoute,
    StateRoute,
    StrategyRoute,
    StreamRoute,
    match_rest_request,
    route,
)
from tradeproxy.web.state_pages import BOOK_OFF, StatePages
from tradeproxy.web.static import StaticFiles
from tradeproxy.web.status import StatusPage
from tradeproxy.web.strategy_changes import begin_assignment, render_import
from tradeproxy.webhooks.state import DeliveryStats
from tradeproxy.wire.origin_rules import RequestInfo

Answer: TypeAlias = bytes | int | Rejection
"""A body, NOT_DONE_YET, or a rejection."""

READ_METHODS = (b"GET", b"HEAD")
DEFAULT_OPTIONS = SubscribeOptions()
NO_PROXIES = TrustedProxies()
METHOD_NOT_ALLOWED = Rejection(405, "only GET and HEAD are allowed here")
NO_WEBSOCKET = Rejection(
    400, "this path has server-sent events; the WebSocket is at the path before /v2/events/trades"
)
NOT_FOUND = Rejection(404, "not found; the streams are at /trade-updates-<account>")
NOT_LOADED = Rejection(503, "this node has not read the shared log yet; come back in a second")
FULL = Rejection(503, "no connection is free; PROXY_MAX_CLIENTS is the limit", retry_after=5)
FOREIGN = Rejection(403, "a page of another origin is not to give orders")

IDLE_TIMEOUT = 75.0
"""Seconds that an idle connection is kept if the REST proxy is on.

A bot that sends a request every minute can keep using one connection. Otherwise an order could be
sent just as the proxy closes the connection.
"""


def build_site(
    accounts: Mapping[str, Account],
    factory: DownstreamFactory,
    admission: Admission,
    clock: IReactorTime,
    wall_clock: Callable[[], float],
    rest_proxy: RestProxy | None = None,
    trusted_proxies: TrustedProxies = NO_PROXIES,
    list_webhooks: Callable[[], Sequence[DeliveryStats]] = tuple,
) -> ProxySite:
    """Return the site of `accounts`.

    Args:
        accounts: the accounts by name, as in the paths.
        factory: upgrades requests to WebSockets; its limits and its throttle apply to the site.
        admission: checks Host, Origin and token.
        clock: for time limits.
        wall_clock: for time stamps; Unix time in seconds.
        rest_proxy: forwards REST requests; None answers them with 404.
        trusted_proxies: the reverse proxies whose X-Forwarded headers count.
        list_webhooks: returns the state of every webhook and account.
    """
    root = Root(
        accounts, factory, admission, rest_proxy, trusted_proxies, clock, wall_clock, list_webhooks
    )
    timeout = factory.limits.handshake_timeout
    site = ProxySite(root, timeout=timeout, reactor=clock, parsePOSTFormSubmission=False)
    site.throttle = factory.throttle
    site.tls_handshakes = factory.tls_handshakes
    site.sockets = factory.clients.sockets
    site.idle_timeout = timeout
    if rest_proxy is not None:
        site.max_body_kept = MAX_BODY_SIZE + 1  # one byte more shows that a body is too long
        site.idle_timeout = IDLE_TIMEOUT
    return site


class Root(Resource):
    """The resource of every path.

    twisted.web's own lookup splits the path at slashes, so repeated slashes would not match.
    """

    isLeaf = True

    def __init__(
        self,
        accounts: Mapping[str, Account],
        factory: DownstreamFactory,
        admission: Admission,
        rest_proxy: RestProxy | None,
        trusted_proxies: TrustedProxies,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        list_webhooks: Callable[[], Sequence[DeliveryStats]],
    ) -> None:
        super().__init__()
        self._accounts = accounts
        self._factory = factory
        self._events = SseContext(factory.clients, factory.limits, clock)
        self._admission = admission
        self._rest_proxy = rest_proxy
        self._trusted_proxies = trusted_proxies
        self._clock = clock
        self._list_webhooks = list_webhooks
        self._state = StatePages(factory.clients, clock)
        self._status = StatusPage(accounts, factory.clients, wall_clock, list_webhooks)
        self._metrics = Metrics(accounts.values(), factory.clients, clock.seconds, list_webhooks)
        self._pages = StaticFiles()

    def render(self, request: Request) -> bytes | int:
        """Answer the request, or upgrade its connection to a WebSocket."""
        request.setHeader(b"server", b"tradeproxy")
        try:
            answer = self._answer(request)
        except QueryError as error:
            answer = Rejection(400, str(error))
        if isinstance(answer, Rejection):
            answer = render_rejection(request, answer)
        if isinstance(answer, bytes) and request.method == b"HEAD":
            request.setHeader(b"content-length", b"%d" % len(answer))
            return b""
        return answer

    def _answer(self, request: Request) -> Answer:
        destination = route(request.path)
        upgradable = isinstance(destination, StreamRoute)
        info = read_request_info(request, self._trusted_proxies, upgradable=upgradable)
        if isinstance(info, Rejection):
            return self._count(request, info)
        is_dashboard = isinstance(destination, AssetRoute) or destination is PageRoute.DASHBOARD
        if is_dashboard and read_header(request, b"sec-fetch-mode") == "navigate":
            # A user may open the dashboard from a link on any page. Embedding stays forbidden.
            info = replace(info, fetch_site=None)
        reader = info.origin if info.origin is not None and is_shared(destination) else None
        asks_first = reader is not None and is_preflight(request)
        rejection = self._admission.check(info, public=asks_first or _is_public(destination))
        is_admitted = rejection is None or rejection.status == 401  # the token is checked last
        if is_admitted and reader is not None:
            allow_reading(request, reader)
        if rejection is not None:
            self._count(request, rejection)
            if rejection.status == 401:
                return self._delay_wrong_token(request, info, rejection)
            return rejection
        if asks_first:
            return answer_preflight(request)
        return self._render_destination(request, destination, info)

    def _render_destination(
        self, request: Request, destination: Route | None, info: RequestInfo
    ) -> Answer:
        """Answer an admitted request."""
        match destination:
            case StreamRoute(name) | SseRoute(name) | StateRoute(name) | StrategyRoute(name) if (
                name not in self._accounts
            ):
                return _name_missing_account(name)
            case StreamRoute(name, mode):
                return self._render_stream(request, self._accounts[name], mode, info)
            case StrategyRoute():
                return self._render_strategy(request, destination, info)
            case SseRoute() | StateRoute() | PageRoute() | AssetRoute() if (
                request.method not in READ_METHODS
            ):
                return METHOD_NOT_ALLOWED
            case SseRoute(name):
                return self._render_events(request, self._accounts[name], info)
            case StateRoute():
                return self._render_state(request, destination)
            case PageRoute.STATUS:
                set_uncached(request)
                return self._status.render()
            case PageRoute.METRICS:
                return self._render_metrics(request)
            case PageRoute.READYZ:
                return self._render_readyz(request, info)
            case PageRoute.HEALTHZ:
                return _render_page(request, *healthz(self._accounts.values()))
            case PageRoute.DASHBOARD:
                return _redirect_to_root(request)
            case AssetRoute(name):
                content = self._pages.render(request, name)
                return NOT_FOUND if content is None else content
        match match_rest_request(request.uri):
            case RestRequest() as rest_request:
                return self._render_rest(request, rest_request, info)
            case rejection:
                return rejection or NOT_FOUND

    def _render_readyz(self, request: Request, info: RequestInfo) -> Answer:
        counts = self._factory.clients.count_by_account()
        status, document = readyz(self._accounts.values(), counts, self._list_webhooks())
        if self._admission.check(info) is None:
            return _render_page(request, status, document)
        # The difference shows whether a token is right, so a wrong one counts here too.
        page = _render_page(request, status, drop_counts(document))
        return self._delay_wrong_token(request, info, page)

    def _render_metrics(self, request: Request) -> bytes:
        content, content_type = self._metrics.render(read_header(request, b"accept") or "")
        set_uncached(request, content_type.encode())
        return content

    def _render_stream(
        self, request: Request, account: Account, mode: ProtocolMode, info: RequestInfo
    ) -> Answer:
        if not info.upgrade:
            return Rejection(426, "this is a WebSocket: connect to it with ws:// or wss://")
        query = _get_query(request)
        options = DEFAULT_OPTIONS
        if query:
            options = parse_subscribe_options(query, account.dates.since_limit())
        if options.snapshot and account.name not in self._factory.books:
            return BOOK_OFF
        if (rejection := self._find_obstacle(request, account)) is not None:
            return rejection
        return self._factory.upgrade(request, account, mode, options, self._admission.grant(info))

    def _render_events(self, request: Request, account: Account, info: RequestInfo) -> Answer:
        if (read_header(request, b"upgrade") or "").lower() == "websocket":
            return NO_WEBSOCKET
        last_id, limit = read_header(request, b"last-event-id"), account.dates.since_limit()
        query = parse_history_query(_get_query(request), last_id, limit)
        book = self._factory.books.get(account.name) if query.snapshot else None
        if query.snapshot and book is None:
            return BOOK_OFF
        if not account.log.is_loaded:
            return self._count(request, NOT_LOADED)
        log_range = resolve_query(account, query)
        if isinstance(log_range, Rejection):
            return log_range
        if self._factory.clients.is_full:
            return self._count(request, FULL)
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        if request.method == b"HEAD":
            request.finish()
        else:
            grant = self._admission.grant(info)
            SseResponse(self._events, request, account, query, log_range, grant, book).begin()
        return NOT_DONE_YET

    def _render_state(self, request: Request, destination: StateRoute) -> Answer:
        book = self._factory.books.get(destination.account)
        if book is None:
            return BOOK_OFF
        if (rejection := self._find_obstacle(request, book.account)) is not None:
            return rejection
        page, order_id = destination.page, destination.order_id
        return self._state.render(request, book, page, order_id, _get_query(request))

    def _render_strategy(
        self, request: Request, destination: StrategyRoute, info: RequestInfo
    ) -> Answer:
        if self._admission.is_foreign(info):
            return self._count(request, FOREIGN)
        book = self._factory.books.get(destination.account)
        if book is None:
            return BOOK_OFF
        query = _get_query(request)
        if destination.order_id is None:
            return render_import(request, book, query)
        work = begin_assignment(request, book, destination.order_id, query, self._clock)
        if isinstance(work, Rejection):
            return work
        return self._find_obstacle(request) or self._state.begin(request, work)

    def _render_rest(
        self, request: Request, rest_request: RestRequest, info: RequestInfo
    ) -> Answer:
        if self._rest_proxy is None:
            return OFF
        if rest_request.account not in self._accounts:
            return _name_missing_account(rest_request.account)
        if self._rest_proxy.admission.check(info) is not None:
            return self._count(request, FOREIGN)
        return self._find_obstacle(request) or self._rest_proxy.render(request, rest_request)

    def _delay_wrong_token(
        self, request: Request, info: RequestInfo, answer: bytes | Rejection
    ) -> Answer:
        """Return an answer now, or send it later if its address has sent many wrong tokens."""
        address = getattr(request.getClientAddress(), "host", "")
        delay = self._factory.wrong_tokens.record(address) if info.offers else 0.0
        if not delay:
            return answer
        body = render_rejection(request, answer) if isinstance(answer, Rejection) else answer
        free_head(request)
        sending = self._clock.callLater(delay, _finish, request, body)
        request.notifyFinish().addErrback(lambda _: sending.cancel())
        return NOT_DONE_YET

    def _find_obstacle(self, request: Request, account: Account | None = None) -> Rejection | None:
        """Return why there is no answer now: no log to read, or no free place; None if there is."""
        if account is not None and not account.log.is_loaded:
            return self._count(request, NOT_LOADED)
        return self._count(request, FULL) if self._factory.clients.is_full else None

    def _count(self, request: Request, rejection: Rejection) -> Rejection:
        peer = format_peer(request.getClientAddress())
        self._factory.clients.rejections.record(peer, rejection.reason)
        return rejection


def _name_missing_account(name: str) -> Rejection:
    return Rejection(404, f"no account {name!r} here: set {name_variables(name)}")


def _render_page(request: Request, status: int, document: dict[str, Any]) -> bytes:
    request.setResponseCode(status)
    set_uncached(request)
    return json.dumps(document, indent=2).encode() + b"\n"


def _finish(request: Request, body: bytes) -> None:
    send_body(request, body)
    request.finish()


def _get_query(request: Request) -> bytes:
    return request.uri.partition(b"?")[2]


def _redirect_to_root(request: Request) -> bytes:
    """Redirect `/dashboard`, with its query, to the dashboard.

    The location is relative: behind a reverse proxy, the root may be at a path of its own.
    """
    root = b"../" if request.path.endswith(b"/") else b"./"
    query = _get_query(request)
    request.setResponseCode(307)
    request.setHeader(b"location", root + b"?" + query if query else root)
    request.setHeader(b"cache-control", b"no-cache")
    return b""


def _is_public(destination: Route | None) -> bool:
    """Return whether a route needs no token: health and the dashboard's files are public."""
    is_private = destination in (PageRoute.STATUS, PageRoute.METRICS)
    return isinstance(destination, PageRoute | AssetRoute) and not is_private
