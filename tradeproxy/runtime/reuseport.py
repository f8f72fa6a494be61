"""The ports that clients come to, of this process alone or shared with others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application import strports
from twisted.internet.tcp import makeBinding

if TYPE_CHECKING:
    from twisted.application.internet import StreamServerEndpointService
    from twisted.internet.interfaces import IProtocolFactory


def build_listener(
    description: str, factory: IProtocolFactory, reactor: Any, reuse_port: bool
) -> StreamServerEndpointService:
    """Return the service that listens as a description says; a port that is taken fails its start.

    With `reuse_port` a TCP port is shared with every other process of this user that does so too.
    """
    if reuse_port:
        reactor = ReusePortReactor(reactor)
    return strports.service(description, factory, reactor=reactor)


class ReusePortReactor:
    """A reactor that listens on TCP with SO_REUSEPORT; all else is done by the one that it stands before.

    No description can ask for that, but whichever endpoint one makes, it listens by the reactor it is given.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen, as IReactorTCP has it."""
        return self._reactor.listenTCP(_shared(interface, port), factory, backlog, interface)

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        """Listen, as IReactorSSL has it."""
        return self._reactor.listenSSL(
            _shared(interface, port), factory, contextFactory, backlog, interface
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


def _shared(interface: str, port: int) -> Any:
    return makeBinding(interface, port, reuseAddress=True, reusePort=True)
