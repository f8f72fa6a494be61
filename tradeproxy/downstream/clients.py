"""All clients, whatever they speak: how many there may be, and their end when the proxy stops."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from tradeproxy.wire.close_codes import CloseCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.internet.interfaces import IReactorTime


MAX_USER_AGENT = 80
"""Characters; browsers' are longer, and what tells them apart is at their beginning and end."""


class ClientInfo(NamedTuple):
    """What stays the same of a client."""

    user_agent: str
    dialect: str
    since: float
    """Unix time."""


class ClientStats(NamedTuple):
    """How a client stands. They sort by what is wrong: those that don't read, then those furthest behind."""

    is_slow: bool
    """Whether it does not read, so that more than its socket takes waits for it."""
    lag: int
    """How many events of the log have not been handed to its socket."""
    account: str
    peer: str
    info: ClientInfo


def user_agent(header: bytes | None) -> str:
    """Return what a client calls itself, bounded and printable; thousands that say the same share it."""
    text = (header or b"").decode(errors="replace")
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    if len(text) > MAX_USER_AGENT:
        half = MAX_USER_AGENT // 2
        text = f"{text[: half - 1]}…{text[-half:]}"
    return sys.intern(text)


class RejectionCounter:
    """The 1st, 10th, 100th … client that has to go for a reason is logged: a page may try all day."""

    _log = Logger()

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def record(self, peer: str, reason: str) -> None:
        """Count one more; `peer` is its address, `reason` one of a few fixed phrases."""
        self.counts[reason] += 1
        count = self.counts[reason]
        if str(count).strip("0") == "1":
            self._log.info(
                "let {peer} go: {reason} ({count} so far)", peer=peer, reason=reason, count=count
            )


STOP_TIMEOUT = 2.0
"""Seconds that all clients together have for their goodbyes when the service stops."""


class ConnectedClient(Protocol):
    """One client's connection. Compared and hashed by identity."""

    is_closed: Deferred[Any]
    """Fires when the connection is gone."""

    def close(self, code: CloseCode) -> None:
        """Say goodbye, in as far as that can be said."""

    def abort(self) -> None:
        """Drop the connection without a goodbye."""

    def stats(self) -> ClientStats | None:
        """Return how it stands; None for what follows no stream, and is over soon."""


class ClientLabels(NamedTuple):
    """What clients are counted by."""

    account: str
    dialect: str


class Clients:
    """The clients that are connected, and those that were turned away."""

    def __init__(self, limit: int) -> None:
        self.rejections = RejectionCounter()
        self.accepting = True
        self.limit = limit
        self.connected: Counter[ClientLabels] = Counter()
        """Those that follow a stream."""
        self.accepted: Counter[ClientLabels] = Counter()
        """These, and all that did before."""
        self._clients: dict[ConnectedClient, ClientLabels | None] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[ConnectedClient]:
        return iter(tuple(self._clients))

    @property
    def is_full(self) -> bool:
        """Whether no further client is taken."""
        return not self.accepting or len(self) >= self.limit

    def list_stats(self) -> list[ClientStats]:
        """Return how all those stand that follow a stream."""
        standings = (client.stats() for client in self._clients)
        return [standing for standing in standings if standing is not None]

    def add(self, client: ConnectedClient) -> None:
        """Count `client` from now on."""
        standing = client.stats()
        sort = None if standing is None else ClientLabels(standing.account, standing.info.dialect)
        self._clients[client] = sort
        if sort is not None:
            self.connected[sort] += 1
            self.accepted[sort] += 1

    def discard(self, client: ConnectedClient) -> None:
        """Forget `client`; harmless if it is not known."""
        sort = self._clients.pop(client, None)
        if sort is not None:
            self.connected[sort] -= 1


class DownstreamService(Service):
    """Ends every client's connection, in a way that says "reconnect", when the proxy stops."""

    def __init__(self, clients: Clients, clock: IReactorTime) -> None:
        self._clients = clients
        self._clock = clock

    def stopService(self) -> Deferred[None]:
        """Say goodbye to all clients; fires when they are gone, after at most STOP_TIMEOUT."""
        super().stopService()
        return Deferred.fromCoroutine(self._close_all())

    async def _close_all(self) -> None:
        self._clients.accepting = False
        clients = tuple(self._clients)
        for client in clients:
            client.close(CloseCode.RESTARTING)
        gone = DeferredList([client.is_closed for client in clients], consumeErrors=True)
        # The timeout cancels what is waited for, which ends the wait and is no error.
        await gone.addTimeout(STOP_TIMEOUT, self._clock)
        for client in self._clients:
            client.abort()
