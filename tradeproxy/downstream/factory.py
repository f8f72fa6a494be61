"""The server factory: turns an admitted HTTP request into a WebSocket client."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from tradeproxy.book.book import Book
from tradeproxy.config.settings import Limits
from tradeproxy.downstream import autobahn_slim
from tradeproxy.downstream.admission import Grant, Rejection, WrongTokens
from tradeproxy.downstream.client_log import ClientLog, read_client_info
from tradeproxy.downstream.clients import Clients
from tradeproxy.downstream.connection import ConnectionContext, DownstreamProtocol
from tradeproxy.downstream.encoder import FrameEncoder, add_cursor, encode_text
from tradeproxy.downstream.handshake_limits import AuthDeadlines, HandshakeThrottle, TlsHandshakes
from tradeproxy.downstream.log_reader import LogReader
from tradeproxy.downstream.send_group import SendGroups
from tradeproxy.downstream.session import ClientSession, ProtocolMode
from tradeproxy.downstream.subscription import SharedEncoders
from tradeproxy.hub.account import Account
from tradeproxy.query.stream import SubscribeOptions
from tradeproxy.runtime.peer import format_peer
from tradeproxy.runtime.socket_limit import SocketLimit
from tradeproxy.wire.messages import Sendable, encode

PING_INTERVAL = 20
"""Seconds. Pings keep an idle connection alive in NATs and proxies, and find dead clients."""

PONG_TIMEOUT = 180
"""Seconds, as in alpaca-py. A bot that computes does not answer a ping in the meantime.

