"""Tests for tradeproxy.cluster.redis_journal after Redis lost some or all of its log."""

from __future__ import annotations

from tests.support.journals import event, event_id_of, order_id_of, time_of
from tests.support.nodes import LEASE_KEY, METADATA_KEY, STATE_KEY, Member, NodesCase
from tests.support.redislog import Command
from tradeproxy.cluster import scripts
from tradeproxy.cluster.leadership import LEASE, RENEW_AFTER
from tradeproxy.cluster.outbox import LOG_SHORTENED
from tradeproxy.cluster.roll_call import CALL_TIME
from tradeproxy.cluster.tailer import NO_LOG
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import TrimmedError, UnreadableError
from tradeproxy.journal.metadata import OPEN_SINCE
from tradeproxy.runtime.dates import CONFIRM_AFTER, Dates
from tradeproxy.wire.event import format_time
from tradeproxy.wire.position import AfterId, FromTime
from tradeproxy.wire.proxy_status import GapOutcome


class ReplacedLogTests(NodesCase):
    """Redis returns with another log than before."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.start_node(), self.start_node()
        self.leader.publish(1, 2)
        self.epoch = self.leader.journal.epoch

    def cut_all(self) -> None:
        for member in self.members:
            member.cut()

    def find_leader(self) -> Member:
        """Return the node that leads."""
        [leader] = [member for member in self.members if member.is_leader]
        return leader

    def restore_all(self) -> None:
        """Restore every connection, and wait until one node leads."""
        for member in self.members:
            member.restore()
        self.advance(4)

    def test_empty_redis_continues_numbers_and_aborts_no_client(self) -> None:
        """A new epoch begins where the nodes are."""
        self.cut_all()
        self.redis.flush()
        self.restore_all()
        self.find_leader().publish(3)
        for member in self.members:
            self.assertNotEqual(member.journal.epoch, self.epoch)
            self.assertEqual(
                (member.subscriber.seqs, member.subscriber.is_aborted), ([1, 2, 3], False)
            )
            self.assertEqual((member.journal.first, member.journal.last), (3, 3))
            self.assertRaises(TrimmedError, member.journal.read, 0, 1)

    def test_empty_redis_keeps_dedup_horizon_and_account(self) -> None:
        """Events of the older epoch are not appended again."""
        self.advance(5)
        self.leader.journal.identify("one")
        self.cut_all()
        self.redis.flush()
        self.leader.restore()
        self.advance(4)
        self.assertEqual(self.leader.journal.dedup_horizon, time_of(2))
        self.assertTrue(self.leader.journal.has(event(2)))
        fresh = self.start_follower()
        self.assertEqual((fresh.journal.first, fresh.journal.last), (3, 2))
        self.assertEqual(
            (fresh.journal.dedup_horizon, fresh.journal.account_id), (time_of(2), "one")
        )

    def test_empty_redis_during_open_gap_causes_no_duplicates(self) -> None:
        """The next leader has the events since the gap began, though they can no longer be read."""
        self.leader.account.mark_upstream_up()
        self.leader.account.mark_upstream_down("lost")
        self.leader.account.gaps.settle(GapOutcome.OPEN, "HTTP 500")
        self.leader.publish(3, 4)
        for _ in range(2):
            self.cut_all()
            self.redis.flush()
            self.restore_all()
            leader = self.find_leader()
            self.assertEqual(leader.journal.get_metadata(OPEN_SINCE), str(time_of(2)))
            for n in (3, 4):
                self.assertTrue(leader.journal.has(event(n)))
                leader.account.publish_recovered(event(n))
            leader.account.flush()
        known = [order.id for order in leader.journal.open_orders()]
        self.assertEqual(known, [order_id_of(n) for n in range(1, 5)])
        leader.publish(5)
        for member in self.members:
            self.assertEqual(member.subscriber.seqs, [1, 2, 3, 4, 5])
            self.assertEqual(member.rows, [(5, event(5).payload)])
        self.assertEqual(locate(leader.account, AfterId(event_id_of(4))), 4)

    def test_metadata_saved_during_outage_is_not_written_over_that_of_new_log(self) -> None:
        """It had the dedup horizon of the lost log, or none: events before the gap came twice.

        The first log has no horizon, the second one that of the first one's loss.
        """
        self.advance(20)
        account = self.leader.account
        account.mark_upstream_up()
        for last in (2, 5):
            account.mark_upstream_down("lost")
            account.mark_upstream_up()
            self.leader.publish(last + 1, last + 2)
            self.cut_all()
            account.set_metadata("note", str(last))
            self.redis.flush()
            self.restore_all()
            fresh = self.start_follower()
            self.assertEqual(fresh.journal.dedup_horizon, time_of(last))
            self.assertEqual(fresh.journal.complete_from, self.leader.journal.complete_from)
            self.assertEqual(fresh.journal.get_metadata("note"), str(last))
            account.settle_gap(GapOutcome.RECOVERED)
            self.leader.publish(last + 3)
        for member in self.members:
            member.kill()
        newcomer = self.start_node()
        self.advance(LEASE)
        self.assertTrue(newcomer.is_streaming)
        newcomer.publish(*[n for n in range(1, 9) if not newcomer.journal.has(event(n))])
        self.assertEqual(newcomer.subscriber.payloads, [])

    def test_beginning_corrected_during_outage_is_not_written_over_that_of_new_log(self) -> None:
        """A client that asked for a time before the new log got 200, and not all events."""
        for member in self.members:
            member.stop()
        self.advance(LEASE)
        self.redis.flush()
        dates = Dates(self.clock.seconds, lambda: self.clock.seconds() - 3600)
        leader = self.start_node(dates=dates)
        self.assertTrue(leader.is_leader)
        dates.observe(self.clock.seconds())
        self.advance(CONFIRM_AFTER + 1)
        leader.cut()
        dates.observe(self.clock.seconds())
        before = leader.journal.complete_from
        leader.account.correct_times()
        corrected = leader.journal.complete_from
        self.assertGreater(corrected, before)
        self.redis.flush()
        leader.restore()
        self.advance(1)
        self.assertGreater(leader.journal.complete_from, corrected)
        fresh = self.start_follower()
        self.assertEqual(fresh.journal.complete_from, leader.journal.complete_from)

    def test_follower_that_begins_new_log_keeps_open_gap(self) -> None:
        """Leader and Redis were lost together; events after the gap began are known."""
        self.leader.account.mark_upstream_up()
        self.leader.account.mark_upstream_down("lost")
        self.leader.account.gaps.settle(GapOutcome.OPEN, "HTTP 500")
        self.leader.publish(3)
        self.leader.kill()
        self.redis.flush()
        self.advance(LEASE + 2)
        self.assertTrue(self.node.is_leader)
        missed = event(30, at=format_time(time_of(2) + 500_000))
        self.assertTrue(self.node.journal.has(event(3)))
        self.assertFalse(self.node.journal.has(missed))
        self.node.account.mark_upstream_up()
        gap = self.node.account.gaps.current
        assert gap is not None
        self.assertEqual((gap.begin, gap.outcome), (time_of(2), GapOutcome.OPEN))
        self.assertEqual(self.start_follower().journal.get_metadata(OPEN_SINCE), str(time_of(2)))

    def test_event_read_back_before_loss_is_not_written_to_empty_redis(self) -> None:
        """Its reply was lost, so only reading showed that it was written."""
        self.leader.command_client.lose_reply()
        self.leader.publish(3)
        self.assertEqual(self.leader.subscriber.seqs, [1, 2, 3])
        self.cut_all()
        self.redis.flush()
        self.restore_all()
        self.find_leader().publish(4)
        for member in self.members:
            self.assertEqual(member.subscriber.payloads, [event(n).payload for n in (1, 2, 3, 4)])

    def test_node_that_lagged_behind_empty_redis_aborts_clients(self) -> None:
        """Their positions no longer exist."""
        cursor = self.node.account.cursor_at(2)
        self.node.cut()
        self.leader.publish(3)
        self.leader.cut()
        self.redis.flush()
        self.leader.restore()
        self.advance(4)
        self.node.restore()
        self.advance(1)
        self.assertTrue(self.node.subscriber.is_aborted)
        self.assertFalse(self.leader.subscriber.is_aborted)
        self.leader.publish(4)
        self.assertEqual(self.node.rows, self.leader.rows)
        self.assertEqual(self.node.rows, [(4, event(4).payload)])
        assert cursor is not None
        self.assertRaises(UnrecoverablePositionError, locate, self.node.account, AfterId(cursor))

    def test_node_ahead_of_new_log_aborts_clients(self) -> None:
        """The new log has other events under the same numbers."""
        self.leader.cut()
        self.advance(LEASE + 1)
        self.node.publish(3, 4)
        self.node.cut()
        self.redis.flush()
        self.leader.restore()
        self.advance(CALL_TIME + 1)
        self.leader.publish(5)
        self.node.restore()
        self.advance(3)
        self.assertTrue(self.node.subscriber.is_aborted)
        self.assertEqual(self.node.rows, self.leader.rows)

    def test_log_that_returns_whole_is_kept(self) -> None:
        """The leader has found none, and begins a new one behind it. That would delete every row.

        A failover may lead to an empty Redis first, and then to the one that has the data.
        """
        dump = self.redis.dump()

        def return_before_beginning(command: Command) -> None:
            if command[1] == scripts.BEGIN_EPOCH.sha:
                self.redis.roll_back(dump)

        self.redis.on_command = return_before_beginning
        self.redis.execute("DEL", METADATA_KEY)
        self.advance(RENEW_AFTER + 4)
        self.find_leader().publish(3)
        fresh = self.start_follower()
        for member in (self.leader, self.node, fresh):
            self.assertEqual(member.journal.epoch, self.epoch)
            self.assertEqual(member.rows, [(n, event(n).payload) for n in (1, 2, 3)])
            self.assertIsNone(member.journal.dedup_horizon)
        for member in (self.leader, self.node):
            self.assertEqual(member.subscriber.seqs, [1, 2, 3])
            self.assertFalse(member.subscriber.is_aborted)
            self.assertTrue(member.journal.is_current)

    def test_flushall_is_detected_without_reconnect(self) -> None:
        """FLUSHALL closes no connection."""
        self.redis.flush()
        self.advance(6)
        self.find_leader().publish(3)
        self.advance(3)
        for member in self.members:
            self.assertNotEqual(member.journal.epoch, self.epoch)
            self.assertEqual(
                (member.subscriber.seqs, member.subscriber.is_aborted), ([1, 2, 3], False)
            )

    def test_flushall_is_detected_by_node_that_read_further(self) -> None:
        """New entries come before the id after which it reads."""
        self.leader.read_client.pause_reads()
        self.leader.publish(3)
        self.node.command_client.cut()
        self.redis.flush()
        self.advance(6)
        self.assertTrue(self.leader.is_leader)
        self.leader.read_client.resume_reads()
        self.node.command_client.restore()
        self.advance(4)
        self.assertTrue(self.node.subscriber.is_aborted)
        self.assertEqual(self.node.journal.epoch, self.leader.journal.epoch)
        self.assertEqual(self.node.rows, self.leader.rows)

    def test_shortened_log_is_detected_without_write_or_reconnect(self) -> None:
        """The lease's reply has the log's last number."""
        dump = self.redis.dump()
        self.leader.publish(3)
        self.redis.roll_back(dump)
        self.advance(6)
        for member in self.members:
            self.assertTrue(member.subscriber.is_aborted)
            self.assertEqual(member.journal.last, 2)

    def test_node_ahead_of_shortened_log_does_not_lead(self) -> None:
        """It leads after it has read the log from the start."""
        dump = self.redis.dump()
        self.leader.publish(3)
        self.leader.kill()
        self.redis.roll_back(dump)
        self.redis.execute("DEL", LEASE_KEY)
        self.node.read_client.pause_reads()
        self.advance(1)
        self.assertEqual(self.node.upstreams, [])
        self.node.read_client.resume_reads()
        self.advance(LEASE)
        self.assertEqual((len(self.node.upstreams), self.node.journal.last), (1, 2))
        self.assertTrue(self.node.is_streaming)

    def test_shortened_log_aborts_clients_of_nodes_ahead_of_it(self) -> None:
        """They got events that are no longer in the log, and reconnect."""
        dump = self.redis.dump()
        self.leader.publish(3)
        self.cut_all()
        self.redis.roll_back(dump)
        self.restore_all()
        for member in self.members:
            self.assertTrue(member.subscriber.is_aborted)
            self.assertEqual((member.journal.last, member.journal.epoch), (2, self.epoch))

    def test_write_to_shortened_log_ends_term(self) -> None:
        """The next term recovers the loss before anything else is written."""
        self.leader.account.mark_upstream_up()
        dump = self.redis.dump()
        self.leader.publish(3)
        self.cut_all()
        self.leader.publish(4)
        self.redis.roll_back(dump)
        for member in self.members:
            member.command_client.restore()
        self.assertEqual(self.redis.execute("HGET", STATE_KEY, "last"), b"2")
        self.assertFalse(self.leader.is_streaming)
        self.advance(0.5)
        self.assertEqual(self.leader.account.upstream.reason, LOG_SHORTENED)
        for member in self.members:
            member.read_client.restore()
        self.advance(4)
        leader = self.find_leader()
        self.assertEqual((leader.journal.last, leader.journal.latest_time), (2, time_of(2)))
        leader.account.mark_upstream_up()
        gap = leader.account.gaps.current
        assert gap is not None
        self.assertEqual((gap.begin, gap.outcome), (time_of(2), GapOutcome.PENDING))
        leader.publish(3, 4)
        self.assertEqual(
            [payload for _, payload in leader.rows], [event(n).payload for n in (1, 2, 3, 4)]
        )

    def test_read_of_shortened_log_ends_term(self) -> None:
        """There was nothing to write at that moment."""
        dump = self.redis.dump()
        self.leader.publish(3)
        self.leader.read_client.cut()
        self.redis.roll_back(dump)
        self.leader.read_client.restore()
        self.advance(0.1)
        self.assertFalse(self.leader.is_streaming)

    def test_other_events_under_same_numbers_are_detected(self) -> None:
        """Another node wrote to the log after a rollback."""
        dump = self.redis.dump()
        self.node.cut()
        self.leader.publish(3)
        self.leader.cut()
        self.redis.roll_back(dump)
        self.node.restore()
        self.redis.execute("DEL", LEASE_KEY)
        self.advance(LEASE)
        self.assertTrue(self.node.is_leader)
        self.node.publish(4)
        self.leader.restore()
        self.advance(1)
        self.assertTrue(self.leader.subscriber.is_aborted)
        self.assertEqual(self.leader.rows, self.node.rows)

    def test_dropped_event_is_in_gap_of_next_log(self) -> None:
        """The gap began at it, so the horizon of the next log covered it, and it was lost."""
        self.node.kill()
        self.leader.account.mark_upstream_up()
        self.leader.account.settle_gap(GapOutcome.RECOVERED)
        dump = self.redis.dump()
        self.leader.publish(3)
        self.leader.cut()
        self.redis.roll_back(dump)
        self.leader.publish(4)
        self.leader.restore()
        self.advance(LEASE)
        self.leader.account.mark_upstream_up()
        self.leader.publish(9)
        self.redis.flush()
        self.advance(RENEW_AFTER + 1)
        self.assertNotEqual(self.leader.journal.epoch, self.epoch)
        self.assertFalse(self.leader.journal.has(event(4)))

    def test_cursor_of_lost_event_is_unrecoverable(self) -> None:
        """Its check does not match the event that has its number now."""
        dump = self.redis.dump()
        self.leader.publish(3)
        cursor = self.leader.account.cursor_at(3)
        assert cursor is not None
        self.cut_all()
        self.redis.roll_back(dump)
        self.restore_all()
        self.advance(3)
        self.find_leader().publish(4)
        self.assertRaises(
            UnrecoverablePositionError, locate, self.find_leader().account, AfterId(cursor)
        )

    def test_id_of_lost_event_after_newer_events_is_unrecoverable(self) -> None:
        """It had come before them at first; a client that had it resumed behind them."""
        dump = self.redis.dump()
        self.leader.publish(3)
        self.cut_all()
        self.redis.roll_back(dump)
        self.restore_all()
        leader = self.find_leader()
        leader.publish(4, 5)
        leader.account.publish_recovered(event(3))
        leader.account.flush()
        fresh = self.start_node()
        self.assertEqual(
            fresh.rows[2:], [(3 + i, event(n).payload) for i, n in enumerate((4, 5, 3))]
        )
        for member in self.members:
            self.assertRaises(UnreadableError, locate, member.account, AfterId(event_id_of(3)))
        self.advance(RENEW_AFTER + 1)
        for member in self.members:
            self.assertRaises(
                UnrecoverablePositionError, locate, member.account, AfterId(event_id_of(3))
            )
            self.assertEqual(locate(member.account, FromTime(time_of(3))), 2)
            self.assertEqual(locate(member.account, AfterId(event_id_of(5))), 4)
        leader.publish(7)
        leader.account.publish_recovered(event(6))
        leader.account.flush()
        self.assertEqual(locate(leader.account, AfterId(event_id_of(6))), 7)

    def test_other_account_begins_new_epoch_on_every_node(self) -> None:
        """Numbers continue, and no client is aborted."""
        self.leader.journal.identify("one")
        self.leader.account.mark_upstream_up()
        self.assertTrue(self.leader.journal.identify("two"))
        self.leader.publish(2)
        for member in self.members:
            self.assertEqual((member.journal.first, member.journal.last), (3, 3))
            self.assertEqual(
                (member.subscriber.seqs, member.subscriber.is_aborted), ([1, 2, 3], False)
            )
        self.assertEqual(self.leader.journal.account_id, "two")
        fresh = self.start_follower()
        self.assertEqual(fresh.rows, [(3, event(2).payload)])
        self.assertTrue(fresh.account.upstream.streaming)

    def test_other_account_during_outage_drops_events_in_outbox(self) -> None:
        """Later events are the new account's, even if they repeat an older one."""
        self.leader.journal.identify("one")
        self.leader.cut()
        self.leader.publish(7)
        self.leader.journal.set_metadata("note", "of one")
        self.assertTrue(self.leader.journal.identify("two"))
        self.assertEqual(self.leader.journal.open_orders(), [])
        self.assertIsNone(self.leader.journal.order(order_id_of(1)))
        self.leader.publish(2, 8)
        self.leader.journal.set_metadata("complete from", "7")
        self.advance(2)
        self.leader.restore()
        self.advance(1)
        self.assertEqual(self.leader.journal.get_metadata("complete from"), "7")
        self.assertIsNone(self.start_follower().journal.get_metadata("note"))
        for member in self.members:
            self.assertEqual(member.rows, [(3, event(2).payload), (4, event(8).payload)])
            self.assertFalse(member.subscriber.is_aborted)

    def test_other_base_url_begins_new_epoch(self) -> None:
        """The nodes were configured for paper, and are now for live."""
        self.leader.journal.identify("one")
        for member in self.members:
            member.stop()
        self.advance(1)
        other = self.start_node(base_url="wss://api.alpaca.markets/stream")
        self.assertTrue(other.is_leader)
        self.assertNotEqual(other.journal.epoch, self.epoch)
        self.assertEqual((other.journal.first, other.journal.last), (3, 2))
        self.assertEqual((other.journal.account_id, other.journal.latest_time), (None, None))
        other.publish(1)
        self.assertEqual(other.rows, [(3, event(1).payload)])

    def test_status_without_log_has_reason(self) -> None:
        """Redis is there, and no node has led."""
        for member in self.members:
            member.stop()
        self.redis.flush()
        self.assertEqual(self.start_follower().journal.status.reason, NO_LOG)
