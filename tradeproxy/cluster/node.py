"""A node: its name, its clock, and the journal and leadership of each account."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from tradeproxy.cluster.leadership import Leadership
from tradeproxy.cluster.redis_client import RedisClient
from tradeproxy.cluster.redis_journal import RedisJournal
from tradeproxy.config.storage import JournalSettings, RedisSettings
from tradeproxy.hub.account import Account
from tradeproxy.hub.replication import StreamState
from tradeproxy.runtime.dates import Dates
from tradeproxy.runtime.reactor import Reactor

_log = Logger()


def _apply_stream_state(account: Account, text: str) -> None:
    # Redis holds what anyone with its password wrote. A state that cannot be read must not stop
    # this node from reading the events after it.
    try:
        state = StreamState.parse(text)
    except ValueError:
        _log.warn(
            "{account}: the stream state in Redis cannot be read, and is ignored",
            account=account.name,
        )
        return
    account.apply_stream_state(state)


class Node:
    """Builds the journals and services with which this process shares its accounts."""

    def __init__(
        self,
        redis: RedisSettings,
        reactor: Reactor,
        *,
        connect: Callable[[RedisSettings, Any], RedisClient] = RedisClient,
    ) -> None:
        """Choose a name. Nothing connects before the services start."""
        # Random, since two containers may have the same host name and process id.
        self._name = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(6).hex()}"
        self._journals: dict[str, RedisJournal] = {}
        self._redis = redis
        self._reactor = reactor
        self._connect = connect

    def journal(
        self, account: str, base_url: str, settings: JournalSettings, dates: Dates
    ) -> RedisJournal:
        """Return the journal of one account."""
        journal = RedisJournal(
            account,
            (self._connect(self._redis, self._reactor), self._connect(self._redis, self._reactor)),
            self._name,
            self._reactor,
            dates,
            base_url=base_url,
            max_age=settings.max_age,
            max_events=settings.max_events,
        )
        self._journals[account] = journal
        return journal

    def leadership(self, account: Account, make_upstream: Callable[[], Service]) -> Leadership:
        """Return the service that runs the account's upstream while this node leads.

        The account must have been built with the journal that `journal` returned for its name.
        """
        journal = self._journals[account.name]
        account.on_stream_state = lambda state: journal.publish_state(state.encode())
        journal.on_stream_state = lambda text: _apply_stream_state(account, text)
        return Leadership(account, journal, make_upstream, self._reactor)
