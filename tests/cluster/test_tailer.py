"""Tests for tradeproxy.cluster.tailer: how a node reads the log on, or from its start."""

from __future__ import annotations

import sqlite3

from twisted.logger import LogLevel, capturedLogs, formatEvent

from tests.support.journals import event
from tests.support.logcase import METADATA
from tests.support.nodes import IDS_KEY, METADATA_KEY, STATE_KEY, STREAM_KEY, Member, NodesCase
from tests.support.redislog import Command
from tradeproxy.cluster import tailer
from tradeproxy.cluster.leadership import LEASE
from tradeproxy.cluster.log_entries import EpochStart
from tradeproxy.hub.account import INTERNAL_ERROR
from tradeproxy.journal.base import Batch
from tradeproxy.journal.retention import TRIM_EVERY


class InvalidEntryTests(NodesCase):
    """An entry that the proxy did not write: one of them ended the reading with a traceback."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.start_node(), self.start_node()
        self.leader.publish(1)
        self.advance(0.1)

    def add(self, number: int, part: int, *fields: str | bytes) -> None:
        """Add an entry, with the state that belongs to it."""
        self.redis.execute("XADD", STREAM_KEY, f"{number}-{part}", *fields)
        self.redis.execute("HSET", STATE_KEY, "last", number, "sub", part)
        if part == 0:
            self.redis.execute("ZADD", IDS_KEY, number, f"key {number}")
        self.redis.retry_reads()

    def test_event_of_others_becomes_a_hole(self) -> None:
        """The events behind it arrive, and a client behind it learns that one is missing."""
        with capturedLogs() as logs:
            self.add(2, 0, "p", "{}", "m", "nonsense", "r", "1", "e", self.leader.journal.epoch)
        self.leader.publish(3)
        self.advance(0.1)
        for member in self.leader, self.node:
            self.assertEqual(member.rows, [(1, event(1).payload), (2, None), (3, event(3).payload)])
            self.assertEqual(member.subscriber.seqs, [1, 2, 3])
            self.assertFalse(member.subscriber.is_aborted)
            self.assertTrue(member.journal.status.durable)
            self.assertEqual(member.journal.next_hole(1), 2)
        lines = {formatEvent(each) for each in logs if each["log_level"] is LogLevel.error}
        self.assertEqual(len(lines), 1)
        self.assertIn("entry 2-0 of the log in Redis is not one of the proxy's", lines.pop())

    def test_payload_that_is_no_event_becomes_a_hole(self) -> None:
        """Clients closed their connections for it, resumed before it, and got it again."""
        meta = '["id","",1,"new",null]'
        epoch = self.leader.journal.epoch
        for number, payload in enumerate((b'{"data":"\xff"}', b'{"data":{}', b"[]", b""), 2):
            self.add(number, 0, "p", payload, "m", meta, "r", "1", "e", epoch)
        self.leader.publish(6)
        self.advance(0.1)
        holes = [(number, None) for number in range(2, 6)]
        for member in self.leader, self.node:
            self.assertEqual(member.rows, [(1, event(1).payload), *holes, (6, event(6).payload)])
            self.assertEqual(member.journal.next_hole(1), 2)

    def test_hole_at_the_end_is_part_of_the_same_log(self) -> None:
        """After an outage the nodes compare their last event with the log's."""
        self.add(2, 0, "x", "y")
        self.node.cut()
        self.node.restore()
        self.advance(1)
        self.assertFalse(self.node.subscriber.is_aborted)
        self.assertEqual(self.node.subscriber.seqs, [1, 2])

    def test_other_entry_is_ignored(self) -> None:
        """No event has its number."""
        self.add(1, 999_999, "x", "y")
        self.add(1, 1_000_000, "p", "{}", "m", "[]", "r", "1", "e", self.leader.journal.epoch)
        self.leader.publish(2)
        self.advance(0.1)
        self.assertEqual(self.node.rows, [(1, event(1).payload), (2, event(2).payload)])
        self.assertFalse(self.node.subscriber.is_aborted)


