"""Tests for tradeproxy.cluster.leadership: which node leads, and until when."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from tests.support.journals import event
from tests.support.nodes import LEASE_KEY, STATE_KEY, Member, NodesCase
from tests.support.redislog import Command
from tradeproxy.cluster import scripts
from tradeproxy.cluster.leadership import CHECK_INTERVAL, LEASE, NO_LEADER, RENEW_AFTER, STOP_AFTER
from tradeproxy.cluster.redis_log import RedisLog
from tradeproxy.cluster.roll_call import CALL_TIME
from tradeproxy.hub.replication import StreamState
from tradeproxy.wire.proxy_status import UpstreamStatus


class TermTests(NodesCase):
    """One node leads and the others follow; at the end of its term another one takes over."""

    def test_first_node_leads_and_starts_upstream(self) -> None:
        """It begins the log, and connects to Alpaca once the log is read back."""
        node = self.start_node()
        self.assertTrue(node.is_leader)
        self.assertTrue(node.is_streaming)
        self.assertTrue(node.journal.is_loaded)
        self.assertEqual(node.account.upstream.reason, "connecting")

    def test_second_node_follows_with_same_rows(self) -> None:
        """It has every event under the same number, and no connection to Alpaca."""
        leader, follower = self.start_node(), self.start_node()
        leader.publish(1, 2)
        self.assertEqual((leader.is_leader, follower.is_leader), (True, False))
        self.assertEqual(follower.upstreams, [])
        self.assertEqual(follower.rows, leader.rows)
        self.assertEqual((leader.subscriber.seqs, follower.subscriber.seqs), ([1, 2], [1, 2]))

    def test_stop_releases_lease_after_last_write(self) -> None:
        """The order is: close the upstream, write the remaining rows, release the lease."""
        leader, follower = self.start_node(), self.start_node()
        leader.account.publish(event(1))
        leader.stop()
        self.assertFalse(leader.is_streaming)
        self.assertFalse(self.redis.execute("EXISTS", LEASE_KEY))
        self.assertEqual(follower.subscriber.seqs, [1])
        self.advance(CHECK_INTERVAL)
        self.assertTrue(follower.is_leader)
        self.assertTrue(follower.is_streaming)

    def test_lease_is_kept_until_upstream_is_closed(self) -> None:
        """Alpaca allows one connection: the next node must not connect before the close frame."""
        leader, follower = self.start_node(), self.start_node()
        leader.upstreams[-1].is_slow = True
        stopped = leader.leadership.stopService()
        assert stopped is not None
        self.advance(2)
        self.assertTrue(leader.is_leader)
        self.assertFalse(follower.is_leader)
        self.assertNoResult(stopped)
        closing = leader.upstreams[-1].closing
        assert closing is not None
        closing.callback(None)
        self.successResultOf(stopped)
        self.assertFalse(leader.is_leader)
        self.advance(1)
        self.assertTrue(follower.is_leader)

    def test_killed_leader_is_replaced_when_lease_expires(self) -> None:
        """That is ten seconds after its last renewal, and not before."""
        leader, follower = self.start_node(), self.start_node()
        self.advance(RENEW_AFTER)
        leader.kill()
        self.advance(LEASE - RENEW_AFTER - 0.5)
        self.assertFalse(follower.is_leader)
        self.advance(RENEW_AFTER + 1)
        self.assertTrue(follower.is_leader)

    def test_log_says_that_the_lease_of_a_killed_leader_ran_out(self) -> None:
        """The log of a node that took over did not say why. A released lease is no such thing."""
        leader, follower = self.start_node(), self.start_node()
        self.advance(RENEW_AFTER)
        leader.kill()
        with capturedLogs() as logs:
            self.advance(LEASE + 1)
        lines = [formatEvent(log) or "" for log in logs]
        [line] = [line for line in lines if "run out" in line]
        self.assertRegex(line, "the leading node has run out; its last renewal was 1[01] s ago$")
        self.assertTrue(follower.is_leader)
        third = self.start_node()
        with capturedLogs() as logs:
            follower.stop()
            self.advance(2)
        self.assertTrue(third.is_leader)
        self.assertEqual([log for log in logs if "run out" in (formatEvent(log) or "")], [])

    def test_stop_of_follower_fires_at_once(self) -> None:
        """It has nothing to hand over."""
        self.start_node()
        follower = self.start_node()
        stopped = follower.leadership.stopService()
        assert stopped is not None
        self.successResultOf(stopped)
        follower.account.close()

    def test_stop_leaves_no_timer(self) -> None:
        """In both roles, and while Redis is away."""
        leader, follower = self.start_node(), self.start_node()
        for node in (follower, leader):
            node.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        alone = self.start_node()
        alone.cut()
        alone.stop()
        self.advance(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_second_stop_does_not_release_lease_of_other_node(self) -> None:
        """The lease is another node's by now."""
        leader, follower = self.start_node(), self.start_node()
        leader.stop()
        self.advance(1)
        leader.leadership.stopService()
        self.assertTrue(follower.is_leader)
        self.assertTrue(self.redis.execute("EXISTS", LEASE_KEY))

    def test_node_that_lags_behind_does_not_lead(self) -> None:
        """What it gets from Alpaca may be in the log already."""
        leader, follower = self.start_node(), self.start_node()
        follower.read_client.pause_reads()
        leader.publish(1)
        self.advance(1)
        leader.stop()
        self.advance(3)
        self.assertFalse(follower.is_leader)
        assert follower.account.role is not None
        self.assertEqual(follower.account.role.lag, 1)
        follower.read_client.resume_reads()
        self.advance(2)
        self.assertTrue(follower.is_leader)


