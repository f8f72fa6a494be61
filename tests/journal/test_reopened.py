"""Tests for tradeproxy.journal.disk: looks at the open files, and what a new look finds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from tests.support.disks import list_descriptors
from tests.support.journals import DiskCase, events
from tradeproxy.journal.disk import RETRY_EVERY, WATCH_EVERY


class ReopenedFileTests(DiskCase):
    """The database is opened again when only its write-ahead log is gone."""

    def setUp(self) -> None:
        super().setUp()
        self.epoch = self.journal.epoch
        self.log = self.path.with_name("paper.sqlite3-wal")

    def lose_log(self) -> None:
        self.log.unlink()
        self.clock.advance(WATCH_EVERY)

    def assert_same_log(self) -> None:
        """Assert that it has events 1 to 3 after the third one is appended."""
        self.assertTrue(self.journal.status.durable)
        self.journal.append(events(3))
        self.assertEqual(self.journal.epoch, self.epoch)
        self.assertEqual([seq for seq, _ in self.read_disk()], [1, 2, 3])

    def test_loss_is_noticed_within_two_seconds(self) -> None:
        """As docs/operations.md promises, for a new journal and for one that was opened again."""
        for _ in range(2):
            epoch = self.journal.epoch
            self.path.unlink()
            self.clock.advance(1.75)
            self.assertEqual(self.journal.epoch, epoch)
            self.clock.advance(0.25)
            self.assertNotEqual(self.journal.epoch, epoch)
            self.journal.close()
            self.journal = self.open_on_disk()

    def test_log_lost_after_database_keeps_new_database(self) -> None:
        """The name for the old database must not be given to the new one."""
        self.path.unlink()
        self.clock.advance(WATCH_EVERY)
        self.epoch = self.journal.epoch
        self.journal.append(events(3))
        self.lose_log()
        self.journal.append(events(4))
        self.assertEqual(self.journal.epoch, self.epoch)
        self.assertEqual([seq for seq, _ in self.read_disk()], [3, 4])

    def test_files_of_former_connections_are_closed(self) -> None:
        """The process would run out of descriptors."""
        before = len(list_descriptors(self.path))
        for _ in range(3):
            self.lose_log()
            self.path.unlink()
            self.clock.advance(WATCH_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual(len(list_descriptors(self.path)), before)

    def test_lock_that_cannot_be_made_is_reported(self) -> None:
        """Nothing is written to the database until the journal is locked again."""
        lock = self.path.with_suffix(".lock")
        lock.unlink()
        lock.mkdir()
        self.lose_log()
        self.assertEqual(self.journal.status.reason, f"{self.path}: {lock} is not a regular file")
        lock.rmdir()
        self.clock.advance(RETRY_EVERY)
        self.assert_same_log()

    def test_last_row_that_another_program_removed_begins_new_log(self) -> None:
        """The number of this row would be assigned twice."""
        is_removed = False

        def connect(path: str, **options: Any) -> sqlite3.Connection:
            if is_removed:
                with closing(sqlite3.connect(path)) as other, other:
                    other.execute("DELETE FROM events WHERE seq = 2")
            return self.connections(path, **options)

        self.journal.close()
        self.journal = self.open(connect=connect)
        self.journal.set_metadata("complete from", "7")
        is_removed = True
        self.lose_log()
        self.assertTrue(self.set_aside(self.journal))

    def test_directory_that_cannot_be_read_is_no_loss(self) -> None:
        """A loop of symbolic links, where even root cannot read. The next look tells."""
        moved = self.path.parent.rename(self.path.parent.with_name("moved"))
        self.path.parent.symlink_to(self.path.parent.name)
        self.clock.advance(WATCH_EVERY)
        self.path.parent.unlink()
        moved.rename(self.path.parent)
        self.assert_same_log()
