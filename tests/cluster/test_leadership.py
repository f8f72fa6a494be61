"""Tests for tradeproxy.cluster.leadership: who holds the connection to Alpaca, and until when."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from tests.support.journals import event
from tests.support.nodes import LEASE_KEY, Member, NodesCase
from tests.support.redislog import Command
from tradeproxy.cluster import scripts
from tradeproxy.cluster.leadership import CHECK_INTERVAL, LEASE, NO_LEADER, RENEW_AFTER, STOP_AFTER
from tradeproxy.cluster.redis_log import RedisLog
from tradeproxy.hub.replication import StreamState
from tradeproxy.wire.proxy_status import UpstreamStatus


class TurnTests(NodesCase):
    """One node leads, the others follow; the next one takes over when it ends."""

    def test_the_first_node_leads(self) -> None:
        """It begins the log, and connects to Alpaca once that is read back."""
        node = self.started()
        self.assertTrue(node.leads)
        self.assertTrue(node.streams)
        self.assertTrue(node.journal.is_loaded)
        self.assertEqual(node.account.upstream.reason, "connecting")

    def test_another_node_follows(self) -> None:
        """It has every event, under the same number, and no connection to Alpaca."""
        leader, follower = self.started(), self.started()
        leader.publish(1, 2)
        self.assertEqual((leader.leads, follower.leads), (True, False))
        self.assertEqual(follower.upstreams, [])
        self.assertEqual(follower.rows, leader.rows)
        self.assertEqual((leader.reader.seqs, follower.reader.seqs), ([1, 2], [1, 2]))

    def test_a_clean_stop_hands_over_at_once(self) -> None:
        """The upstream is closed, the last words are written, and then the lease is free."""
        leader, follower = self.started(), self.started()
        leader.account.publish(event(1))
        leader.stop()
        self.assertFalse(leader.streams)
        self.assertFalse(self.redis.ask("EXISTS", LEASE_KEY))
        self.assertEqual(follower.reader.seqs, [1])
        self.wait(CHECK_INTERVAL)
        self.assertTrue(follower.leads)
        self.assertTrue(follower.streams)

    def test_the_lease_stays_until_the_upstream_is_closed(self) -> None:
        """Alpaca has room for one connection: the next node must not come before the close frame."""
        leader, follower = self.started(), self.started()
        leader.upstreams[-1].is_slow = True
        stopped = leader.leadership.stopService()
        assert stopped is not None
        self.wait(2)
        self.assertTrue(leader.leads)
        self.assertFalse(follower.leads)
        self.assertNoResult(stopped)
        closing = leader.upstreams[-1].closing
        assert closing is not None
        closing.callback(None)
        self.successResultOf(stopped)
        self.assertFalse(leader.leads)
        self.wait(1)
        self.assertTrue(follower.leads)

    def test_a_node_that_vanishes_is_followed_when_its_lease_runs_out(self) -> None:
        """Ten seconds after its last renewal, and not before."""
        leader, follower = self.started(), self.started()
        self.wait(RENEW_AFTER)
        leader.vanish()
        self.wait(LEASE - RENEW_AFTER - 0.5)
        self.assertFalse(follower.leads)
        self.wait(RENEW_AFTER + 1)
        self.assertTrue(follower.leads)

    def test_a_follower_stops_at_once(self) -> None:
        """It has nothing to hand over."""
        self.started()
        follower = self.started()
        stopped = follower.leadership.stopService()
        assert stopped is not None
        self.successResultOf(stopped)
        follower.account.close()

    def test_a_node_leaves_no_timer_behind(self) -> None:
        """Whichever part it had, and if Redis was away."""
        leader, follower = self.started(), self.started()
        for node in (follower, leader):
            node.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        alone = self.started()
        alone.cut()
        alone.stop()
        self.wait(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopping_twice_is_harmless(self) -> None:
        """Nothing is released that another node has."""
        leader, follower = self.started(), self.started()
        leader.stop()
        self.wait(1)
        leader.leadership.stopService()
        self.assertTrue(follower.leads)
        self.assertTrue(self.redis.ask("EXISTS", LEASE_KEY))

    def test_a_node_that_has_not_read_all_does_not_lead(self) -> None:
        """What it would take from Alpaca might be in the log already."""
        leader, follower = self.started(), self.started()
        follower.inlet.hold()
        leader.publish(1)
        self.wait(1)
        leader.stop()
        self.wait(3)
        self.assertFalse(follower.leads)
        assert follower.account.role is not None
        self.assertEqual(follower.account.role.lag, 1)
        follower.inlet.go_on()
        self.wait(2)
        self.assertTrue(follower.leads)


class LeaseTests(NodesCase):
    """A turn ends here before it can begin elsewhere."""

    def test_the_lease_is_renewed_in_time(self) -> None:
        """Every ten thirds of a second, so that one answer may be lost."""
        node = self.started()
        for _ in range(10):
            self.wait(RENEW_AFTER + CHECK_INTERVAL)
            self.assertTrue(node.leads)
            assert node.account.role is not None
            assert node.account.role.lease_renewed is not None
            self.assertLess(
                self.clock.seconds() - node.account.role.lease_renewed, RENEW_AFTER + CHECK_INTERVAL
            )
        self.assertEqual(len(node.upstreams), 1)

    def test_without_redis_it_is_given_up_in_time(self) -> None:
        """Seven seconds after the renewal that succeeded last; the upstream has two to close."""
        node, since = self.leader_without_redis()
        while node.streams:
            self.clock.advance(0.1)
        self.assertTrue(STOP_AFTER - 0.01 < self.clock.seconds() - since < STOP_AFTER + 0.11)
        self.assertFalse(node.leads)
        self.assertRegex(node.account.upstream.reason, "^Redis could not be reached in time")

    def leader_without_redis(self) -> tuple[Member, float]:
        """Return a leader whose Redis is away, and when the lease was renewed last."""
        node = self.started()
        self.wait(RENEW_AFTER)
        assert node.account.role is not None
        assert node.account.role.lease_renewed is not None
        since = node.account.role.lease_renewed
        node.cut()
        return node, since

    def test_a_silent_redis_is_as_good_as_none(self) -> None:
        """What was asked is not waited for beyond that time."""
        node = self.started()
        for link in node.links:
            link.fall_silent()
        since = self.clock.seconds()
        while node.streams:
            self.clock.advance(0.1)
        self.assertLessEqual(self.clock.seconds() - since, STOP_AFTER + 0.1)

    def test_a_slow_answer_does_not_make_it_longer(self) -> None:
        """The lease may have been renewed at the moment when that was asked for."""
        node = self.started()

        def take_time(command: Command) -> None:
            if command[1] == scripts.LEASE.sha:
                node.lateness = 3

        self.redis.on_command = take_time
        while node.lateness < 3:
            self.clock.advance(0.1)
        node.cut()
        since = self.clock.seconds()
        while node.streams:
            self.clock.advance(0.1)
        self.assertLess(self.clock.seconds() - since, STOP_AFTER - 3 + 0.2)

    def test_a_late_reactor_does_not_make_it_longer(self) -> None:
        """A process that was stopped for a while, or a laptop that slept, notices at once."""
        node = self.started()
        node.lateness = STOP_AFTER
        self.clock.advance(CHECK_INTERVAL)
        self.assertFalse(node.streams)

    def test_redis_that_is_back_in_time_changes_nothing(self) -> None:
        """The upstream stays, and what came meanwhile is written."""
        node, _ = self.leader_without_redis()
        node.publish(1)
        self.wait(5)
        self.assertEqual(node.reader.seqs, [])
        node.mend()
        self.wait(1)
        self.assertTrue(node.leads)
        self.assertEqual((node.reader.seqs, len(node.upstreams)), ([1], 1))

    def test_a_lease_that_another_node_has_taken_is_lost(self) -> None:
        """Somebody dropped it by hand, and another node was quicker."""
        node = self.started()
        self.take_lease("other")
        self.wait(RENEW_AFTER + CHECK_INTERVAL)
        self.assertFalse(node.streams)
        self.assertEqual(node.account.upstream.reason, "the lease was lost")
        self.assertEqual(self.redis.ask("HGET", LEASE_KEY, "owner"), b"other")

    def take_lease(self, owner: str) -> None:
        self.redis.ask("DEL", LEASE_KEY)
        self.redis.ask("HSET", LEASE_KEY, "owner", owner, "token", "1000")

    def test_a_lease_that_redis_forgot_is_taken_again(self) -> None:
        """Nobody has led since: Alpaca's stream is not touched, and nothing else is but the token."""
        node = self.started()
        self.redis.ask("DEL", LEASE_KEY)
        self.wait(RENEW_AFTER + CHECK_INTERVAL)
        self.wait(RENEW_AFTER)
        self.assertTrue(node.leads)
        self.assertEqual(len(node.upstreams), 1)
        self.assertTrue(node.streams)
        node.publish(1)
        self.assertEqual(node.reader.seqs, [1])

    def test_it_is_taken_again_at_once_where_something_is_to_be_written(self) -> None:
        """What the log refused is written by the new token."""
        node = self.started()
        self.redis.ask("DEL", LEASE_KEY)
        node.publish(1)
        self.assertEqual(node.reader.seqs, [1])
        self.assertEqual(len(node.upstreams), 1)

    def test_another_turn_begins_where_another_node_has_led_meanwhile(self) -> None:
        """What it found is first to be read; and Alpaca may have let go of this node's connection."""
        node = self.started()
        self.take_lease("other")
        self.redis.ask("HSET", "tradeproxy:{paper}:state", "holder", "other")
        self.redis.ask("DEL", LEASE_KEY)
        node.publish(1)
        self.assertFalse(node.streams)
        self.wait(3)
        self.assertEqual((node.leads, len(node.upstreams)), (True, 2))

    def test_a_lease_that_redis_forgot_may_be_anothers_yet(self) -> None:
        """Who only follows waits until that would have run out; one that was given back is free at once."""
        leader, follower = self.started(), self.started()
        leader.vanish()
        self.redis.ask("DEL", LEASE_KEY)
        self.wait(5)
        self.assertFalse(follower.leads)
        self.wait(LEASE - 5 + CHECK_INTERVAL)
        self.assertTrue(follower.leads)

    def test_what_the_next_leader_says_counts_once_the_turn_is_over(self) -> None:
        """A node that was paused reads it before it notices that it leads no more."""
        node, link = self.started(), self.redis.link()
        link.open()
        self.take_lease("other")
        told = StreamState(UpstreamStatus(streaming=True, reason="streaming", since=5.0), ())
        write = RedisLog("paper", "other", link).write("1000", 1, [], {}, told.encode())
        self.successResultOf(Deferred.fromCoroutine(write))
        self.assertFalse(node.account.upstream.streaming)
        self.wait(RENEW_AFTER + CHECK_INTERVAL)
        self.assertFalse(node.leads)
        self.assertEqual(node.account.upstream, told.upstream)

    def test_who_writes_without_the_lease_ends_its_turn_at_once(self) -> None:
        """The log refuses it; the next renewal need not be awaited."""
        node = self.started()
        self.take_lease("other")
        node.publish(1)
        self.assertFalse(node.streams)
        self.assertEqual(node.account.upstream.reason, "the lease was lost")
        self.assertEqual(
            (node.journal.last, self.redis.ask("HGET", "tradeproxy:{paper}:state", "last")),
            (0, b"0"),
        )

    def test_redis_that_came_back_empty_gives_it_again(self) -> None:
        """The log begins anew behind what this node has, and the next event has the next number."""
        node = self.started()
        node.publish(1, 2)
        epoch = node.journal.epoch
        node.cut()
        self.redis.forget()
        node.mend()
        self.wait(5)
        self.assertTrue(node.leads)
        self.assertNotEqual(node.journal.epoch, epoch)
        node.publish(3)
        self.assertEqual(node.reader.seqs, [1, 2, 3])


