"""Tests for how a term ends: completely, so that another node can lead."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import fail

from tests.support.journals import event, events, time_of
from tests.support.nodes import LEASE_KEY, METADATA_KEY, Member, NodesCase
from tests.support.redislog import Command, done
from tradeproxy.cluster import scripts
from tradeproxy.cluster.leadership import (
    CHECK_INTERVAL,
    LEADER_UNKNOWN,
    LEASE,
    NO_LEADER,
    RENEW_AFTER,
    STOP_AFTER,
)
from tradeproxy.cluster.redis_log import RedisLog
from tradeproxy.hub.account import INTERNAL_ERROR
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.wire.proxy_status import GapOutcome


class TermsCase(NodesCase):
    """Has a leader and a follower with event 1, and an upstream that streams."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.start_node(), self.start_node()
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)

    def find_leader(self) -> Member:
        """Return the only node that leads; no other node writes."""
        [leader] = [member for member in self.members if member.is_leader]
        self.assertEqual(
            [member for member in self.members if member.journal.outbox.is_leading], [leader]
        )
        return leader

    def delete_lease(self) -> None:
        """Delete the lease, as a restart of Redis does."""
        self.redis.execute("DEL", LEASE_KEY)


class LaggingLeaderTests(TermsCase):
    """Redis lost the lease of a leader that lags behind in reading."""

    def setUp(self) -> None:
        super().setUp()
        self.leader.read_client.pause_reads()
        self.leader.publish(2)
        self.delete_lease()

    def test_lagging_leader_ends_term_before_next_one_begins(self) -> None:
        """It waited for its own reads, with its upstream open beside the next leader's."""
        since = self.clock.seconds()
        while self.leader.is_streaming and self.clock.seconds() < since + LEASE:
            self.advance(0.1)
            self.assertLessEqual(sum(member.is_streaming for member in self.members), 1)
        self.assertLessEqual(
            self.clock.seconds() - since, RENEW_AFTER + CHECK_INTERVAL + STOP_AFTER + 0.1
        )
        self.advance(LEASE + 2)
        self.assertIs(self.find_leader(), self.node)
        self.assertTrue(self.node.is_streaming)


class InterruptedRenewalTests(TermsCase):
    """Redis lost the lease, and goes away while the term continues with a new one."""

    def test_term_continues_with_new_token(self) -> None:
        """The lease was this node's, so nothing was done, and every write was rejected forever."""
        self.delete_lease()
        self.leader.command_client.lose_reply(2)  # to reading the state: it has the lease again
        self.advance(RENEW_AFTER + 2 * CHECK_INTERVAL)
        self.assertEqual(self.leader.command_client.last_error, "the connection was lost")
        self.leader.publish(2)
        self.advance(1)
        self.assertIs(self.find_leader(), self.leader)
        self.assertEqual(self.node.subscriber.payloads, [event(1).payload, event(2).payload])
        self.assertEqual(len(self.leader.upstreams), 1)

    def test_metadata_that_was_lost_with_the_lease_is_saved_again(self) -> None:
        """The next leader would not know whose orders the log has."""
        dump = self.redis.dump()
        dump.pop(LEASE_KEY.encode(), None)
        self.leader.account.identify("first")
        self.advance(1)
        self.assertEqual(self.redis.execute("HGET", METADATA_KEY, "account_id"), b"first")
        for member in self.members:
            member.cut()
        self.redis.roll_back(dump)
        self.leader.restore()
        self.advance(5)
        self.assertTrue(self.leader.is_leader)
        self.assertEqual(self.redis.execute("HGET", METADATA_KEY, "account_id"), b"first")


