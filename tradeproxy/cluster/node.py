"""A node: its name, its clock, and what it has of each account in the place of what a lone proxy has."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

from tradeproxy.cluster.leadership import Leadership
from tradeproxy.cluster.redis_client import RedisClient
from tradeproxy.cluster.redis_journal import RedisJournal
from tradeproxy.hub.replication import StreamState

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.application.service import Service

    from tradeproxy.config.storage import JournalSettings, RedisSettings
    from tradeproxy.hub.account import Account


def monotonic() -> float:
    """Return seconds that pass while the machine sleeps too, where it can tell: leases run out meanwhile."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class Node:
    """Builds the journals and the services by which this process shares its accounts with others."""

    def __init__(
        self,
        redis: RedisSettings,
        reactor: Any,
        *,
        connect: Callable[[RedisSettings, Any], RedisClient] = RedisClient,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._name = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(6).hex()}"
        self._journals: dict[str, RedisJournal] = {}
        self._redis = redis
        self._reactor = reactor
        self._connect = connect
        self._monotonic = monotonic

    def journal(self, account: str, base_url: str, settings: JournalSettings) -> RedisJournal:
        """Return the journal of one account."""
        journal = RedisJournal(
            account,
            (self._connect(self._redis, self._reactor), self._connect(self._redis, self._reactor)),
            self._name,
            self._reactor,
            base_url=base_url,
            max_age=settings.max_age,
            max_events=settings.max_events,
        )
        self._journals[account] = journal
        return journal

    def leadership(self, account: Account, make_upstream: Callable[[], Service]) -> Leadership:
        """Return the service that holds the account's upstream, in turn with the other nodes."""
        journal = self._journals[account.name]
        account.on_stream_state = lambda standing: journal.publish_state(standing.encode())
        journal.on_stream_state = lambda text: account.apply_stream_state(StreamState.parse(text))
        return Leadership(account, journal, make_upstream, self._reactor, self._monotonic)
