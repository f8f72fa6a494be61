"""The clients' end of the wire: Autobahn's server factory and protocol, and the service that owns them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import txaio
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import ITCPTransport
from twisted.logger import Logger
from twisted.web.http_headers import Headers

from tradeproxy.downstream.outbox import Outbox
from tradeproxy.downstream.refusals import Refusals
from tradeproxy.downstream.session import ClientSession, Close, Effect, Manner, Send
from tradeproxy.goodbye import BoundedGoodbye
from tradeproxy.wire.closecodes import CloseCode
from tradeproxy.wire.messages import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from autobahn.websocket.protocol import PreparedMessage
    from twisted.internet.interfaces import IAddress, IReactorTime
    from twisted.web.server import Request

    from tradeproxy.hub.account import Account
    from tradeproxy.hub.broadcaster import Burst
    from tradeproxy.secret import Credentials
    from tradeproxy.settings import Limits

PING_INTERVAL = 20
"""Seconds; keeps NATs and proxies from forgetting an idle connection, and finds clients that are gone."""

PONG_TIMEOUT = 180
"""Seconds, as alpaca-py has it: a bot that computes does not answer meanwhile, and with a slow reader the
ping itself waits behind some megabytes in the kernel's buffers. Neither shall lose its stream."""

GOODBYE_TIMEOUT = 5.0
"""Seconds for a client to answer a close frame."""

SLOW_GOODBYE_TIMEOUT = 60.0
"""Seconds for one that was too slow: it has to read what was sent before the close frame."""

STOP_TIMEOUT = 2.0
"""Seconds that all clients together have for their goodbyes when the service stops."""


LARGEST_PONG = 125
"""Bytes (RFC 6455, 5.5). Each counts as one of these: also a small one takes its room in memory."""

HANDSHAKE_HEADERS = (
    b"host",
    b"upgrade",
    b"connection",
    b"sec-websocket-key",
    b"sec-websocket-version",
    b"sec-websocket-protocol",
    b"sec-websocket-extensions",
)
"""What the opening handshake needs of a request (RFC 6455, 4.1)."""


@dataclass(frozen=True, slots=True)
class _Pong:
    """An answer to a client's ping."""

    payload: bytes


