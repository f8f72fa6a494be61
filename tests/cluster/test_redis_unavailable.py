"""Tests for tradeproxy.cluster.redis_journal during outages of Redis and terms of other nodes."""

from __future__ import annotations

from msgspec.structs import replace

from tests.support.journals import event, events, time_of
from tests.support.nodes import LEASE_KEY, NodesCase
from tests.support.redislog import done
from tradeproxy.cluster.leadership import LEASE, STOP_AFTER
from tradeproxy.cluster.log_entries import EpochStart
from tradeproxy.cluster.outbox import FULL


class RedisOutageTests(NodesCase):
    """Redis goes away, and comes back as it was."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.start_node(), self.start_node()
        self.leader.publish(1)

    def assert_log(self, *numbers: int) -> None:
        """Assert that both nodes have delivered and stored exactly these events."""
        for member in (self.leader, self.node):
            self.assertEqual(member.subscriber.payloads, [event(n).payload for n in numbers])
            self.assertEqual(member.subscriber.seqs, list(range(1, len(numbers) + 1)))
            self.assertFalse(member.subscriber.is_aborted)
        self.assertEqual(self.leader.rows, self.node.rows)

    def test_events_during_outage_are_written_afterwards(self) -> None:
        """Undelivered until they are in the log; the latest time includes them at once."""
        self.leader.cut()
        self.leader.publish(2, 3)
        self.assertEqual(
            (self.leader.journal.last, self.leader.journal.latest_time), (1, time_of(3))
        )
        self.advance(3)
        self.leader.publish(4)
        self.leader.restore()
        self.advance(1)
        self.assert_log(1, 2, 3, 4)

    def test_outage_is_reported_in_journal_status(self) -> None:
        """With the reason and the time, to clients and in /readyz."""
        self.leader.command_client.cut("it says LOADING")
        status = self.leader.journal.status
        self.assertEqual((status.durable, status.reason), (False, "Redis is away: it says LOADING"))
        self.assertEqual(
            self.leader.subscriber.statuses[-1]["reason"], "Redis is away: it says LOADING"
        )
        since = self.clock.seconds()
        self.advance(1)
        self.leader.restore()
        self.assertEqual(self.leader.journal.status.since, since)
        self.advance(3)
        self.assertTrue(self.leader.journal.status.durable)

    def test_lost_reply_causes_no_duplicate(self) -> None:
        """The leader cannot know that the events are in the log, and writes them again."""
        for numbers in ((2, 3), (4,)):
            self.leader.command_client.lose_reply()
            self.leader.publish(*numbers)
            self.assertIn(numbers[-1], self.leader.subscriber.seqs)
            self.leader.publish(*numbers)
            self.advance(1)
        self.assert_log(1, 2, 3, 4)
        self.leader.publish(5)
        self.assert_log(1, 2, 3, 4, 5)

    def test_lost_reply_with_lagging_reads_causes_no_duplicate(self) -> None:
        """The leader wrote the event twice before it read it back."""
        self.leader.read_client.pause_reads()
        self.leader.command_client.lose_reply()
        self.leader.publish(2)
        self.advance(1)
        self.leader.publish(3)
        self.leader.read_client.resume_reads()
        self.advance(1)
        self.leader.publish(4)
        self.assert_log(1, 2, 3, 4)

    def test_acknowledged_event_read_late_is_not_written_again(self) -> None:
        """The replies to the writes come first."""
        self.leader.read_client.pause_reads()
        self.leader.publish(2)
        self.leader.publish(3, 4)
        self.assertEqual((self.leader.journal.last, self.node.journal.last), (1, 4))
        self.assertTrue(self.leader.journal.has(event(4)))
        self.leader.read_client.resume_reads()
        self.assert_log(1, 2, 3, 4)
        self.assertEqual(self.leader.journal.duplicates, 0)

    def test_rolled_back_events_are_written_again(self) -> None:
        """They were acknowledged, and no node had read them."""
        for member in self.members:
            member.read_client.pause_reads()
        dump = self.redis.dump()
        self.leader.publish(2, 3)
        self.redis.roll_back(dump)
        for member in self.members:
            member.cut()
            member.restore()
        self.advance(1)
        self.leader.publish(4)
        self.assert_log(1, 2, 3, 4)

    def test_outbox_is_written_first_in_next_term_of_same_node(self) -> None:
        """No other node has led."""
        self.node.cut()
        self.leader.cut()
        self.leader.publish(2, 3)
        self.advance(STOP_AFTER + 4)
        self.assertFalse(self.leader.is_leader)
        self.leader.restore()
        self.advance(3)
        self.assertTrue(self.leader.is_leader)
        self.leader.publish(4)
        self.node.restore()
        self.advance(1)
        self.assert_log(1, 2, 3, 4)

    def test_outbox_is_dropped_after_term_of_other_node(self) -> None:
        """That node has the events from Alpaca's history."""
        self.leader.cut()
        self.leader.publish(9)
        self.advance(LEASE + 2)
        self.assertTrue(self.node.is_leader)
        self.assertEqual(self.leader.journal.latest_time, time_of(9))
        self.node.publish(2)
        self.node.cut()
        self.advance(LEASE + 2)
        self.leader.restore()
        self.advance(3)
        self.assertTrue(self.leader.is_leader)
        self.assertEqual(self.leader.journal.latest_time, time_of(2))
        self.leader.publish(3)
        self.node.restore()
        self.advance(1)
        self.assert_log(1, 2, 3)

    def test_outbox_is_dropped_once_other_leader_was_seen(self) -> None:
        """Even if Redis then loses the record of it."""
        self.leader.cut()
        self.leader.publish(9)
        self.advance(LEASE + 2)
        self.node.publish(2)
        self.leader.restore()
        self.advance(1)
        self.redis.flush()
        self.node.cut()
        self.advance(1)
        self.leader.cut()
        self.leader.restore()
        self.advance(LEASE)
        self.assertTrue(self.leader.is_leader)
        self.leader.publish(3)
        self.assertEqual(self.leader.subscriber.payloads, [event(n).payload for n in (1, 2, 3)])

    def fill_outbox(self) -> None:
        """Receive events 2 to 17, which fill the leader's outbox exactly."""
        for n in range(2, 18):
            self.leader.account.publish(replace(event(n), payload=b"{}".ljust(2**20)))
        self.leader.account.flush()

    def test_full_outbox_ends_term(self) -> None:
        """Nothing is accepted after the first missing event: the next term recovers the rest."""
        for member in self.members:
            member.cut()
        self.fill_outbox()
        self.assertTrue(self.leader.is_streaming)
        last = self.leader.journal.latest_time
        self.leader.publish(18)
        self.assertFalse(self.leader.is_streaming)
        self.leader.publish(19)
        self.assertEqual(self.leader.journal.latest_time, last)
        self.leader.restore()
        self.advance(4)
        self.assertTrue(self.leader.is_leader)
        self.assertEqual(self.leader.journal.last, 17)

    def test_full_outbox_is_reason_of_upstream_status(self) -> None:
        """For the log and the dashboard."""
        self.leader.cut()
        self.fill_outbox()
        self.leader.publish(18)
        self.advance(2)
        self.assertEqual(self.leader.account.upstream.reason, FULL)

    def test_missing_scripts_are_sent_again(self) -> None:
        """After SCRIPT FLUSH or a failover."""
        self.redis.execute("SCRIPT", "FLUSH")
        self.leader.publish(2)
        self.assert_log(1, 2)

    def test_error_reply_counts_as_outage(self) -> None:
        """Redis is out of memory, or a replica: events are buffered."""
        self.redis.execute("CONFIG", "SET", "maxmemory", "1")
        self.addCleanup(self.redis.execute, "CONFIG", "SET", "maxmemory", "0")
        self.leader.publish(2)
        self.assertRegex(self.leader.journal.status.reason, "^Redis is away: it says OOM")
        self.redis.execute("CONFIG", "SET", "maxmemory", "0")
        self.advance(2)
        self.assert_log(1, 2)


