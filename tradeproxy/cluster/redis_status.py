"""Whether the log in Redis can be read and written, from the state of the two connections to it."""

from __future__ import annotations

from collections.abc import Callable

from tradeproxy.cluster.redis_client import RedisClient
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.wire.proxy_status import JournalStatus

NOT_REACHED = "Redis has not been reached yet"


class RedisStatus:
    """Opens and closes the connections, and reports every change of the journal's status."""

    def __init__(
        self,
        account: str,
        connections: tuple[RedisClient, RedisClient],
        wall_clock: Callable[[], float],
        on_connected: Callable[[], None],
        on_status: Callable[[JournalStatus], None],
    ) -> None:
        """Take over the callbacks of the connections.

        Args:
            account: its name, for the log.
            connections: one for commands, one for blocking reads.
            wall_clock: Unix time in seconds.
            on_connected: called when the first connection can send commands again.
            on_status: called with every new status.
        """
        self.status = JournalStatus(durable=False, reason=NOT_REACHED, since=wall_clock())
        self._log = AccountLogger(self, account)
        self._connections = connections
        self._wall_clock = wall_clock
        self._on_status = on_status
        connections[0].on_up = on_connected
        for each in connections:
            each.on_down = lambda reason: self.mark_unreadable(f"Redis is away: {reason}")

    @property
    def is_up(self) -> bool:
        """Whether both connections can send commands."""
        return all(each.is_up for each in self._connections)

    def open(self) -> None:
        """Start to connect."""
        for each in self._connections:
            each.open()

    def close(self) -> None:
        """Disconnect; does nothing if already closed."""
        for each in self._connections:
            each.close()

    def mark_caught_up(self) -> None:
        """Record that the whole log was read; ignored unless both connections are up."""
        if self.is_up:
            self._set(durable=True, reason="")

    def mark_unreadable(self, reason: str) -> None:
        """Record why the log cannot be read."""
        self._set(durable=False, reason=reason)

    def _set(self, *, durable: bool, reason: str) -> None:
        if (durable, reason) == (self.status.durable, self.status.reason):
            return
        # A new reason does not restart the outage.
        since = self._wall_clock() if durable != self.status.durable else self.status.since
        self.status = JournalStatus(durable, reason, since)
        if durable:
            self._log.info("caught up with the log in Redis")
        else:
            self._log.warn("cannot read the log in Redis: {reason}", reason=reason)
        self._on_status(self.status)
