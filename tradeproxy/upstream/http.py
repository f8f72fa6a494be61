"""HTTP connections to Alpaca: TLS is verified, and each connection carries one request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.web._newclient import HEADER, STATUS, HTTP11ClientProtocol
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from tradeproxy.runtime.server_identity import ServerIdentity

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IAddress
    from twisted.web._newclient import Request
    from twisted.web.iweb import IResponse


CONNECT_TIMEOUT = 10.0
"""Seconds for the TCP connect."""

MAX_HEAD_SIZE = 65_536
"""Bytes of the status line and the headers of one answer of Alpaca's."""


def build_agent(reactor: Any) -> Agent:
    """Return an agent that verifies certificate and name against the platform's trust store."""
    return Agent(
        reactor, _ServerIdentityPolicy(), connectTimeout=CONNECT_TIMEOUT, pool=build_pool(reactor)
    )


def build_pool(reactor: Any) -> HTTPConnectionPool:
    """Return a pool that keeps no connection open.

    On a kept connection, an order could be written while Alpaca closes it. Twisted also repeats a
    DELETE by itself after such a loss. At Alpaca, a DELETE can sell a part of a position, so a
    repeated one would sell twice.
    """
    return _Pool(reactor, persistent=False)


@implementer(IPolicyForHTTPS)
class _ServerIdentityPolicy:
    """Makes the agent check certificates as ServerIdentity does."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> ServerIdentity:
        return ServerIdentity(hostname.decode("ascii"))


class _HttpConnection(HTTP11ClientProtocol):
    """A connection whose responses expose two things that Twisted keeps private.

    The response's Connection header: it names further headers that a proxy must not forward
    (RFC 9110, 7.6.1). And `abortConnection` on the transport of the body, which
    twisted.web.client.readBody expects. With loseConnection over TLS, the whole rest of the body
    would be read before the connection closes.
    """

    _head_size = 0

    def dataReceived(self, data: bytes) -> None:
        """Parse the data; abort if the status line and the headers have no end.

        Twisted limits the length of one line, but not their number.
        """
        super().dataReceived(data)
        parser: Any = self._parser
        if parser is not None and parser.state in (STATUS, HEADER):
            self._head_size += len(data)
            if self._head_size > MAX_HEAD_SIZE:
                transport: Any = self.transport
                transport.abortConnection()

    def request(self, request: Request) -> Deferred[IResponse]:
        answered: Deferred[IResponse] = super().request(request)
        parser: Any = self._parser
        transport: Any = self.transport
        parser.transport.abortConnection = transport.abortConnection

        def add_connection_header(response: IResponse) -> IResponse:
            response.headers.setRawHeaders(
                b"connection", parser.connHeaders.getRawHeaders(b"connection", [])
            )
            return response

        return answered.addCallback(add_connection_header)


class _Factory(HTTPConnectionPool._factory):  # type: ignore[misc,valid-type]  # noqa: SLF001
    noisy = False  # Twisted would log two lines per request

    def buildProtocol(self, addr: IAddress | None) -> HTTP11ClientProtocol:
        return _HttpConnection(self._quiescentCallback)


class _Pool(HTTPConnectionPool):
    _factory = _Factory
