"""TCP to a receiver: the addresses of its name are checked, and one of those is connected to.

A name is resolved once per connection. Otherwise a second answer of its DNS server could lead to an
address that was not checked.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from tradeproxy.config.connect_proxy import ConnectProxy
from tradeproxy.config.webhooks import ReceiverUrl
from tradeproxy.runtime.reactor import Reactor
from tradeproxy.runtime.server_identity import ServerIdentity
from tradeproxy.upstream.tunnel import TunnelEndpoint
from tradeproxy.wire import hosts
from tradeproxy.wire.receiver_address import find_refusal

CONNECT_TIMEOUT = 5.0
"""Seconds for the TCP connect to one address."""

MAX_ADDRESSES = 4
"""Addresses of a name that are tried, one after the other. All are checked."""


class AddressRefusedError(ConnectError):
    """An address of the receiver is not connected to. The text is safe to log."""

    def __init__(self, text: str) -> None:
        super().__init__(string=text)
        self._text = text

    def __str__(self) -> str:
        return self._text


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class ReceiverEndpoint:
    """Makes an Agent connect to the receiver of one webhook, wherever the request leads."""

    def __init__(
        self, url: ReceiverUrl, allow_http: bool, reactor: Reactor, proxy: ConnectProxy | None
    ) -> None:
        """Create the endpoint.

        Args:
            url: the receiver's.
            allow_http: connections without TLS to private addresses are allowed.
            reactor: connects, resolves names and schedules the timeouts.
            proxy: the HTTP proxy for connections with TLS, or None.
        """
        self.attempts = 0
        """How often a connection was begun."""
        self._url = url
        self._endpoint: IStreamClientEndpoint = CheckedEndpoint(url, allow_http, reactor)
        if url.secure and proxy is not None and proxy.serves(url.host, url.port):
            # It resolves the name, with rules of its own. TLS still verifies the receiver's name.
            self._endpoint = TunnelEndpoint(url.host, url.port, proxy, reactor, CONNECT_TIMEOUT)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return this endpoint."""
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Connect, and count it."""
        self.attempts += 1
        endpoint = self._endpoint
        if self._url.secure:
            endpoint = wrapClientTLS(ServerIdentity(self._url.host), endpoint)
        connecting: Deferred[Any] = endpoint.connect(protocolFactory)
        return connecting


@implementer(IStreamClientEndpoint)
class CheckedEndpoint:
    """Connects to an address of the receiver, or fails with AddressRefusedError."""

    def __init__(self, url: ReceiverUrl, allow_http: bool, reactor: Reactor) -> None:
        self._url = url
        self._allow_http = allow_http
        self._reactor = reactor

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Resolve the name, check all of its addresses, and connect to one."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        url = self._url
        addresses = [url.host] if hosts.is_address(url.host) else await self._resolve()
        for address in addresses:
            refusal = find_refusal(address, secure=url.secure, allow_http=self._allow_http)
            if refusal is not None:
                raise AddressRefusedError(f"refused: an address of its name {refusal}")
        failure: Exception = DNSLookupError()
        for address in addresses[:MAX_ADDRESSES]:
            endpoint = (TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint)(
                self._reactor, address, url.port, CONNECT_TIMEOUT
            )
            try:
                return await endpoint.connect(factory)
            except ConnectError as error:
                failure = error
        raise failure

    def _resolve(self) -> Deferred[list[str]]:
        found = _AddressReceiver()
        url = self._url
        self._reactor.nameResolver.resolveHostName(found, url.host, url.port)
        return found.resolved


@implementer(IResolutionReceiver)
class _AddressReceiver:
    """Collects the addresses of a name; `resolved` fires with them."""

    def __init__(self) -> None:
        self.resolved: Deferred[list[str]] = Deferred()
        self._addresses: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Do nothing: the resolution is not cancelled."""

    def addressResolved(self, address: IAddress) -> None:
        """Keep an address."""
        known: Any = address
        self._addresses.append(known.host)

    def resolutionComplete(self) -> None:
        """Fire, unless the request has ended."""
        if not self.resolved.called:
            self.resolved.callback(list(dict.fromkeys(self._addresses)))
