"""Tests for tradeproxy.cluster.redis_journal: several nodes share one log."""

from __future__ import annotations

from tests.support.journals import BASE_URL, DAY, event, event_id_of, events, order_id_of, time_of
from tests.support.logcase import METADATA
from tests.support.nodes import IDS_KEY, STREAM_KEY, Member, NodesCase
from tests.support.redislog import done
from tradeproxy.cluster.log_entries import EpochStart
from tradeproxy.cluster.redis_log import RedisLog
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import UnreadableError
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.runtime.dates import CONFIRM_AFTER, Dates
from tradeproxy.wire.position import AfterId


class SharedLogTests(NodesCase):
    """Every node has the same log."""

    def test_every_node_delivers_the_same_rows(self) -> None:
        """In one order, under the same numbers, with the same cursors."""
        nodes = [self.start_node() for _ in range(3)]
        leader = nodes[0]
        leader.publish(3, 1)
        leader.publish(2)
        for node in nodes:
            self.assertEqual(node.subscriber.payloads, [event(n).payload for n in (3, 1, 2)])
            self.assertEqual(node.rows, leader.rows)
            self.assertEqual(node.account.cursor_at(3), leader.account.cursor_at(3))
            self.assertEqual(
                (node.journal.epoch, node.journal.latest_time), (leader.journal.epoch, time_of(3))
            )

    def begin_log(self, last: int) -> None:
        """Begin a log after number `last`."""
        client = self.redis.make_client()
        client.open()
        log = RedisLog("paper", "another", client)
        token = done(log.query_lease(10_000, acquire=True)).token
        assert token is not None
        metadata = {**METADATA, "base_url": BASE_URL, "trimmed": str(last)}
        done(log.begin_epoch(token, 1, last, EpochStart("", 0, metadata)))
        done(log.release(token))

    def test_late_node_reads_whole_log_and_delivers_only_new_events(self) -> None:
        """Until it is loaded it delivers nothing."""
        leader = self.start_node()
        leader.publish(*range(1, 1200))
        late = self.make_node()
        late.follow()
        self.assertTrue(late.journal.is_loaded)
        self.assertEqual(late.rows, leader.rows)
        leader.publish(1200)
        self.assertEqual(late.subscriber.seqs, [1200])

    def test_node_is_loaded_only_after_whole_log_is_read(self) -> None:
        """Before that its bounds are wrong and a client's position cannot be found."""
        leader = self.start_node()
        leader.publish(*range(1, 1200))
        late = self.make_node()
        late.command_client.open()
        late.journal.on_committed = lambda _: self.fail("delivered before the node was loaded")
        late.read_client.open()
        late.read_client.lose_reply(3)  # the state and the first events get through
        late.journal.open()
        self.assertFalse(late.journal.is_loaded)
        self.assertIn(late.journal.last, range(1, 1000))
        self.assertEqual(late.journal.status.reason, "Redis is away: the connection was lost")
        self.advance(1)
        self.assertTrue(late.journal.is_loaded)
        self.assertTrue(late.journal.status.durable)
        self.assertEqual(late.rows, leader.rows)

    def test_orders_and_duplicates_include_events_in_outbox(self) -> None:
        """Kinds of events are counted by the leader only."""
        leader, follower = self.start_node(), self.start_node()
        one = order_id_of(1)
        leader.publish(1, 1, 2)
        self.assertEqual(leader.journal.duplicates, 1)
        self.assertEqual(
            (leader.journal.event_counts.total(), follower.journal.event_counts.total()), (2, 0)
        )
        leader.cut()
        leader.journal.append([event(3, order_id=one, status="filled"), event(4)])
        leader.journal.append(events(2, 4))
        self.assertEqual(leader.journal.duplicates, 3)
        state = leader.journal.order(one)
        assert state is not None
        self.assertEqual(state.status, "filled")
        self.assertEqual(
            [each.id for each in leader.journal.open_orders()], [order_id_of(2), order_id_of(4)]
        )
        self.assertEqual(
            [each.id for each in follower.journal.open_orders()], [one, order_id_of(2)]
        )
        self.assertEqual(leader.journal.order(order_id_of(2)), event(2).order)
        self.assertTrue(leader.journal.has(event(4)))
        self.assertFalse(leader.journal.has(event(5)))

    def test_metadata_reaches_next_leader(self) -> None:
        """With the dedup horizon and the account; deleted values are gone."""
        leader, follower = self.start_node(), self.start_node()
        leader.journal.set_metadata("open gap since", "7")
        leader.journal.set_metadata("complete from", "8")
        leader.journal.set_metadata("complete from", None)
        leader.journal.advance_dedup_horizon(time_of(5))
        leader.journal.advance_dedup_horizon(time_of(4))
        leader.journal.identify("one")
        leader.stop()
        self.advance(1)
        self.assertTrue(follower.is_leader)
        journal = follower.journal
        self.assertEqual(
            (journal.get_metadata("open gap since"), journal.get_metadata("complete from")),
            ("7", None),
        )
        self.assertEqual((journal.dedup_horizon, journal.account_id), (time_of(5), "one"))
        self.assertFalse(journal.identify("one"))

    def test_follower_writes_no_metadata(self) -> None:
        """Redis is unchanged."""
        self.start_node()
        follower = self.start_follower()
        before = self.redis.dump()
        follower.journal.set_metadata("open gap since", "7")
        follower.journal.publish_state("anything")
        self.assertEqual(self.redis.dump(), before)

    def test_large_numbers_are_exact(self) -> None:
        """Lua's own conversion rounds from 10^14 on."""
        for last in (2**31 - 1, 2**32, 10**14, 10**15 + 7):
            self.redis.flush()
            self.begin_log(last)
            node = self.start_node()
            node.publish(1, 2)
            self.assertEqual(node.subscriber.seqs, [last + 1, last + 2])
            other = self.start_follower()
            self.assertEqual(other.rows, node.rows)
            node.stop()


