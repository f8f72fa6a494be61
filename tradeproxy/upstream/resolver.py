"""Host names, looked up on threads that nobody waits for."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, SOCK_STREAM, getaddrinfo
from threading import Thread
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IAddress, IReactorFromThreads, IResolutionReceiver

_ADDRESSES = {AF_INET: IPv4Address, AF_INET6: IPv6Address}


@implementer(IHostnameResolver)
class DaemonResolver:
    """The system's resolver (getaddrinfo), like Twisted's own.

    Twisted's uses the reactor's thread pool, which is joined at the end: on a machine without a network a
    process would take as long to stop as the system takes to give up its look-up, 20 s and more.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Look up `hostName` for a stream connection to `portNumber`."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def look_up() -> None:
            try:
                found = getaddrinfo(hostName, portNumber, type=SOCK_STREAM)
            except (OSError, UnicodeError):
                found = []
            self._reactor.callFromThread(deliver, found)

        def deliver(found: list[Any]) -> None:
            for family, _, _, _, address in found:
                kind = _ADDRESSES.get(family)
                if kind is not None and (addressTypes is None or kind in addressTypes):
                    resolutionReceiver.addressResolved(kind("TCP", *address))
            resolutionReceiver.resolutionComplete()

        Thread(target=look_up, name=f"resolve {hostName}", daemon=True).start()
        return resolution


@implementer(IHostResolution)
class _Resolution:
    """A look-up under way; Twisted ignores its results once it has no more use for them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Do nothing: getaddrinfo cannot be stopped."""
