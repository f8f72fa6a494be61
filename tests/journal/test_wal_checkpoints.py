"""Tests for tradeproxy.journal.wal_checkpoints: what a thread does for COMMIT, and when."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.disks import list_descriptors
from tests.support.journals import (
    NOW,
    Connections,
    DiskCase,
    SqliteCase,
    entries,
    event,
    memory_journal,
)
from tests.support.threads import Threads
from tradeproxy.journal.disk import RETRY_EVERY, WATCH_EVERY
from tradeproxy.journal.retention import TRIM_AGAIN, TRIM_EVERY
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.journal.store import Store
from tradeproxy.journal.wal_checkpoints import CHANGES, MAX_PAGES, WalCheckpoints

DUE = CHANGES // 2
"""Events after which a checkpoint is due: each is a row of two tables."""


class ReportingLock:
    """A lock that calls a function when it has to be waited for."""

    def __init__(self, on_wait: Callable[[], None]) -> None:
        self._lock = Lock()
        self._on_wait = on_wait

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._on_wait()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class ThreadedCase(DiskCase):
    """A base class with a journal whose checkpoints wait for the test."""

    def setUp(self) -> None:
        self.threads = Threads()
        self.next = 3
        super().setUp()

    def open_on_disk(self, **options: Any) -> SqliteJournal:
        return super().open_on_disk(in_thread=self.threads, **options)

    def append(self, count: int = DUE) -> None:
        """Append new events in batches of a thousand."""
        end = self.next + count
        while self.next < end:
            first, self.next = self.next, min(self.next + 1000, end)
            self.journal.append([event(n) for n in range(first, self.next)])

    def count_in_database(self) -> int:
        """Return how many rows the database has without its write-ahead log."""
        copy = Path(self.mktemp())
        copy.write_bytes(self.path.read_bytes())
        with closing(sqlite3.connect(copy)) as connection:
            try:
                [count] = connection.execute("SELECT count(*) FROM events").fetchone()
            except sqlite3.OperationalError:  # not even a table
                return 0
        return int(count)

    def log_size(self) -> int:
        return self.path.with_name(self.path.name + "-wal").stat().st_size


class WhenDueTests(ThreadedCase):
    """COMMIT copied a thousand pages and synced the disk twice, while all clients waited."""

    def test_commit_leaves_checkpoint_to_thread(self) -> None:
        """At 200 events a second, one event in a hundred was 5 to 34 ms late."""
        self.append()
        self.assertEqual(self.count_in_database(), 0)
        self.threads.run()
        self.assertEqual(self.count_in_database(), 2 + DUE)

    def test_few_changes_begin_none(self) -> None:
        """Each one syncs the disk."""
        self.append(DUE // 2)
        self.clock.advance(60)
        self.assertEqual(self.threads.waiting, [])

    def test_one_runs_at_a_time(self) -> None:
        """The next one begins with the first commit after the end of one, if it is due."""
        self.append(3 * DUE)
        self.assertEqual(len(self.threads.waiting), 1)
        self.threads.run()
        self.append(1)
        self.assertEqual(len(self.threads.waiting), 1)
        self.threads.run()
        self.append(1)
        self.assertEqual(len(self.threads.waiting), 0)

    def test_thread_that_fails_ends_checkpoint(self) -> None:
        """The next one begins nevertheless, and the log says what was wrong."""
        self.append()
        self.threads.waiting.pop()[1].errback(RuntimeError())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.append()
        self.assertEqual(len(self.threads.waiting), 1)

    def test_thread_that_cannot_be_started_fails_no_commit(self) -> None:
        """The error left the COMMIT, behind which nothing was delivered, and no other one began."""
        self.threads.error = RuntimeError("can't start new thread")
        self.append()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertTrue(self.journal.status.durable)
        self.threads.error = None
        self.append()
        self.assertEqual(len(self.threads.waiting), 1)

    def test_changes_of_book_count(self) -> None:
        """Its tables are in the same file."""

        def change(connection: sqlite3.Connection) -> None:
            rows = ((str(n), "") for n in range(CHANGES))
            connection.executemany("INSERT INTO book_meta VALUES (?, ?)", rows)

        assert self.journal.tables is not None
        self.journal.tables.run(change, writes=True)
        self.assertEqual(len(self.threads.waiting), 1)

    def test_changes_of_trimming_count(self) -> None:
        """The next event may come hours later. Until then the log stayed as large as it was."""
        self.append(3 * DUE)
        self.threads.run()
        self.reopen(self.journal, in_thread=self.threads, max_events=1)
        while not self.threads.waiting:
            self.clock.advance(TRIM_AGAIN)
            self.assertLess(self.clock.seconds(), NOW + 2 * TRIM_EVERY)

    def test_book_is_told_while_one_runs(self) -> None:
        """Its build then reads on, and leaves the disk to the checkpoint."""
        assert self.journal.tables is not None
        self.assertFalse(self.journal.tables.is_busy)
        self.append()
        self.assertTrue(self.journal.tables.is_busy)
        self.threads.run()
        self.assertFalse(self.journal.tables.is_busy)

    def test_log_begins_again_after_checkpoint(self) -> None:
        """Its size stays what one round of changes needs."""
        self.append()
        self.threads.run()
        size = self.log_size()
        for _ in range(5):
            self.append()
            self.threads.run()
        self.assertLess(self.log_size(), 1.5 * size)

    def test_thread_that_never_comes_bounds_log(self) -> None:
        """All threads may wait for a network file system. Then COMMIT does it, as before."""
        assert self.journal.tables is not None
        query = "PRAGMA wal_autocheckpoint"
        pages = self.journal.tables.run(lambda sql: sql.execute(query).fetchone())
        self.assertEqual(pages, (8000,))
        for _ in range(3 * MAX_PAGES // 1000):
            self.append(1000)
        self.assertLess(self.log_size(), 1.25 * MAX_PAGES * 4096)
        self.assertGreater(self.count_in_database(), 0)

    def test_journal_in_memory_begins_none(self) -> None:
        """It has no file."""
        journal = memory_journal(self.clock, in_thread=self.threads)
        journal.append([event(n) for n in range(1, 2 * DUE)])
        journal.close()
        self.assertEqual(self.threads.waiting, [])


class ChangedFileTests(ThreadedCase):
    """Files that are closed, lost, replaced or faulty while a checkpoint waits for its thread."""

    def test_checkpoint_after_close_does_nothing(self) -> None:
        """Another process may have the journal by then."""
        self.append()
        self.journal.close()
        content = self.path.read_bytes()
        self.threads.run()
        self.assertEqual(self.path.read_bytes(), content)
        self.assertEqual(list_descriptors(self.path), [])

    def test_another_file_at_the_path_is_left_alone(self) -> None:
        """It may be any program's database, with a write-ahead log of its own."""
        self.append()
        self.path.rename(self.path.with_name("moved"))
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("CREATE TABLE theirs (x)")
        content = self.path.read_bytes()
        self.threads.run()
        self.assertEqual(self.path.read_bytes(), content)
        self.clock.advance(WATCH_EVERY)
        self.threads.run()
        foreign = self.path.with_name(f"paper.sqlite3.foreign-{self.journal.epoch}")
        self.assertEqual(foreign.read_bytes(), content)
        self.append()
        self.threads.run()
        self.assertEqual(self.count_in_database(), DUE)

    def test_lost_log_is_opened_again_by_both_connections(self) -> None:
        """Otherwise the thread would write to a file without a name."""
        open_files = len(list_descriptors(self.path))
        self.append()
        self.path.with_name(self.path.name + "-wal").unlink()
        self.clock.advance(WATCH_EVERY)
        self.threads.run()
        self.append()
        self.threads.run()
        self.assertTrue(self.journal.status.durable)
        self.assertEqual(self.count_in_database(), 2 + 2 * DUE)
        self.assertEqual(len(list_descriptors(self.path)), open_files)

    def test_damaged_file_is_replaced(self) -> None:
        """The new file has its own checkpoints."""
        self.append()
        self.threads.run()
        with self.path.open("r+b") as file:
            file.truncate(4096 * 3)
        self.journal.close()
        self.journal = self.open_on_disk()
        self.assertTrue(self.set_aside(self.journal))
        self.append()
        self.threads.run()
        self.assertEqual(self.count_in_database(), DUE)

    def test_error_of_checkpoint_is_left_to_next_commit(self) -> None:
        """SQLite ignores it in COMMIT too. The rows are in the log, and the next round retries."""
        for code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CORRUPT):
            self.connections.fail("PRAGMA wal_checkpoint", code)
            self.append()
            self.threads.run()
            self.connections.fail("PRAGMA wal_checkpoint", None)
            self.assertEqual((self.listener.statuses, self.count_in_database()), ([], 0))
        self.append()
        self.threads.run()
        self.assertEqual(self.count_in_database(), 2 + 4 * DUE)

    def test_second_connection_that_cannot_be_opened_is_retried(self) -> None:
        """No descriptor may be left. The first connection is closed again."""
        self.path.unlink()
        self.connections.fail("PRAGMA schema_version", sqlite3.SQLITE_CANTOPEN)
        self.clock.advance(WATCH_EVERY)
        self.assertFalse(self.journal.status.durable)
        self.assertEqual(list_descriptors(self.path), [])
        self.connections.fail("PRAGMA schema_version", None)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)


