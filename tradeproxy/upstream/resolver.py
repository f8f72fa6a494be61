"""A host name resolver whose threads do not delay the end of the process."""

from __future__ import annotations

from collections.abc import Sequence
from socket import AF_INET, AF_INET6, SOCK_STREAM, getaddrinfo
from threading import Thread
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorFromThreads,
    IResolutionReceiver,
)
from zope.interface import implementer

_ADDRESS_TYPES = {AF_INET: IPv4Address, AF_INET6: IPv6Address}


@implementer(IHostnameResolver)
class DaemonResolver:
    """Resolve names with the system's getaddrinfo, like Twisted's own resolver, on daemon threads.

    Twisted's resolver uses the reactor's thread pool. The reactor joins that pool when it stops.
    On a machine without a network, the stop would wait until getaddrinfo fails: 20 s and more.
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
        """Resolve `hostName` for a TCP connection, as IHostnameResolver defines it.

        The receiver gets each address, then `resolutionComplete`; all in the reactor's thread. A
        name that cannot be resolved has no address and raises no error. `transportSemantics` is
        ignored: the addresses are for TCP.
        """
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def resolve() -> None:
            try:
                found = getaddrinfo(hostName, portNumber, type=SOCK_STREAM)
            except (OSError, UnicodeError):  # UnicodeError: the name is not valid IDNA
                found = []
            self._reactor.callFromThread(deliver, found)

        def deliver(found: list[Any]) -> None:
            for family, _, _, _, address in found:
                kind = _ADDRESS_TYPES.get(family)
                if kind is not None and (addressTypes is None or kind in addressTypes):
                    resolutionReceiver.addressResolved(kind("TCP", *address))
            resolutionReceiver.resolutionComplete()

        Thread(target=resolve, name=f"resolve {hostName}", daemon=True).start()
        return resolution


@implementer(IHostResolution)
class _Resolution:
    """One resolution in progress. Twisted ignores its results after a cancellation."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Do nothing: getaddrinfo cannot be interrupted."""
