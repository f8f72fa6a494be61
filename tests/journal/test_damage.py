"""Tests for tradeproxy.journal.disk: a journal whose file is damaged."""

from __future__ import annotations

import os
import re
import sqlite3
from typing import Any

from twisted.logger import capturedLogs

from tests.support.journals import DiskCase, event, events, row, time_of
from tradeproxy.journal.base import Batch, JournalError, TrimmedError, UnreadableError
from tradeproxy.journal.bookmark import CHECK_EVERY
from tradeproxy.journal.disk import RETRY_EVERY
from tradeproxy.journal.file import JournalFile
from tradeproxy.journal.metadata import OPEN_SINCE, UNKNOWN
from tradeproxy.journal.retention import TRIM_EVERY


class DamagedFileTests(DiskCase):
    """A damaged file is renamed, and the log continues in a new file."""

    def test_append_to_damaged_file_commits_to_new_file(self) -> None:
        """The events are durable when they are delivered, and the numbers continue."""
        epoch = self.journal.epoch
        self.journal.set_metadata("complete from", "7")
        self.journal.identify("account")
        self.damage()
        with capturedLogs() as logs:
            self.journal.append(events(3, 4))
        self.assertEqual(self.listener.calls, [Batch((row(3, event(3)), row(4, event(4))))])
        self.assertNotEqual(self.journal.epoch, epoch)
        self.assertEqual((self.journal.first, self.journal.last), (3, 4))
        self.assertEqual(self.journal.complete_from, time_of(2) + 1)
        self.assertEqual(
            [log["aside"] for log in logs], [f"paper.sqlite3.damaged-{self.journal.epoch}"]
        )
        again = self.reopen(self.journal)
        again.identify("account")
        self.assertEqual((again.epoch, again.first, again.last), (self.journal.epoch, 3, 4))
        self.assertEqual(again.get_metadata("complete from"), "7")

    def test_trim_damaged_file_replaces_it(self) -> None:
        """The check for rows to trim can be the first to find the damage."""
        self.damage()
        self.clock.advance(TRIM_EVERY)
        self.assertTrue(self.set_aside(self.journal))
        self.assertTrue(self.journal.status.durable)

    def test_book_that_finds_damage_replaces_the_file(self) -> None:
        """Its tables are in the same file. It reads again later, in the new one."""
        self.damage()
        assert self.journal.tables is not None

        def read(connection: sqlite3.Connection) -> object:
            return connection.execute("SELECT * FROM book_meta").fetchall()

        self.assertRaises(UnreadableError, self.journal.tables.run, read)
        self.assertEqual(self.journal.tables.run(read), [])
        self.assertTrue(self.set_aside(self.journal))
        self.assertTrue(self.journal.status.durable)

    def test_read_damaged_file_raises_trimmed_and_replaces_it(self) -> None:
        """The reader learns that the rows are gone. New events can be read."""
        self.damage()
        self.assertRaises(TrimmedError, self.journal.read, 0, 10)
        self.assertTrue(self.set_aside(self.journal))
        self.assertTrue(self.journal.status.durable)
        self.journal.append(events(3))
        self.assertEqual(self.read_seqs(self.journal, 2), [3])

    def test_has_with_damaged_file_counts_earlier_events_as_duplicates(self) -> None:
        """Events up to the damage count as delivered, later ones do not."""
        self.clock.advance(10)
        self.damage()
        self.assertTrue(self.journal.has(event(1)))
        self.assertTrue(self.set_aside(self.journal))
        self.assertTrue(self.journal.has(event(2)))
        self.assertFalse(self.journal.has(event(3)))

    def test_damage_after_event_with_time_ahead_keeps_horizon_at_now(self) -> None:
        """The horizon lay ahead, and everything that a backfill found until then was dropped."""
        self.journal.append(events(90))
        self.clock.advance(10)
        self.damage()
        self.assertTrue(self.journal.has(event(2)))
        self.assertTrue(self.set_aside(self.journal))
        self.assertTrue(self.journal.has(event(10)))
        self.assertFalse(self.journal.has(event(11)))

    def test_damage_during_open_gap_sets_dedup_horizon_to_its_beginning(self) -> None:
        """Delivered events stay duplicates. Events missed in the open gap can still be added."""
        self.clock.advance(10)
        self.journal.advance_dedup_horizon(time_of(5))
        self.damage()
        self.assertTrue(self.journal.has(event(5)))
        self.assertEqual(self.journal.dedup_horizon, time_of(5))
        self.journal.set_metadata(OPEN_SINCE, str(time_of(1)))
        self.damage()
        self.assertTrue(self.journal.has(event(1)))
        self.assertEqual(self.journal.dedup_horizon, time_of(1))
        again = self.reopen(self.journal)
        self.assertFalse(again.has(event(2)))

    def test_open_damaged_file_starts_new_file(self) -> None:
        """This holds for a file of garbage, a truncated one, and one with overwritten rows."""

        def write_garbage() -> None:
            self.path.write_bytes(b"nonsense" * 1000)

        def truncate() -> None:
            self.path.write_bytes(self.path.read_bytes()[:5000])

        def overwrite_rows() -> None:
            content = self.path.read_bytes()
            self.path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))

        journal = self.journal
        for damage in (write_garbage, truncate, overwrite_rows):
            journal.append([event(n) for n in range(100)])
            journal.close()
            damage()
            before, journal = journal, self.open_on_disk()
            self.assertNotEqual(journal.epoch, before.epoch)
            self.assertTrue(self.set_aside(journal), damage)
            self.assertEqual(journal.first, journal.last + 1)
            journal.append(events(200))
            self.assertEqual(self.read_seqs(journal, journal.last - 1), [journal.last])

    def test_open_file_with_damaged_page_keeps_numbers_and_times(self) -> None:
        """The bounds can still be read, so a backfill is possible. The bookmark is older."""
        self.clock.advance(CHECK_EVERY)
        bookmark = self.path.with_suffix(".bookmark")
        older = bookmark.read_bytes()
        self.damage_page()
        bookmark.write_bytes(older)
        again = self.open_on_disk()
        self.assertTrue(self.set_aside(again))
        self.assertEqual((again.last, again.latest_time), (499, time_of(499)))

    def damage_page(self) -> None:
        """Append events, and close the journal. Only a check of the whole file finds the damage."""
        self.journal.append([event(n) for n in range(3, 500)])
        page = self.connections.query_value(
            "SELECT pageno FROM dbstat WHERE name = 'events' AND pagetype = 'leaf'"
            " ORDER BY path LIMIT 1 OFFSET 50"
        )
        self.journal.close()
        with self.path.open("r+b") as file:
            file.seek((page - 1) * 4096)
            file.write(b"\xff" * 4096)

    def test_open_checks_files_up_to_32_mib(self) -> None:
        """The check of a larger one would delay the start by more than a fraction of a second."""
        self.damage_page()
        limit = 32 * 1024 * 1024
        for size, is_checked in ((limit + 4096, False), (limit, True)):
            os.truncate(self.path, size)
            again = self.open_on_disk()
            self.assertEqual(self.set_aside(again), is_checked, size)
            again.close()

    def test_open_file_with_inconsistent_metadata_starts_new_file(self) -> None:
        """A missing row, key or table, and a value that is no number, are damage."""
        journal = self.journal
        for statement in (
            "DELETE FROM events WHERE seq = (SELECT min(seq) FROM events)",
            "DELETE FROM meta WHERE key = 'epoch'",
            "UPDATE meta SET value = 'x' WHERE key = 'begins'",
            "UPDATE meta SET value = '../x' WHERE key = 'epoch'",
            "ALTER TABLE late ADD COLUMN more",
            "ALTER TABLE late ADD COLUMN more GENERATED ALWAYS AS (time + 1)",
            "DROP TABLE orders",
            "DROP TABLE meta",
        ):
            journal.append([event(n) for n in range(5)])
            journal.close()
            with sqlite3.connect(self.path) as connection:
                connection.execute(statement)
            connection.close()
            journal = self.open_on_disk()
            journal.append(events(5))
            self.assertTrue(self.set_aside(journal), statement)

    def test_read_missing_row_replaces_file(self) -> None:
        """A reader must not get the row behind a missing one."""
        self.journal.append(events(3))
        for missing, after in ((2, 1), (4, 3)):
            self.connections.execute(f"DELETE FROM events WHERE seq = {missing}")
            self.assertRaises(TrimmedError, self.journal.read, after, 10)
            self.assertTrue(self.set_aside(self.journal))
            self.journal.append(events(4))

    def test_read_row_that_is_no_event_replaces_file(self) -> None:
        """SQLite has no checksums: what it returns may be damaged.

        A client closed its connection for such an event, resumed before it, and got it again.
        Bytes of another type ended the connections of all clients that came there.
        """
        spoiled = "x'7bff7d'", "x'7b'", "x'5b5d'", "x''", "'{}'", "5"
        for seq, value in enumerate(spoiled, self.journal.last + 1):
            self.journal.append(events(seq))
            self.connections.execute(f"UPDATE events SET payload = {value} WHERE seq = {seq}")
            self.assertRaises(TrimmedError, self.journal.read, seq - 1, 10)
            self.assertTrue(self.set_aside(self.journal), value)

    def test_row_before_missing_one_can_be_read(self) -> None:
        """The file is replaced once a reader needs the missing one."""
        self.journal.append(events(3, 4))
        self.connections.execute("DELETE FROM events WHERE seq = 3")
        self.assertEqual(self.journal.row(2), row(2, event(2)))

    def test_close_after_damage_leaves_no_timer(self) -> None:
        """The new epoch was still to be announced."""
        self.damage()
        self.assertRaises(TrimmedError, self.journal.read, 0, 1)
        self.journal.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_append_number_already_in_use_replaces_file(self) -> None:
        """Another program has written to the file. The new event must not be lost."""
        self.connections.execute("INSERT INTO events (seq, received) VALUES (3, 0)")
        self.journal.append(events(3))
        self.assertEqual(self.listener.calls, [Batch((row(3, event(3)),))])
        self.assertTrue(self.set_aside(self.journal))

    def test_append_without_possible_new_file_delivers_and_commits_later(self) -> None:
        """The directory is missing too. The events are committed once it is back."""
        self.clock.advance(10)
        self.damage()
        moved = self.path.parent.rename(self.path.parent.with_name("gone"))
        self.journal.append(events(3))
        self.assertEqual([status.durable for status in self.listener.statuses], [False])
        reason = f"the file is damaged; {self.path.parent}: No such file or directory"
        self.assertEqual(self.journal.status.reason, reason)
        self.assertEqual(self.listener.batches, [Batch((row(3, event(3), durable=False),))])
        self.assertEqual((self.journal.first, self.read_seqs(self.journal, 2)), (3, [3]))
        self.assertRaises(TrimmedError, self.journal.read, 0, 1)
        self.assertTrue(self.journal.has(event(1)))
        self.clock.advance(RETRY_EVERY)
        self.assertFalse(self.journal.status.durable)
        moved.rename(self.path.parent)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertTrue(self.set_aside(self.journal))
        self.assertEqual([seq for seq, _ in self.read_disk()], [3])

    def test_retry_finds_damage_commits_backlog_to_new_file(self) -> None:
        """The events of the backlog keep their numbers, and are the first in the new file."""
        self.connections.refuse_writing()
        self.journal.append(events(3, 4))
        self.use_next_number()
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.set_aside(self.journal))
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual((self.journal.first, self.read_seqs(self.journal, 2)), (3, [3, 4]))

    def use_next_number(self) -> None:
        """Insert a row from another connection, with a number that the backlog has assigned."""
        other = sqlite3.connect(self.path)
        other.execute("INSERT INTO events (seq, received) VALUES (4, 0)")
        other.commit()
        other.close()

    def test_identify_another_account_without_possible_new_file_spares_old_file(self) -> None:
        """Nothing is written to the old account's file, even after its directory is back."""
        self.journal.identify("one")
        moved = self.path.parent.rename(self.path.parent.with_name("away"))
        self.journal.identify("two")
        reason = f"{self.path.parent}: No such file or directory"
        self.assertEqual(self.journal.status.reason, reason)
        self.journal.append(events(1))
        moved.rename(self.path.parent)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual([seq for seq, _ in self.read_disk()], [3])
        again = self.reopen(self.journal)
        again.identify("two")
        self.assertEqual((again.epoch, again.last), (self.journal.epoch, 3))

    def test_append_to_new_files_that_are_damaged_too_begins_two(self) -> None:
        """Each of them is kept; more attempts would only fill the disk. A retry follows."""
        announced: list[str] = []
        self.journal.on_new_epoch = lambda: announced.append(self.journal.epoch)
        self.connections.fail("INSERT INTO events", sqlite3.SQLITE_CORRUPT)
        self.journal.append(events(3))
        reason = f"the file is damaged, and a new one too: {self.path}"
        self.assertEqual([status.reason for status in self.listener.statuses], [reason])
        self.assertEqual(self.listener.batches, [Batch((row(3, event(3), durable=False),))])
        self.assertEqual(len(list(self.path.parent.glob("*.damaged-*"))), 2)
        due = min(call.getTime() for call in self.clock.getDelayedCalls())
        self.assertEqual(due, self.clock.seconds())  # the reactor accepts no time in the past
        self.clock.advance(0)
        self.assertEqual(announced, [self.journal.epoch])
        self.connections.fail("INSERT INTO events", None)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual([seq for seq, _ in self.read_disk()], [3])


