"""Tests for tradeproxy.journal.disk: a journal whose disk is full, read-only, or in use."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from msgspec.structs import replace
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
from tradeproxy.wire.event import Event, OrderState, format_time
from tradeproxy.wire.proxy_status import JournalStatus

READ_ONLY = "the file is read-only"


def large(n: int) -> Event:
    """Return an event that leaves no room for a second one of its size in the backlog."""
    return replace(event(n), payload=b"{}".ljust(MAX_BYTES // 2 + 1))


class FailingDiskTests(DiskCase):
    """Events that the disk refuses are delivered as not durable, and committed later."""

    def test_append_disk_fails_changes_status_before_delivery(self) -> None:
        """The events have numbers. The status is reported and logged once."""
        self.connections.refuse_writing()
        self.clock.advance(5)
        with capturedLogs() as logs:
            self.journal.append(events(3, 4))
            self.journal.append(events(5))
            self.clock.advance(RETRY_EVERY)
        reason = f"{READ_ONLY}: {self.path}"
        status = JournalStatus(durable=False, reason=reason, since=NOW + 5)
        batches = [
            Batch((row(3, event(3), durable=False), row(4, event(4), durable=False))),
            Batch((row(5, event(5), durable=False),)),
        ]
        self.assertEqual(self.listener.calls, [status, *batches])
        self.assertEqual((self.journal.status, self.journal.last), (status, 5))
        self.assertEqual([(log["account"], log["reason"]) for log in logs], [("paper", reason)])

    def test_commit_saves_metadata_only_after_a_change(self) -> None:
        """Each event would write all of it: the text of the assignments may have 768 KiB."""
        self.journal.set_metadata("note", "1")
        statements = self.connections.record()
        self.journal.append(events(3))
        self.assertFalse([each for each in statements if "meta" in each])
        self.assertTrue([each for each in statements if "INTO events" in each])

    def test_newest_time_that_is_plausible_needs_no_disk(self) -> None:
        """It may be five minutes ahead, but not a microsecond more."""
        self.journal.append([event(300)])
        self.connections.refuse_everything()
        self.assertEqual(self.journal.newest_time, time_of(300))
        self.journal.append([event(301, at=format_time(time_of(300) + 1))])
        self.assertIsNone(self.journal.newest_time)
        self.connections.refuse_everything(False)
        self.assertEqual(self.journal.newest_time, time_of(300))

    def test_read_backlog_is_part_of_log(self) -> None:
        """A new client finds every event by number, identity, time and order."""
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

    def test_append_late_event_keeps_newer_order_state(self) -> None:
        """This holds whether the newer event is on the disk or in the backlog."""
        one, two = order_id_of(1), order_id_of(2)
        self.connections.refuse_writing()
        self.journal.append([event(0, order_id=one, status="accepted")])
        self.journal.append([event(9, order_id=two, status="filled"), event(8, order_id=two)])
        self.assertEqual([state.status for state in self.journal.open_orders()], ["new"])
        self.assertEqual(self.journal.order(one), event(1).order)

    def test_retry_disk_works_again_commits_backlog(self) -> None:
        """The next retry commits in the order of the numbers. Then no more retries run."""
        self.connections.fill_disk()
        n = 2
        while self.journal.status.durable:
            n += 1
            self.journal.append(events(n))
        self.assertEqual(self.journal.status.reason, f"disk full: {self.path}")
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

    def test_retry_runs_after_a_second(self) -> None:
        """As docs/operations.md promises."""
        self.connections.refuse_writing()
        self.journal.append(events(3))
        self.connections.refuse_writing(False)
        self.clock.advance(0.75)
        self.assertFalse(self.journal.status.durable)
        self.clock.advance(0.25)
        self.assertTrue(self.journal.status.durable)

    def test_retry_fails_in_another_way_changes_reason(self) -> None:
        """The outage is the same one: it has one beginning."""
        self.connections.refuse_writing()
        self.journal.append(events(3))
        began = self.journal.status.since
        self.connections.refuse_writing(False)
        self.connections.fail("BEGIN", sqlite3.SQLITE_BUSY)
        self.clock.advance(RETRY_EVERY)
        reason = f"another program holds the file: {self.path}"
        self.assertEqual(self.journal.status, JournalStatus(False, reason, began))

    def test_retry_commits_1000_rows_in_one_transaction(self) -> None:
        """If the disk fails again, what it has accepted until then remains."""
        self.connections.refuse_writing()
        self.journal.append([event(n) for n in range(3, 2004)])
        self.connections.refuse_writing(False)
        found: list[int] = []
        self.connections.on_commit(lambda: found.append(len(self.read_disk())))
        self.clock.advance(RETRY_EVERY)
        # The first transaction saves the metadata.
        self.assertEqual(found, [2, 2, 1002, 2002])

    def test_append_disk_works_again_commits_backlog_first(self) -> None:
        """A new event does not wait for the next retry."""
        self.connections.refuse_writing()
        self.journal.append([event(n) for n in range(3, 1500)])
        self.connections.refuse_writing(False)
        self.journal.append(events(1500))
        self.assertTrue(self.listener.statuses[-1].durable)
        self.assertEqual(self.listener.calls[-1], Batch((row(1500, event(1500)),)))
        self.assertEqual([seq for seq, _ in self.read_disk()], list(range(1, 1501)))

    def test_close_disk_works_again_commits_backlog(self) -> None:
        """Closing is the last attempt to commit."""
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

    def test_close_disk_fails_in_another_way_is_final(self) -> None:
        """The last attempt began another timer, and the closed journal opened the file again."""
        self.connections.refuse_writing()
        self.journal.append([replace(event(4), payload=b"{}".ljust(1_000_000))])
        self.connections.refuse_writing(False)
        self.connections.fill_disk()
        self.journal.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.open_on_disk()

    def test_close_disk_still_fails_logs_number_of_lost_events(self) -> None:
        """The lost events were delivered without a cursor."""
        self.connections.refuse_writing()
        self.journal.append(events(3, 4))
        with capturedLogs() as logs:
            self.journal.close()
        self.assertEqual([log["count"] for log in logs], [2])
        self.journal.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        again = self.open_on_disk()
        self.assertEqual((again.epoch, again.last), (self.journal.epoch, 2))

    def test_append_event_without_order_is_committed_from_backlog(self) -> None:
        """The backlog accepts events without an order."""
        self.connections.refuse_writing()
        plain = replace(event(3), order=None)
        self.journal.append([plain])
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        self.assertEqual(self.read_disk()[2:], [(3, plain.payload)])

    def test_append_file_locked_by_another_program_uses_backlog(self) -> None:
        """The reactor does not wait for the lock."""
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.journal.append(events(3))
        reason = f"another program holds the file: {self.path}"
        self.assertEqual(self.journal.status.reason, reason)
        self.assertEqual(self.connections.query_value("PRAGMA busy_timeout"), 0)
        other.execute("COMMIT")
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)

    def test_set_metadata_disk_fails_saves_it_later(self) -> None:
        """The values can be read at once, and are saved when the disk works again."""
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

    def test_identify_another_account_discards_backlog(self) -> None:
        """Events in the backlog belong to the old log."""
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

    def test_identify_another_account_commits_backlog_if_disk_works_again(self) -> None:
        """The old log is kept, and then has every event that was delivered."""
        self.journal.identify("one")
        self.connections.refuse_writing()
        self.journal.append(events(3))
        self.connections.refuse_writing(False)
        self.journal.identify("two")
        (kept,) = self.path.parent.glob("paper.sqlite3.other-account-*")
        with closing(sqlite3.connect(kept)) as connection:
            self.assertEqual(connection.execute("SELECT max(seq) FROM events").fetchone(), (3,))

    def test_commit_undetected_duplicate_keeps_its_number(self) -> None:
        """Its number has been delivered: the log stores it a second time rather than as a hole."""
        self.connections.refuse_writing()
        self.journal.append(events(3))
        # The row is inserted by another connection, as if a failing disk had hidden it so far.
        other = sqlite3.connect(self.path)
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
    """Events beyond the limits of the backlog are delivered, and leave one hole in the log."""

    def setUp(self) -> None:
        super().setUp()
        self.connections.refuse_writing()

    def test_append_beyond_limits_shares_one_number(self) -> None:
        """Connected clients get the events. A later reader gets the hole instead."""
        self.journal.append([large(3), large(4), event(5), event(5)])
        stored, overflow = self.listener.batches
        self.assertEqual(stored, Batch((row(3, large(3), durable=False),)))
        rows = (row(4, large(4), durable=False), row(4, event(5), durable=False))
        self.assertEqual(overflow, Batch(rows, overflow=True))
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

    def test_append_after_hole_continues_numbers(self) -> None:
        """A smaller event may have room; the next event without room gets another hole."""
        self.journal.append([large(3), large(4)])
        self.journal.append(events(5))
        self.journal.append([large(6)])
        self.assertEqual([batch.last for batch in self.listener.batches], [3, 4, 5, 6])
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        self.assertEqual(
            self.read_disk()[2:],
            [(3, large(3).payload), (4, None), (5, event(5).payload), (6, None)],
        )
        self.assertEqual(self.journal.row(6), Row(6, None))
        again = self.reopen(self.journal)
        self.assertEqual((again.latest_time, again.first_since(time_of(6))), (time_of(6), 6))

    def test_append_more_events_than_limit_leaves_hole(self) -> None:
        """The number of events is limited, whatever their size."""
        small = replace(event(0), payload=b"{}")
        self.journal.append([replace(small, identity=str(n)) for n in range(MAX_EVENTS + 5)])
        self.assertEqual([len(batch.rows) for batch in self.listener.batches], [MAX_EVENTS, 5])
        self.assertEqual(self.journal.last, 2 + MAX_EVENTS + 1)


class UnreadableDiskTests(DiskCase):
    """The disk fails to read for some time."""

    def test_read_disk_fails_raises_unreadable_and_keeps_file(self) -> None:
        """A failed read is never taken for the end of the log."""
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

    def test_wrong_statement_is_an_error_of_its_own(self) -> None:
        """The disk and the file are as they were, so it would fail for ever."""
        tables = self.journal.tables
        assert tables is not None
        with self.assertRaises(sqlite3.OperationalError):
            tables.run(lambda sql: sql.execute("SELECT 1 FROM nothing"))
        self.assertTrue(self.journal.status.durable)

    def test_find_only_row_on_unreadable_disk_raises_unreadable(self) -> None:
        """Without a row on the disk, the backlog has the whole log."""
        for count in (0, 1):
            self.path = self.path.with_name(f"{count}.sqlite3")
            journal = self.open_on_disk()
            journal.append([event(n) for n in range(count)])
            self.connections.refuse_everything()
            journal.append(events(5))
            if count:
                self.assertRaises(UnreadableError, journal.find, event_id_of(5))
            else:
                self.assertEqual(journal.find(event_id_of(5)), 1)
