"""Tests for what tradeproxy.cluster.redis_journal reports: status, counts, times and bounds."""

from __future__ import annotations

from tests.support.journals import event, event_id_of, time_of
from tests.support.nodes import METADATA_KEY, STREAM_KEY, NodesCase
from tests.support.redisjournals import leading_journal
from tests.support.redislog import Command, ReplyDelay, done
from tradeproxy.cluster import scripts
from tradeproxy.cluster.leadership import LEASE
from tradeproxy.journal.base import Batch
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.runtime.dates import Dates


class CurrentTests(NodesCase):
    """Whether a node has passed on every event, as far as it knows."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.start_node(), self.start_node()
        self.leader.publish(1)

    def assert_current(self, *, leader: bool, node: bool) -> None:
        """Assert which of the two nodes is current."""
        found = self.leader.journal.is_current, self.node.journal.is_current
        self.assertEqual(found, (leader, node))

    def test_nodes_that_have_read_the_log_are_current(self) -> None:
        """Before and after an event."""
        self.assert_current(leader=True, node=True)
        self.leader.publish(2)
        self.advance(1)
        self.assert_current(leader=True, node=True)

    def test_node_that_lags_behind_is_not_current(self) -> None:
        """It learns of the event from its check of the lease."""
        self.node.read_client.pause_reads()
        self.leader.publish(2)
        self.advance(1)
        self.assertTrue(self.node.journal.status.durable)
        self.assert_current(leader=True, node=False)
        self.node.read_client.resume_reads()
        self.assert_current(leader=True, node=True)

    def test_leader_with_event_in_outbox_is_not_current(self) -> None:
        """It knows that the event follows before it reads it back."""
        self.leader.read_client.pause_reads()
        self.leader.publish(2)
        self.assertTrue(self.leader.journal.status.durable)
        self.assert_current(leader=False, node=True)

    def test_node_without_redis_is_not_current(self) -> None:
        """There may be events that it does not know."""
        self.node.read_client.cut()
        self.assert_current(leader=True, node=False)

    def test_status_of_node_that_reads_has_reason(self) -> None:
        """Before its first read, and until it has read everything."""
        journal = self.make_node().journal
        self.assertEqual(journal.status.reason, "Redis has not been reached yet")
        self.assertFalse(journal.is_loaded)
        late = self.make_node()
        late.read_client.open()
        late.read_client.pause_reads()
        late.account.open()
        self.assertEqual(late.journal.status.reason, "it has not all been read yet")
        late.read_client.resume_reads()
        self.assertEqual((late.journal.status.durable, late.journal.status.reason), (True, ""))


class CountTests(NodesCase):
    """What the leader counts."""

    def test_each_write_with_events_is_timed(self) -> None:
        """For the histogram of commits: from the command to its reply, on the leader alone."""
        leader, node = self.start_node(), self.start_node()
        leader.publish(1, 2)
        leader.journal.set_metadata("complete from", "7")
        self.redis.on_command = lambda command: (
            setattr(leader, "lateness", 0.25) if command[1] == scripts.WRITE.sha else None
        )
        leader.publish(3)
        histogram = leader.journal.commit_seconds
        self.assertEqual((histogram.counts[-1], histogram.total), (2, 0.25))
        self.assertEqual(node.journal.commit_seconds.counts[-1], 0)

    def test_event_that_only_redis_knows_is_duplicate(self) -> None:
        """The leader has trimmed it, and could not trim Redis. It does not stay in the outbox."""
        leader = self.start_node(max_events=10)
        leader.publish(*range(1, 21))
        self.advance(TRIM_EVERY - 3)  # the next trim comes in two seconds
        leader.command_client.cut()
        self.advance(3)
        leader.command_client.restore()
        self.assertEqual((leader.is_leader, leader.journal.first), (True, 11))
        leader.journal.append([event(1)])
        self.assertEqual((leader.journal.duplicates, leader.journal.last), (1, 20))
        self.assertEqual(len(leader.journal.outbox.events), 0)


class ReceiptTests(NodesCase):
    """When a batch was received, for the latency that the metrics show."""

    def test_batch_read_late_has_time_of_first_write_on_leader(self) -> None:
        """Other nodes count from now: their clocks may differ from the leader's."""
        leader, node = self.start_node(), self.start_node()
        for member in self.members:
            member.read_client.pause_reads()
        began = self.clock.seconds()
        for n in (1, 2):
            leader.publish(n)
            self.clock.advance(1)
        for member, expected in ((leader, began), (node, began + 2)):
            member.read_client.resume_reads()
            [batch] = member.subscriber.batches
            assert batch.received_at is not None
            self.assertAlmostEqual(batch.received_at, expected, 4)
            self.assertEqual(len(batch.rows), 2)
            member.subscriber.batches.clear()
        leader.publish(3)
        for member in self.members:
            received = member.subscriber.batches[0].received_at
            assert received is not None
            self.assertAlmostEqual(received, began + 2, 4)

    def test_batch_is_not_received_in_future(self) -> None:
        """The leader's clock was set back between write and read."""
        error = 0.0
        dates = Dates(self.clock.seconds, lambda: self.clock.seconds() - error)
        leader = self.start_node(dates=dates)
        leader.read_client.pause_reads()
        leader.publish(1)
        error = 3600.0
        leader.read_client.resume_reads()
        self.assertEqual(leader.subscriber.batches[0].received_at, self.clock.seconds())