class UnusableNewFileTests(DiskCase):
    """The old file is damaged, and no new one is possible for a while."""

    def setUp(self) -> None:
        super().setUp()
        self.failures = 0
        self.journal.identify("one")
        self.journal.close()
        self.journal = self.open(connect=self.connect, max_spooled=0)

    def connect(self, path: str, **options: Any) -> sqlite3.Connection:
        connection = self.connections(path, **options)
        if self.failures:
            self.failures -= 1
            self.connections.refuse_writing()
        return connection

    def damage_and_append(self, failures: int) -> None:
        """Damage the file and append event 3, while a number of new files cannot be written."""
        self.damage()
        self.failures = failures
        self.journal.append(events(3))
        self.assertFalse(self.journal.status.durable)

    def list_kept(self) -> list[str]:
        """Return the reasons in the names of the databases that were set aside."""
        names = [each.name for each in self.path.parent.iterdir()]
        found = [re.fullmatch(r"paper\.sqlite3\.(.+)-[0-9a-f]{16}", name) for name in names]
        return sorted(match[1] for match in found if match)

    def test_new_file_not_writable_retries(self) -> None:
        """As on a full disk: the old file is renamed at once, the new one is written later."""
        self.damage_and_append(2)
        reason = f"the file is damaged; the file is read-only: {self.path}"
        self.assertEqual(self.journal.status.reason, reason)
        self.clock.advance(RETRY_EVERY)
        self.assertFalse(self.journal.status.durable)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual([seq for seq, _ in self.read_disk()], [3])

    def test_another_account_sets_new_file_aside_as_its_own(self) -> None:
        """It is no other program's: it was begun here, although it could not be opened."""
        self.damage_and_append(3)
        self.journal.identify("two")
        self.assertFalse(self.journal.status.durable)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual(self.list_kept(), ["damaged", "other-account"])

    def test_lock_lost_meanwhile_spares_file_of_another_proxy(self) -> None:
        """The other one has begun a journal of its own."""
        self.damage_and_append(1)
        self.path.with_suffix(".lock").unlink()
        other = JournalFile(self.path)
        other.acquire()
        self.addCleanup(other.release)
        self.clock.advance(RETRY_EVERY)
        reason = f"{self.path}: another tradeproxy uses it"
        self.assertEqual(self.journal.status.reason, reason)
        self.assertEqual(self.path.read_bytes(), b"")

    def test_directory_returns_with_another_proxys_lock_keeps_its_file(self) -> None:
        """The file is no longer this proxy's. It was renamed while the other one used it."""
        moved = self.path.parent.with_name("away")
        self.damage()
        self.path.parent.rename(moved)
        self.journal.append(events(3))
        (moved / "paper.lock").unlink()
        other = JournalFile(moved / "paper.sqlite3")
        other.acquire()
        self.addCleanup(other.release)
        moved.rename(self.path.parent)
        self.clock.advance(RETRY_EVERY)
        self.assertEqual(self.list_kept(), [])
        reason = f"{self.path}: another tradeproxy uses it"
        self.assertEqual(self.journal.status.reason, reason)

    def test_another_account_while_directory_is_away_keeps_reason_in_name(self) -> None:
        """The file was damaged first. Its new name has the epoch that follows it."""
        moved = self.path.parent.with_name("away")
        self.damage()
        self.path.parent.rename(moved)
        self.journal.append(events(3))
        self.journal.identify("two")
        moved.rename(self.path.parent)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.set_aside(self.journal))

    def test_new_file_impossible_at_start_keeps_gap_for_next_start(self) -> None:
        """Then no damaged file shows that there was a journal: it has been renamed."""
        self.journal.close()
        self.path.with_suffix(".bookmark").unlink()
        self.path.write_bytes(b"nonsense" * 1000)
        self.failures = 2  # the damaged file is opened too
        self.assertRaises(JournalError, self.open, connect=self.connect)
        self.assertEqual(self.list_kept(), ["damaged"])
        journal = self.open(connect=self.connect, max_spooled=0)
        self.assertEqual(journal.get_metadata(OPEN_SINCE), UNKNOWN)
