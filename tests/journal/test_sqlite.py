"""Tests for the file of tradeproxy.journal.sqlite; tests.journal.test_journal has the rest."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.logger import capturedLogs

from tests.support.journals import (
    Connections,
    SqliteCase,
    event,
    events,
    journal_at,
    memory_journal,
    row,
)
from tests.support.processes import SOURCES
from tradeproxy.journal.base import Batch, Journal, JournalError
from tradeproxy.journal.bookmark import CHECK_EVERY
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.journal.schema import MIGRATIONS, migrate

APPEND_AND_DIE = """
import os, signal, sys
from pathlib import Path
from twisted.internet.task import Clock
from tests.support.journals import events, journal_at
journal = journal_at(Path(sys.argv[1]), Clock(), full_sync=True)
journal.open()
journal.append(events(1, 2, 3))
os.kill(os.getpid(), signal.SIGKILL)
"""


class MemoryJournalTests(SqliteCase):
    """The demo keeps its journal in memory."""

    def test_open_without_path_works_in_memory(self) -> None:
        """Until it is closed, it behaves like a journal on the disk."""
        journal: Journal = memory_journal(self.clock)
        journal.append(events(1, 2))
        self.assertEqual(journal.read(1, 10), Batch((row(2, event(2)),)))
        self.assertTrue(journal.status.durable)
        journal.close()

    def test_close_before_open_has_no_effect(self) -> None:
        """A start that fails at the first account closes all of them."""
        journal_at(None, self.clock).close()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SqliteJournalTests(SqliteCase):
    """What the journal says about itself."""

    def test_append_counts_kinds_and_measures_commits(self) -> None:
        """Events that wait for the disk count too. A commit that fails is not measured."""
        connections = Connections()
        journal = self.open(connect=connections, max_spooled=0)
        connections.on_commit(lambda: self.clock.advance(0.25))
        journal.append([event(1), event(2), event(3, event="fill")])
        connections.refuse_writing()
        journal.append([event(4), event(5, event="fill")])
        self.assertEqual(journal.event_counts, {"new": 3, "fill": 2})
        self.assertEqual(
            (journal.commit_seconds.counts[-1], journal.commit_seconds.total), (1, 0.25)
        )

    def test_reaches_is_true_up_to_last_number(self) -> None:
        """A cursor beyond it is not of this log."""
        journal = self.open()
        journal.append(events(1, 2))
        self.assertEqual([journal.reaches(seq) for seq in (1, 2, 3)], [True, True, False])

    def test_identify_returns_and_announces_new_epoch(self) -> None:
        """The first id that is known is no change. It is saved at once."""
        journal = self.open()
        found = [journal.identify(name) for name in ("one", "one")]
        journal = self.reopen(journal)
        announced: list[str] = []
        journal.on_new_epoch = lambda: announced.append(journal.epoch)
        found.append(journal.identify("two"))
        self.assertEqual((found, announced), ([False, False, True], [journal.epoch]))

    def test_trim_one_row(self) -> None:
        """The eleventh event of ten."""
        journal = self.open(max_events=10)
        journal.append(events(*range(1, 12)))
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(journal.first, 2)

    def test_trim_by_age_keeps_last_row_without_time(self) -> None:
        """A cursor to it stays valid. Its age is the time since receipt."""
        journal = self.open(max_age=60)
        journal.append([event(n, at=None) for n in (1, 2, 3)])
        self.clock.advance(60)
        self.assertEqual(journal.first, 1)
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(self.read_seqs(journal, journal.first - 1), [3])


class SqliteFileTests(SqliteCase):
    """After a crash or a stop, the file contains every event that was passed on."""

    def test_open_intact_file_writes_nothing(self) -> None:
        """Content and modification time stay the same."""
        journal = self.open()
        journal.append(events(1, 2))
        journal.identify("account")
        journal.close()
        before = self.path.read_bytes(), self.path.stat().st_mtime_ns
        self.reopen(journal).identify("account")
        self.assert_no_temporary_files()
        self.assertEqual((self.path.read_bytes(), self.path.stat().st_mtime_ns), before)

    def test_open_while_another_program_writes_succeeds(self) -> None:
        """A file that is up to date is only read."""
        self.open().close()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.assertTrue(self.open().status.durable)

    def test_open_any_umask_makes_every_file_private(self) -> None:
        """SQLite gives its files the mode of the database, so that one is made first."""
        before = os.umask(0)
        try:
            journal = self.open()
            journal.append(events(1))
            self.clock.advance(CHECK_EVERY)
        finally:
            os.umask(before)
        modes = {each.name: each.stat().st_mode & 0o777 for each in self.path.parent.iterdir()}
        names = ("bookmark", "lock", "spool", "sqlite3", "sqlite3-shm", "sqlite3-wal")
        self.assertEqual(modes, {f"paper.{name}": 0o600 for name in names})

    def assert_no_temporary_files(self) -> None:
        self.doCleanups()
        names = sorted(path.name for path in self.path.parent.iterdir())
        self.assertEqual(names, ["paper.bookmark", "paper.lock", "paper.spool", "paper.sqlite3"])

    def test_open_after_kill_has_every_committed_event(self) -> None:
        """No number is assigned a second time."""
        command = [sys.executable, "-c", APPEND_AND_DIE, str(self.path.absolute())]
        environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
        completed = subprocess.run(command, env=environment, check=False)
        self.assertEqual(completed.returncode, -signal.SIGKILL)
        journal = self.open()
        self.assertEqual(self.read_seqs(journal, 0), [1, 2, 3])
        journal.append(events(3, 4))
        self.assertEqual(journal.last, 4)

    def test_open_file_without_tables_or_rows_starts_log(self) -> None:
        """An earlier start may have been killed while it created the file."""
        for prepare in (lambda _: None, lambda connection: migrate(connection)):
            self.path = Path(self.mktemp())
            connection = sqlite3.connect(self.path, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            prepare(connection)
            connection.close()
            with capturedLogs() as logs:
                self.open().append(events(1))
            self.assertEqual([log for log in logs if "old" in log], [], "there was no old version")
            self.assertEqual(list(self.path.parent.glob(f"{self.path.name}.*-*")), [])

    def test_open_full_sync_sets_synchronous_level(self) -> None:
        """PROXY_JOURNAL_SYNC=full is SQLite's level 2, normal is level 1."""
        for full_sync, level in ((True, 2), (False, 1)):
            connections = Connections()
            journal = self.open(full_sync=full_sync, connect=connections)
            self.assertEqual(connections.query_value("PRAGMA synchronous"), level)
            journal.close()


