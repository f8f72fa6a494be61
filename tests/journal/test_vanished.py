"""Tests for tradeproxy.journal.watch: files that disappear under the running proxy."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from tests.support.journals import DiskCase, dates_of, event, events, journal_at, row, time_of
from tradeproxy.journal.base import Batch, JournalError, TrimmedError, UnreadableError
from tradeproxy.journal.bookmark import WRITE_EVERY
from tradeproxy.journal.disk import RETRY_EVERY, WATCH_EVERY
from tradeproxy.journal.file import JournalFile
from tradeproxy.journal.watch import FileWatch


class VanishedCase(DiskCase):
    """A base class with a journal of two events, and its epoch."""

    def setUp(self) -> None:
        super().setUp()
        self.epoch = self.journal.epoch
        self.directory = self.path.parent
        self.announced = 0
        self.journal.on_new_epoch = self.count_epoch

    def count_epoch(self) -> None:
        self.announced += 1

    def side(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def look(self) -> list[str]:
        """Let the proxy look at its files, and return the paths that it logs as lost."""
        with capturedLogs() as logs:
            self.clock.advance(WATCH_EVERY)
            self.clock.advance(0)
        return [log["path"] for log in logs if "path" in log]

    def assert_new_log(self) -> None:
        """Assert that a new log continues, in a file of its own, without loss or repeat."""
        self.assertNotEqual(self.journal.epoch, self.epoch)
        self.assertEqual(self.announced, 1)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual((self.journal.first, self.journal.last), (3, 2))
        self.assertRaises(TrimmedError, self.journal.read, 0, 1)
        self.assertTrue(self.journal.has(event(2)))
        self.journal.append(events(3))
        self.assertEqual(self.listener.batches, [Batch((row(3, event(3)),))])
        self.assertEqual(self.read_disk(), [(3, event(3).payload)])
        self.assertRaises(JournalError, JournalFile(self.path).acquire)
        again = self.reopen(self.journal)
        self.assertEqual((again.epoch, self.read_seqs(again, 2)), (self.journal.epoch, [3]))


class LostDatabaseTests(VanishedCase):
    """The database is gone: SQLite would go on writing to a file without a name."""

    def test_file_removed_begins_new_log(self) -> None:
        """The log line names the path."""
        self.path.unlink()
        self.assertEqual(self.look(), [str(self.path)])
        self.assertEqual(self.listener.statuses, [])
        self.assert_new_log()

    def test_file_renamed_away_begins_new_log(self) -> None:
        """Nothing is written to it any more; its write-ahead log is kept under another name."""
        moved = self.path.rename(self.path.with_name("moved"))
        log = self.side("-wal").read_bytes()
        content = moved.read_bytes()
        self.assertEqual(self.look(), [str(self.path)])
        self.assertEqual(self.side(f".lost-{self.journal.epoch}-wal").read_bytes(), log)
        self.assert_new_log()
        self.assertEqual(moved.read_bytes(), content)

    def test_directory_removed_is_made_again(self) -> None:
        """The new lock is taken: one on a file without a name protects nothing."""
        shutil.rmtree(self.directory)
        self.assertEqual(self.look(), [str(self.path)])
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)
        self.clock.advance(WRITE_EVERY)
        self.assertTrue(self.path.with_suffix(".bookmark").exists())
        self.assert_new_log()

    def test_directory_renamed_away_begins_new_log(self) -> None:
        """What is in it stays as it is."""
        moved = self.directory.rename(self.directory.with_name("moved"))
        content = {path: path.read_bytes() for path in moved.iterdir()}
        self.look()
        self.assert_new_log()
        self.assertEqual({path: path.read_bytes() for path in moved.iterdir()}, content)

    def test_directory_replaced_by_file_retries_every_second(self) -> None:
        """The status names the path until a new log is possible. No event is lost meanwhile."""
        shutil.rmtree(self.directory)
        self.directory.write_text("")
        self.assertEqual(self.look(), [str(self.path)])
        [status] = self.listener.statuses
        self.assertEqual(status.durable, False)
        self.assertEqual(status.reason, f"{self.path}: {self.directory} is not a directory")
        self.journal.append(events(3))
        assert self.journal.tables is not None
        self.assertFalse(self.journal.tables.is_busy)
        with self.assertRaises(UnreadableError):  # the book asks again
            self.journal.tables.run(lambda sql: sql.execute("SELECT 1"))
        with capturedLogs() as logs:
            self.clock.pump([RETRY_EVERY] * 5)
        self.assertEqual(logs, [])
        self.directory.unlink()
        self.clock.advance(RETRY_EVERY)
        self.assertEqual([each.durable for each in self.listener.statuses], [False, True])
        self.assertEqual(self.announced, 1)
        self.assertEqual(self.listener.batches, [Batch((row(3, event(3), durable=False),))])
        self.assertEqual([seq for seq, _ in self.read_disk()], [3])

    def test_directory_not_writable_retries_every_second(self) -> None:
        """/proc is not writable even for root. Another reason is reported when it comes up."""
        moved = self.directory.rename(self.directory.with_name("moved"))
        self.directory.symlink_to("/proc/self")
        self.look()
        [status] = self.listener.statuses
        self.assertRegex(status.reason, f"^{self.path}: {self.directory}/paper.lock: ")
        self.directory.unlink()
        self.directory.write_text("")
        self.clock.advance(RETRY_EVERY)
        self.assertRegex(self.journal.status.reason, "[Nn]ot a directory")
        self.assertEqual(self.journal.status.since, status.since)
        self.directory.unlink()
        moved.rename(self.directory)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        # The old journal came back with its directory. It is another epoch's now.
        self.assertTrue(self.side(f".lost-{self.journal.epoch}").exists())
        self.assert_new_log()

    def test_backup_restored_under_running_proxy_is_set_aside(self) -> None:
        """It is neither deleted nor written to, and so is its write-ahead log."""
        backup = self.path.with_name("backup")
        with sqlite3.connect(self.path) as connection:
            connection.execute("VACUUM INTO ?", (str(backup),))
        connection.close()
        content = backup.read_bytes()
        backup.rename(self.path)
        own_log = self.side("-wal").read_bytes()
        foreign_shm = self.path.with_name("other")
        foreign_shm.write_bytes(b"shared memory")
        foreign_shm.rename(self.side("-shm"))
        with capturedLogs() as logs:
            self.look()
        kept = f"paper.sqlite3.foreign-{self.journal.epoch}"
        self.assertEqual([log["aside"] for log in logs if "aside" in log], [kept])
        self.assertEqual(self.path.with_name(kept).read_bytes(), content)
        self.assertEqual(self.path.with_name(kept + "-shm").read_bytes(), b"shared memory")
        self.assertEqual(self.side(f".lost-{self.journal.epoch}-wal").read_bytes(), own_log)
        self.assert_new_log()

    def test_file_removed_again_and_again_keeps_every_leftover(self) -> None:
        """Names are never used twice."""
        for _ in range(3):
            self.path.unlink()
            self.look()
        self.assertEqual(len(list(self.directory.glob("*.lost-*-wal"))), 3)
        self.assertEqual(self.announced, 3)

    def test_file_removed_before_close_begins_new_log(self) -> None:
        """The next start finds it, and continues."""
        self.clock.advance(10)
        self.path.unlink()
        self.journal.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        again = self.open_on_disk()
        self.assertEqual(again.epoch, self.journal.epoch)
        self.assertTrue(again.has(event(2)))

    def test_file_removed_while_disk_fails_begins_new_log(self) -> None:
        """A retry must not take a write to a file without a name for a success."""
        self.connections.refuse_writing()
        self.journal.append(events(3))
        self.path.unlink()
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertNotEqual(self.journal.epoch, self.epoch)
        self.assertEqual([seq for seq, _ in self.read_disk()], [3])


class LostLockTests(VanishedCase):
    """The lock file is gone: another proxy could open the same journal."""

    def test_lock_file_removed_is_locked_again(self) -> None:
        """Nothing else changes."""
        self.path.with_suffix(".lock").unlink()
        self.assertEqual(self.look(), [])
        self.assertRaises(JournalError, JournalFile(self.path).acquire)
        self.assertEqual(self.journal.epoch, self.epoch)

    def test_another_proxy_has_the_new_lock_writes_nothing(self) -> None:
        """The status says so. When the other one ends, a new log begins."""
        self.path.with_suffix(".lock").unlink()
        other = JournalFile(self.path)
        other.acquire()
        self.look()
        self.assertEqual(self.journal.status.reason, f"{self.path}: another tradeproxy uses it")
        content = self.path.read_bytes()
        self.journal.append(events(3))
        self.clock.advance(RETRY_EVERY)
        self.assertEqual(self.path.read_bytes(), content)
        other.release()
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual([seq for seq, _ in self.read_disk()], [3])
        self.assertEqual(self.side(f".lost-{self.journal.epoch}").read_bytes(), content)


class LostWriteAheadLogTests(VanishedCase):
    """Only the write-ahead log is gone. Its events would be lost with the process."""

    def assert_same_log(self) -> None:
        self.assertEqual((self.journal.epoch, self.announced), (self.epoch, 0))
        self.assertTrue(self.journal.status.durable)
        self.assertTrue(self.side("-wal").exists())
        self.journal.append(events(3))
        self.assertEqual(self.read_seqs(self.journal, 0), [1, 2, 3])
        self.assertEqual([seq for seq, _ in self.read_disk()], [1, 2, 3])

    def test_write_ahead_log_removed_loses_nothing(self) -> None:
        """The database gets its events, and a new one begins. The epoch stays."""
        self.side("-wal").unlink()
        self.assertEqual(self.look(), [str(self.side("-wal"))])
        self.assertEqual(self.listener.statuses, [])
        self.assert_same_log()
        self.assertEqual(self.look(), [])

    def test_shared_memory_removed_loses_nothing(self) -> None:
        """Other programs would make another one, and write over each other."""
        self.side("-shm").unlink()
        self.assertEqual(self.look(), [str(self.side("-shm"))])
        self.assert_same_log()

    def test_another_file_in_its_place_is_set_aside(self) -> None:
        """SQLite deletes whatever has the name when it closes the database."""
        self.side("-wal").unlink()
        for content in (b"one", b"two"):
            self.side("-wal").unlink(missing_ok=True)
            self.side("-wal").write_bytes(content)
            self.look()
        kept = sorted(self.directory.glob("*.foreign-*-wal"))
        self.assertEqual([each.read_bytes() for each in kept], [b"one", b"two"])
        name = f"paper.sqlite3.foreign-{self.epoch}"
        self.assertEqual([each.name for each in kept], [f"{name}-wal", f"{name}.2-wal"])
        self.assert_same_log()

    def test_reader_in_the_way_is_reported_and_waited_for(self) -> None:
        """The database cannot get the events while another program reads an older state."""
        reader = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(reader.close)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM events").fetchall()
        self.journal.append(events(3))
        self.side("-wal").unlink()
        self.assertEqual(self.look(), [str(self.side("-wal"))])
        reason = f"another program holds the file: {self.path}"
        self.assertEqual([status.reason for status in self.listener.statuses], [reason])
        with capturedLogs() as logs:
            self.clock.pump([RETRY_EVERY] * 3)
        self.assertEqual(logs, [])
        self.journal.append(events(4))
        reader.execute("COMMIT")
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual(self.journal.epoch, self.epoch)
        self.assertEqual([seq for seq, _ in self.read_disk()], [1, 2, 3, 4])


class FileWatchTests(VanishedCase):
    """Whether a file is still the one that was open."""

    def test_look_at_files_in_place_changes_nothing(self) -> None:
        """Neither other files nor the work of SQLite itself is a loss."""
        inode = self.path.stat().st_ino
        for n in range(3, 40):
            self.journal.append([event(n * 100 + k) for k in range(100)])
            self.connections.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with capturedLogs() as logs:
                self.clock.advance(WATCH_EVERY)
            self.assertEqual([log for log in logs if log["log_level"] > LogLevel.info], [])
        self.assertEqual((self.journal.epoch, self.path.stat().st_ino), (self.epoch, inode))

    def test_find_lost_names_first_lost_file(self) -> None:
        """The database comes first. Without an open database, nothing is lost."""
        watch = FileWatch(self.path)
        self.assertIsNone(watch.find_lost())
        self.assertFalse(watch.is_foreign(""))
        watch.remember()
        self.assertIsNone(watch.find_lost())
        self.side("-wal").write_bytes(self.side("-wal").read_bytes())
        self.assertIsNone(watch.find_lost())
        self.side("-wal").unlink()
        self.assertEqual(watch.find_lost(), self.side("-wal"))
        self.path.unlink()
        self.assertEqual(watch.find_lost(), self.path)
        self.path.write_bytes(b"")
        self.assertTrue(watch.is_foreign(""))

    def test_find_lost_leaves_out_rollback_journal_and_closed_database(self) -> None:
        """SQLite removes the rollback journal itself. A closed database is not in use."""
        self.side("-journal").write_bytes(b"")
        watch = FileWatch(self.path)
        watch.remember()
        self.side("-journal").unlink()
        self.assertIsNone(watch.find_lost())
        watch.forget()
        self.path.unlink()
        self.assertIsNone(watch.find_lost())
        self.assertFalse(watch.is_foreign(""))

    def test_lock_that_cannot_be_made_keeps_database(self) -> None:
        """The database is in place. It was set aside, and every cursor became invalid."""
        lock = self.path.with_suffix(".lock")
        lock.unlink()
        lock.mkdir()
        epoch = self.journal.epoch
        self.clock.advance(WATCH_EVERY)
        lock.rmdir()
        self.clock.pump([RETRY_EVERY, WATCH_EVERY])
        self.assertEqual(self.journal.epoch, epoch)
        self.assertTrue(lock.is_file())

    def test_another_account_while_directory_is_lost_continues_once_it_can(self) -> None:
        """The directory is made again whatever begins the new log."""
        self.journal.identify("one")
        directory = self.path.parent
        shutil.rmtree(directory)
        directory.write_text("")
        self.clock.advance(WATCH_EVERY)
        self.journal.identify("two")
        directory.unlink()
        self.clock.pump([RETRY_EVERY] * 5)
        self.assertTrue(self.journal.status.durable, self.journal.status)

    def test_bookmark_is_left_to_process_with_lock(self) -> None:
        """Its log goes on, and this one's does not."""
        self.path.with_suffix(".lock").unlink()
        clock = Clock()
        other = journal_at(self.path, clock, dates=dates_of(self.clock))
        other.open()
        self.addCleanup(other.close)
        self.clock.advance(WATCH_EVERY)
        self.assertIn("another tradeproxy", self.journal.status.reason)
        other.append(events(20))
        clock.advance(WRITE_EVERY)
        self.journal.append(events(5))
        self.clock.pump([1.0] * 12)
        bookmark = json.loads(self.path.with_suffix(".bookmark").read_text())
        self.assertEqual(bookmark["latest"], str(time_of(20)))
