"""Tests for tradeproxy.journal.tables: the book's tables of a journal that is not in a file."""

from __future__ import annotations

import sqlite3
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.journal.base import UnreadableError
from tradeproxy.journal.tables import TemporaryTables

ADD = "INSERT INTO book_meta (key, value) VALUES ('cursor', 'x')"
READ = "SELECT value FROM book_meta"


def fail_with(code: int, _: sqlite3.Connection) -> None:
    """Raise what SQLite does with this code."""
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    raise error


class TemporaryTablesTests(SynchronousTestCase):
    """Tables in a temporary database."""

    def setUp(self) -> None:
        self.tables = TemporaryTables()
        self.addCleanup(self.tables.close)

    def read(self) -> list[tuple[str]]:
        return self.tables.run(lambda sql: sql.execute(READ).fetchall())

    def test_what_is_written_is_read(self) -> None:
        """Both return what the work returns. No other process can open the file."""
        count = self.tables.run(lambda sql: sql.execute(ADD).rowcount, writes=True)
        self.assertEqual((count, self.read()), (1, [("x",)]))
        [(_, _, path)] = self.tables.run(lambda sql: sql.execute("PRAGMA database_list").fetchall())
        self.assertEqual(path, "")

    def test_nothing_is_kept_for_a_crash(self) -> None:
        """The file ends with the process, so no write waits for the disk."""
        names = ("journal_mode", "synchronous", "temp_store")
        found = self.tables.run(
            lambda sql: [sql.execute(f"PRAGMA {name}").fetchone() for name in names]
        )
        self.assertEqual(found, [("off",), (0,), (1,)])

    def test_only_a_write_begins_a_transaction(self) -> None:
        """So a write may read in between."""
        for writes in (False, True):
            found = self.tables.run(lambda sql: sql.in_transaction, writes=writes)
            self.assertEqual(found, writes)
        self.assertEqual(self.tables.run(lambda _: self.read(), writes=True), [])

    def test_failing_disk_is_asked_again_later(self) -> None:
        """The directory of temporary files may be full. The book then repeats its step."""
        for code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT):
            for writes in (False, True):
                with self.assertRaises(UnreadableError):
                    self.tables.run(partial(fail_with, code), writes=writes)
        self.tables.run(lambda sql: sql.execute(ADD), writes=True)
        self.assertEqual(self.read(), [("x",)])

    def test_wrong_statement_is_an_error(self) -> None:
        """It would fail for ever."""
        with self.assertRaises(sqlite3.OperationalError):
            self.tables.run(lambda sql: sql.execute("SELECT 1 FROM nothing"))

    def test_close_ends_the_connection(self) -> None:
        """The file is deleted with it. A second close has no effect."""
        self.tables.close()
        self.tables.close()
        self.assertRaises(sqlite3.ProgrammingError, self.read)