class SharedTrimTests(NodesCase):
    """Every node trims its copy; the leader trims Redis."""

    def test_trim_gives_same_bounds_on_every_node(self) -> None:
        """Numbers, bounds and the dedup horizon."""
        leader, follower = self.start_node(max_events=10), self.start_node(max_events=10)
        leader.publish(*range(1, 31))
        self.advance(TRIM_EVERY)
        for member in (leader, follower, self.start_follower(max_events=10)):
            self.assertEqual((member.journal.first, member.journal.last), (21, 30))
            self.assertEqual(
                (member.journal.complete_from, member.journal.dedup_horizon),
                (time_of(20) + 1, time_of(20)),
            )
        self.assertEqual(self.redis.execute("XRANGE", STREAM_KEY, "-", "20-0"), [])
        self.assertEqual(self.redis.execute("ZCARD", IDS_KEY), 10)

    def test_node_that_missed_trimmed_events_reads_from_start(self) -> None:
        """Its clients are aborted: events are missing between what they got and what follows."""
        for extra in ((), (31,)):
            self.redis.flush()
            leader, node = self.start_node(max_events=10), self.start_node()
            leader.publish(1, 2)
            node.cut()
            leader.publish(*range(3, 31))
            self.advance(TRIM_EVERY)
            leader.publish(*extra)
            node.restore()
            self.advance(1)
            self.assertTrue(node.subscriber.is_aborted)
            self.assertEqual(node.rows, leader.rows)
            for member in (leader, node):
                member.stop()
                self.advance(1)

    def test_node_that_missed_trimmed_events_can_lead(self) -> None:
        """It waited for events that are no longer in the log."""
        leader, node = self.start_node(max_age=60), self.start_node(max_age=60)
        node.cut()
        leader.publish(1, 2)
        self.advance(80)
        self.assertEqual((leader.journal.first, leader.journal.last), (2, 2))
        leader.stop()
        node.restore()
        self.advance(3)
        self.assertTrue(node.is_leader)
        self.assertEqual((node.journal.first, node.journal.last), (2, 2))

    def test_event_of_the_future_moves_no_bound_of_any_node(self) -> None:
        """The other nodes have no estimate of Alpaca's clock: they take the leader's bounds."""
        own = Dates(self.clock.seconds, self.clock.seconds)
        leader, node = self.start_node(max_events=3), self.start_node(max_events=3, dates=own)
        leader.account.publish(event(1, at="2999-01-01T00:00:00Z"))
        leader.publish(2, 3, 4, 5, 6)
        self.advance(2 * TRIM_EVERY)
        for member in (leader, node):
            self.assertEqual(member.journal.first, 4)
            self.assertEqual(member.journal.complete_from, time_of(3) + 1)
            self.assertEqual(member.journal.dedup_horizon, time_of(3))
        leader.stop()
        self.advance(3)
        self.assertTrue(node.is_leader)
        self.assertEqual(node.journal.dedup_horizon, time_of(3))

    def test_corrected_beginning_reaches_every_node(self) -> None:
        """The first leader's clock was an hour behind. Clients got times from before the log."""
        dates = [Dates(self.clock.seconds, lambda: self.clock.seconds() - 3600) for _ in range(2)]
        leader, node = (self.start_node(dates=each) for each in dates)
        began = leader.journal.complete_from
        for _ in range(2):
            dates[0].observe(self.clock.seconds())
            self.advance(CONFIRM_AFTER + 1)
        leader.account.correct_times()
        leader.account.identify("one")
        self.advance(1)
        corrected = leader.journal.complete_from
        self.assertLess(abs(corrected - began - 3_600_000_000), 2_000_000)
        self.assertEqual(node.journal.complete_from, corrected)
        leader.stop()
        self.advance(3)
        self.assertEqual((node.is_leader, node.journal.complete_from), (True, corrected))

    def test_trim_during_outage_is_done_later(self) -> None:
        """The leader's next trim includes it."""
        leader = self.start_node(max_events=10)
        leader.publish(*range(1, 21))
        leader.command_client.cut()
        self.clock.advance(TRIM_EVERY)
        leader.command_client.restore()
        self.advance(3)
        leader.publish(21)
        self.advance(TRIM_EVERY)
        self.assertEqual(self.redis.execute("XRANGE", STREAM_KEY, "-", "11-0"), [])

    def test_log_remains_after_all_nodes_stop(self) -> None:
        """Others continue a week later."""
        leader = self.start_node()
        leader.publish(1, 2)
        leader.stop()
        self.clock.advance(6 * DAY)
        again = self.start_node()
        again.publish(2, 3)
        self.assertEqual(again.subscriber.seqs, [3])
        self.assertEqual([seq for seq, _ in again.rows], [1, 2, 3])


