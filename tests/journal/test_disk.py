"""Tests for tradeproxy.journal.disk: a journal whose disk is full, read-only, or in use."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from twisted.logger import LogLevel, capturedLogs

from tests.support.journals import (
    NOW,
    DiskCase,
    event,
    event_id_of,
    events,
    order_id_of,
    row,
    time_of,
)
from tradeproxy.journal.backlog import MAX_BYTES, MAX_EVENTS
from tradeproxy.journal.base import Batch, Row, UnreadableError
from tradeproxy.journal.disk import RETRY_EVERY
from tradeproxy.wire.event import Event, OrderState
from tradeproxy.wire.proxy_status import JournalStatus

READ_ONLY = "the file is read-only"


def large(n: int) -> Event:
    """Return an event of which the backlog takes one."""
    return replace(event(n), payload=b"x" * (MAX_BYTES // 2 + 1))


class FullDiskTests(DiskCase):
    """What the disk does not take is delivered all the same, declared, and committed once it can be."""

    def test_says_so_before_it_delivers(self) -> None:
        """The events have their numbers; the status is told, and logged, once."""
        self.connections.refuse_writing()
        self.clock.advance(5)
        with capturedLogs() as logs:
            self.journal.append(events(3, 4))
            self.journal.append(events(5))
            self.clock.advance(RETRY_EVERY)
        status = JournalStatus(durable=False, reason=READ_ONLY, since=NOW + 5)
        told = [
            Batch((row(3, event(3), durable=False), row(4, event(4), durable=False))),
            Batch((row(5, event(5), durable=False),)),
        ]
        self.assertEqual(self.listener.calls, [status, *told])
        self.assertEqual((self.journal.status, self.journal.last), (status, 5))
        self.assertEqual([(log["account"], log["reason"]) for log in logs], [("paper", READ_ONLY)])

    def test_reads_it_as_part_of_the_log(self) -> None:
        """A client that connects now finds every event, by number, identity, time and order."""
        self.connections.refuse_writing()
        one = order_id_of(1)
        self.journal.append([event(3), event(4, order_id=one, status="filled"), event(3), event(2)])
        self.assertEqual(self.read_seqs(self.journal, 0), [1, 2, 3, 4])
        self.assertEqual(self.read_seqs(self.journal, 3), [4])
        self.assertEqual(self.journal.row(4), self.listener.batches[0].rows[1])
        self.assertEqual(self.journal.row(2), row(2, event(2)))
        self.assertIsNone(self.journal.read(4, 1))
        self.assertEqual([self.journal.find(event_id_of(n)) for n in (1, 3, 4, 5)], [1, 3, 4, None])
        self.assertEqual(
            [self.journal.first_since(time_of(n)) for n in (2, 3, 4, 5)], [2, 3, 4, None]
        )
        self.assertEqual([self.journal.has(event(n)) for n in (1, 3, 5)], [True, True, False])
        self.assertEqual((self.journal.latest_time, self.journal.duplicates), (time_of(4), 2))
        self.assertEqual(self.journal.order(one), OrderState(one, "filled", "0", time_of(4)))
        self.assertEqual(
            [state.id for state in self.journal.open_orders()], [order_id_of(2), order_id_of(3)]
        )

    def test_an_event_that_comes_late_sets_no_order_back(self) -> None:
        """Whether the newer one is on the disk or waits too."""
        one, two = order_id_of(1), order_id_of(2)
        self.connections.refuse_writing()
        self.journal.append([event(0, order_id=one, status="accepted")])
        self.journal.append([event(9, order_id=two, status="filled"), event(8, order_id=two)])
        self.assertEqual([state.status for state in self.journal.open_orders()], ["new"])
        self.assertEqual(self.journal.order(one), event(1).order)

    def test_commits_it_when_the_disk_has_room(self) -> None:
        """With the next attempt, in the order of the numbers; then all is as it should be."""
        self.connections.fill_disk()
        n = 2
        while self.journal.status.durable:
            n += 1
            self.journal.append(events(n))
        self.assertEqual(self.journal.status.reason, "disk full")
        self.connections.free_disk()
        with capturedLogs() as logs:
            self.clock.advance(RETRY_EVERY)
        self.assertEqual(
            self.listener.statuses[1:],
            [JournalStatus(durable=True, reason="", since=self.clock.seconds())],
        )
        self.assertEqual([log["log_level"] for log in logs], [LogLevel.info])
        self.assertEqual(self.journal.row(n), row(n, event(n)))
        self.assertEqual([seq for seq, _ in self.read_disk()], list(range(1, n + 1)))
        self.clock.advance(RETRY_EVERY * 3)
        self.assertEqual(len(self.listener.statuses), 2)

    def test_commits_it_before_what_comes_next(self) -> None:
        """An event need not wait for the attempt that is due."""
        self.connections.refuse_writing()
        self.journal.append([event(n) for n in range(3, 1500)])
        self.connections.refuse_writing(False)
        self.journal.append(events(1500))
        self.assertTrue(self.listener.statuses[-1].durable)
        self.assertEqual(self.listener.calls[-1], Batch((row(1500, event(1500)),)))
        self.assertEqual([seq for seq, _ in self.read_disk()], list(range(1, 1501)))

    def test_commits_it_when_it_is_closed(self) -> None:
        """A disk that has healed a moment before the end has the events."""
        self.connections.refuse_writing()
        self.journal.append(events(3))
        self.journal.set_metadata("complete from", "7")
        self.connections.refuse_writing(False)
        self.journal.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        again = self.open_on_disk()
        self.assertEqual(
            (self.read_seqs(again, 0), again.get_metadata("complete from")), ([1, 2, 3], "7")
        )

    def test_says_what_is_lost_when_it_is_closed(self) -> None:
        """If the disk has not healed, the events' number is logged; they were delivered without a cursor."""
        self.connections.refuse_writing()
        self.journal.append(events(3, 4))
        with capturedLogs() as logs:
            self.journal.close()
        self.assertEqual([log["count"] for log in logs], [2])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        again = self.open_on_disk()
        self.assertEqual((again.epoch, again.last), (self.journal.epoch, 2))

    def test_events_without_an_order_wait_as_well(self) -> None:
        """They are events like any other."""
        self.connections.refuse_writing()
        plain = replace(event(3), order=None)
        self.journal.append([plain])
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        self.assertEqual(self.read_disk()[2:], [(3, plain.payload)])

    def test_another_program_may_hold_the_file(self) -> None:
        """The reactor does not wait for it, the events do."""
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.journal.append(events(3))
        self.assertEqual(self.journal.status.reason, "another program holds the file")
        other.execute("COMMIT")
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)

    def test_what_is_remembered_waits_too(self) -> None:
        """It is known at once, and written when the disk heals."""
        self.connections.refuse_writing()
        self.journal.set_metadata("complete from", "7")
        self.journal.advance_dedup_horizon(time_of(0))
        self.journal.identify("account")
        self.assertFalse(self.journal.status.durable)
        self.assertEqual(self.journal.get_metadata("complete from"), "7")
        self.clock.advance(RETRY_EVERY)
        self.assertFalse(self.journal.status.durable)
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        again = self.reopen(self.journal)
        self.assertEqual(
            (again.get_metadata("complete from"), again.dedup_horizon), ("7", time_of(0))
        )

    def test_another_account_takes_over(self) -> None:
        """What still waits belongs to the old log, and does not become the new one's."""
        self.journal.identify("one")
        self.connections.refuse_writing()
        self.journal.append(events(3, 4))
        epoch = self.journal.epoch
        self.journal.identify("two")
        self.assertNotEqual(self.journal.epoch, epoch)
        self.assertEqual((self.journal.first, self.journal.last), (5, 4))
        self.journal.append(events(3))
        self.assertTrue(self.journal.status.durable)
        self.assertEqual([seq for seq, _ in self.read_disk()], [5])

    def test_an_event_that_could_not_be_recognised_keeps_its_place(self) -> None:
        """Its number has been delivered; the log has it a second time rather than a hole."""
        self.connections.refuse_writing()
        self.journal.append(events(3))
        other = sqlite3.connect(self.path)  # as if the disk had not given back what it has
        other.execute(
            "INSERT INTO events SELECT 9, ?, ?, 0, 0, 0, ''", (event(3).identity, event(3).digest)
        )
        other.commit()
        other.execute("UPDATE events SET seq = 0 WHERE seq = 9")
        other.commit()
        other.close()
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        self.assertEqual(self.journal.row(3), Row(3, event(3).payload, event(3).time))


