"""All clients, whatever they speak: how many there may be, and their end when the proxy stops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList

from tradeproxy.downstream.refusals import Refusals
from tradeproxy.wire.closecodes import CloseCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.internet.interfaces import IReactorTime

STOP_TIMEOUT = 2.0
"""Seconds that all clients together have for their goodbyes when the service stops."""


class Client(Protocol):
    """One client's connection. Compared and hashed by identity."""

    is_closed: Deferred[Any]
    """Fires when the connection is gone."""

    def end(self, code: CloseCode) -> None:
        """Say goodbye, in as far as that can be said."""

    def sever(self) -> None:
        """Drop the connection without a goodbye."""


class Clients:
    """The clients that are connected, and those that were turned away."""

    def __init__(self, limit: int) -> None:
        self.refusals = Refusals()
        self.accepting = True
        self._limit = limit
        self._clients: dict[Client, None] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(tuple(self._clients))

    @property
    def is_full(self) -> bool:
        """Whether no further client is taken."""
        return not self.accepting or len(self) >= self._limit

    def add(self, client: Client) -> None:
        """Count `client` from now on."""
        self._clients[client] = None

    def discard(self, client: Client) -> None:
        """Forget `client`; harmless if it is not known."""
        self._clients.pop(client, None)


class DownstreamService(Service):
    """Ends every client's connection, in a way that says "reconnect", when the proxy stops."""

    def __init__(self, clients: Clients, clock: IReactorTime) -> None:
        self._clients = clients
        self._clock = clock

    def stopService(self) -> Deferred[None]:
        """Say goodbye to all clients; fires when they are gone, after at most STOP_TIMEOUT."""
        super().stopService()
        return Deferred.fromCoroutine(self._dismiss_all())

    async def _dismiss_all(self) -> None:
        self._clients.accepting = False
        clients = tuple(self._clients)
        for client in clients:
            client.end(CloseCode.RESTARTING)
        gone = DeferredList([client.is_closed for client in clients], consumeErrors=True)
        # The timeout cancels what is waited for, which ends the wait and is no error.
        await gone.addTimeout(STOP_TIMEOUT, self._clock)
        for client in self._clients:
            client.sever()