class TrimmedLogTests(NodesCase):
    """What the leader trims, and what other nodes make of it."""

    def count_trims(self, seconds: float) -> int:
        """Return how often Redis is trimmed in that time."""
        commands: list[Command] = []
        self.redis.on_command = commands.append
        self.advance(seconds)
        return sum(command[1] == scripts.TRIM.sha for command in commands)

    def test_redis_is_trimmed_only_when_rows_are_due(self) -> None:
        """The script saves metadata too, which is of no use then."""
        leader = self.start_node(max_events=10)
        leader.publish(*range(1, 11))
        self.assertEqual(self.count_trims(2 * TRIM_EVERY), 0)
        leader.publish(11)
        self.assertEqual(self.count_trims(2 * TRIM_EVERY), 1)

    def test_redis_is_not_trimmed_while_epoch_begins(self) -> None:
        """The leader still has the epoch before: its metadata would replace the new one's."""
        leader = self.start_node(max_events=10)
        leader.journal.identify("one")
        leader.publish(*range(1, 31))
        leader.read_client.pause_reads()
        self.assertTrue(leader.journal.identify("two"))
        epoch = self.redis.execute("HGET", METADATA_KEY, "epoch")
        self.assertNotEqual(epoch.decode(), leader.journal.epoch)
        self.assertEqual(self.count_trims(2 * TRIM_EVERY), 0)
        self.assertEqual(self.redis.execute("HGET", METADATA_KEY, "epoch"), epoch)
        leader.read_client.resume_reads()
        leader.publish(*range(31, 61))
        self.assertEqual(self.count_trims(2 * TRIM_EVERY), 1)
        self.assertEqual(self.redis.execute("XRANGE", STREAM_KEY, "-", "50-0"), [])

    def test_trim_does_not_save_the_time_of_an_unwritten_event(self) -> None:
        """After a crash the gap began at that event's time, as if the log had it."""
        leader = self.start_node(max_events=10)
        leader.publish(*range(1, 21))
        self.redis.execute("SCRIPT", "LOAD", scripts.TRIM.source)
        self.advance(TRIM_EVERY - 2)  # the next trim comes in a second
        ReplyDelay(leader.command_client)
        leader.publish(21)
        leader.publish(22)
        self.assertEqual(self.count_trims(1.5), 1)
        leader.kill()
        node = self.start_node()
        self.advance(LEASE)
        self.assertEqual((node.journal.first, node.journal.last), (12, 21))
        node.account.mark_upstream_up()
        [gap] = node.account.gaps
        self.assertEqual(gap.begin, time_of(21))

    def test_trim_waits_for_unwritten_events_before_the_horizon(self) -> None:
        """It saved the horizon: after a crash these events counted as delivered, and were lost."""
        leader = self.start_node(max_events=10)
        leader.account.mark_upstream_up()
        leader.publish(*range(1, 21))
        self.redis.execute("SCRIPT", "LOAD", scripts.TRIM.source)
        self.advance(4 * TRIM_EVERY - 2)  # the next trim comes in a second
        delay = ReplyDelay(leader.command_client)
        leader.publish(21)
        leader.publish(22)
        leader.account.completeness.supersede_history(time_of(25))
        trims = self.count_trims(2)
        node = self.start_follower()
        self.assertEqual((node.journal.last, node.journal.has(event(22))), (21, False))
        self.assertEqual(trims, 0)
        delay.end()
        self.assertEqual(self.count_trims(TRIM_EVERY), 1)
        self.assertEqual(node.journal.last, 22)
        self.assertEqual(int(self.redis.execute("HGET", METADATA_KEY, "horizon")), time_of(25))

    def test_trim_waits_for_unwritten_event_older_than_rows_that_are_due(self) -> None:
        """The trim itself moved the horizon behind that event."""
        leader = self.start_node(max_events=10)
        leader.publish(*range(5, 25))
        self.redis.execute("SCRIPT", "LOAD", scripts.TRIM.source)
        self.advance(TRIM_EVERY - 2)  # the next trim comes in a second
        delay = ReplyDelay(leader.command_client)
        leader.publish(25)
        leader.publish(1)
        trims = self.count_trims(2)
        node = self.start_follower()
        self.assertEqual((node.journal.last, node.journal.has(event(1))), (21, False))
        self.assertEqual(trims, 0)
        delay.end()
        self.assertEqual(self.count_trims(TRIM_EVERY), 1)
        self.assertEqual((node.journal.last, leader.journal.first), (22, 13))

    def test_trim_of_an_earlier_epoch_changes_nothing(self) -> None:
        """Redis may have lost the script, so the command is sent again: then it comes late."""
        leader = self.start_node(max_events=10)
        leader.journal.identify("one")
        leader.publish(*range(1, 21))
        token, epoch = leader.journal.outbox.token, leader.journal.epoch
        assert token is not None
        leader.journal.identify("two")
        leader.publish(*range(21, 24))
        before = self.redis.dump()
        done(leader.journal.redis_log.trim(token, epoch, 21, {"trimmed": "21"}))
        self.assertEqual(self.redis.dump(), before)

    def test_node_at_end_of_log_without_rows_reads_on(self) -> None:
        """The former version trimmed the last event too."""
        leader, node = self.start_node(), self.start_node()
        leader.publish(1, 2)
        token = leader.journal.outbox.token
        assert token is not None
        done(leader.journal.redis_log.trim(token, leader.journal.epoch, 2, {"trimmed": "2"}))
        node.cut()
        node.restore()
        self.advance(1)
        leader.publish(3)
        self.assertEqual((node.subscriber.seqs, node.subscriber.is_aborted), ([1, 2, 3], False))

    def test_epoch_has_16_hexadecimal_digits(self) -> None:
        """Cursors have it."""
        self.assertRegex(self.start_node().journal.epoch, "^[0-9a-f]{16}$")


