"""Nodes of one process, which share accounts by a real Redis, in fake time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import BASE_URL, DAY, NOW, event
from tests.support.redislog import SOMEWHERE, NearLink, NearRedis
from tradeproxy.cluster.node import Node
from tradeproxy.config.storage import JournalSettings
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch

LEASE_KEY, STATE, STREAM = (f"tradeproxy:{{paper}}:{key}" for key in ("lease", "state", "stream"))
"""The keys of their log in Redis."""


class Upstream(Service):
    """What holds the connection to Alpaca for one turn; it may take its time to close it."""

    def __init__(self) -> None:
        self.closing: Deferred[None] | None = None
        self.is_slow = False

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        if self.is_slow:
            self.closing = Deferred()
        return self.closing


class Reader:
    """A subscriber that keeps what it is handed."""

    size = 1

    def __init__(self) -> None:
        self.bursts: list[Batch] = []
        self.statuses: list[dict[str, Any]] = []
        self.is_severed = False

    def deliver(self, burst: Batch) -> None:
        self.bursts.append(burst)

    def announce(self, status: bytes) -> None:
        self.statuses.append(json.loads(status)["data"])

    def abort(self) -> None:
        self.is_severed = True

    @property
    def seqs(self) -> list[int]:
        """The numbers that came."""
        return [row.seq for burst in self.bursts for row in burst.rows]

    @property
    def payloads(self) -> list[bytes | None]:
        """The events that came."""
        return [row.payload for burst in self.bursts for row in burst.rows]


class Member:
    """One node with one account, whose upstream is the test's, and one reader."""

    def __init__(self, redis: NearRedis, **options: Any) -> None:
        self.links: list[NearLink] = []
        self.upstreams: list[Upstream] = []
        self.error: Exception | None = None
        """What is raised instead of connecting to Alpaca."""
        self.lateness = 0.0
        """By how much the monotonic clock is ahead of the reactor's."""
        self.reader = Reader()
        self._redis = redis
        clock = redis.clock
        node = Node(
            SOMEWHERE,
            clock,
            connect=lambda *_: self._link(),
            monotonic=lambda: clock.seconds() + self.lateness,
        )
        base_url = options.pop("base_url", BASE_URL)
        defaults = {
            "directory": Path(),
            "full_sync": False,
            "max_age": 7 * DAY,
            "max_events": 1_000_000,
        }
        self.journal = node.journal("paper", base_url, JournalSettings(**{**defaults, **options}))
        self.outlet, self.inlet = self.links
        self.account = Account("paper", self.journal, clock)
        self.account.broadcaster.register(self.reader)
        self.leadership = node.leadership(self.account, self._upstream)

    def _link(self) -> NearLink:
        self.links.append(self._redis.link())
        return self.links[-1]

    def _upstream(self) -> Upstream:
        if self.error is not None:
            raise self.error
        self.upstreams.append(Upstream())
        return self.upstreams[-1]

    def follow(self) -> None:
        """Open the log, and look for no lease."""
        self.account.open()

    def start(self) -> None:
        """Begin to take turns."""
        self.account.open()
        self.leadership.startService()

    def stop(self) -> None:
        """Stop as the proxy does; the test sees to it that this comes to its end."""
        self.leadership.stopService()
        self.account.close()

    def vanish(self) -> None:
        """Be killed: nothing is said, nothing is released."""
        self.outlet.close()
        self.inlet.close()

    def cut(self) -> None:
        """Lose both connections to Redis."""
        for link in self.links:
            link.cut()

    def mend(self) -> None:
        """Have them again."""
        for link in self.links:
            link.mend()

    def publish(self, *numbers: int) -> None:
        """Take events from Alpaca in one turn of the reactor."""
        for n in numbers:
            self.account.publish(event(n))
        self.account.flush()

    @property
    def leads(self) -> bool:
        assert self.account.role is not None
        return self.account.role.is_leader

    @property
    def streams(self) -> bool:
        """Whether its upstream is running."""
        return bool(self.upstreams and self.upstreams[-1].running)

    @property
    def rows(self) -> list[tuple[int, bytes | None]]:
        """All that can be read here."""
        found: list[tuple[int, bytes | None]] = []
        after = self.journal.first - 1
        while (burst := self.journal.read(after, 1000)) is not None:
            found += [(row.seq, row.payload) for row in burst.rows]
            after = burst.last
        return found


class NodesCase(SynchronousTestCase):
    """Has a Redis, and nodes that share it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.redis = NearRedis(self.clock)
        self.members: list[Member] = []
        self.addCleanup(self._end)

    def _end(self) -> None:
        for member in self.members:
            member.vanish()
        for call in self.clock.getDelayedCalls():
            call.cancel()

    def member(self, **options: Any) -> Member:
        """Return a node that does nothing yet."""
        self.members.append(Member(self.redis, **options))
        return self.members[-1]

    def follower(self, **options: Any) -> Member:
        """Return a node that follows the log, and looks for no lease."""
        member = self.member(**options)
        member.follow()
        return member

    def started(self, **options: Any) -> Member:
        """Return a node that takes turns, a second after it has been started."""
        member = self.member(**options)
        member.start()
        self.wait(1)
        return member

    def wait(self, seconds: float) -> None:
        """Let time pass, in steps as small as a reactor's."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