class LeaseExpiryTests(NodesCase):
    """A term ends on this node before another one can begin."""

    def test_lease_is_renewed_every_third_of_its_duration(self) -> None:
        """So that one reply may be lost."""
        node = self.start_node()
        for _ in range(10):
            self.advance(RENEW_AFTER + CHECK_INTERVAL)
            self.assertTrue(node.is_leader)
            assert node.account.role is not None
            assert node.account.role.lease_renewed is not None
            self.assertLess(
                self.clock.seconds() - node.account.role.lease_renewed, RENEW_AFTER + CHECK_INTERVAL
            )
        self.assertEqual(len(node.upstreams), 1)

    def test_term_without_redis_ends_after_stop_after(self) -> None:
        """Seven seconds after the last renewal; the upstream has two seconds to close."""
        node, since = self.leader_without_redis()
        while node.is_streaming:
            self.clock.advance(0.1)
        self.assertTrue(STOP_AFTER - 0.01 < self.clock.seconds() - since < STOP_AFTER + 0.11)
        self.assertFalse(node.is_leader)
        self.assertRegex(node.account.upstream.reason, "^Redis could not be reached in time")

    def leader_without_redis(self) -> tuple[Member, float]:
        """Return a leader whose Redis is away, and when the lease was renewed last."""
        node = self.start_node()
        self.advance(RENEW_AFTER)
        assert node.account.role is not None
        assert node.account.role.lease_renewed is not None
        since = node.account.role.lease_renewed
        node.cut()
        return node, since

    def test_silent_redis_ends_term_as_outage_does(self) -> None:
        """A request does not wait beyond that time."""
        node = self.start_node()
        for client in node.clients:
            client.stop_replying()
        since = self.clock.seconds()
        while node.is_streaming:
            self.clock.advance(0.1)
        self.assertLessEqual(self.clock.seconds() - since, STOP_AFTER + 0.1)

    def test_slow_reply_does_not_extend_term(self) -> None:
        """The lease may have been renewed at the moment of the request."""
        node = self.start_node()

        def take_time(command: Command) -> None:
            if command[1] == scripts.LEASE.sha:
                node.lateness = 3

        self.redis.on_command = take_time
        while node.lateness < 3:
            self.clock.advance(0.1)
        node.cut()
        since = self.clock.seconds()
        while node.is_streaming:
            self.clock.advance(0.1)
        self.assertLess(self.clock.seconds() - since, STOP_AFTER - 3 + 0.2)

    def test_late_reactor_does_not_extend_term(self) -> None:
        """A process that was stopped, or a laptop that slept, ends the term at once."""
        node = self.start_node()
        node.lateness = STOP_AFTER
        self.clock.advance(CHECK_INTERVAL)
        self.assertFalse(node.is_streaming)

    def test_short_outage_keeps_term_and_writes_events(self) -> None:
        """The upstream stays connected, and its events are written afterwards."""
        node, _ = self.leader_without_redis()
        node.publish(1)
        self.advance(5)
        self.assertEqual(node.subscriber.seqs, [])
        node.restore()
        self.advance(1)
        self.assertTrue(node.is_leader)
        self.assertEqual((node.subscriber.seqs, len(node.upstreams)), ([1], 1))

    def test_lease_acquired_by_other_node_ends_term(self) -> None:
        """An operator deleted it, and another node was faster."""
        node = self.start_node()
        self.take_lease("other")
        self.advance(RENEW_AFTER + CHECK_INTERVAL)
        self.assertFalse(node.is_streaming)
        self.assertEqual(node.account.upstream.reason, "the lease was lost")
        self.assertEqual(self.redis.execute("HGET", LEASE_KEY, "owner"), b"other")

    def take_lease(self, owner: str) -> None:
        self.redis.execute("DEL", LEASE_KEY)
        self.redis.execute("HSET", LEASE_KEY, "owner", owner, "token", "1000")

    def test_lost_lease_is_acquired_again_within_term(self) -> None:
        """No other node led: only the token changes, and the upstream stays."""
        node = self.start_node()
        self.redis.execute("DEL", LEASE_KEY)
        self.advance(RENEW_AFTER + CHECK_INTERVAL)
        self.advance(RENEW_AFTER)
        self.assertTrue(node.is_leader)
        self.assertEqual(len(node.upstreams), 1)
        self.assertTrue(node.is_streaming)
        node.publish(1)
        self.assertEqual(node.subscriber.seqs, [1])

    def test_lost_lease_is_acquired_again_at_once_on_write(self) -> None:
        """The rejected event is written with the new token."""
        node = self.start_node()
        self.redis.execute("DEL", LEASE_KEY)
        node.publish(1)
        self.assertEqual(node.subscriber.seqs, [1])
        self.assertEqual(len(node.upstreams), 1)

    def test_lost_lease_after_other_leader_starts_new_term(self) -> None:
        """The node must first read what the other one wrote, and reconnect to Alpaca."""
        node = self.start_node()
        self.take_lease("other")
        self.redis.execute("HSET", STATE_KEY, "holder", "other")
        self.redis.execute("DEL", LEASE_KEY)
        node.publish(1)
        self.assertFalse(node.is_streaming)
        self.advance(3)
        self.assertEqual((node.is_leader, len(node.upstreams)), (True, 2))

    def test_follower_waits_until_lost_lease_would_have_expired(self) -> None:
        """A released lease, however, is free at once."""
        leader, follower = self.start_node(), self.start_node()
        leader.kill()
        self.redis.execute("DEL", LEASE_KEY)
        self.advance(5)
        self.assertFalse(follower.is_leader)
        self.advance(LEASE - 5 + CHECK_INTERVAL)
        self.assertTrue(follower.is_leader)

    def test_state_of_next_leader_applies_after_end_of_term(self) -> None:
        """A paused node reads it before it finds that it no longer leads."""
        node, client = self.start_node(), self.redis.make_client()
        client.open()
        self.take_lease("other")
        state = StreamState(UpstreamStatus(streaming=True, reason="streaming", since=5.0), ())
        write = RedisLog("paper", "other", client).write("1000", 1, [], {}, state.encode())
        self.successResultOf(Deferred.fromCoroutine(write))
        self.assertFalse(node.account.upstream.streaming)
        self.advance(RENEW_AFTER + CHECK_INTERVAL)
        self.assertFalse(node.is_leader)
        self.assertEqual(node.account.upstream, state.upstream)

    def test_fenced_write_ends_term_at_once(self) -> None:
        """The rejection comes before the next renewal."""
        node = self.start_node()
        self.take_lease("other")
        node.publish(1)
        self.assertFalse(node.is_streaming)
        self.assertEqual(node.account.upstream.reason, "the lease was lost")
        self.assertEqual(
            (node.journal.last, self.redis.execute("HGET", STATE_KEY, "last")),
            (0, b"0"),
        )

    def test_empty_redis_grants_lease_again(self) -> None:
        """A new epoch begins after this node's last event, and numbers continue."""
        node = self.start_node()
        node.publish(1, 2)
        epoch = node.journal.epoch
        node.cut()
        self.redis.flush()
        node.restore()
        self.advance(5)
        self.assertTrue(node.is_leader)
        self.assertNotEqual(node.journal.epoch, epoch)
        node.publish(3)
        self.assertEqual(node.subscriber.seqs, [1, 2, 3])