class AheadOfNodeTests(NodesCase):
    """A position that this node does not have may be one that it has not read yet."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.start_node(), self.start_node()
        self.leader.publish(1)

    def locate(self, text: str, node: Member | None = None) -> int:
        """Return the number of a position on a node."""
        return locate((node or self.node).account, AfterId(text))

    def test_position_ahead_of_node_is_unreadable_until_read(self) -> None:
        """It is found as soon as the node has read it."""
        self.node.read_client.pause_reads()
        self.leader.publish(2)
        cursor = self.leader.account.cursor_at(2)
        assert cursor is not None
        for _ in range(2):
            self.assertRaises(UnreadableError, self.locate, cursor)
            self.assertRaises(UnreadableError, self.locate, event_id_of(2))
            self.advance(0.6)
        self.node.read_client.resume_reads()
        self.assertEqual((self.locate(cursor), self.locate(event_id_of(2))), (2, 2))

    def test_unknown_position_is_unrecoverable_after_check(self) -> None:
        """The check was sent after the question."""
        cursor = self.leader.account.cursor_at(1)
        assert cursor is not None
        ahead = cursor.replace(".1.", ".2.")
        for text in (ahead, "unknown"):
            self.assertRaises(UnreadableError, self.locate, text)
            self.advance(0.6)
            self.assertRaises(UnrecoverablePositionError, self.locate, text)

    def test_unknown_position_is_unreadable_without_redis(self) -> None:
        """The client can try another node."""
        self.node.cut()
        for _ in range(3):
            self.assertRaises(UnreadableError, self.locate, "unknown")
            self.advance(1)

    def test_unknown_position_on_leader_is_unreadable_before_check(self) -> None:
        """Another node may have led until just now."""
        self.assertRaises(UnreadableError, self.locate, "unknown", self.leader)
        self.advance(4)
        self.assertRaises(UnrecoverablePositionError, self.locate, "unknown", self.leader)
