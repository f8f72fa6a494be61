"""The way to an account's log in Redis: two connections, and whether the log can be followed by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from tradeproxy.wire.proxy_status import JournalStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.cluster.redis_client import RedisClient

NOT_REACHED = "Redis has not been reached yet"


class RedisStatus:
    """Opens and closes the links, and tells of each change in what they are good for."""

    _log = Logger()

    def __init__(
        self,
        account: str,
        links: tuple[RedisClient, RedisClient],
        clock: IReactorTime,
        on_reached: Callable[[], None],
        on_status: Callable[[JournalStatus], None],
    ) -> None:
        """`on_reached` is called when commands can be given again, by the first link."""
        self.status = JournalStatus(durable=False, reason=NOT_REACHED, since=clock.seconds())
        self._account = account
        self._links = links
        self._clock = clock
        self._on_status = on_status
        links[0].on_up = on_reached
        for link in links:
            link.on_down = lambda reason: self.mark_lost(f"Redis is away: {reason}")

    @property
    def is_up(self) -> bool:
        """Whether both links are."""
        return all(link.is_up for link in self._links)

    def open(self) -> None:
        """Begin to connect."""
        for link in self._links:
            link.open()

    def close(self) -> None:
        """Disconnect; harmless if that has been done."""
        for link in self._links:
            link.close()

    def mark_followed(self) -> None:
        """Note that all has been read that there is; it counts while both links are up."""
        if self.is_up:
            self._set(durable=True, reason="")

    def mark_lost(self, reason: str) -> None:
        """Note why the log cannot be followed."""
        self._set(durable=False, reason=reason)

    def _set(self, *, durable: bool, reason: str) -> None:
        if (durable, reason) == (self.status.durable, self.status.reason):
            return
        since = self._clock.seconds() if durable != self.status.durable else self.status.since
        self.status = JournalStatus(durable, reason, since)
        if durable:
            self._log.info("{account}: the log in Redis is followed", account=self._account)
        else:
            self._log.warn(
                "{account}: the log in Redis cannot be followed: {reason}",
                account=self._account,
                reason=reason,
            )
        self._on_status(self.status)
