"""Tests for tradeproxy.cluster.redis_status."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.redislog import SyncRedis
from tradeproxy.cluster.redis_status import RedisStatus
from tradeproxy.wire.proxy_status import JournalStatus


class RedisStatusTests(SynchronousTestCase):
    """The status has a reason, and the time since when the log can, or cannot, be read."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        redis = SyncRedis(self.clock)
        self.commands, self.reads = redis.make_client(), redis.make_client()
        self.connected: list[float] = []
        self.statuses: list[JournalStatus] = []
        self.status = RedisStatus(
            "paper",
            (self.commands, self.reads),
            self.clock.seconds,
            lambda: self.connected.append(self.clock.seconds()),
            self.statuses.append,
        )
        self.addCleanup(self.status.close)

    def test_log_is_readable_once_both_connections_are_up_and_it_is_read(self) -> None:
        """Only the connection for commands is announced."""
        self.status.mark_caught_up()
        self.assertEqual((self.status.is_up, self.statuses), (False, []))
        self.reads.cut()
        self.status.open()
        self.assertEqual(self.connected, [100])
        self.status.mark_caught_up()
        self.assertEqual((self.status.is_up, self.statuses), (False, []))
        self.assertEqual(
            self.status.status, JournalStatus(False, "Redis has not been reached yet", 100)
        )
        self.clock.advance(1)
        self.reads.restore()
        self.assertEqual((self.status.is_up, self.connected), (True, [100]))
        self.status.mark_caught_up()
        self.assertEqual(self.status.status, JournalStatus(True, "", 101))
        self.assertEqual(self.statuses, [self.status.status])

    def test_each_change_is_reported_once_with_begin_of_outage(self) -> None:
        """A new reason does not restart the outage."""
        self.status.open()
        for _ in range(2):
            self.status.mark_caught_up()
        for reason in ("one", "one", "two"):
            self.clock.advance(1)
            self.status.mark_unreadable(reason)
        self.clock.advance(1)
        self.reads.cut("lost")
        self.assertEqual(
            self.statuses,
            [
                JournalStatus(True, "", 100),
                JournalStatus(False, "one", 101),
                JournalStatus(False, "two", 101),
                JournalStatus(False, "Redis is away: lost", 101),
            ],
        )

    def test_close_ends_both_connections(self) -> None:
        """A second one does nothing."""
        self.status.open()
        for _ in range(2):
            self.status.close()
            self.assertFalse(self.commands.is_up or self.reads.is_up)
        self.assertEqual(self.statuses, [])