class SecondConnectionTests(SqliteCase):
    """The connection of the thread."""

    def test_both_connections_sync_alike(self) -> None:
        """On macOS, the checkpoint of a journal with `full` must flush the drive's cache."""
        for full_sync in (True, False):
            connections = Connections()
            journal = self.open(in_thread=Threads(), connect=connections, full_sync=full_sync)
            found = [
                connections.query_value(f"PRAGMA {name}") for name in ("synchronous", "fullfsync")
            ]
            self.assertEqual(found, [1 + full_sync, full_sync])
            self.assertEqual(connections.query_value("PRAGMA wal_autocheckpoint"), 1000)
            journal.close()


class RunningTests(SynchronousTestCase):
    """A checkpoint that runs in another thread."""

    def setUp(self) -> None:
        path = Path(self.mktemp())
        self.started, self.may_end = Event(), Event()
        self.ended = False
        first, self.second = (
            sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
            for _ in range(2)
        )
        self.threads = Threads()
        self.store = Store(first, full_sync=False, open_checkpoints=self.open_checkpoints)
        self.store.commit(entries(*range(1, DUE + 1)), {})
        [(work, _)] = self.threads.waiting
        self.second.set_trace_callback(self.wait)
        self.thread = Thread(target=work)
        self.addCleanup(self.thread.join)
        self.addCleanup(self.may_end.set)
        self.thread.start()
        self.started.wait()

    def open_checkpoints(self) -> WalCheckpoints:
        checkpoints = WalCheckpoints(self.second, self.threads, full_sync=False)
        checkpoints.lock = ReportingLock(self.may_end.set)
        return checkpoints

    def wait(self, _: str) -> None:
        """Stop the thread in its checkpoint until something waits for it."""
        self.started.set()
        self.ended = self.may_end.wait(10)

    def test_commit_does_not_wait(self) -> None:
        """Neither does a read."""
        self.store.commit(entries(DUE + 1), {})
        self.assertEqual(len(self.store.read(DUE, 9)), 1)
        self.assertFalse(self.ended)

    def test_close_waits(self) -> None:
        """The files may be renamed after it, and the lock be another process's."""
        self.store.close()
        self.assertTrue(self.ended)
        self.assertRaises(sqlite3.ProgrammingError, self.second.execute, "SELECT 1")

    def test_checkpoint_of_lost_log_waits(self) -> None:
        """Two at a time are an error of SQLite, and the status said that the disk fails."""
        self.store.checkpoint()
        self.assertTrue(self.ended)
        self.store.close()