class OtherLogTests(NodesCase):
    """A node that reads another log from its start."""

    def test_rows_of_other_log_are_not_delivered_as_new(self) -> None:
        """Its clients are aborted; new ones read the log."""
        leader, node = self.start_node(), self.start_node()
        leader.publish(1, 2, 3)
        dump = self.redis.dump()
        leader.publish(4)
        self.redis.roll_back(dump)
        delivered: list[Batch] = []
        node.journal.on_committed = delivered.append
        for client in node.clients:
            client.cut()
            client.restore()
        self.advance(0.2)
        self.assertTrue(node.subscriber.is_aborted)
        self.assertEqual((node.journal.last, node.journal.replica.lost_through), (3, time_of(4)))
        self.assertEqual(node.journal.find(event_id_of(3)), 3)
        self.assertEqual(delivered, [])
        leader.stop()
        self.advance(1)
        self.assertTrue(node.is_leader)
        node.publish(5)
        self.assertEqual([batch.last for batch in delivered], [4])

    def test_journal_without_listener_reads_log_with_stream_state(self) -> None:
        """A caller that reads only events sets no callback."""
        first = leading_journal(self.redis)
        first.append([event(1)])
        first.publish_state("up")
        first.close()
        second = leading_journal(self.redis)
        self.addCleanup(second.close)
        self.assertEqual((second.is_loaded, second.last), (True, 1))
