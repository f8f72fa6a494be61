"""A host name resolver whose threads do not delay the end of the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from socket import AF_INET, AF_INET6, SOCK_STREAM, getaddrinfo
from threading import Thread
from typing import Any, TypeAlias

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

_Found: TypeAlias = "list[tuple[Any, ...]]"
"""The family and the host of each address; of IPv6 its flow and its scope too."""


@implementer(IHostnameResolver)
class DaemonResolver:
    """Resolve names with the system's getaddrinfo, like Twisted's own resolver, on daemon threads.

    Twisted's resolver uses the reactor's thread pool. The reactor joins that pool when it stops.
    On a machine without a network, the stop would wait until getaddrinfo fails: 20 s and more.

    A name has one thread at a time. Further requests for it get the same answer: each attempt to
    connect would add a thread while the name servers do not answer.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._waiting: dict[str, list[Callable[[_Found], None]]] = {}

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

        def deliver(found: _Found) -> None:
            for family, host, *scope in found:
                kind = _ADDRESS_TYPES.get(family)
                if kind is not None and (addressTypes is None or kind in addressTypes):
                    resolutionReceiver.addressResolved(kind("TCP", host, portNumber, *scope))
            resolutionReceiver.resolutionComplete()

        is_running = hostName in self._waiting
        self._waiting.setdefault(hostName, []).append(deliver)
        if not is_running:
            thread = Thread(target=self._resolve, args=(hostName,), daemon=True)
            thread.name = f"resolve {hostName}"
            thread.start()
        return resolution

    def _resolve(self, name: str) -> None:
        try:
            answer = getaddrinfo(name, None, type=SOCK_STREAM)
        except (OSError, UnicodeError):  # UnicodeError: the name is not valid IDNA
            answer = []
        found = [(family, address[0], *address[2:]) for family, _, _, _, address in answer]
        self._reactor.callFromThread(self._deliver, name, found)

    def _deliver(self, name: str, found: _Found) -> None:
        for deliver in self._waiting.pop(name):
            # The reactor logs an error of one of them, and goes on with the others.
            self._reactor.callFromThread(deliver, found)


@implementer(IHostResolution)
class _Resolution:
    """One resolution in progress. Twisted ignores its results after a cancellation."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Do nothing: getaddrinfo cannot be interrupted."""
