"""Tests for tradeproxy.cluster.roll_call, and for what it prevents: a new log that lacks events."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import event, time_of
from tests.support.nodes import LEASE_KEY, STATE_KEY, Member, NodesCase
from tests.support.redislog import Command
from tradeproxy.cluster import scripts
from tradeproxy.cluster.leadership import CHECK_INTERVAL, LEASE, RELEASED
from tradeproxy.cluster.roll_call import CALL_TIME, REPORT_TIME, RollCall


class RollCallTests(SynchronousTestCase):
    """Only the node that has read most may begin a log."""

    def setUp(self) -> None:
        self.call = RollCall("b")
        self.own = "5 0"  # in Redis, when its first report here comes

    def report(self, now: float, **others: str) -> bool:
        """Report number 5 beside other nodes; return whether this node may begin a log."""
        reports, self.own = {"b": self.own, **others}, self.call.report(5)
        self.call.record_reports(self.own, reports, now)
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
        for now, others, may in ((0.0, {}, False), (10.0, {"a": "0 1"}, False), (12.0, {}, True)):
            reports = {"x": call.reported, **others}
            call.record_reports(call.report(None), reports, now)
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

    def test_call_takes_as_long_as_lease(self) -> None:
        """Each node reports in that time, and the lease that was lost would have expired."""
        self.assertEqual(CALL_TIME, LEASE)
        for now, may in ((100.0, False), (109.9, False), (110.0, True)):
            self.assertEqual(self.report(now), may, now)

    def test_call_restarts_if_last_report_is_lost(self) -> None:
        """There may have been a log, whose leader is still connected."""
        for lost in ({}, {"b": "5 1"}):
            self.report(0.0)
            self.assertTrue(self.report(CALL_TIME))
            self.call.record_reports(self.call.report(5), lost, CALL_TIME + 0.5)
            self.assertFalse(self.call.may_begin(CALL_TIME + 0.5))

    def test_report_counts_for_less_than_two_seconds(self) -> None:
        """A node that lives makes two in a second; a repeated one is not newer."""
        self.report(0.0)
        self.report(10.0, c="9 1")
        for now, may in ((11.9, False), (12.0, True)):
            self.assertEqual(self.report(now, c="9 1"), may, now)

    def test_report_has_last_number_and_count(self) -> None:
        """Nodes of other versions read it, so the format must not change."""
        reports = [self.call.report(last) for last in (None, 0, 5)]
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
        self.advance(CALL_TIME - 1)
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
        self.advance(CALL_TIME - 1)
        self.assertFalse(node.is_leader)
        self.advance(3)
        self.assertTrue(node.is_streaming)


class LostLeaseTests(NodesCase):
    """An emptied Redis forgets the lease too, and its leader may be connected for ten seconds."""

    def lose_all(self, leader: Member) -> None:
        """Redis loses all data, and the leader, which has just renewed its lease, does not return.

        Its connection to Alpaca takes long to close.
        """
        self.assertTrue(leader.is_streaming)
        leader.upstreams[-1].is_slow = True
        leader.cut()
        self.redis.flush()

    def assert_waits(self, node: Member) -> None:
        """Assert that a node leads, but not before the lost lease would have expired."""
        began = self.clock.seconds()
        while not node.is_leader:
            self.clock.advance(0.1)
        self.assertTrue(9.9 < self.clock.seconds() - began < 11, self.clock.seconds() - began)

    def test_log_that_only_tailer_has_read_ends_roll_call(self) -> None:
        """It lived for 70 ms, less than a check takes: two nodes were connected at once."""
        nodes = self.make_node(), self.make_node()
        for node in nodes:
            node.start()
            self.advance(0.2)
        while not any(node.is_leader for node in nodes):
            self.clock.advance(0.1)
        leader, other = sorted(nodes, key=lambda node: not node.is_leader)
        self.clock.advance(0.1)
        self.assertEqual(other.journal.epoch, leader.journal.epoch)
        self.lose_all(leader)
        self.assert_waits(other)

    def test_loss_during_roll_call_restarts_it(self) -> None:
        """There may have been a log between two checks; only the loss of the reports shows that."""
        node = self.make_node()
        node.start()
        self.advance(CALL_TIME - 1)
        self.redis.flush()
        self.assert_waits(node)

    def test_log_of_time_without_redis_ends_roll_call(self) -> None:
        """The node had called the roll before it lost Redis, and led half a second after it."""
        away = self.make_node()
        away.start()
        self.advance(CALL_TIME - 1)
        away.cut()
        leader = self.start_node()
        self.advance(LEASE)
        self.lose_all(leader)
        away.restore()
        self.assert_waits(away)

    def test_reports_in_older_data_of_redis_do_not_continue_roll_call(self) -> None:
        """A failover lost the log, and had the node's last report."""
        away = self.make_node()
        away.start()
        self.advance(CALL_TIME - 1)
        away.cut()
        dump = self.redis.dump()
        leader = self.start_node()
        self.lose_all(leader)
        self.redis.roll_back(dump)
        away.restore()
        self.assert_waits(away)

    def test_lease_renewed_since_last_check_is_waited_for(self) -> None:
        """The remaining time that a node saw was that of the renewal before; or it saw none."""
        for has_seen_lease in (True, False):
            leader, other = self.start_node(), self.make_node()
            if has_seen_lease:
                other.start()
                self.advance(1)
            leader.command_client.cut()
            leader.command_client.restore()  # which renews the lease
            self.lose_all(leader)
            if not has_seen_lease:
                other.start()
            self.assert_waits(other)
            for node in (leader, other):
                node.stop()
            self.redis.flush()

    def test_release_of_earlier_lease_does_not_free_newer_one(self) -> None:
        """Redis returned with data of the moment between them: two nodes were connected."""
        first, *others = (self.start_node() for _ in range(3))
        first.stop()
        dump = self.redis.dump()
        self.advance(1)
        leader, other = sorted(others, key=lambda node: not node.is_leader)
        self.assertIn(LEASE_KEY.encode(), self.redis.execute("KEYS", "*"))
        self.assertNotIn(LEASE_KEY.encode(), dump)
        leader.command_client.cut()
        leader.command_client.restore()  # which renews the lease
        self.advance(CHECK_INTERVAL)
        self.lose_all(leader)
        self.redis.roll_back(dump)
        began = self.clock.seconds()
        while not other.is_leader:
            self.clock.advance(0.1)
        self.assertTrue(9 < self.clock.seconds() - began < 10.5, self.clock.seconds() - began)

    def test_release_by_node_of_former_version_frees_lease(self) -> None:
        """It does not record which lease it has released."""
        leader, node = self.start_node(), self.start_node()
        leader.stop()
        self.redis.execute("HSET", STATE_KEY, "released", RELEASED)
        self.advance(2 * CHECK_INTERVAL)
        self.assertTrue(node.is_leader)

    def test_loss_just_before_acquisition_prevents_it(self) -> None:
        """The lease was free at the check before, with a log or without; another node led since."""
        for has_log in (False, True):
            if has_log:
                self.start_node().stop()
            node = self.make_node()
            self.redis.on_command = self.lose_all_before_acquisition
            node.start()
            while self.redis.on_command == self.lose_all_before_acquisition:
                self.clock.advance(0.1)
            self.assert_waits(node)
            node.stop()
            self.redis.flush()

    def lose_all_before_acquisition(self, command: Command) -> None:
        """Lose all data before a node acquires the lease, as if it had been another's meanwhile."""
        if command[1] == scripts.LEASE.sha and command[6 + len(scripts.KEYS)] == 1:
            self.redis.on_command = lambda _: None
            self.redis.flush()
