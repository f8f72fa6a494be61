"""Tests for tradeproxy.cluster.node: what the wiring takes of it."""

from __future__ import annotations

import time

from twisted.application.service import Service
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.journals import BASE_URL
from tests.support.redislog import SOMEWHERE
from tradeproxy.cluster.node import Node, monotonic
from tradeproxy.config.storage import JournalSettings
from tradeproxy.hub.account import Account


class NodeTests(SynchronousTestCase):
    """One node has a name of its own, and a journal and a part in each account."""

    def test_no_two_nodes_have_the_same_name(self) -> None:
        """Two in one container each, with the same host name and the same process id, are still two."""
        names = set()
        for _ in range(2):
            node = Node(SOMEWHERE, Clock())
            journals = [
                node.journal(name, BASE_URL, JournalSettings()) for name in ("paper", "live")
            ]
            owners = {journal.redis_log.owner for journal in journals}
            self.assertEqual(len(owners), 1)
            names |= owners
        self.assertEqual(len(names), 2)

    def test_nothing_is_done_before_it_is_started(self) -> None:
        """No connection, no timer; it is known by then which part it has: a follower's."""
        clock = Clock()
        node = Node(SOMEWHERE, clock)
        account = Account("paper", node.journal("paper", BASE_URL, JournalSettings()), clock)
        leadership = node.leadership(account, Service)
        self.assertEqual(clock.getDelayedCalls(), [])
        assert account.role is not None
        self.assertFalse(account.role.is_leader)
        self.assertIsNone(leadership.stopService())
        account.close()

    def test_its_clock_runs_on_whatever_is_set(self) -> None:
        """Also while the machine sleeps, where the system can tell."""
        if not hasattr(time, "CLOCK_BOOTTIME"):
            raise SkipTest("this system has no such clock")
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.assertTrue(before <= monotonic() <= time.clock_gettime(time.CLOCK_BOOTTIME))
