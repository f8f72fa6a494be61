"""Tests for tradeproxy.cluster.node."""

from __future__ import annotations

import time

from twisted.application.service import Service
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.journals import BASE_URL
from tests.support.redislog import UNUSED_SETTINGS
from tradeproxy.cluster.node import Node, monotonic
from tradeproxy.config.storage import JournalSettings
from tradeproxy.hub.account import Account


class NodeTests(SynchronousTestCase):
    """A node has a unique name, and a journal and a leadership service for each account."""

    def test_name_is_unique_within_one_process(self) -> None:
        """Two containers can have the same host name and the same process id."""
        names = set()
        for _ in range(2):
            node = Node(UNUSED_SETTINGS, Clock())
            journals = [
                node.journal(name, BASE_URL, JournalSettings()) for name in ("paper", "live")
            ]
            owners = {journal.redis_log.owner for journal in journals}
            self.assertEqual(len(owners), 1)
            names |= owners
        self.assertEqual(len(names), 2)

    def test_new_node_is_follower_without_timers(self) -> None:
        """Nothing connects before the start, and the role is known already."""
        clock = Clock()
        node = Node(UNUSED_SETTINGS, clock)
        account = Account("paper", node.journal("paper", BASE_URL, JournalSettings()), clock)
        leadership = node.leadership(account, Service)
        self.assertEqual(clock.getDelayedCalls(), [])
        assert account.role is not None
        self.assertFalse(account.role.is_leader)
        self.assertIsNone(leadership.stopService())
        account.close()

    def test_monotonic_counts_sleep_of_machine(self) -> None:
        """It is CLOCK_BOOTTIME where the system has that."""
        if not hasattr(time, "CLOCK_BOOTTIME"):
            raise SkipTest("this system has no such clock")
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.assertTrue(before <= monotonic() <= time.clock_gettime(time.CLOCK_BOOTTIME))