class MissingEntryTests(NodesCase):
    """Entries are removed from the log, or are those of another epoch.

    A node that met one read the whole log again, ten times a second, and had none of it.
    """

    def setUp(self) -> None:
        super().setUp()
        self.starts = 0
        self.leader = self.start_node()
        self.leader.publish(1, 2, 3, 4, 5)
        self.redis.on_command = self.count_starts

    def count_starts(self, command: Command) -> None:
        """Count the reads from the start of the log."""
        self.starts += command[0] == "XREAD" and command[-1] == b"0-0"

    def rows(self, *numbers: int, holes: tuple[int, ...] = ()) -> list[tuple[int, bytes | None]]:
        """Return rows with these numbers, as Member.rows does."""
        return [(n, None if n in holes else event(n).payload) for n in numbers]

    def check(self, member: Member, *holes: int) -> None:
        """Check that a node has all events but these after one read of all, and gets the next."""
        self.advance(10)
        self.assertLessEqual(self.starts, 1)
        self.assertEqual(member.rows, self.rows(1, 2, 3, 4, 5, holes=holes))
        self.assertTrue(member.journal.is_loaded)
        self.assertEqual(member.journal.next_hole(0), holes[0] if holes else None)
        self.leader.publish(6)
        self.advance(1)
        self.assertEqual(member.subscriber.seqs, [6])
        self.assertTrue(member.journal.status.durable)

    def start_again(self) -> None:
        """Have a new log with the same events."""
        self.redis.flush()
        for member in self.members:
            member.kill()
        self.leader = self.start_node()
        self.leader.publish(1, 2, 3, 4, 5)

    def add_far_entry(self, seq: int) -> None:
        """Add an entry that is no event, with a number that does not follow."""
        self.redis.execute("XADD", STREAM_KEY, f"{seq}-0", "x", "y")
        self.redis.execute("HSET", STATE_KEY, "last", seq, "sub", 0)
        self.redis.execute("ZADD", IDS_KEY, seq, "key")

    def test_removed_entries_become_holes(self) -> None:
        """From the middle, the begin or the end; the log of the proxy has a line."""
        for missing in (3,), (1, 2), (5,), (2, 4), (1, 2, 3, 4, 5):
            self.start_again()
            self.redis.execute("XDEL", STREAM_KEY, *(f"{n}-0" for n in missing))
            self.starts = 0
            with capturedLogs() as logs:
                self.check(self.start_follower(), *missing)
            found = [line for each in logs if "are missing in" in (line := formatEvent(each) or "")]
            self.assertEqual(len(found), 1, (missing, found))

    def test_every_hole_of_a_read_is_made_with_one_comparison(self) -> None:
        """Each is a request to Redis. Until the last hole, events that were read are not there."""
        counts: list[int] = []
        commands: list[object] = []
        self.redis.on_command = lambda command: commands.append(command[0])
        for missing in ("3-0",), ("2-0", "4-0"):
            self.start_again()
            self.redis.execute("XDEL", STREAM_KEY, *missing)
            commands.clear()
            self.start_follower()
            self.advance(1)
            counts.append(commands.count("EVALSHA"))
        self.assertEqual(counts[0], counts[1])

    def test_events_that_follow_each_other_are_compared_once(self) -> None:
        """Each comparison is a request to Redis, and nothing is missing between them."""
        commands: list[object] = []
        self.redis.on_command = lambda command: commands.append(command[0])
        self.assertEqual(self.start_follower().rows, self.rows(1, 2, 3, 4, 5))
        self.assertEqual(commands.count("EVALSHA"), 1)

    def test_leader_is_followed_by_another_if_the_newest_entry_is_removed(self) -> None:
        """No node that had not read it led any more."""
        node = self.start_follower()
        self.redis.execute("XDEL", STREAM_KEY, "5-0")
        node.kill()
        self.leader.kill()
        third = self.make_node()
        third.start()
        self.advance(LEASE + 5)
        self.assertTrue(third.is_streaming)
        third.publish(6)
        self.assertEqual(third.subscriber.seqs, [6])

    def test_entry_of_another_epoch_becomes_a_hole(self) -> None:
        """It is not one of the proxy's, or of a log before a restore."""
        [(_, fields)] = self.redis.execute("XRANGE", STREAM_KEY, "5-0", "5-0")
        fields[fields.index(b"e") + 1] = b"e9"
        self.redis.execute("XADD", STREAM_KEY, "6-0", *fields)
        self.redis.execute("HSET", STATE_KEY, "last", 6, "sub", 0)
        self.redis.execute("ZADD", IDS_KEY, 6, "key")
        node = self.start_follower()
        self.redis.retry_reads()
        self.advance(10)
        self.leader.publish(7)
        self.advance(1)
        for member in (self.leader, node):
            self.assertEqual(member.rows, self.rows(1, 2, 3, 4, 5, 6, 7, holes=(6,)))
            self.assertFalse(member.subscriber.is_aborted)
        self.assertEqual(self.starts, 1)

    def test_start_of_an_epoch_that_has_not_begun_is_ignored(self) -> None:
        """The metadata says which epoch it is."""
        start = EpochStart(self.leader.journal.epoch, 5, {**METADATA, "epoch": "e9"})
        self.redis.execute("XADD", STREAM_KEY, "5-900000000000000", "b", start.encode())
        self.redis.execute("HSET", STATE_KEY, "sub", 900000000000000)
        self.redis.retry_reads()
        self.check(self.start_follower())
        self.assertFalse(self.leader.subscriber.is_aborted)

    def test_other_epoch_in_the_metadata_makes_holes_of_all_events(self) -> None:
        """They are of another log, as far as a node can see."""
        self.redis.execute("HSET", METADATA_KEY, "epoch", "e9")
        node = self.start_follower()
        self.advance(15)
        self.assertEqual(node.rows, self.rows(1, 2, 3, 4, 5, holes=(1, 2, 3, 4, 5)))
        self.assertLessEqual(self.starts, 2)  # the leader's is one of them
        self.leader.publish(6)
        self.advance(1)
        self.assertEqual(node.rows[-1], self.leader.rows[-1])
        self.assertEqual(node.subscriber.seqs, [6])

    def test_log_with_an_entry_behind_its_end_is_asked_for_now_and_then(self) -> None:
        """Another program has added it: the log is not whole, and the node cannot go on.

        It asked again without a pause, and did nothing else.
        """
        self.start_node()
        self.advance(1)
        reads = 0

        def count(command: Command) -> None:
            nonlocal reads
            reads += command[0] == "XREAD"
            if reads > 100:
                raise AssertionError("there is no pause")

        self.redis.on_command = count
        self.redis.execute("XADD", STREAM_KEY, f"{10**12}-0", "x", "y")
        self.redis.retry_reads()
        self.advance(2)
        self.assertLess(reads, 50)

    def test_a_hundred_thousand_missing_entries_are_replaced(self) -> None:
        """One more is too many: docs/security.md has the limit."""
        for last, is_replaced in ((100_006, True), (100_007, False)):
            self.start_again()
            self.add_far_entry(last)
            self.leader.kill()
            node = self.start_follower()
            self.advance(1)
            self.assertEqual(node.journal.last > 5, is_replaced)

    def test_very_many_missing_entries_are_not_replaced(self) -> None:
        """Anyone with the password can write a number; the holes of all before it fill no memory.

        The node reads the log again a minute later: an operator may have deleted it meanwhile.
        """
        self.patch(tailer, "MAX_MISSING", 1000)
        self.add_far_entry(10**15)
        self.leader.kill()
        node = self.start_follower()
        self.advance(30)
        self.assertEqual(self.starts, 1)
        self.assertEqual(len(node.rows), 5)
        self.assertEqual(node.journal.status.reason, tailer.TOO_MANY_MISSING)
        self.advance(40)
        self.assertEqual(self.starts, 2)
        node.stop()
        self.redis.flush()


