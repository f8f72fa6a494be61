"""Nodes in one process that share an account through a real Redis, in fake time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import BASE_URL, DAY, NOW, dates_of, event
from tests.support.redislog import UNUSED_SETTINGS, SyncRedis, SyncRedisClient
from tradeproxy.cluster.node import Node
from tradeproxy.cluster.roll_call import CALL_TIME
from tradeproxy.config.storage import JournalSettings
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch
from tradeproxy.runtime.dates import Dates

LEASE_KEY, STATE_KEY, METADATA_KEY, STREAM_KEY, IDS_KEY = (
    f"tradeproxy:{{paper}}:{key}" for key in ("lease", "state", "facts", "stream", "ids")
)
"""The keys of the account's log in Redis."""


class FakeUpstream(Service):
    """The connection to Alpaca of one term; with `is_slow`, it closes when `closing` fires."""

    def __init__(self) -> None:
        self.closing: Deferred[None] | None = None
        self.is_slow = False

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        if self.is_slow:
            self.closing = Deferred()
        return self.closing


class RecordingSubscriber:
    """A subscriber that records what it gets."""

    size = 1

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.statuses: list[dict[str, Any]] = []
        self.is_aborted = False

    def deliver(self, batch: Batch) -> None:
        self.batches.append(batch)

    def announce(self, status: bytes) -> None:
        self.statuses.append(json.loads(status)["data"])

    def abort(self) -> None:
        self.is_aborted = True

    @property
    def seqs(self) -> list[int]:
        """The numbers of the events."""
        return [row.seq for batch in self.batches for row in batch.rows]

    @property
    def payloads(self) -> list[bytes | None]:
        """The payloads of the events."""
        return [row.payload for batch in self.batches for row in batch.rows]


class LateClock:
    """The timers of a clock, and a time that may be ahead of it."""

    def __init__(self, clock: Clock, get_lateness: Callable[[], float]) -> None:
        self._clock = clock
        self._get_lateness = get_lateness

    def callLater(self, delay: float, call: Callable[..., object], *args: Any) -> IDelayedCall:
        assert delay >= 0, f"a reactor refuses a delay of {delay} s"
        return self._clock.callLater(delay, call, *args)

    def seconds(self) -> float:
        seconds: float = self._clock.seconds()
        return seconds + self._get_lateness()


class Member:
    """One node with one account, a fake upstream, and one subscriber."""

    def __init__(self, redis: SyncRedis, dates: Dates | None = None, **options: Any) -> None:
        self.clients: list[SyncRedisClient] = []
        self.upstreams: list[FakeUpstream] = []
        self.error: Exception | None = None
        """Raised instead of connecting to Alpaca."""
        self.lateness = 0.0
        """Seconds by which its clock is ahead of the others', after its machine has slept."""
        self.subscriber = RecordingSubscriber()
        self._redis = redis
        clock: Any = LateClock(redis.clock, lambda: self.lateness)
        node = Node(UNUSED_SETTINGS, clock, connect=lambda *_: self._make_client())
        base_url = options.pop("base_url", BASE_URL)
        defaults = {
            "directory": Path(),
            "full_sync": False,
            "max_age": 7 * DAY,
            "max_events": 1_000_000,
        }
        settings = JournalSettings(**{**defaults, **options})
        self.journal = node.journal("paper", base_url, settings, dates or dates_of(redis.clock))
        self.command_client, self.read_client = self.clients
        self.account = Account("paper", self.journal, clock)
        self.account.broadcaster.register(self.subscriber)
        self.leadership = node.leadership(self.account, self._make_upstream)

    def _make_client(self) -> SyncRedisClient:
        self.clients.append(self._redis.make_client())
        return self.clients[-1]

    def _make_upstream(self) -> FakeUpstream:
        if self.error is not None:
            raise self.error
        self.upstreams.append(FakeUpstream())
        return self.upstreams[-1]

    def follow(self) -> None:
        """Read the log, and do not compete for the lease."""
        self.account.open()

    def start(self) -> None:
        """Read the log, and compete for the lease."""
        self.account.open()
        self.leadership.startService()

    def stop(self) -> None:
        """Stop as the proxy does; does not wait until the upstream is closed."""
        self.leadership.stopService()
        self.account.close()

    def kill(self) -> None:
        """Disconnect from Redis for good, as a killed process does."""
        self.command_client.close()
        self.read_client.close()

    def cut(self) -> None:
        """Lose both connections to Redis."""
        for client in self.clients:
            client.cut()

    def restore(self) -> None:
        """Restore both connections to Redis."""
        for client in self.clients:
            client.restore()

    def publish(self, *numbers: int) -> None:
        """Receive events from Alpaca in one reactor turn."""
        for n in numbers:
            self.account.publish(event(n))
        self.account.flush()

    @property
    def is_leader(self) -> bool:
        assert self.account.role is not None
        return self.account.role.is_leader

    @property
    def is_streaming(self) -> bool:
        """Whether its upstream is running."""
        return bool(self.upstreams and self.upstreams[-1].running)

    @property
    def rows(self) -> list[tuple[int, bytes | None]]:
        """Every row in its journal: number and payload."""
        found: list[tuple[int, bytes | None]] = []
        after = self.journal.first - 1
        while (batch := self.journal.read(after, 1000)) is not None:
            found += [(row.seq, row.payload) for row in batch.rows]
            after = batch.last
        return found


class NodesCase(SynchronousTestCase):
    """Has a Redis, and nodes that share it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW - CALL_TIME)  # the first node begins its log at NOW
        self.redis = SyncRedis(self.clock)
        self.members: list[Member] = []
        self.addCleanup(self._end)

    def _end(self) -> None:
        for member in self.members:
            member.kill()
        for call in self.clock.getDelayedCalls():
            call.cancel()

    def make_node(self, **options: Any) -> Member:
        """Return a node that is not started."""
        self.members.append(Member(self.redis, **options))
        return self.members[-1]

    def start_follower(self, **options: Any) -> Member:
        """Return a node that reads the log, and does not compete for the lease."""
        member = self.make_node(**options)
        member.follow()
        return member

    def start_node(self, **options: Any) -> Member:
        """Return a node that competes for the lease, one second after its start.

        If Redis has no log, it leads by then.
        """
        member = self.make_node(**options)
        member.start()
        if not self.redis.execute("EXISTS", METADATA_KEY):
            self.advance(CALL_TIME)
        self.advance(1)
        return member

    def advance(self, seconds: float) -> None:
        """Advance the clock, in steps as small as a reactor's."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
