"""Listening ports, owned by this process or shared with SO_REUSEPORT."""

from __future__ import annotations

from typing import Any

from twisted.application import strports
from twisted.application.internet import StreamServerEndpointService
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.tcp import makeBinding

from tradeproxy.runtime.reactor import Reactor
from tradeproxy.runtime.tls_policy import require_forward_secrecy


def build_listener(
    description: str, factory: IProtocolFactory, reactor: Reactor, reuse_port: bool
) -> StreamServerEndpointService:
    """Return the service that listens on a Twisted endpoint description.

    Its start raises CannotListenError if the port is in use. With `reuse_port`, a TCP port is
    shared with every other process of this user that also sets it. TLS has forward secrecy.
    """
    require_forward_secrecy()
    listening: Any = ReusePortReactor(reactor) if reuse_port else reactor
    return strports.service(description, factory, reactor=listening)


class ReusePortReactor:
    """A reactor that listens on TCP with SO_REUSEPORT. It delegates the rest to another reactor.

    An endpoint description has no option for SO_REUSEPORT. Every endpoint listens through the
    reactor that it gets, so the option is set here.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen with SO_REUSEPORT (IReactorTCP)."""
        return self._reactor.listenTCP(_shared(interface, port), factory, backlog, interface)

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        """Listen with SO_REUSEPORT (IReactorSSL)."""
        shared = _shared(interface, port)
        return self._reactor.listenSSL(shared, factory, contextFactory, backlog, interface)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


def _shared(interface: str, port: int) -> Any:
    return makeBinding(interface, port, reuseAddress=True, reusePort=True)
