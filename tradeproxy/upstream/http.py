"""HTTP connections with bounded answers. To Alpaca, TLS is verified, and each has one request."""

from __future__ import annotations

from collections.abc import Callable
from socket import MSG_PEEK
from time import thread_time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web._newclient import BODY, HEADER, STATUS, HTTP11ClientProtocol, ParseError, Request
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

from tradeproxy.config.connect_proxy import ConnectProxy
from tradeproxy.runtime.reactor import Reactor
from tradeproxy.runtime.repeated_lines import is_logged
from tradeproxy.runtime.server_identity import ServerIdentity
from tradeproxy.runtime.socket_limit import unwrap
from tradeproxy.upstream.tunnel import build_endpoint

CONNECT_TIMEOUT = 10.0
"""Seconds for the TCP connect, and again for the answer of an HTTP proxy."""

MAX_HEAD_SIZE = 65_536
"""Bytes of the status line and the headers of one answer of Alpaca's."""

MAX_HEADERS = 500
"""Headers of one answer of Alpaca's, those of interim answers included."""

MIN_READ, MAX_READ = 1024, 8192
"""Bytes that one read of the socket returns: few at first, and twice as many after each read that
took less than READ_TIME. Twisted's 64 KiB can hold 8,000 events of the history or 10,000 chunks of
a body, and hundreds of answers can come at once."""

READ_TIME = 0.0005
"""Seconds of CPU."""

FRAMING = (b"content-length", b"transfer-encoding")
"""Headers with the length of a body. An answer with two of them may be read in two ways."""


class EndlessHeadError(Exception):
    """An answer has a head over MAX_HEAD_SIZE, or over MAX_HEADERS."""


def build_agent(reactor: Reactor, proxy: ConnectProxy | None = None) -> Agent:
    """Return an agent that verifies certificate and name against the platform's trust store."""
    agent: Agent = Agent.usingEndpointFactory(
        reactor, _EndpointFactory(reactor, proxy), ConnectionPool(reactor)
    )
    return agent


@implementer(IAgentEndpointFactory)
class _EndpointFactory:
    """Makes the agent check certificates as ServerIdentity does, and use the HTTP proxy."""

    def __init__(self, reactor: Reactor, proxy: ConnectProxy | None) -> None:
        self._reactor = reactor
        self._proxy = proxy

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode("ascii")
        endpoint = build_endpoint(host, uri.port, self._proxy, self._reactor, CONNECT_TIMEOUT)
        if uri.scheme == b"http":
            return endpoint
        return wrapClientTLS(ServerIdentity(host), endpoint)


