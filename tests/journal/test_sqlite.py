"""Tests for tradeproxy.journal.sqlite where its file matters; the rest is in tests.journal.test_journal."""

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
    memory_journal,
    row,
)
from tests.support.processes import SOURCES
from tradeproxy.journal.base import Batch, Journal, JournalError
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


class MemoryTests(SqliteCase):
    """The journal of the demo."""

    def test_an_account_needs_no_file(self) -> None:
        """In memory everything is as on the disk, until it is closed."""
        journal: Journal = memory_journal(self.clock)
        journal.append(events(1, 2))
        self.assertEqual(journal.read(1, 10), Batch((row(2, event(2)),)))
        self.assertTrue(journal.status.durable)
        journal.close()


class FileTests(SqliteCase):
    """What lies in the file is what was handed on, after a crash as after a stop."""

    def test_opening_a_healthy_journal_writes_nothing(self) -> None:
        """The file is byte for byte what it was, and so is its time."""
        journal = self.open()
        journal.append(events(1, 2))
        journal.identify("account")
        journal.close()
        before = self.path.read_bytes(), self.path.stat().st_mtime_ns
        self.reopen(journal).identify("account")
        self.open_files_are_gone()
        self.assertEqual((self.path.read_bytes(), self.path.stat().st_mtime_ns), before)

    def open_files_are_gone(self) -> None:
        self.doCleanups()
        names = sorted(path.name for path in self.path.parent.iterdir())
        self.assertEqual(names, ["paper.lock", "paper.sqlite3"])

    def test_keeps_what_it_handed_on_when_it_is_killed(self) -> None:
        """What a client has seen is there after the process is gone, and the number is not given again."""
        command = [sys.executable, "-c", APPEND_AND_DIE, str(self.path.absolute())]
        environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
        ended = subprocess.run(command, env=environment, check=False)
        self.assertEqual(ended.returncode, -signal.SIGKILL)
        journal = self.open()
        self.assertEqual(self.read_seqs(journal, 0), [1, 2, 3])
        journal.append(events(3, 4))
        self.assertEqual(journal.last, 4)

    def test_begins_where_another_start_was_killed(self) -> None:
        """A file without tables, or with tables and nothing in them, is as good as none."""
        for prepare in (lambda _: None, lambda connection: migrate(connection)):
            self.path = Path(self.mktemp())
            connection = sqlite3.connect(self.path, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            prepare(connection)
            connection.close()
            self.open().append(events(1))
            self.assertEqual(list(self.path.parent.glob(f"{self.path.name}.*-*")), [])

    def test_syncs_every_commit_if_told_to(self) -> None:
        """PROXY_JOURNAL_SYNC=full is SQLite's level 2, normal is 1."""
        for full_sync, level in ((True, 2), (False, 1)):
            connections = Connections()
            journal = self.open(full_sync=full_sync, connect=connections)
            self.assertEqual(connections.query_value("PRAGMA synchronous"), level)
            journal.close()


class RefusalTests(SqliteCase):
    """A journal that cannot be used is said to be so, in one line that names it."""

    def refused(self, words: str, **options: Any) -> None:
        with self.assertRaises(JournalError) as caught:
            self.open(**options)
        self.assertRegex(str(caught.exception), f"^{self.path}: .*{words}")
        self.assertNotIn("\n", str(caught.exception))

    def test_a_second_instance_does_not_start(self) -> None:
        """The first goes on; when it has stopped, however often, another can start."""
        journal = self.open()
        self.refused("another tradeproxy uses it")
        journal.append(events(1))
        journal.close()
        journal.close()
        self.open()

    def test_a_later_versions_journal_is_left_alone(self) -> None:
        """Also if that is seen only by SQLite, since it is in the write-ahead log yet."""
        self.path.parent.mkdir()
        connection = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(connection.close)
        connection.execute("PRAGMA journal_mode = WAL")
        migrate(connection, (*MIGRATIONS, "CREATE TABLE more (x)"))
        self.assertNotIn(b"more", self.path.read_bytes())
        self.refused("a newer tradeproxy")
        self.refused("a newer tradeproxy")  # and not: another tradeproxy uses it
        connection.close()
        self.refused("a newer tradeproxy")

    def test_another_programs_file_is_left_alone(self) -> None:
        """It may be somebody's data, with a name that is ours by chance."""
        self.path.parent.mkdir()
        connection = sqlite3.connect(self.path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.close()
        before = self.path.read_bytes()
        self.refused("another program")
        self.assertEqual(self.path.read_bytes(), before)

    def test_a_file_that_cannot_be_used_now_is_left_alone(self) -> None:
        """What is not damage may be over soon; numbers must not begin anew for it."""
        self.open().close()
        connection = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(connection.close)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        self.refused("another program holds the file")
        connection.close()
        self.open()

    def test_a_directory_in_its_place_is_said(self) -> None:
        """Nothing is renamed that was never a journal."""
        self.path.mkdir(parents=True)
        self.refused("Is a directory")


class EpochTests(SqliteCase):
    """Positions of another account's log, or of a log that is gone, must mean nothing."""

    def test_another_addresss_file_is_set_aside(self) -> None:
        """Its events are history that somebody may want; the name tells why, and what has begun instead."""
        journal = self.open()
        journal.append(events(1, 2))
        with capturedLogs() as logs:
            other = self.reopen(journal, base_url="wss://api.alpaca.markets/stream")
        [line] = [log["aside"] for log in logs if "aside" in log]
        self.assertEqual(line, f"paper.sqlite3.other-url-{other.epoch}")
        kept = sqlite3.connect(self.path.with_name(line))
        self.addCleanup(kept.close)
        self.assertEqual(kept.execute("SELECT max(seq) FROM events").fetchone(), (2,))

    def test_another_accounts_file_is_set_aside(self) -> None:
        """Also where only Alpaca tells that it is another's."""
        journal = self.open()
        journal.identify("one")
        journal.append(events(1, 2))
        journal.identify("two")
        self.assertEqual(len(list(self.path.parent.glob("paper.sqlite3.other-account-*"))), 1)

    def test_the_epoch_is_random(self) -> None:
        """It is made of what the random source gives."""
        journal = memory_journal(self.clock, random_bytes=lambda count: bytes(range(count)))
        self.assertEqual(journal.epoch, "0001020304050607")
        journal.close()