class HoleTests(DiskCase):
    """What does not even fit into memory is delivered, and leaves one hole."""

    def setUp(self) -> None:
        super().setUp()
        self.connections.refuse_writing()

    def test_events_without_room_share_one_number(self) -> None:
        """They go to the clients that are there; to a reader the hole says that something is missing."""
        self.journal.append([large(3), large(4), event(5), event(5)])
        placed, unplaced = self.listener.batches
        self.assertEqual(placed, Batch((row(3, large(3), durable=False),)))
        rows = (row(4, large(4), durable=False), row(4, event(5), durable=False))
        self.assertEqual(unplaced, Batch(rows, overflow=True))
        self.journal.append([large(6)])
        self.assertEqual(
            self.listener.batches[2], Batch((row(4, large(6), durable=False),), overflow=True)
        )
        self.assertEqual((self.journal.last, self.journal.latest_time), (4, time_of(6)))
        self.assertEqual(self.journal.row(4), Row(4, None, durable=False))
        self.assertEqual(
            [self.journal.first_since(time_of(n)) for n in (3, 4, 6, 7)], [3, 4, 4, None]
        )
        self.assertIsNone(self.journal.find(event_id_of(4)))

    def test_the_numbers_go_on_behind_the_hole(self) -> None:
        """A smaller event may have room yet; the next without gets another hole."""
        self.journal.append([large(3), large(4)])
        self.journal.append(events(5))
        self.journal.append([large(6)])
        self.assertEqual([burst.last for burst in self.listener.batches], [3, 4, 5, 6])
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        self.assertEqual(
            self.read_disk()[2:], [(3, large(3).payload), (4, None), (5, event(5).payload), (6, None)]
        )
        self.assertEqual(self.journal.row(6), Row(6, None))
        self.journal.append([large(6)])
        self.assertEqual(self.journal.row(7), row(7, large(6)))
        again = self.reopen(self.journal)
        self.assertEqual((again.latest_time, again.first_since(time_of(6))), (time_of(6), 6))

    def test_events_are_counted_too(self) -> None:
        """However small they are."""
        small = replace(event(0), payload=b"{}")
        self.journal.append([replace(small, identity=str(n)) for n in range(MAX_EVENTS + 5)])
        self.assertEqual([len(burst.rows) for burst in self.listener.batches], [MAX_EVENTS, 5])
        self.assertEqual(self.journal.last, 2 + MAX_EVENTS + 1)


class UnreadableDiskTests(DiskCase):
    """A disk that gives nothing back for a moment."""

    def test_a_reader_is_told_and_nothing_is_thrown_away(self) -> None:
        """Never silence: what cannot be read is not taken for the end of the log."""
        self.connections.refuse_everything()
        self.assertRaises(UnreadableError, self.journal.read, 0, 1)
        self.assertRaises(UnreadableError, self.journal.row, 1)
        self.assertRaises(UnreadableError, self.journal.find, event(1).identity)
        self.assertEqual(self.journal.first_since(time_of(2)), 1)
        self.assertFalse(self.journal.has(event(1)))
        self.assertFalse(self.journal.status.durable)
        self.journal.append(events(3))
        self.assertEqual(self.read_seqs(self.journal, 2), [3])
        self.connections.refuse_everything(False)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual((self.journal.first, self.read_seqs(self.journal, 0)), (1, [1, 2, 3]))