class _HttpConnection(HTTP11ClientProtocol):
    """A connection whose responses expose two things that Twisted keeps private.

    The response's Connection header: it names further headers that a proxy must not forward
    (RFC 9110, 7.6.1). And `abortConnection` on the transport of the body, which
    twisted.web.client.readBody expects. With loseConnection over TLS, the whole rest of the body
    would be read before the connection closes.
    """

    _head_size = 0
    _header_count = 0
    _is_idle = False
    _is_early = False

    def __init__(
        self, quiescent: Callable[[HTTP11ClientProtocol], None], on_endless_head: Callable[[], None]
    ) -> None:
        super().__init__(quiescent)
        self._on_endless_head = on_endless_head

    def connectionMade(self) -> None:
        super().connectionMade()
        unwrap(self.transport).bufferSize = MIN_READ

    def dataReceived(self, data: bytes) -> None:
        """Parse the data; abort if the head has no end, or if data follows the answer.

        Twisted limits the length of one line, but not their number. Over TLS, it reads what follows
        an answer until the server closes the connection.
        """
        if self._parser is None:
            self._abort()
            return
        began = thread_time()
        super().dataReceived(data)
        self._set_read_size(thread_time() - began)
        parser: Any = self._parser
        if parser is not None and parser.state in (STATUS, HEADER):
            self._head_size += len(data)
            if self._head_size > MAX_HEAD_SIZE:
                self._giveUp(Failure(EndlessHeadError()))
        elif parser is not None and parser.state == BODY and self._state == "TRANSMITTING":
            self._end_request()

    def _end_request(self) -> None:
        """Send no more of a request that is answered.

        The server may not read on. Twisted would wait for that, and lose an answer without a length
        at the end of the connection.
        """
        self._state, self._is_early = "WAITING", True
        request: Any = self._currentRequest
        request.stopWriting()
        answered: Any = self._responseDeferred
        answered.chainDeferred(self._finishedRequest)

    def _set_read_size(self, seconds: float) -> None:
        """Have the next read return fewer bytes if this one took long, or else more."""
        transport = unwrap(self.transport)
        size = transport.bufferSize
        transport.bufferSize = (
            min(size * 2, MAX_READ) if seconds < READ_TIME else max(size // 2, MIN_READ)
        )

    def _finishResponse(self, rest: bytes) -> None:
        """End the answer. With bytes behind it, the connection is not kept: see has_unread.

        If the request is not sent, the connection is closed at once: Twisted would send it first.
        """
        is_early = self._is_early or self._state == "TRANSMITTING"
        if (rest or is_early) and self._currentRequest is not None:
            self._currentRequest.persistent = False
        super()._finishResponse(rest)
        if is_early:
            self._abort()

    def has_unread(self) -> bool:
        """Whether the server has closed, or sent bytes, which would answer the next request."""
        socket = getattr(unwrap(self.transport), "socket", None)  # None once it is lost
        try:
            return socket is not None and socket.recv(1, MSG_PEEK) is not None
        except BlockingIOError:
            return False
        except OSError:  # a reset
            return True

    def _giveUp(self, reason: Failure) -> None:
        """Fail the request with `reason`. Twisted calls this for what the parser raises."""
        super()._giveUp(reason)
        if reason.check(EndlessHeadError):
            self._abort()
            self._on_endless_head()

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def abort(self) -> Deferred[None]:
        """Close an idle connection. With TLS, Twisted would wait for the other end to do so too."""
        if self.state == "QUIESCENT":  # not lost
            self._abort()
        closed: Deferred[None] = super().abort()
        return closed

    def mark_idle(self) -> None:
        """Do not let the end of the body close the connection: the next request can follow."""
        self._is_idle = True
        parser: Any = self._parser
        del parser.headerReceived  # a cycle, which only a garbage collection would free

    def _abort_body(self) -> None:
        if not self._is_idle:
            self._abort()

    def request(self, request: Request) -> Deferred[IResponse]:
        self._head_size, self._header_count, self._is_idle = 0, 0, False
        answered: Deferred[IResponse] = super().request(request)
        parser: Any = self._parser
        parser.transport.abortConnection = self._abort_body
        receive_header = parser.headerReceived

        def count_header(name: bytes, value: bytes) -> None:
            self._header_count += 1
            if self._header_count > MAX_HEADERS:
                raise EndlessHeadError
            if name.lower() in FRAMING and any(map(parser.connHeaders.hasHeader, FRAMING)):
                raise ParseError("the length of the body is ambiguous", name)
            receive_header(name, value)

        parser.headerReceived = count_header

        def add_connection_header(response: IResponse) -> IResponse:
            response.headers.setRawHeaders(
                b"connection", parser.connHeaders.getRawHeaders(b"connection", [])
            )
            return response

        return answered.addCallback(add_connection_header)


class ConnectionPool(HTTPConnectionPool):
    """A pool that keeps no connection to Alpaca open.

    On a kept connection, an order could be written while Alpaca closes it. Twisted also repeats a
    DELETE by itself after such a loss. At Alpaca, a DELETE can sell a part of a position, so a
    repeated one would sell twice.
    """

    _log = Logger()
    _endless_heads = 0

    def __init__(
        self,
        reactor: IReactorTime,
        on_endless_head: Callable[[], None] | None = None,
        idle_timeout: int | None = None,
    ) -> None:
        """Create an empty pool.

        Args:
            reactor: the timers of connections that are kept.
            on_endless_head: called for an answer with too many headers; by default it is logged, as
                one of Alpaca's.
            idle_timeout: seconds for which one connection is kept for the next request; None keeps
                none.
        """
        super().__init__(reactor, persistent=idle_timeout is not None)
        self.maxPersistentPerHost = 1
        self.cachedConnectionTimeout = idle_timeout or 0
        self._on_endless_head = on_endless_head or self._log_endless_head

    def _factory(  # type: ignore[override]  # a class in Twisted; it is only called
        self, quiescentCallback: Any, metadata: Any
    ) -> Any:
        factory: Any = HTTPConnectionPool._factory(quiescentCallback, metadata)  # noqa: SLF001
        factory.noisy = False  # Twisted would log two lines per request
        factory.buildProtocol = lambda _: _HttpConnection(quiescentCallback, self._on_endless_head)
        return factory

    def getConnection(self, key: Any, endpoint: Any) -> Any:
        """Return a kept connection, or a new one if a request cannot follow on it."""
        for connection in [each for each in self._connections.get(key, ()) if each.has_unread()]:
            self._timeouts[connection].cancel()
            self._removeConnection(key, connection)
        return super().getConnection(key, endpoint)

    def _putConnection(self, key: Any, connection: Any) -> None:
        connection.mark_idle()
        super()._putConnection(key, connection)

    def _removeConnection(self, key: Any, connection: Any) -> None:
        self._connections[key].remove(connection)
        del self._timeouts[connection]
        connection.abort()

    def _log_endless_head(self) -> None:
        self._endless_heads += 1
        if is_logged(self._endless_heads):
            self._log.warn(
                "an answer of Alpaca's has too many headers; it is not read on ({count} so far)",
                count=self._endless_heads,
            )