class FencingTests(NodesCase):
    """A node without the lease changes nothing."""

    def test_stale_token_changes_nothing(self) -> None:
        """No write, no epoch, no trim, no release."""
        leader = self.start_node()
        leader.publish(1, 2)
        log = leader.journal.redis_log
        token = self.redis.execute("HGET", LEASE_KEY, "token").decode()
        self.redis.execute("HSET", LEASE_KEY, "token", "another")
        self.redis.execute("PERSIST", LEASE_KEY)
        before = self.redis.dump()
        for write in (
            log.write(token, 1, events(3), {"horizon": "1"}, "{}"),
            log.trim(token, leader.journal.epoch, 1, {"trimmed": "1"}),
            log.release(token),
        ):
            self.assertIsNone(done(write))
        epoch_start = EpochStart("", 0, done(log.read_state(0)).metadata)
        self.assertIsNone(done(log.begin_epoch(token, 1, 9, epoch_start)))
        self.assertEqual(self.redis.dump(), before)

    def test_leader_paused_beyond_lease_writes_nothing(self) -> None:
        """It continues with an unwritten event while another node leads."""
        leader, follower = self.start_node(), self.start_node()
        self.redis.execute("HSET", LEASE_KEY, "owner", "other")
        leader.publish(1)
        self.assertFalse(leader.is_streaming)
        self.advance(2)
        self.assertEqual(
            (leader.account.upstream.reason, follower.journal.last), ("the lease was lost", 0)
        )