class RolledBackLeaseTests(TermsCase):
    """Redis lost its last second, and the lease with it."""

    def setUp(self) -> None:
        super().setUp()
        self.delete_lease()
        self.leader.publish(2)
        dump = self.redis.dump()
        del dump[LEASE_KEY.encode()]
        self.leader.publish(3)
        for member in self.members:
            member.cut()
        self.redis.flush()
        self.redis.roll_back(dump)

    def test_ended_term_does_not_start_to_write(self) -> None:
        """It waited to have read the log; the reading from the start fulfilled that."""
        self.leader.command_client.restore()
        self.leader.read_client.restore()
        self.node.restore()
        self.advance(LEASE + 2)
        leading = self.find_leader()
        for member in self.members:
            self.assertEqual(member.rows, [(1, event(1).payload), (2, event(2).payload)])
        leading.account.mark_upstream_up()
        self.assertEqual(
            [member.account.upstream.streaming for member in self.members], [True, True]
        )
        leading.account.mark_upstream_down("lost")
        self.assertEqual(
            [member.account.upstream.streaming for member in self.members], [False, False]
        )

    def test_events_after_lost_ones_are_not_written_in_same_term(self) -> None:
        """Alpaca sends until the upstream is closed; the next term recovers those events too."""
        self.leader.upstreams[-1].is_slow = True
        self.leader.command_client.restore()
        self.leader.read_client.restore()
        self.advance(0.3)
        self.leader.publish(4)
        self.advance(0.3)
        self.assertNotIn(event(4).payload, [payload for _, payload in self.leader.rows])
        closing = self.leader.upstreams[-1].closing
        assert closing is not None
        closing.callback(None)
        self.node.restore()
        self.advance(LEASE + 2)
        leading = self.find_leader()
        leading.account.mark_upstream_up()
        gap = leading.account.gaps.current
        assert gap is not None
        self.assertEqual((gap.begin, gap.outcome), (time_of(2), GapOutcome.PENDING))
        for n in (3, 4):
            self.assertFalse(leading.journal.has(event(n)))


class TermErrorTests(TermsCase):
    """An internal error ends a term, and affects no other node."""

    def fail_at_stop(self) -> None:
        """Let the leader's upstream fail when it is stopped."""
        upstream: Any = self.leader.upstreams[-1]
        upstream.stopService = lambda: fail(ZeroDivisionError())

    def test_error_at_stop_of_upstream_releases_lease(self) -> None:
        """The error is logged, and the next node leads at once."""
        self.fail_at_stop()
        self.leader.leadership.stopService()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(self.redis.execute("EXISTS", LEASE_KEY))
        self.advance(CHECK_INTERVAL)
        self.assertIs(self.find_leader(), self.node)

    def test_node_follows_and_leads_again_after_error_at_stop(self) -> None:
        """Its next term starts an upstream."""
        self.fail_at_stop()
        self.leader.lateness = STOP_AFTER
        self.clock.advance(CHECK_INTERVAL)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.advance(CHECK_INTERVAL + 0.1)
        self.assertIs(self.find_leader(), self.node)
        self.node.stop()
        self.advance(2)
        self.assertTrue(self.leader.is_streaming)

    def test_failed_node_releases_lease(self) -> None:
        """Its upstream service no longer retries; it once kept the lease forever."""
        self.fail_upstream()
        self.advance(3)
        self.assertIs(self.find_leader(), self.node)
        self.assertFalse(self.leader.is_streaming)

    def fail_upstream(self) -> None:
        self.leader.account.has_failed = True
        self.leader.account.mark_upstream_down(INTERNAL_ERROR)

    def test_failed_node_does_not_lead_again(self) -> None:
        """With no other node the status has that as its reason."""
        self.fail_upstream()
        self.advance(3)
        self.node.account.mark_upstream_up()
        self.node.stop()
        self.advance(LEASE + 2)
        self.assertFalse(self.leader.is_leader)
        self.assertFalse(self.redis.execute("EXISTS", LEASE_KEY))
        self.assertEqual(self.leader.account.upstream.reason, NO_LEADER)

    def test_release_works_without_free_memory(self) -> None:
        """Redis rejects a script whose first write needs memory; DEL needs none."""
        self.redis.execute("CONFIG", "SET", "maxmemory", "1")
        self.addCleanup(self.redis.execute, "CONFIG", "SET", "maxmemory", "0")
        self.leader.leadership.stopService()
        self.assertFalse(self.redis.execute("EXISTS", LEASE_KEY))


