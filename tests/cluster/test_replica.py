"""Tests for tradeproxy.cluster.replica: a node has what was in the log, however it came there."""

from __future__ import annotations

from tests.support.journals import event, event_id_of, time_of
from tests.support.nodes import Member, NodesCase
from tradeproxy.cluster.leadership import CHECK_INTERVAL, LEASE, RENEW_AFTER
from tradeproxy.cluster.replica import CHECKS_KEPT
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import TRIM_EVERY, UnreadableError
from tradeproxy.wire.position import AfterId, Cursor, FromTime, compute_check


class ReplicaCase(NodesCase):
    """Has events of one second each."""

    def emptied(self, *members: Member) -> None:
        """Let Redis go, come back empty, and be found."""
        for member in members:
            member.cut()
        self.redis.forget()
        for member in members:
            member.mend()
        self.wait(RENEW_AFTER + 2 * CHECK_INTERVAL)


class LateTests(ReplicaCase):
    """A node that reads the log from its beginning dates rows by themselves."""

    def setUp(self) -> None:
        super().setUp()
        self.leader = self.started(max_events=10)
        self.leader.publish(*range(1, 21))
        self.leader.account.gaps.check_through(
            time_of(20)
        )  # any fact: the latest time is saved with it

    def test_a_time_is_found_where_it_is(self) -> None:
        """Every row had been as late as the log's latest time: a client was given all of them."""
        late = self.follower()
        for n in (1, 15, 20):
            self.assertEqual(late.journal.first_since(time_of(n)), n)
            self.assertEqual(locate(late.account, FromTime(time_of(n))), n - 1)
        self.assertIsNone(late.journal.first_since(time_of(21)))
        self.assertEqual(late.journal.latest_time, time_of(20))

    def test_its_bounds_move_with_what_it_trims(self) -> None:
        """Otherwise what is kept yet is refused, and history up to the latest time taken for known."""
        late = self.started(max_events=10)
        self.leader.vanish()
        self.wait(LEASE + TRIM_EVERY + 2)
        self.assertTrue(late.leads)
        late.publish(21)
        self.wait(TRIM_EVERY)
        journal = late.journal
        self.assertEqual((journal.first, journal.last), (12, 21))
        self.assertEqual(
            (journal.complete_from, journal.dedup_horizon), (time_of(11) + 1, time_of(11))
        )
        for name, value in (("begins", journal.complete_from), ("horizon", journal.dedup_horizon)):
            self.assertEqual(int(self.redis.ask("HGET", "tradeproxy:{paper}:facts", name)), value)


class EpochTests(ReplicaCase):
    """Another epoch begins where this node is: what was read before can be read no more."""

    def setUp(self) -> None:
        super().setUp()
        self.leader = self.started()
        self.leader.publish(1, 2, 3)

    def test_times_and_ids_of_the_former_epoch_lead_nowhere(self) -> None:
        """Their rows are known here, but not kept: who asked for them ended in an error."""
        self.emptied(self.leader)
        journal = self.leader.journal
        self.assertEqual((journal.first, journal.last), (4, 3))
        self.assertIsNone(journal.first_since(time_of(1)))
        self.assertEqual(journal.find(event_id_of(3)), 3)
        self.assertRaises(UnreadableError, journal.find, event_id_of(2))
        self.wait(RENEW_AFTER + CHECK_INTERVAL)
        self.assertIsNone(journal.find(event_id_of(2)))
        self.leader.publish(4)
        self.assertEqual(journal.first_since(time_of(1)), 4)
        self.assertEqual(journal.find(event_id_of(4)), 4)

    def test_it_begins_behind_what_was_read_not_behind_what_waits(self) -> None:
        """What was missed before an event that waits is yet to be found."""
        self.leader.cut()
        self.leader.publish(5)
        self.redis.forget()
        self.leader.mend()
        self.wait(RENEW_AFTER + 2 * CHECK_INTERVAL)
        self.assertEqual(self.leader.reader.payloads, [event(n).payload for n in (1, 2, 3, 5)])
        for member in (self.leader, self.follower()):
            self.assertEqual(member.journal.dedup_horizon, time_of(3))
            self.assertFalse(member.journal.has(event(4)))

    def test_an_event_that_was_written_and_not_read_back_comes_once(self) -> None:
        """Redis was emptied by hand, and kept its connections: what it had taken was not told again."""
        self.leader.inlet.hold()
        self.leader.publish(4)
        self.redis.forget()
        self.leader.publish(5)
        self.wait(1)
        self.leader.inlet.go_on()
        self.wait(RENEW_AFTER + CHECK_INTERVAL)
        self.leader.publish(6)
        self.assertEqual(self.leader.reader.payloads, [event(n).payload for n in range(1, 7)])
        self.assertEqual(self.leader.reader.seqs, list(range(1, 7)))
        self.assertEqual(len(self.leader.upstreams), 1)


class FittingTests(ReplicaCase):
    """A node whose rows have all been trimmed sees nonetheless that the log has lost its end."""

    def test_a_shorter_log_does_not_fit(self) -> None:
        """It had no row that could be compared, and handed on new events under numbers that it had used."""
        leader = self.started()
        leader.publish(1, 2)
        node = self.follower(max_age=1)
        saved = self.redis.saved()
        leader.publish(3, 4)
        self.wait(TRIM_EVERY + 2)
        self.assertEqual((node.journal.first, node.journal.last), (5, 4))
        for member in (leader, node):
            member.cut()
        self.redis.roll_back(saved)
        for member in (leader, node):
            member.mend()
        self.wait(LEASE)
        self.assertTrue(node.reader.is_severed)
        leader.publish(5, 6, 7)
        self.assertEqual(leader.journal.last, 5)
        self.assertEqual(node.journal.last, 5)


class AbsentTests(ReplicaCase):
    """A number that the log had not may be given later."""

    def test_what_was_certain_is_asked_again_after_some_looks(self) -> None:
        """A client with that event's cursor was sent away for ever, on this node alone."""
        leader, node = self.started(), self.started()
        leader.publish(1)
        cursor = AfterId(
            str(Cursor("paper", node.journal.epoch, 2, compute_check(event(2).payload)))
        )
        self.assertRaises(UnreadableError, locate, node.account, cursor)
        self.wait(2 * CHECK_INTERVAL)
        self.assertRaises(UnrecoverablePositionError, locate, node.account, cursor)
        node.inlet.hold()
        leader.publish(2)
        self.wait(2 * CHECKS_KEPT * CHECK_INTERVAL)
        self.assertRaises(UnreadableError, locate, node.account, cursor)
        node.inlet.go_on()
        self.assertEqual(locate(node.account, cursor), 2)