class NoLeaderTests(NodesCase):
    """The status while no node leads, or leading fails."""

    def test_expired_lease_marks_upstream_down_on_follower(self) -> None:
        """Its clients still had the status that Alpaca streams."""
        leader, follower = self.start_node(), self.start_node()
        leader.account.mark_upstream_up()
        self.assertTrue(follower.account.upstream.streaming)
        follower.read_client.pause_reads()
        leader.publish(1)  # the follower lags behind, so it cannot lead
        self.advance(1)
        leader.kill()
        self.advance(LEASE + CHECK_INTERVAL)
        self.assertEqual(
            (follower.account.upstream.streaming, follower.account.upstream.reason),
            (False, NO_LEADER),
        )

    def test_node_started_before_redis_leads_later(self) -> None:
        """It keeps trying to connect."""
        node = self.make_node()
        node.cut()
        node.start()
        self.advance(3)
        self.assertFalse(node.is_leader)
        self.assertFalse(node.journal.status.durable)
        node.restore()
        self.advance(CALL_TIME + 2)
        self.assertTrue(node.is_leader)

    def test_outage_at_start_of_term_ends_it_before_upstream(self) -> None:
        """The lease is still this node's, and leads to another term."""
        self.start_node().stop()
        node = self.make_node()
        node.follow()
        node.command_client.lose_reply(3)  # to reading the state: check and acquisition succeed
        with capturedLogs() as logs:
            node.leadership.startService()
            self.advance(0.6)
        [line] = [
            log for log in logs if "reason" in log and "no longer the leader" in log["log_format"]
        ]
        self.assertEqual(line["reason"], "Redis is away: the connection was lost")
        self.assertEqual(node.upstreams, [])
        self.advance(2)
        self.assertTrue(node.is_streaming)

    def test_internal_error_ends_term_and_is_logged(self) -> None:
        """This node or another one then tries again."""
        node = self.make_node()
        self.start_node().stop()
        node.error = ZeroDivisionError()
        node.start()
        self.advance(0.7)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(node.is_leader)
        self.assertFalse(node.account.has_failed)
        node.error = None
        self.advance(1)
        self.assertTrue(node.is_streaming)