class TailerErrorTests(NodesCase):
    """An internal error is reported, and reading continues later."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.start_node(), self.start_node()
        self.leader.publish(1)
        self.advance(0.1)

    def break_delivery(self) -> None:
        """Let the node fail with an event."""

        def deliver(_: Batch) -> None:
            raise KeyError

        self.deliver, self.node.journal.on_committed = self.node.journal.on_committed, deliver
        self.leader.publish(2)

    def test_error_is_logged_and_reading_resumes(self) -> None:
        """From the start of the log, since the entry may have been applied in part."""
        with capturedLogs() as logs:
            self.break_delivery()
        self.assertTrue(
            [log for log in logs if "reading the log in Redis failed" in log.get("log_format", "")]
        )
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(self.node.journal.status.reason, INTERNAL_ERROR)
        self.node.journal.on_committed = self.deliver
        self.advance(1.1)
        self.assertTrue(self.node.journal.status.durable)
        self.assertTrue(self.node.subscriber.is_aborted)
        self.assertEqual(self.node.rows, [(1, event(1).payload), (2, event(2).payload)])

    def test_close_after_error_leaves_no_timer(self) -> None:
        """Reading does not resume."""
        self.break_delivery()
        self.clock.advance(0)
        self.node.stop()
        self.leader.stop()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_second_close_does_nothing(self) -> None:
        """No timer is left."""
        self.leader.stop()
        self.node.stop()
        self.node.account.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_disconnects_and_frees_memory(self) -> None:
        """The rows are in a database in memory."""
        self.node.account.close()
        self.assertFalse(any(client.is_up for client in self.node.clients))
        self.assertRaises(sqlite3.ProgrammingError, self.node.journal.row, 1)


class OtherEpochTests(NodesCase):
    """An epoch begins while a node lags behind; its connections stay."""

    def test_node_behind_begin_of_epoch_reads_from_start(self) -> None:
        """It lacks the last events of the older epoch, which are gone from Redis."""
        leader, node = self.start_node(), self.start_node()
        leader.journal.identify("one")
        leader.publish(1)
        node.read_client.pause_reads()
        leader.publish(2, 3)
        leader.journal.identify("two")
        leader.account.mark_upstream_up()
        leader.publish(4)
        node.read_client.resume_reads()
        self.advance(0.2)
        self.assertTrue(node.subscriber.is_aborted)
        self.assertEqual(node.rows, [(4, event(4).payload)])
        self.assertEqual(node.journal.epoch, leader.journal.epoch)
        self.assertTrue(node.account.upstream.streaming)

    def test_epoch_whose_begin_is_unknown_is_read_from_start(self) -> None:
        """The record of its begin is missing, or of another epoch: another program changed it."""
        for is_missing in (True, False):
            self.redis.flush()
            leader, node = self.start_node(), self.start_node()
            leader.journal.identify("one")
            leader.publish(1)
            other = EpochStart(node.journal.epoch, 1, {**METADATA, "epoch": "e9", "trimmed": "1"})
            node.cut()
            leader.journal.identify("two")
            if is_missing:
                self.redis.execute("HDEL", STATE_KEY, "begun")
            else:
                self.redis.execute("HSET", STATE_KEY, "begun", other.encode())
            node.restore()
            self.advance(0.3)
            self.assertTrue(node.subscriber.is_aborted, is_missing)
            self.assertEqual(node.journal.epoch, leader.journal.epoch)
            leader.stop()
            node.stop()

    def test_node_that_reads_on_behind_trimmed_events_reads_from_start(self) -> None:
        """Its connections stay; the next entry does not follow its last one."""
        leader, node = self.start_node(max_events=10), self.start_node()
        leader.publish(1)
        node.read_client.pause_reads()
        leader.publish(*range(2, 31))
        self.advance(TRIM_EVERY)
        node.read_client.resume_reads()
        self.advance(0.2)
        self.assertTrue(node.subscriber.is_aborted)
        self.assertEqual(node.rows, leader.rows)

    def test_reading_resumes_a_tenth_of_a_second_after_reconnect(self) -> None:
        """The node then compares its log with the one in Redis."""
        leader, node = self.start_node(), self.start_node()
        node.read_client.cut()
        leader.publish(1)
        node.read_client.restore()
        self.advance(0.2)
        self.assertEqual(node.subscriber.seqs, [1])
