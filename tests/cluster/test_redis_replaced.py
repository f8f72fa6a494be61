"""Tests for tradeproxy.cluster.redis_journal where Redis comes back empty, or with another log than before."""

from __future__ import annotations

from tests.support.journals import event, event_id_of, order_id_of, time_of
from tests.support.nodes import LEASE_KEY, STATE, Member, NodesCase
from tradeproxy.cluster.leadership import LEASE
from tradeproxy.cluster.outbox import LOG_SHORTENED
from tradeproxy.cluster.tailer import NO_LOG
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import TrimmedError
from tradeproxy.journal.metadata import OPEN_SINCE
from tradeproxy.wire.event import format_time
from tradeproxy.wire.position import AfterId
from tradeproxy.wire.proxy_status import GapOutcome


class ReplacedTests(NodesCase):
    """Redis comes back with another log than the one that was there."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.started(), self.started()
        self.leader.publish(1, 2)
        self.epoch = self.leader.journal.epoch

    def cut_all(self) -> None:
        for member in self.members:
            member.cut()

    def now_leading(self) -> Member:
        [leader] = [member for member in self.members if member.leads]
        return leader

    def mend_all(self) -> None:
        for member in self.members:
            member.mend()
        self.wait(4)

    def test_an_empty_redis_makes_no_seam_for_who_had_read_all(self) -> None:
        """Another epoch begins where they are: the numbers go on, and nobody is severed."""
        self.cut_all()
        self.redis.forget()
        self.mend_all()
        self.now_leading().publish(3)
        for member in self.members:
            self.assertNotEqual(member.journal.epoch, self.epoch)
            self.assertEqual((member.reader.seqs, member.reader.is_severed), ([1, 2, 3], False))
            self.assertEqual((member.journal.first, member.journal.last), (3, 3))
            self.assertRaises(TrimmedError, member.journal.read, 0, 1)

    def test_an_empty_redis_keeps_what_was_known_of_the_log(self) -> None:
        """The latest time, as horizon, so that history is not appended once more; and whose it is."""
        self.leader.journal.identify("one")
        self.cut_all()
        self.redis.forget()
        self.leader.mend()
        self.wait(4)
        self.assertEqual(self.leader.journal.dedup_horizon, time_of(2))
        self.assertTrue(self.leader.journal.has(event(2)))
        fresh = self.follower()
        self.assertEqual((fresh.journal.first, fresh.journal.last), (3, 2))
        self.assertEqual(
            (fresh.journal.dedup_horizon, fresh.journal.account_id), (time_of(2), "one")
        )

    def test_an_empty_redis_makes_nothing_come_twice(self) -> None:
        """A gap was open: what has come since is known to whoever takes over, though it is no longer kept."""
        self.leader.account.mark_upstream_up()
        self.leader.account.mark_upstream_down("lost")
        self.leader.account.gaps.settle(GapOutcome.OPEN, "HTTP 500")
        self.leader.publish(3, 4)
        for _ in range(2):
            self.cut_all()
            self.redis.forget()
            self.mend_all()
            leader = self.now_leading()
            self.assertEqual(leader.journal.get_metadata(OPEN_SINCE), str(time_of(2)))
            for n in (3, 4):
                self.assertTrue(leader.journal.has(event(n)))
                leader.account.publish_recovered(event(n))
            leader.account.flush()
        known = [order.id for order in leader.journal.open_orders()]
        self.assertEqual(known, [order_id_of(n) for n in range(1, 5)])
        leader.publish(5)
        for member in self.members:
            self.assertEqual(member.reader.seqs, [1, 2, 3, 4, 5])
            self.assertEqual(member.rows, [(5, event(5).payload)])
        self.assertEqual(locate(leader.account, AfterId(event_id_of(4))), 4)

    def test_a_follower_that_begins_anew_knows_what_may_be_missing(self) -> None:
        """The leader died with its Redis, in an open gap: what came since is known, the rest sought."""
        self.leader.account.mark_upstream_up()
        self.leader.account.mark_upstream_down("lost")
        self.leader.account.gaps.settle(GapOutcome.OPEN, "HTTP 500")
        self.leader.publish(3)
        self.leader.vanish()
        self.redis.forget()
        self.wait(LEASE + 2)
        self.assertTrue(self.node.leads)
        missed = event(30, at=format_time(time_of(2) + 500_000))
        self.assertTrue(self.node.journal.has(event(3)))
        self.assertFalse(self.node.journal.has(missed))
        self.node.account.mark_upstream_up()
        gap = self.node.account.gaps.current
        assert gap is not None
        self.assertEqual((gap.begin, gap.outcome), (time_of(2), GapOutcome.OPEN))
        self.assertEqual(self.follower().journal.get_metadata(OPEN_SINCE), str(time_of(2)))

    def test_what_was_read_back_is_not_told_to_an_empty_redis(self) -> None:
        """Redis went before it answered: that it had taken the event, only the reading shows."""
        self.leader.outlet.lose_answer()
        self.leader.publish(3)
        self.assertEqual(self.leader.reader.seqs, [1, 2, 3])
        self.cut_all()
        self.redis.forget()
        self.mend_all()
        self.now_leading().publish(4)
        for member in self.members:
            self.assertEqual(member.reader.payloads, [event(n).payload for n in (1, 2, 3, 4)])

    def test_who_was_elsewhere_is_told(self) -> None:
        """A node that had not read all starts anew, and its clients are ended: their place is no more."""
        cursor = self.node.account.cursor_at(2)
        self.node.cut()
        self.leader.publish(3)
        self.leader.cut()
        self.redis.forget()
        self.leader.mend()
        self.wait(4)
        self.node.mend()
        self.wait(1)
        self.assertTrue(self.node.reader.is_severed)
        self.assertFalse(self.leader.reader.is_severed)
        self.leader.publish(4)
        self.assertEqual(self.node.rows, self.leader.rows)
        self.assertEqual(self.node.rows, [(4, event(4).payload)])
        assert cursor is not None
        self.assertRaises(UnrecoverablePositionError, locate, self.node.account, AfterId(cursor))

    def test_who_is_further_on_than_the_one_that_begins_anew_is_told(self) -> None:
        """The new log has other events under the same numbers."""
        self.leader.cut()
        self.wait(LEASE + 1)
        self.node.publish(3, 4)
        self.node.cut()
        self.redis.forget()
        self.leader.mend()
        self.wait(3)
        self.leader.publish(5)
        self.node.mend()
        self.wait(3)
        self.assertTrue(self.node.reader.is_severed)
        self.assertEqual(self.node.rows, self.leader.rows)

    def test_a_redis_that_is_emptied_by_hand_is_noticed(self) -> None:
        """No connection is lost by FLUSHALL."""
        self.redis.forget()
        self.wait(6)
        self.now_leading().publish(3)
        self.wait(3)
        for member in self.members:
            self.assertNotEqual(member.journal.epoch, self.epoch)
            self.assertEqual((member.reader.seqs, member.reader.is_severed), ([1, 2, 3], False))

    def test_who_is_further_on_notices_too(self) -> None:
        """What is new in Redis comes before the place at which it waits."""
        self.leader.inlet.hold()
        self.leader.publish(3)
        self.node.outlet.cut()
        self.redis.forget()
        self.wait(6)
        self.assertTrue(self.leader.leads)
        self.leader.inlet.go_on()
        self.node.outlet.mend()
        self.wait(4)
        self.assertTrue(self.node.reader.is_severed)
        self.assertEqual(self.node.journal.epoch, self.leader.journal.epoch)
        self.assertEqual(self.node.rows, self.leader.rows)

    def test_a_log_that_loses_its_end_behind_the_nodes_backs_is_noticed(self) -> None:
        """No connection was lost, and nothing is to be written."""
        saved = self.redis.saved()
        self.leader.publish(3)
        self.redis.roll_back(saved)
        self.wait(6)
        for member in self.members:
            self.assertTrue(member.reader.is_severed)
            self.assertEqual(member.journal.last, 2)

    def test_who_is_further_on_than_the_log_does_not_lead(self) -> None:
        """It has to read it anew first; then it does."""
        saved = self.redis.saved()
        self.leader.publish(3)
        self.leader.vanish()
        self.redis.roll_back(saved)
        self.redis.ask("DEL", LEASE_KEY)
        self.node.inlet.hold()
        self.wait(1)
        self.assertEqual(self.node.upstreams, [])
        self.node.inlet.go_on()
        self.wait(LEASE)
        self.assertEqual((len(self.node.upstreams), self.node.journal.last), (1, 2))
        self.assertTrue(self.node.streams)

    def test_a_log_that_has_lost_its_end_is_read_anew(self) -> None:
        """Who had read further has told clients of events that are no more: they come back."""
        saved = self.redis.saved()
        self.leader.publish(3)
        self.cut_all()
        self.redis.roll_back(saved)
        self.mend_all()
        for member in self.members:
            self.assertTrue(member.reader.is_severed)
            self.assertEqual((member.journal.last, member.journal.epoch), (2, self.epoch))

    def test_the_turn_ends_when_the_log_has_lost_its_end(self) -> None:
        """What was lost is a gap that the next turn recovers, before anything else is written."""
        self.leader.account.mark_upstream_up()
        saved = self.redis.saved()
        self.leader.publish(3)
        self.cut_all()
        self.leader.publish(4)
        self.redis.roll_back(saved)
        for member in self.members:
            member.outlet.mend()
        self.assertEqual(self.redis.ask("HGET", STATE, "last"), b"2")
        self.assertFalse(self.leader.streams)
        self.wait(0.5)
        self.assertEqual(self.leader.account.upstream.reason, LOG_SHORTENED)
        for member in self.members:
            member.inlet.mend()
        self.wait(4)
        leader = self.now_leading()
        self.assertEqual((leader.journal.last, leader.journal.latest_time), (2, time_of(2)))
        leader.account.mark_upstream_up()
        gap = leader.account.gaps.current
        assert gap is not None
        self.assertEqual((gap.begin, gap.outcome), (time_of(2), GapOutcome.PENDING))
        leader.publish(3, 4)
        self.assertEqual(
            [payload for _, payload in leader.rows], [event(n).payload for n in (1, 2, 3, 4)]
        )

    def test_a_turn_ends_also_if_the_reading_finds_it_first(self) -> None:
        """Nothing was to be written at that moment."""
        saved = self.redis.saved()
        self.leader.publish(3)
        self.leader.inlet.cut()
        self.redis.roll_back(saved)
        self.leader.inlet.mend()
        self.wait(0.1)
        self.assertFalse(self.leader.streams)

    def test_other_events_under_the_same_numbers_are_read_anew(self) -> None:
        """Another node has written on behind a rollback."""
        saved = self.redis.saved()
        self.node.cut()
        self.leader.publish(3)
        self.leader.cut()
        self.redis.roll_back(saved)
        self.node.mend()
        self.redis.ask("DEL", LEASE_KEY)
        self.wait(LEASE)
        self.assertTrue(self.node.leads)
        self.node.publish(4)
        self.leader.mend()
        self.wait(1)
        self.assertTrue(self.leader.reader.is_severed)
        self.assertEqual(self.leader.rows, self.node.rows)

    def test_a_cursor_behind_what_was_lost_is_refused(self) -> None:
        """Its check does not fit what has its number now."""
        saved = self.redis.saved()
        self.leader.publish(3)
        cursor = self.leader.account.cursor_at(3)
        assert cursor is not None
        self.cut_all()
        self.redis.roll_back(saved)
        self.mend_all()
        self.wait(3)
        self.now_leading().publish(4)
        self.assertRaises(
            UnrecoverablePositionError, locate, self.now_leading().account, AfterId(cursor)
        )

    def test_another_account_begins_another_epoch(self) -> None:
        """The numbers go on, and the other nodes follow without a seam."""
        self.leader.journal.identify("one")
        self.leader.account.mark_upstream_up()
        self.assertTrue(self.leader.journal.identify("two"))
        self.leader.publish(2)
        for member in self.members:
            self.assertEqual((member.journal.first, member.journal.last), (3, 3))
            self.assertEqual((member.reader.seqs, member.reader.is_severed), ([1, 2, 3], False))
        self.assertEqual(self.leader.journal.account_id, "two")
        fresh = self.follower()
        self.assertEqual(fresh.rows, [(3, event(2).payload)])
        self.assertTrue(fresh.account.upstream.streaming)

    def test_another_account_is_told_to_a_redis_that_is_away(self) -> None:
        """What waits is the other account's, and goes; what comes then is the new one's, repeats included."""
        self.leader.journal.identify("one")
        self.leader.cut()
        self.leader.publish(7)
        self.assertTrue(self.leader.journal.identify("two"))
        self.assertEqual(self.leader.journal.open_orders(), [])
        self.assertIsNone(self.leader.journal.order(order_id_of(1)))
        self.leader.publish(2, 8)
        self.leader.journal.set_metadata("complete from", "7")
        self.wait(2)
        self.leader.mend()
        self.wait(1)
        self.assertEqual(self.leader.journal.get_metadata("complete from"), "7")
        for member in self.members:
            self.assertEqual(member.rows, [(3, event(2).payload), (4, event(8).payload)])
            self.assertFalse(member.reader.is_severed)

    def test_another_address_begins_another_epoch(self) -> None:
        """The nodes were started with paper's address, and are now started with live's."""
        self.leader.journal.identify("one")
        for member in self.members:
            member.stop()
        self.wait(1)
        other = self.started(base_url="wss://api.alpaca.markets/stream")
        self.assertTrue(other.leads)
        self.assertNotEqual(other.journal.epoch, self.epoch)
        self.assertEqual((other.journal.first, other.journal.last), (3, 2))
        self.assertEqual((other.journal.account_id, other.journal.latest_time), (None, None))
        other.publish(1)
        self.assertEqual(other.rows, [(3, event(1).payload)])

    def test_the_status_tells_that_there_is_no_log(self) -> None:
        """Redis is there, and no node has begun."""
        for member in self.members:
            member.stop()
        self.redis.forget()
        self.assertEqual(self.follower().journal.status.reason, NO_LOG)