class UnknownLeaderTests(TermsCase):
    """A node without Redis does not know the stream state."""

    def test_outage_beyond_lease_marks_upstream_down_on_follower(self) -> None:
        """Until then the last state is valid; it was once announced forever."""
        for member in self.members:
            member.cut()
        self.advance(LEASE - RENEW_AFTER - 2 * CHECK_INTERVAL)
        self.assertTrue(self.node.account.upstream.streaming)
        self.advance(RENEW_AFTER + 2 * CHECK_INTERVAL)
        self.assertEqual(
            (self.node.account.upstream.streaming, self.node.account.upstream.reason),
            (False, LEADER_UNKNOWN),
        )

    def test_state_of_same_leader_applies_after_reconnect(self) -> None:
        """The leader published nothing new meanwhile."""
        self.node.cut()
        self.advance(LEASE + 2)
        self.assertFalse(self.node.account.upstream.streaming)
        self.node.restore()
        self.advance(1)
        self.assertIs(self.find_leader(), self.leader)
        self.assertEqual(self.node.account.upstream, self.leader.account.upstream)

    def test_state_of_same_leader_applies_after_reconnect_of_commands(self) -> None:
        """The connection for reads was never lost, and read the state long before."""
        self.node.command_client.cut()
        self.advance(LEASE + 2)
        self.assertFalse(self.node.account.upstream.streaming)
        self.node.command_client.restore()
        self.advance(1)
        self.assertEqual(self.node.account.upstream, self.leader.account.upstream)
        self.assertEqual(tuple(self.node.account.gaps), tuple(self.leader.account.gaps))


class TakeOverTests(NodesCase):
    """A new leader first adopts the last leader's metadata."""

    def test_new_leader_trims_redis_only_after_adopting_metadata(self) -> None:
        """A trim saves metadata: older values once overwrote newer ones."""
        leader, node = self.start_node(max_events=5), self.start_node(max_events=5)
        leader.publish(*range(1, 9))
        self.advance(CHECK_INTERVAL)
        node.read_client.pause_reads()
        leader.stop()
        client = self.redis.make_client()
        client.open()
        other = RedisLog("paper", "other", client)

        def lead_briefly(command: Command) -> None:
            # The node has seen that the lease is free, and is about to acquire it.
            if command[1] == scripts.LEASE.sha and command[6 + len(scripts.KEYS)] == 1:
                self.redis.on_command = lambda _: None
                token = done(other.query_lease(10_000, acquire=True)).token
                assert token is not None
                done(other.write(token, 1, events(9), {"account_id": "one"}, ""))
                done(other.release(token))

        self.redis.on_command = lead_briefly
        self.advance(TRIM_EVERY)
        self.assertTrue(node.is_leader)
        self.assertEqual((node.is_streaming, node.journal.last), (False, 8))
        self.assertEqual(node.journal.first, 1)
        self.assertEqual(self.redis.execute("HGET", METADATA_KEY, "account_id"), b"one")
        node.read_client.resume_reads()
        self.advance(1)
        self.assertEqual((node.is_streaming, node.journal.account_id), (True, "one"))
        self.advance(TRIM_EVERY)
        self.assertEqual(int(self.redis.execute("HGET", METADATA_KEY, "trimmed")), 4)

    def test_other_account_is_announced_on_every_node_with_its_epoch(self) -> None:
        """The announcement waits until the new epoch has begun."""
        leader, _ = self.start_node(), self.start_node()
        leader.publish(1)
        leader.account.identify("one")
        for member in self.members:
            member.subscriber.statuses.clear()
        leader.read_client.pause_reads()
        leader.account.identify("two")
        self.assertEqual(
            [status for status in leader.subscriber.statuses if "cursor" in status], []
        )
        leader.read_client.resume_reads()
        for member in self.members:
            [hello] = [status for status in member.subscriber.statuses if "cursor" in status]
            self.assertEqual(hello["cursor"], member.account.cursor_at(1))
            self.assertEqual(hello["cursor"].split(".")[1], leader.journal.epoch)


class FirstTermTests(NodesCase):
    """The first leader begins the log."""

    def test_metadata_set_before_log_is_read_back_is_kept(self) -> None:
        """Redis returned older metadata; without the newer one the next outage made no gap."""
        node = self.make_node()
        node.follow()
        self.clock.advance(0.05)  # so the tailer does not read at the moment of a check
        node.leadership.startService()
        while not node.is_leader:
            self.clock.advance(0.01)
        self.assertEqual(node.journal.epoch, "")
        node.command_client.stop_replying()
        node.account.mark_upstream_up()
        self.advance(0.2)
        self.assertNotEqual(node.journal.epoch, "")
        node.account.mark_upstream_down("lost")
        self.assertIsNotNone(node.account.gaps.current)
