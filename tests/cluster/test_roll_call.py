"""Tests for tradeproxy.cluster.roll_call, and for what it prevents: a new log that lacks events."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import event, time_of
from tests.support.nodes import NodesCase
from tradeproxy.cluster import scripts
from tradeproxy.cluster.leadership import CHECK_INTERVAL, LEASE
from tradeproxy.cluster.roll_call import CALL_TIME, REPORT_TIME, RollCall


class RollCallTests(SynchronousTestCase):
    """Only the node that has read most may begin a log."""

    def setUp(self) -> None:
        self.call = RollCall("b")

    def report(self, now: float, **others: str) -> bool:
        """Report number 5 beside other nodes; return whether this node may begin a log."""
        reports = {"b": self.call.report(5, now), **others}
        self.call.record_reports(reports, now)
        return self.call.may_begin(now)

    def test_call_takes_its_time(self) -> None:
        """A node that knows more may be reconnecting."""
        self.assertFalse(self.report(1.0))
        self.assertFalse(self.report(CALL_TIME + 0.5, a="3 1"))
        self.assertTrue(self.report(CALL_TIME + 1.0, a="3 2"))

    def test_node_that_reports_more_goes_first(self) -> None:
        """While it is alive. Names decide between equal numbers."""
        self.report(0.0)
        self.assertTrue(self.report(CALL_TIME, a="5 1", c="4 1"))
        self.assertFalse(self.report(CALL_TIME, c="5 2"))
        self.assertFalse(self.report(CALL_TIME + 1.0, a="6 2", c="5 2"))
        self.assertFalse(self.report(CALL_TIME + REPORT_TIME, a="6 2", c="5 2"))
        self.assertTrue(self.report(CALL_TIME + REPORT_TIME + 1.0, a="6 2", c="5 2"))

    def test_node_that_has_read_no_log_comes_last(self) -> None:
        """Even behind a node whose log had no event."""
        call = RollCall("x")
        for now, others, may in ((0.0, {}, False), (7.0, {"a": "0 1"}, False), (9.0, {}, True)):
            call.record_reports({"x": call.report(None, now), **others}, now)
            self.assertEqual(call.may_begin(now), may, now)

    def test_end_of_call_forgets_reports(self) -> None:
        """The next call begins with a log that has other numbers."""
        self.report(0.0)
        self.assertTrue(self.report(CALL_TIME))
        self.call.end()
        self.assertFalse(self.call.may_begin(CALL_TIME))
        self.assertFalse(self.report(CALL_TIME + 1.0))

    def test_damaged_report_is_ignored(self) -> None:
        """Anyone with the password may have written it."""
        self.report(0.0)
        self.assertTrue(self.report(CALL_TIME, c="x", d="9", e="9 9 9", a="4 1"))
        self.assertFalse(self.report(CALL_TIME, c="x", d="6 1"))

    def test_call_takes_seven_seconds(self) -> None:
        """Each node reports in that time, and a leader without Redis has ended its term."""
        for now, may in ((100.0, False), (106.9, False), (107.0, True)):
            self.assertEqual(self.report(now), may, now)

    def test_report_counts_for_less_than_two_seconds(self) -> None:
        """A node that lives makes two in a second; a repeated one is not newer."""
        self.report(0.0)
        self.report(10.0, c="9 1")
        for now, may in ((11.9, False), (12.0, True)):
            self.assertEqual(self.report(now, c="9 1"), may, now)

    def test_report_has_last_number_and_count(self) -> None:
        """Nodes of other versions read it, so the format must not change."""
        reports = [self.call.report(last, 0.0) for last in (None, 0, 5)]
        self.assertEqual(reports, ["-1 1", "0 2", "5 3"])


class NewLogTests(NodesCase):
    """Redis lost all data, and nodes of different knowledge could begin the next log."""

    def test_fresh_node_at_empty_redis_leaves_new_log_to_survivor(self) -> None:
        """It led after a second, with no event and no gap: 40 to 78 events were lost each time."""
        leader, node = self.start_node(), self.start_node()
        leader.account.mark_upstream_up()
        leader.publish(1, 2)
        self.redis.flush()
        leader.kill()
        fresh = self.make_node()
        fresh.start()
        self.advance(LEASE + 2)
        self.assertEqual((fresh.is_leader, node.is_leader), (False, True))
        self.assertEqual((node.journal.last, fresh.journal.last), (2, 2))
        self.assertEqual(fresh.journal.epoch, node.journal.epoch)
        node.account.mark_upstream_up()
        for member in (node, fresh):
            gap = member.account.gaps.current
            assert gap is not None
            self.assertEqual(gap.begin, time_of(2))
        node.account.publish_recovered(event(3))
        node.account.flush()
        self.assertEqual((node.subscriber.seqs, node.subscriber.is_aborted), ([1, 2, 3], False))
        self.assertEqual(fresh.subscriber.seqs, [3])

    def test_new_log_begins_after_all_events_of_any_survivor(self) -> None:
        """A follower that lagged behind the dead leader began it, and others dropped events."""
        leader, behind, ahead = (self.start_node() for _ in range(3))
        leader.publish(1)
        behind.read_client.pause_reads()
        leader.publish(2, 3)
        self.redis.flush()
        leader.kill()
        self.advance(LEASE + 2)
        self.assertEqual((behind.is_leader, ahead.is_leader), (False, True))
        ahead.publish(4)
        self.assertEqual(
            (ahead.subscriber.seqs, ahead.subscriber.is_aborted), ([1, 2, 3, 4], False)
        )
        behind.read_client.resume_reads()
        self.advance(CHECK_INTERVAL)
        self.assertEqual(behind.rows, ahead.rows)
        self.assertTrue(behind.subscriber.is_aborted)

    def test_log_of_earlier_leader_is_waited_for_while_it_reconnects(self) -> None:
        """It had written the last events; a node that never had them began a log without."""
        first, second = self.start_node(), self.start_node()
        first.publish(1)
        first.cut()
        self.advance(LEASE + 1)
        second.publish(2)
        second.cut()
        self.advance(LEASE)
        self.redis.flush()
        first.restore()
        self.advance(CALL_TIME - 2)
        self.assertFalse(first.is_leader)
        second.restore()
        self.advance(CALL_TIME + 1)
        self.assertEqual((first.is_leader, second.is_leader), (False, True))
        second.publish(3)
        self.assertEqual((second.subscriber.seqs, second.subscriber.is_aborted), ([1, 2, 3], False))

    def test_fresh_nodes_at_empty_redis_begin_log_after_call_time(self) -> None:
        """No survivor has reported by then. Only one of them leads."""
        nodes = [self.make_node() for _ in range(2)]
        for node in nodes:
            node.start()
        self.advance(CALL_TIME - CHECK_INTERVAL)
        self.assertFalse(any(node.is_leader for node in nodes))
        self.advance(2 * CHECK_INTERVAL)
        self.assertEqual([node.is_leader for node in nodes].count(True), 1)

    def test_roll_call_survives_loss_of_reply(self) -> None:
        """It ended leader election on this node for good."""
        node = self.make_node()
        node.account.open()
        node.command_client.lose_reply(4)
        node.leadership.startService()
        self.advance(CALL_TIME + 2)
        self.assertEqual(node.command_client.last_error, "the connection was lost")
        self.assertTrue(node.is_leader)

    def test_each_loss_of_log_has_roll_call_of_its_own(self) -> None:
        """The call of the first loss took place long before, among other nodes."""
        leader, node = self.start_node(), self.start_node()
        self.redis.flush()
        self.advance(5)
        self.assertTrue(leader.is_leader)
        node.read_client.pause_reads()
        leader.publish(1)
        leader.stop()  # the node lags behind, so it cannot lead
        self.advance(2 * CHECK_INTERVAL)
        self.redis.flush()
        self.advance(6)
        self.assertFalse(node.is_leader)
        self.advance(2)
        self.assertTrue(node.is_leader)

    def test_term_that_begins_no_log_is_followed_by_roll_call(self) -> None:
        """A node that has read more may have come meanwhile."""
        node = self.make_node()
        self.redis.on_command = lambda command: (
            node.command_client.lose_reply(2)  # to reading the state
            if command[1] == scripts.LEASE.sha and command[6 + len(scripts.KEYS)] == 1
            else None
        )
        node.start()
        self.advance(CALL_TIME + 1)
        assert node.account.role is not None
        self.assertEqual((node.is_leader, node.account.role.terms), (False, 1))
        self.redis.on_command = lambda _: None
        self.advance(6)
        self.assertFalse(node.is_leader)
        self.advance(3)
        self.assertTrue(node.is_streaming)
