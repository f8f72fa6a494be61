"""What tests of one log in Redis begin with, in fake time."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import NOW
from tests.support.redislog import NearRedis
from tradeproxy.cluster.redis_log import RedisLog

FACTS = {"epoch": "e1", "base_url": "b", "trimmed": "0", "begins": "1"}


class LogCase(SynchronousTestCase):
    """A Redis that is empty, and one node's way to a log in it."""

    def setUp(self) -> None:
        """Connect."""
        self.clock = Clock()
        self.clock.advance(NOW)
        self.redis = NearRedis(self.clock)
        self.log = self.node("a")

    def node(self, owner: str) -> RedisLog:
        """Return a node's way to the log, of its own."""
        link = self.redis.link()
        link.open()
        return RedisLog("paper", owner, link)