class DownstreamProtocol(BoundedGoodbye, WebSocketServerProtocol):  # type: ignore[misc]  # Autobahn's bases disagree
    """One client: carries its ClientSession over one connection, and subscribes to its account."""

    # Autobahn's warnings quote what a client sent; ours say what matters of it.
    log = txaio.make_logger(level="error")  # type: ignore[attr-defined]  # made at run time
    _log = Logger()

    goodbye_timeout = GOODBYE_TIMEOUT

    def __init__(self, factory: DownstreamFactory, account: Account, session: ClientSession) -> None:
        super().__init__()
        self.factory = factory
        self.clock = factory.reactor
        self._account = account
        self._session = session
        self._outbox: Outbox[PreparedMessage | _Pong] | None = None
        self._auth_timeout: Any = None

    # What Autobahn calls.

    def onOpen(self) -> None:
        """Register with the account's broadcaster; events are passed on once the session wants them."""
        self._advance(self._begin)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Let the session answer."""
        self._advance(self._session.received, payload)

    def onPing(self, payload: bytes) -> None:
        """Answer when it is the answer's turn: a client that does not read must not fill memory by asking."""
        if self._outbox is not None:
            self._outbox.put(_Pong(payload), LARGEST_PONG)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Unregister; also called for a connection that never opened."""
        self._account.broadcaster.unregister(self)
        if self._auth_timeout is not None and self._auth_timeout.active():
            self._auth_timeout.cancel()
        self._outbox = None
        self.factory.clients.pop(self, None)

    def onAutoPingTimeout(self) -> None:
        """Drop a client that is gone."""
        self.factory.refusals.note(self.peer or "a client", f"no pong for {PONG_TIMEOUT} s")
        super().onAutoPingTimeout()

    # What the broadcaster calls.

    def deliver(self, burst: Burst) -> None:
        """Pass the events on, if this client is to have them."""
        if self._session.wants_events and self._outbox is not None:
            for message in self.factory.prepared(burst):
                self._outbox.put(message, len(message.payload))

    def sever(self) -> None:
        """Drop the connection without a goodbye."""
        self.abort()

    # Ours.

    def end(self, code: CloseCode) -> None:
        """Send a close frame with `code`, unless one is already under way."""
        self._advance(self._session.end, code)

    def _begin(self) -> tuple[Effect, ...]:
        factory = self.factory
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self._outbox = Outbox(self._transmit, factory.limits.client_buffer, self._too_slow)
        self.unregisterProducer()  # twisted.web's channel still holds the transport's one place
        self.registerProducer(self._outbox, True)
        timeout = factory.limits.auth_timeout
        self._auth_timeout = self.clock.callLater(timeout, self._advance, self._session.overdue)
        factory.clients[self] = None
        self._account.broadcaster.register(self)
        return ()

    def _too_slow(self) -> None:
        self.goodbye_timeout = SLOW_GOODBYE_TIMEOUT
        self.end(CloseCode.TOO_SLOW)

    def _transmit(self, item: PreparedMessage | _Pong) -> None:
        if isinstance(item, _Pong):
            self.sendPong(item.payload)
        # Autobahn may have sent a close frame of its own, which nothing may follow; it does not check here.
        elif self.state == self.STATE_OPEN:
            self.sendPreparedMessage(item)

    def _advance(self, step: Callable[..., tuple[Effect, ...]], *arguments: Any) -> None:
        """Take a step of the conversation, and do what it comes to.

        The one guard between us and Autobahn, which would leave the client connected and deaf.
        """
        try:
            for effect in step(*arguments):
                self._carry_out(effect)
        except Exception:
            self._log.failure("{account}: a client's conversation failed", account=self._account.name)
            self.sever()

    def _carry_out(self, effect: Effect) -> None:
        assert self._outbox is not None
        match effect:
            case Send(message):
                payload = encode(message)
                self._outbox.put(self.factory.prepareMessage(payload), len(payload))
            case Close(code):
                if code is not CloseCode.RESTARTING:
                    self.factory.refusals.note(self.peer or "a client", code.reason)
                self._outbox.stopProducing()
                self._account.broadcaster.unregister(self)
                # sendClose knows no 1012.
                self.sendCloseFrame(code.code, code.reason.encode(), isReply=False)


class DownstreamFactory(WebSocketServerFactory):
    """Every client's factory: the limits, the clients themselves, and each burst framed once for all."""

    noisy = False

    def __init__(self, limits: Limits, reactor: IReactorTime) -> None:
        super().__init__(server="tradeproxy", reactor=reactor)
        self.setProtocolOptions(
            webStatus=False,
            # Host, Origin and the number of connections are decided on the HTTP request, before Autobahn.
            allowNullOrigin=False,
            maxMessagePayloadSize=limits.max_message,
            maxFramePayloadSize=limits.max_message,
            failByDrop=False,
            openHandshakeTimeout=limits.handshake_timeout,
            closeHandshakeTimeout=0,  # BoundedGoodbye has the time limit
            autoPingInterval=PING_INTERVAL,
            autoPingTimeout=PONG_TIMEOUT,
            tcpNoDelay=True,
        )
        self.limits = limits
        self.refusals = Refusals()
        self.clients: dict[DownstreamProtocol, None] = {}
        self.accepting = True
        self._burst: Burst = ()
        self._prepared: tuple[PreparedMessage, ...] = ()

    @property
    def is_full(self) -> bool:
        """Whether no further client is taken."""
        return not self.accepting or len(self.clients) >= self.limits.max_clients

    def upgrade(
        self, request: Request, account: Account, manner: Manner, admits: Callable[[Credentials], bool]
    ) -> bytes | int:
        """Turn `request`, which has been admitted, into a new client of `account`; for Resource.render."""
        headers = request.requestHeaders
        # Autobahn parses the request again, and differently: it gets what it needs and no credentials.
        kept = {
            name: headers.getRawHeaders(name, ()) for name in HANDSHAKE_HEADERS if headers.hasHeader(name)
        }
        request.requestHeaders, request.uri = Headers(kept), b"/"
        client = DownstreamProtocol(self, account, ClientSession(manner, admits))
        answer: bytes | int = WebSocketResource(_ReadyMade(client)).render(request)
        return answer

    def prepared(self, burst: Burst) -> tuple[PreparedMessage, ...]:
        """Return the burst's events as text frames; they are made once, and kept until the next burst."""
        if burst is not self._burst:
            self._burst, self._prepared = burst, tuple(map(self.prepareMessage, burst))
        return self._prepared


class _ReadyMade:
    """Stands for a factory, to which WebSocketResource would pass an address and nothing of the request."""

    def __init__(self, client: DownstreamProtocol) -> None:
        self._client = client

    def buildProtocol(self, addr: IAddress) -> DownstreamProtocol:
        return self._client


class DownstreamService(Service):
    """Ends every client's connection, with a code that says "reconnect", when the proxy stops."""

    def __init__(self, factory: DownstreamFactory, clock: IReactorTime) -> None:
        self._factory = factory
        self._clock = clock

    def stopService(self) -> Deferred[None]:
        """Say goodbye to all clients; fires when they are gone, after at most STOP_TIMEOUT."""
        super().stopService()
        return Deferred.fromCoroutine(self._dismiss_all())

    async def _dismiss_all(self) -> None:
        self._factory.accepting = False
        clients = tuple(self._factory.clients)
        for client in clients:
            client.end(CloseCode.RESTARTING)
        try:
            gone = DeferredList([client.is_closed for client in clients], consumeErrors=True)
            await gone.addTimeout(STOP_TIMEOUT, self._clock)
        except defer.TimeoutError:
            for client in clients:
                client.sever()
