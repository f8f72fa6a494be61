"""All connected clients, WebSocket and SSE: the limit, the statistics, the close at a stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from tradeproxy.downstream.admission import Grant
from tradeproxy.downstream.client_log import ClientInfo, ClientLog
from tradeproxy.runtime.repeated_lines import is_logged
from tradeproxy.runtime.socket_limit import SocketLimit
from tradeproxy.wire.close_codes import CloseCode


class ClientStats(NamedTuple):
    """A client's current state. The operator sees slow clients first, then the largest lag.

    The order of the fields is the sort order.
    """

    is_slow: bool
    """Whether its feed is paused: the client does not read, and its socket is full."""
    lag: int
    """How many events of the log have not been written to its socket."""
    account: str
    info: ClientInfo
    is_closing: bool = False
    """Whether its close frame is sent, and the connection is still open."""


class RejectionCounter:
    """Counts rejected and closed clients by reason.

    It logs the 1st, 10th, 100th … of each reason, because a web page may retry all day.
    """

    _log = Logger()

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def record(self, peer: str, reason: str) -> None:
        """Count one client.

        `peer` is its address, with its name if it has one. `reason` is one of a few fixed phrases:
        it becomes a label value.
        """
        self.counts[reason] += 1
        count = self.counts[reason]
        if is_logged(count):
            self._log.info(
                "rejected {peer}: {reason} ({count} so far)", peer=peer, reason=reason, count=count
            )


STOP_TIMEOUT = 2.0
"""Seconds that all clients together have to close when the service stops."""


class ConnectedClient(Protocol):
    """One client's connection. Compared and hashed by identity."""

    is_closed: Deferred[Any]
    """Fires when the connection is gone."""

    @property
    def grant(self) -> Grant | None:
        """The tokens by which it was accepted; None for a request that needs none."""

    def close(self, code: CloseCode) -> None:
        """Close the connection, with `code` if the protocol can carry it."""

    def abort(self) -> None:
        """Drop the connection without a close frame."""

    def stats(self) -> ClientStats | None:
        """Return its state; None for a short request, and before its auth message is accepted."""


class ClientLabels(NamedTuple):
    """The labels by which clients are counted."""

    account: str
    dialect: str


class Clients:
    """The connected clients, their log, and the count of rejections."""

    def __init__(self, sockets: SocketLimit, log: ClientLog) -> None:
        """Create an empty registry; `sockets` counts every accepted socket and limits clients."""
        self.sockets = sockets
        self.log = log
        self.rejections = RejectionCounter()
        self.accepting = True
        self.connected: Counter[ClientLabels] = Counter()
        """The number of clients that follow a stream now."""
        self.accepted: Counter[ClientLabels] = Counter()
        """The number of clients that ever followed a stream."""
        self._clients: dict[ConnectedClient, ClientLabels | None] = {}
        self._dashboards: set[ConnectedClient] = set()

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[ConnectedClient]:
        return iter(tuple(self._clients))

    @property
    def is_full(self) -> bool:
        """Whether new clients are rejected: the limit is reached, or the proxy stops."""
        return not self.accepting or self.sockets.is_full

    @property
    def dashboards(self) -> int:
        """How many streams are followed by dashboards. These are not counted as clients."""
        return len(self._dashboards)

    def list_stats(self) -> list[ClientStats]:
        """Return the state of every client that follows a stream, without the dashboards."""
        counted = (client for client, labels in self._clients.items() if labels is not None)
        found = (client.stats() for client in counted)
        return [stats for stats in found if stats is not None]

    def count_by_account(self) -> Counter[str]:
        """Return the number of clients that follow the stream of each account."""
        counts: Counter[str] = Counter()
        for labels, count in self.connected.items():
            counts[labels.account] += count
        return counts

    def add(self, client: ConnectedClient) -> None:
        """Register `client`, and count it if it is accepted.

        A WebSocket is added when it opens, and once more when its auth message is accepted.
        """
        stats = client.stats()
        labels = None
        if stats is not None and stats.info.is_dashboard:
            self._dashboards.add(client)
        elif stats is not None:
            labels = ClientLabels(stats.account, stats.info.dialect)
            self.connected[labels] += 1
            self.accepted[labels] += 1
        self._clients[client] = labels

    def close_unaccepted(self) -> int:
        """Close each client whose token was removed; return their number."""
        ended = [
            (client, code)
            for client in self
            if client.grant is not None and (code := client.grant.find_end()) is not None
        ]
        for client, code in ended:
            client.close(code)
        return len(ended)

    def discard(self, client: ConnectedClient) -> None:
        """Remove `client`, whose line is in the log. An unknown client is ignored."""
        labels = self._clients.pop(client, None)
        self._dashboards.discard(client)
        if labels is not None:
            self.connected[labels] -= 1
        if not self.accepting and not self._clients:
            self.log.flush()  # the process may end before the timer of the log


class DownstreamService(Service):
    """Closes all clients with 1012 (service restart: reconnect) when the proxy stops."""

    def __init__(self, clients: Clients, clock: IReactorTime) -> None:
        self._clients = clients
        self._clock = clock
        self._closed: Deferred[Any] | None = None
        self._waits = True

    def stopService(self) -> Deferred[None]:
        """Close all clients.

        The Deferred fires when every connection is closed. After STOP_TIMEOUT seconds the
        remaining connections are aborted.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._close_all())

    def shorten_stop(self) -> None:
        """Abort the remaining connections now, or as soon as their close frames are sent."""
        self._waits = False
        if self._closed is not None:
            self._closed.cancel()

    async def _close_all(self) -> None:
        self._clients.accepting = False
        clients = tuple(self._clients)
        for client in clients:
            client.close(CloseCode.RESTARTING)
        if self._waits:
            closed = DeferredList([client.is_closed for client in clients], consumeErrors=True)
            self._closed = closed
            # The timeout cancels the Deferreds in the list. That ends the wait and is no error.
            await closed.addTimeout(STOP_TIMEOUT, self._clock)
        for client in self._clients:
            client.abort()
        if not self._clients:
            self._clients.log.flush()  # else the last one's end does it
