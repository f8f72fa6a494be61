"""Tests for tradeproxy.recovery.order_backfill, while events are on their way through Redis."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.recovery.scripted_case import ScriptedCase, build_event, build_order
from tests.recovery.test_synthetic import build, fill, make
from tests.support.journals import event
from tests.support.nodes import Member
from tests.support.redislog import SyncRedis
from tests.upstream.support import event_stream
from tradeproxy.cluster.leadership import LEASE, RENEW_AFTER
from tradeproxy.cluster.roll_call import CALL_TIME
from tradeproxy.config.settings import RecoveryMode
from tradeproxy.recovery import order_backfill
from tradeproxy.recovery.backfill import Backfill
from tradeproxy.recovery.found import FoundEvents
from tradeproxy.recovery.open_orders import OpenOrders
from tradeproxy.recovery.order_backfill import OrderBackfill
from tradeproxy.recovery.synthetic import SyntheticEvents
from tradeproxy.runtime.dates import SECOND
from tradeproxy.wire.event import Event
from tradeproxy.wire.frame import Recovered, extract_data
from tradeproxy.wire.proxy_status import GapOutcome

ORDERS = ("one", "two", "three")


class LeaderCase(ScriptedCase):
    """Has a leader without an event."""

    def setUp(self) -> None:
        super().setUp()
        self.redis = SyncRedis(self.clock)
        self.leader = Member(self.redis)
        self.addCleanup(self.leader.kill)
        self.account = self.leader.account
        self.leader.start()
        self.wires.advance(CALL_TIME + 1)
        self.began = self.now


class SyntheticEventTests(LeaderCase):
    """Redis loses data after a fill was made of an order, while the history failed."""

    def setUp(self) -> None:
        super().setUp()
        self.log(event(1))
        self.synthetic = SyntheticEvents(self.account.log, self.clock)
        self.update()
        self.dump = self.redis.dump()
        self.log(make("fill", **fill(0, 10)))
        self.update()

    def update(self) -> None:
        """Read the log, as a backfill does before it asks for the history."""
        self.successResultOf(Deferred.fromCoroutine(self.synthetic.update(0)))

    def test_fill_made_before_loss_of_log_does_not_come_again(self) -> None:
        """The history had it under another key, and clients of the leader got it twice."""
        epoch = self.account.log.epoch
        self.redis.flush()
        self.wires.advance(RENEW_AFTER + 1)
        self.assertNotEqual(self.account.log.epoch, epoch)
        self.update()
        self.assertTrue(self.synthetic.covers(build("fill", **fill(0, 10))))
        self.assertTrue(self.leader.is_leader)

    def test_fill_made_and_lost_by_rollback_comes_from_history(self) -> None:
        """The log lacks it, and the history's fill counted as the same."""
        self.redis.roll_back(self.dump)
        self.wires.advance(2 * LEASE)
        self.assertEqual(self.account.log.last, 1)
        self.assertTrue(self.leader.is_leader)
        self.update()
        self.assertFalse(self.synthetic.covers(build("fill", **fill(0, 10))))


class UnreadEventTests(LeaderCase):
    """The leader has missed the fills of three orders, and reads nothing of Redis meanwhile."""

    def setUp(self) -> None:
        super().setUp()
        self.log(*(build_event(build_order(0, "new", self.began, id=name)) for name in ORDERS))
        self.found = FoundEvents(self.account)
        self.found.begin_search()
        self.wires.advance(5)
        self.filled = self.now
        self.listed = [build_order(10, time=self.filled, id=name) for name in ORDERS]

    def build_fill(self, name: str) -> Event:
        """Return the event of the stream for a fill."""
        return build_event(build_order(10, time=self.filled, id=name), "fill", 10)

    def begin_backfill(self) -> Deferred[int]:
        """Begin a backfill; half a second later it has its answers, and begins to compare."""
        backfill = OrderBackfill(
            self.account,
            self.rest,
            self.clock,
            OpenOrders(self.account, self.rest),
            lambda event: self.found.deliver(event, Recovered.ORDERS),
            slack=0,
        )
        since = self.began - 300 * SECOND
        running: Deferred[int] = self.start(backfill.run(self.began, since, self.now + SECOND))
        self.wires.advance(2.5)
        return running

    def count_fills(self) -> dict[str, int]:
        """Return how many fills of each order clients got once the leader has read everything."""
        self.leader.read_client.resume_reads()
        self.wires.advance(1)
        payloads = [payload or b"" for payload in self.leader.subscriber.payloads]
        fills = [payload for payload in payloads if b'"fill"' in payload]
        return {name: sum(f'"{name}"'.encode() in each for each in fills) for name in ORDERS}

    def test_fill_that_is_released_between_parts_is_not_made_again(self) -> None:
        """It was neither in the buffer nor among the rows, and clients got it twice."""
        self.patch(order_backfill, "ORDERS_A_TURN", 1)
        self.account.start_buffering()
        running = self.begin_backfill()
        self.account.publish(self.build_fill("two"))
        self.leader.read_client.pause_reads()
        self.clock.callLater(0.5, self.account.stop_buffering)
        self.wires.advance(1)
        self.successResultOf(running)
        self.assertEqual(self.count_fills(), dict.fromkeys(ORDERS, 1))

    def test_history_repeats_no_fill_that_waits_for_redis(self) -> None:
        """It waited until nothing was on its way, which never is on a busy account."""
        self.leader.read_client.pause_reads()
        made = self.begin_backfill()
        self.wires.advance(1)
        self.successResultOf(made)
        self.assertEqual(len(self.account.log.unread), 3)
        fill = extract_data(self.build_fill("two").payload)[0]
        self.history = event_stream(b"data: %s\n\n" % fill)
        synthetic = SyntheticEvents(self.account.log, self.clock)
        orders = OpenOrders(self.account, self.rest)
        backfill = Backfill(
            self.account,
            self.rest,
            self.clock,
            RecoveryMode.AUTO,
            self.found.deliver,
            OrderBackfill(self.account, self.rest, self.clock, orders, self.fail, slack=0),
            synthetic,
            slack=0,
            tries=3,
        )
        self.assertIs(self.outcome(backfill.run()).outcome, GapOutcome.RECOVERED)
        self.assertEqual(self.count_fills(), dict.fromkeys(ORDERS, 1))

    def test_fill_that_comes_between_parts_is_not_made_again(self) -> None:
        """The order was not compared again before the fill was read back."""
        self.patch(order_backfill, "EVENTS_A_TURN", 1)
        running = self.begin_backfill()
        self.leader.read_client.pause_reads()
        self.clock.callLater(0.5, self.log, self.build_fill("three"))
        self.wires.advance(1)
        self.successResultOf(running)
        self.assertEqual(self.count_fills(), dict.fromkeys(ORDERS, 1))
