"""A test case with an empty Redis and one node's access to a log in it, in fake time."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import NOW
from tests.support.redislog import SyncRedis
from tradeproxy.cluster.redis_log import RedisLog

METADATA = {"epoch": "e1", "base_url": "b", "trimmed": "0", "begins": "1"}
"""The minimal metadata of a log."""


class LogCase(SynchronousTestCase):
    """Has an empty Redis, and node "a" with access to the log of the account "paper"."""

    def setUp(self) -> None:
        """Connect."""
        self.clock = Clock()
        self.clock.advance(NOW)
        self.redis = SyncRedis(self.clock)
        self.log = self.make_log("a")

    def make_log(self, owner: str) -> RedisLog:
        """Return another node's access to the log, over its own connection."""
        client = self.redis.make_client()
        client.open()
        return RedisLog("paper", owner, client)