class UnusableFileTests(SqliteCase):
    """A journal that cannot be used is reported in one line that begins with its path."""

    def assert_open_fails(self, reason: str, **options: Any) -> None:
        with self.assertRaises(JournalError) as caught:
            self.open(**options)
        self.assertRegex(str(caught.exception), f"^{self.path}: .*{reason}")
        self.assertNotIn("\n", str(caught.exception))

    def test_open_journal_in_use_fails(self) -> None:
        """The first instance continues. After it has closed, another one can start."""
        journal = self.open()
        self.assert_open_fails("another tradeproxy uses it")
        journal.append(events(1))
        journal.close()
        journal.close()
        self.open()

    def test_open_later_version_in_write_ahead_log_fails(self) -> None:
        """Only SQLite sees the version while it is in the write-ahead log."""
        self.path.parent.mkdir()
        connection = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(connection.close)
        connection.execute("PRAGMA journal_mode = WAL")
        migrate(connection, (*MIGRATIONS, "CREATE TABLE more (x)"))
        self.assertNotIn(b"more", self.path.read_bytes())
        self.assert_open_fails("a newer tradeproxy")
        self.assert_open_fails("a newer tradeproxy")  # the failed attempt has released the lock
        connection.close()
        self.assert_open_fails("a newer tradeproxy")

    def test_open_file_of_another_program_fails_and_changes_nothing(self) -> None:
        """Another program's data may have the same file name by chance."""
        self.path.parent.mkdir()
        connection = sqlite3.connect(self.path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.close()
        before = self.path.read_bytes()
        self.assert_open_fails("another program")
        self.assertEqual(self.path.read_bytes(), before)

    def test_open_locked_file_fails_without_replacing_it(self) -> None:
        """A lock is no damage, and can end soon."""
        self.open().close()
        connection = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(connection.close)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        self.assert_open_fails(r"another program holds the file \(database is locked\)$")
        connection.close()
        self.open()

    def test_open_path_is_directory_fails_without_renaming_it(self) -> None:
        """Only journals are renamed."""
        self.path.mkdir(parents=True)
        self.assert_open_fails("is not a regular file")


class ReplacedLogFileTests(SqliteCase):
    """A file of another log is renamed, and its positions are invalid."""

    def test_open_another_base_url_renames_old_file(self) -> None:
        """The new name has the reason and the epoch of the new log. The events are kept."""
        journal = self.open()
        journal.append(events(1, 2))
        with capturedLogs() as logs:
            other = self.reopen(journal, base_url="wss://api.alpaca.markets/stream")
        [line] = [log["aside"] for log in logs if "aside" in log]
        self.assertEqual(line, f"paper.sqlite3.other-url-{other.epoch}")
        kept = sqlite3.connect(self.path.with_name(line))
        self.addCleanup(kept.close)
        self.assertEqual(kept.execute("SELECT max(seq) FROM events").fetchone(), (2,))

    def test_identify_another_account_renames_old_file(self) -> None:
        """Only Alpaca's answer shows that the keys are another account's."""
        journal = self.open()
        journal.identify("one")
        journal.append(events(1, 2))
        journal.identify("two")
        self.assertEqual(len(list(self.path.parent.glob("paper.sqlite3.other-account-*"))), 1)

    def test_open_new_log_takes_epoch_from_random_source(self) -> None:
        """The epoch is the hexadecimal form of eight random bytes."""
        journal = memory_journal(self.clock, random_bytes=lambda count: bytes(range(count)))
        self.assertEqual(journal.epoch, "0001020304050607")
        journal.close()