With a slow reader the ping itself waits behind megabytes in the kernel's buffers. Neither may lose
its stream. The proxy does not read pongs while a client stalls, so a longer `stall_timeout` makes
this timeout longer too."""

_DIALECTS = {ProtocolMode.ORIGINAL: "WebSocket", ProtocolMode.ALPACA: "WebSocket, as Alpaca's"}

SUBPROTOCOL = b"tradeproxy"
"""The subprotocol that is chosen if a client offers it. A browser that offers some needs one."""

REPLACED = "closed for a newer connection: no place was free"
TOO_MUCH = "closed: the unfinished requests of all connections were too large"
"""The reason that is counted for a socket that had not logged in."""


class DownstreamFactory(WebSocketServerFactory):
    """The factory of all WebSocket clients, with the objects that they share."""

    noisy = False
    protocol: Any = DownstreamProtocol

    def __init__(
        self,
        limits: Limits,
        reactor: IReactorTime,
        sockets: SocketLimit,
        books: Mapping[str, Book] = MappingProxyType({}),
    ) -> None:
        """Create a factory without clients.

        Args:
            limits: of times and messages.
            reactor: timers and intervals.
            sockets: the limit of sockets, and so of clients.
            books: the state of each account, by name; empty if there are no books.
        """
        super().__init__(server="tradeproxy", reactor=reactor)
        self.books = books
        pong_timeout = max(PONG_TIMEOUT, limits.stall_timeout + 2 * PING_INTERVAL)
        self.setProtocolOptions(
            webStatus=False,
            # Admission checks Host, Origin and the client limit before Autobahn gets the request.
            allowNullOrigin=False,
            maxMessagePayloadSize=limits.max_message,
            maxFramePayloadSize=limits.max_message,
            failByDrop=False,
            closeHandshakeTimeout=0,  # CloseTimeoutMixin limits the time
            autoPingInterval=PING_INTERVAL,
            autoPingTimeout=pong_timeout,
            tcpNoDelay=True,
        )
        self._client = autobahn_slim.configure_class(self.protocol, self)
        self.limits = limits
        self.clients = Clients(sockets, ClientLog(reactor))
        self.clients.sockets.on_replaced = partial(self._count_closed, REPLACED)
        self.clients.sockets.on_too_much = partial(self._count_closed, TOO_MUCH)
        self.throttle = HandshakeThrottle(reactor)
        self.frame_throttle = HandshakeThrottle(reactor)
        self.tls_handshakes = TlsHandshakes(self.clients.sockets, reactor)
        self.wrong_tokens = WrongTokens(reactor.seconds)
        plain = FrameEncoder(encode_text)
        self._context = ConnectionContext(
            clock=reactor,
            clients=self.clients,
            encoders=SharedEncoders(
                encode_text,
                plain,
                FrameEncoder(encode_text, add_cursor),
                LogReader(reactor, limits.stall_timeout),
            ),
            encode_reply=cache(_encode_reply),  # about a dozen different replies exist
            send_groups=SendGroups(plain, reactor),
            throttle=self.throttle,
            frame_throttle=self.frame_throttle,
            wrong_tokens=self.wrong_tokens,
            auth_deadlines=AuthDeadlines(limits.auth_timeout, reactor),
            pong_timeout=pong_timeout,
        )

    def _count_closed(self, reason: str, transport: Any) -> None:
        self.clients.rejections.record(format_peer(transport.getPeer()), reason)
        connection = getattr(transport, "wrappedProtocol", None) or transport.protocol
        if isinstance(connection, DownstreamProtocol):
            connection.end_reason = reason

    def upgrade(
        self,
        request: Request,
        account: Account,
        mode: ProtocolMode,
        options: SubscribeOptions,
        grant: Grant,
    ) -> bytes | int | Rejection:
        """Turn an admitted request into a client, and return a result for Resource.render.

        The request asks for an upgrade. The mode is the behaviour of its path, and the options are
        from its query. The grant checks the auth message.

        Returns:
            A rejection if the handshake is invalid. Then `request` is unchanged.
        """
        key = _read_key(request)
        if isinstance(key, Rejection):
            return key
        session = ClientSession(mode, grant.admit, status=options.status)
        info = read_client_info(
            request, _DIALECTS[mode], options, account.dates, is_dashboard=options.is_dashboard
        )
        book = self.books.get(account.name)
        client = self._client(self._context, account, session, options, info, grant, book)
        client.factory = self
        return autobahn_slim.take_over(request, client, key, _choose_subprotocol(request))


def _encode_reply(message: Sendable) -> bytes:
    return encode_text(encode(message))


def _read_key(request: Request) -> bytes | Rejection:
    """Return the client's Sec-WebSocket-Key, or why the opening handshake fails (RFC 6455, 4.2.1).

    The caller has already checked that the request asks for an upgrade to WebSocket.
    """
    headers = request.requestHeaders
    if request.method != b"GET" or request.clientproto != b"HTTP/1.1":
        return Rejection(400, "a WebSocket begins with GET and HTTP/1.1")
    if any(b"msgpack" in each.lower() for each in headers.getRawHeaders(b"content-type", ())):
        return Rejection(415, "the messages are JSON; there is no application/msgpack here")
    connection = b",".join(headers.getRawHeaders(b"connection", ()))
    if b"upgrade" not in (token.strip() for token in connection.lower().split(b",")):
        return Rejection(400, "a WebSocket begins with the header Connection: Upgrade")
    if headers.getRawHeaders(b"sec-websocket-version") != [autobahn_slim.VERSION]:
        return Rejection(426, "this speaks version 13 of WebSocket")
    match headers.getRawHeaders(b"sec-websocket-key"):
        case [key] if _is_key(key):
            return key
    return Rejection(400, "Sec-WebSocket-Key is to be 16 bytes in base64")


def _choose_subprotocol(request: Request) -> bytes | None:
    """Return SUBPROTOCOL if the client offers it. What else it offers may be a secret."""
    offers = b",".join(request.requestHeaders.getRawHeaders(b"sec-websocket-protocol", ()))
    offered = SUBPROTOCOL in (offer.strip() for offer in offers.split(b","))
    return SUBPROTOCOL if offered else None


def _is_key(text: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(text, strict_mode=True)) == 16
    except binascii.Error:
        return False