class NothingToLeadTests(NodesCase):
    """What is told where nobody leads, or leading fails."""

    def test_a_follower_says_that_nobody_leads(self) -> None:
        """Its clients had been told that Alpaca streams."""
        leader, follower = self.started(), self.started()
        leader.account.mark_upstream_up()
        self.assertTrue(follower.account.upstream.streaming)
        follower.inlet.hold()
        leader.publish(1)  # so that it may not lead itself
        self.wait(1)
        leader.vanish()
        self.wait(LEASE + CHECK_INTERVAL)
        self.assertEqual(
            (follower.account.upstream.streaming, follower.account.upstream.reason),
            (False, NO_LEADER),
        )

    def test_waits_for_redis(self) -> None:
        """A node that starts before Redis does leads when it is there."""
        node = self.member()
        node.cut()
        node.start()
        self.wait(3)
        self.assertFalse(node.leads)
        self.assertFalse(node.journal.status.durable)
        node.mend()
        self.wait(2)
        self.assertTrue(node.leads)

    def test_redis_that_goes_away_while_a_turn_begins_ends_it(self) -> None:
        """The upstream was not begun; the lease is still its own, and leads to another turn."""
        node = self.member()
        node.follow()
        node.outlet.lose_answer(
            3
        )  # it looks, and takes the lease, and then is not told what the log is
        with capturedLogs() as logs:
            node.leadership.startService()
            self.wait(0.6)
        [line] = [log for log in logs if "reason" in log and "no longer the leader" in log["log_format"]]
        self.assertEqual(line["reason"], "Redis is away: the connection was lost")
        self.assertEqual(node.upstreams, [])
        self.wait(2)
        self.assertTrue(node.streams)

    def test_an_error_of_our_own_ends_the_turn_and_is_logged(self) -> None:
        """Another node, or this one, then has another try."""
        node = self.member()
        node.error = ZeroDivisionError()
        node.start()
        self.wait(0.7)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(node.leads)
        self.assertFalse(node.account.has_failed)
        node.error = None
        self.wait(1)
        self.assertTrue(node.streams)
