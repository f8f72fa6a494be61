"""Tests for tradeproxy.cluster.node."""

from __future__ import annotations

from typing import cast

from twisted.application.service import Service
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import BASE_URL, dates_of
from tests.support.redislog import UNUSED_SETTINGS
from tradeproxy.cluster.node import Node
from tradeproxy.config.storage import JournalSettings
from tradeproxy.hub.account import Account
from tradeproxy.runtime.reactor import Reactor


class NodeTests(SynchronousTestCase):
    """A node has a unique name, and a journal and a leadership service for each account."""

    def test_name_is_unique_within_one_process(self) -> None:
        """Two containers can have the same host name and the same process id."""
        names = set()
        for _ in range(2):
            clock = Clock()
            node = Node(UNUSED_SETTINGS, cast(Reactor, clock))
            journals = [
                node.journal(name, BASE_URL, JournalSettings(), dates_of(clock))
                for name in ("paper", "live")
            ]
            owners = {journal.redis_log.owner for journal in journals}
            self.assertEqual(len(owners), 1)
            names |= owners
        self.assertEqual(len(names), 2)

    def test_new_node_is_follower_without_timers(self) -> None:
        """Nothing connects before the start, and the role is known already."""
        clock = Clock()
        node = Node(UNUSED_SETTINGS, cast(Reactor, clock))
        journal = node.journal("paper", BASE_URL, JournalSettings(), dates_of(clock))
        account = Account("paper", journal, clock)
        leadership = node.leadership(account, Service)
        self.assertEqual(clock.getDelayedCalls(), [])
        assert account.role is not None
        self.assertFalse(account.role.is_leader)
        self.assertIsNone(leadership.stopService())
        account.close()
