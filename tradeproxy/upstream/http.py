"""HTTP connections to Alpaca: verified, and for one request each."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.web._newclient import HTTP11ClientProtocol
from twisted.web.client import Agent, HTTPConnectionPool

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IAddress
    from twisted.web._newclient import Request
    from twisted.web.iweb import IResponse


CONNECT_TIMEOUT = 10.0
"""Seconds for TCP."""


def build_agent(reactor: Any) -> Agent:
    """Return an agent that verifies certificates and names by what this machine trusts."""
    return Agent(reactor, connectTimeout=CONNECT_TIMEOUT, pool=build_pool(reactor))


def build_pool(reactor: Any) -> HTTPConnectionPool:
    """Return a pool that keeps no connection.

    An order is not to be written to one that Alpaca may be closing; and on a kept one Twisted would by itself
    repeat a DELETE, which at Alpaca may be half of a position, sold again.
    """
    return _Pool(reactor, persistent=False)


class _HttpConnection(HTTP11ClientProtocol):
    """A connection whose responses have what Twisted keeps to itself.

    Their Connection header names further ones that are not to be passed on (RFC 9110, 7.6.1). The transport
    of their bodies has `abortConnection`, as twisted.web.client.readBody expects: with loseConnection all the
    rest would be read first, over TLS, and the end waited for.
    """

    def request(self, request: Request) -> Deferred[IResponse]:
        answered: Deferred[IResponse] = super().request(request)
        parser: Any = self._parser
        transport: Any = self.transport
        parser.transport.abortConnection = transport.abortConnection

        def complete(response: IResponse) -> IResponse:
            response.headers.setRawHeaders(
                b"connection", parser.connHeaders.getRawHeaders(b"connection", [])
            )
            return response

        return answered.addCallback(complete)


class _Factory(HTTPConnectionPool._factory):  # type: ignore[misc,valid-type]
    noisy = False  # each request would put two lines into the log

    def buildProtocol(self, addr: IAddress | None) -> HTTP11ClientProtocol:
        return _HttpConnection(self._quiescentCallback)


class _Pool(HTTPConnectionPool):
    _factory = _Factory


MAX_REQUESTS = 60
"""In any PERIOD; Alpaca allows 200 a minute and account, for the proxy and the bots together."""

PERIOD = 60.0
"""Seconds."""


class RateLimiter:
    """One account's requests. Times are seconds of one clock."""

    def __init__(self, requests: int = MAX_REQUESTS) -> None:
        self._spent: deque[float] = deque(maxlen=requests)
        self._closed_until = 0.0

    def delay(self, now: float) -> float:
        """Return in how many seconds the next request may go; 0.0 for at once."""
        full = len(self._spent) == self._spent.maxlen
        free_at = self._spent[0] + PERIOD if full else now
        return max(free_at, self._closed_until, now) - now

    def count_request(self, now: float) -> None:
        """Note that a request goes now."""
        self._spent.append(now)

    def block_until(self, time: float) -> None:
        """Let no request go before `time`: Alpaca said so."""
        self._closed_until = max(self._closed_until, time)
