"""TCP to Alpaca, directly or through a tunnel that an HTTP proxy opens (CONNECT)."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from tradeproxy.config.connect_proxy import ConnectProxy
from tradeproxy.runtime.connect_errors import describe_connect_error
from tradeproxy.runtime.reactor import Reactor
from tradeproxy.runtime.server_identity import ServerIdentity
from tradeproxy.upstream.tls import describe_tls_failure
from tradeproxy.wire import hosts

MAX_HEAD_SIZE = 16_384
"""Bytes of an HTTP proxy's answer to CONNECT."""

_STATUS = re.compile(rb"HTTP/1\.[01] (?P<status>[1-5][0-9][0-9])(?:[ \r]|\Z)")
_PREFIX = b"HTTP/1."


class ProxyError(ConnectError):
    """The HTTP proxy opens no tunnel, so nothing was sent to Alpaca.

    The text is safe to log: it has the address of the HTTP proxy and a fixed phrase.
    """

    def __init__(self, text: str) -> None:
        super().__init__(string=text)
        self._text = text

    def __str__(self) -> str:
        return self._text


def build_endpoint(
    host: str, port: int, proxy: ConnectProxy | None, reactor: Reactor, timeout: float
) -> IStreamClientEndpoint:
    """Return the endpoint of a server's TCP port, through the HTTP proxy if that serves it.

    `host` is a canonical host name or an address. `timeout` is in seconds, for the TCP connect, and
    again for the HTTP proxy's answer.
    """
    if proxy is None or not proxy.serves(host, port):
        return HostnameEndpoint(reactor, host, port, timeout=timeout)
    return TunnelEndpoint(host, port, proxy, reactor, timeout)


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """Connects through an HTTP proxy. It fails with ProxyError if there is no tunnel."""

    def __init__(
        self, host: str, port: int, proxy: ConnectProxy, reactor: Reactor, timeout: float
    ) -> None:
        """Create the endpoint; `build_endpoint` describes the arguments."""
        self._host = host
        self._port = port
        self._proxy = proxy
        self._reactor = reactor
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Open a tunnel, and return the protocol that uses it. The Deferred can be cancelled."""
        proxy = self._proxy
        endpoint: IStreamClientEndpoint = HostnameEndpoint(
            self._reactor, proxy.host, proxy.port, timeout=self._timeout
        )
        if proxy.secure:
            endpoint = wrapClientTLS(ServerIdentity(proxy.host), endpoint, self._reactor)
        factory = _TunnelFactory(protocolFactory, self)
        connected: Deferred[Any] = endpoint.connect(factory)
        return connected.addCallbacks(lambda tunnel: tunnel.opened, self._explain)

    def build_request(self) -> bytes:
        """Return the request, with the credentials for the HTTP proxy, never with Alpaca's."""
        target = f"{hosts.format_in_url(self._host)}:{self._port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if self._proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {self._proxy.authorization.reveal()}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def start_timeout(self, expire: Any) -> Any:
        """Call `expire` when the time for the answer is over; return the call."""
        return self._reactor.callLater(self._timeout, expire)

    def build_error(self, what: str) -> ProxyError:
        """Return the error for what the HTTP proxy does."""
        return ProxyError(f"the HTTP proxy {self._proxy.label}: {what}")

    def explain_status(self, status: int) -> str:
        """Return what a status other than 2xx means."""
        hint = ": a user and a password are needed, or wrong" if status in (401, 407) else ""
        return f"it answers {status}{hint}; {self._proxy.source} names it"

    def _explain(self, failure: Failure) -> Failure:
        error = failure.value
        if not isinstance(error, Exception) or isinstance(error, ConnectingCancelledError):
            return failure
        raise self.build_error(describe_connect_error(error)) from None


class _State(Enum):
    ASKING = auto()
    OPEN = auto()
    ENDED = auto()


class _TunnelFactory(WrappingFactory):
    """Builds the tunnel of one connection."""

    noisy = False

    def __init__(self, wrapped: IProtocolFactory, endpoint: TunnelEndpoint) -> None:
        super().__init__(wrapped)
        self._endpoint = endpoint

    def buildProtocol(self, addr: IAddress | None) -> _Tunnel:
        return _Tunnel(self, self._endpoint)


class _Tunnel(ProtocolWrapper):
    """A connection to an HTTP proxy, and once it is a tunnel, the wrapped protocol's transport.

    `opened` fires once: with that protocol, or with a ProxyError.

        state      event                                    next state
        asking     the head of a 2xx answer                 open: the protocol is connected
        asking     another answer, or none in time; an end  ended: ProxyError, aborted
        asking     `opened` is cancelled                    ended: aborted
        open       data                                     open: it is the protocol's
        open       data after the protocol closed it        open: dropped, aborted
        open       the end                                  ended: it is the protocol's too
    """

    wrappedProtocol: IProtocol | None  # type: ignore[assignment]  # None before and after

    def __init__(self, factory: _TunnelFactory, endpoint: TunnelEndpoint) -> None:
        super().__init__(factory, None)  # type: ignore[arg-type]  # it is built later
        self.opened: Deferred[Any] = Deferred(lambda _: self._end())
        self._endpoint = endpoint
        self._state = _State.ASKING
        self._head = b""
        self._timeout: Any = None

    def makeConnection(self, transport: Any) -> None:
        directlyProvides(self, providedBy(transport))
        Protocol.makeConnection(self, transport)
        self._timeout = self._endpoint.start_timeout(
            lambda: self._fail("it does not answer in time")
        )
        transport.write(self._endpoint.build_request())

    def dataReceived(self, data: bytes) -> None:
        """Read the answer to its end; pass on what follows."""
        if self._state is _State.ASKING:
            self._read_answer(data)
        elif self.disconnecting:
            # TLS to the HTTP proxy reads on until its peer closes too. TLS to Alpaca, inside, would
            # store what arrives after its own failure.
            transport: Any = self.transport
            transport.abortConnection()
        elif self.wrappedProtocol is not None:
            self.wrappedProtocol.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._state is _State.OPEN:
            self._state = _State.ENDED
            super().connectionLost(reason)
        else:
            self._fail(describe_tls_failure(reason) or "it closed the connection")

    def _read_answer(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        match = _STATUS.match(head)
        if not head.startswith(_PREFIX[: len(head)]) or (end and match is None):
            self._fail("its answer is not HTTP/1")
        elif len(head) > MAX_HEAD_SIZE:
            self._fail("its answer is too long")
        elif end and match is not None:
            status = int(match["status"])
            if status // 100 == 2:
                self._open(rest)
            else:
                self._fail(self._endpoint.explain_status(status))

    def _open(self, rest: bytes) -> None:
        self._state = _State.OPEN
        self._timeout.cancel()
        factory: WrappingFactory[Any] = self.factory
        protocol = factory.wrappedFactory.buildProtocol(self.getPeer())
        self.wrappedProtocol = protocol
        self._head = b""
        factory.registerProtocol(self)
        protocol.makeConnection(self)
        self.opened.callback(protocol)
        if rest and self._state is _State.OPEN:
            protocol.dataReceived(rest)

    def _fail(self, what: str) -> None:
        if self._state is _State.ASKING:
            self._end()
            self.opened.errback(self._endpoint.build_error(what))

    def _end(self) -> None:
        self._state = _State.ENDED
        if self._timeout.active():
            self._timeout.cancel()
        transport: Any = self.transport
        transport.abortConnection()
