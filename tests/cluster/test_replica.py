"""Tests for tradeproxy.cluster.replica: a node has the rows of the log, however it read them."""

from __future__ import annotations

from tests.support.journals import event, event_id_of, time_of
from tests.support.nodes import METADATA_KEY, Member, NodesCase
from tradeproxy.cluster.leadership import CHECK_INTERVAL, LEASE, RENEW_AFTER
from tradeproxy.cluster.replica import CHECKS_KEPT
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import UnreadableError
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.wire.position import AfterId, Cursor, FromTime, compute_check


class ReplicaCase(NodesCase):
    """Has events that are one second apart."""

    def empty_redis(self, *members: Member) -> None:
        """Restart Redis without data while members are disconnected; wait until they notice."""
        for member in members:
            member.cut()
        self.redis.flush()
        for member in members:
            member.restore()
        self.advance(RENEW_AFTER + 2 * CHECK_INTERVAL)


class InitialReadTests(ReplicaCase):
    """A node that reads the log from its start dates each row by the rows before it."""

    def setUp(self) -> None:
        super().setUp()
        self.leader = self.start_node(max_events=10)
        self.leader.publish(*range(1, 21))
        self.leader.account.gaps.check_through(time_of(20))  # saves metadata, with the latest time

    def test_first_since_after_initial_read_finds_row(self) -> None:
        """Each row once had the log's latest time: a client got all of them."""
        late = self.start_follower()
        for n in (1, 15, 20):
            self.assertEqual(late.journal.first_since(time_of(n)), n)
            self.assertEqual(locate(late.account, FromTime(time_of(n))), n - 1)
        self.assertIsNone(late.journal.first_since(time_of(21)))
        self.assertEqual(late.journal.latest_time, time_of(20))

    def test_trim_moves_bounds_to_times_of_trimmed_rows(self) -> None:
        """Otherwise stored rows are not found, and later history counts as known."""
        late = self.start_node(max_events=10)
        self.leader.kill()
        self.advance(LEASE + TRIM_EVERY + 2)
        self.assertTrue(late.is_leader)
        late.publish(21)
        self.advance(TRIM_EVERY)
        journal = late.journal
        self.assertEqual((journal.first, journal.last), (12, 21))
        self.assertEqual(
            (journal.complete_from, journal.dedup_horizon), (time_of(11) + 1, time_of(11))
        )
        for name, value in (("begins", journal.complete_from), ("horizon", journal.dedup_horizon)):
            self.assertEqual(int(self.redis.execute("HGET", METADATA_KEY, name)), value)


class NewEpochTests(ReplicaCase):
    """An epoch begins after this node's last row: older rows can no longer be read."""

    def setUp(self) -> None:
        super().setUp()
        self.leader = self.start_node()
        self.leader.publish(1, 2, 3)

    def test_rows_of_older_epoch_are_not_found(self) -> None:
        """They stay in the store against duplicates; requests for them once ended in an error."""
        self.empty_redis(self.leader)
        journal = self.leader.journal
        self.assertEqual((journal.first, journal.last), (4, 3))
        self.assertIsNone(journal.first_since(time_of(1)))
        self.assertEqual(journal.find(event_id_of(3)), 3)
        self.assertRaises(UnreadableError, journal.find, event_id_of(2))
        self.advance(RENEW_AFTER + CHECK_INTERVAL)
        self.assertIsNone(journal.find(event_id_of(2)))
        self.leader.publish(4)
        self.assertEqual(journal.first_since(time_of(1)), 4)
        self.assertEqual(journal.find(event_id_of(4)), 4)

    def test_dedup_horizon_excludes_events_in_outbox(self) -> None:
        """Events missed before a waiting event must still be found."""
        self.advance(5)
        self.leader.cut()
        self.leader.publish(5)
        self.redis.flush()
        self.leader.restore()
        self.advance(RENEW_AFTER + 2 * CHECK_INTERVAL)
        self.assertEqual(self.leader.subscriber.payloads, [event(n).payload for n in (1, 2, 3, 5)])
        for member in (self.leader, self.start_follower()):
            self.assertEqual(member.journal.dedup_horizon, time_of(3))
            self.assertFalse(member.journal.has(event(4)))

    def test_flushed_event_not_read_back_is_written_again_once(self) -> None:
        """FLUSHALL kept the connections open, so the event was not written again."""
        self.leader.read_client.pause_reads()
        self.leader.publish(4)
        self.redis.flush()
        self.leader.publish(5)
        self.advance(1)
        self.leader.read_client.resume_reads()
        self.advance(RENEW_AFTER + CHECK_INTERVAL)
        self.leader.publish(6)
        self.assertEqual(self.leader.subscriber.payloads, [event(n).payload for n in range(1, 7)])
        self.assertEqual(self.leader.subscriber.seqs, list(range(1, 7)))
        self.assertEqual(len(self.leader.upstreams), 1)


class UnknownPositionTests(ReplicaCase):
    """A number beyond the log's end may belong to an event later."""

    def test_missing_position_is_checked_again_after_some_checks(self) -> None:
        """On this node alone a client with that event's cursor was rejected forever."""
        leader, node = self.start_node(), self.start_node()
        leader.publish(1)
        cursor = AfterId(
            str(Cursor("paper", node.journal.epoch, 2, compute_check(event(2).payload)))
        )
        self.assertRaises(UnreadableError, locate, node.account, cursor)
        self.advance(2 * CHECK_INTERVAL)
        self.assertRaises(UnrecoverablePositionError, locate, node.account, cursor)
        node.read_client.pause_reads()
        leader.publish(2)
        self.advance(2 * CHECKS_KEPT * CHECK_INTERVAL)
        self.assertRaises(UnreadableError, locate, node.account, cursor)
        node.read_client.resume_reads()
        self.assertEqual(locate(node.account, cursor), 2)
