"""Tests for tradeproxy.journal.schema."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.journal.schema import (
    APPLICATION_ID,
    MIGRATIONS,
    Header,
    SchemaError,
    check_header,
    migrate,
)

FUTURE = (*MIGRATIONS, "ALTER TABLE events ADD COLUMN source TEXT NOT NULL DEFAULT 'stream'")
EVENT = "INSERT INTO events (seq, identity, received, payload) VALUES (1, 'a', 0, 'x')"


def in_memory() -> sqlite3.Connection:
    """Return a connection to an empty database."""
    return sqlite3.connect(":memory:", isolation_level=None)


class MigrationTests(SynchronousTestCase):
    """An older file becomes one of today, and a later one is left alone."""

    def setUp(self) -> None:
        self.connection = in_memory()
        self.addCleanup(self.connection.close)

    def version(self) -> tuple[int, int]:
        [application_id] = self.connection.execute("PRAGMA application_id").fetchone()
        [version] = self.connection.execute("PRAGMA user_version").fetchone()
        return application_id, version

    def test_makes_the_tables(self) -> None:
        """An empty file takes events, and is marked as ours."""
        migrate(self.connection)
        self.connection.execute(EVENT)
        self.assertEqual(self.version(), (APPLICATION_ID, len(MIGRATIONS)))

    def test_leaves_a_file_of_today_as_it_is(self) -> None:
        """Nothing is written where nothing is to be done."""
        migrate(self.connection)
        self.connection.execute("PRAGMA query_only = ON")
        migrate(self.connection)

    def test_keeps_the_events_of_an_older_file(self) -> None:
        """A later version's step is applied to what an earlier one has written."""
        migrate(self.connection)
        self.connection.execute(EVENT)
        migrate(self.connection, FUTURE)
        rows = self.connection.execute("SELECT seq, identity, source FROM events").fetchall()
        self.assertEqual(rows, [(1, "a", "stream")])
        self.assertEqual(self.version(), (APPLICATION_ID, len(FUTURE)))

    def test_a_step_that_fails_changes_nothing(self) -> None:
        """Half a step would be a file of no version."""
        migrate(self.connection)
        for script in (
            "CREATE TABLE half (x); CREATE TABLE events (x)",
            "CREATE TABLE half (x); nonsense",
        ):
            with self.assertRaises(sqlite3.OperationalError):
                migrate(self.connection, (*MIGRATIONS, script))
            self.assertEqual(self.version(), (APPLICATION_ID, len(MIGRATIONS)))
            self.assertFalse(self.connection.in_transaction)
            self.connection.execute("CREATE TABLE half (x)")  # which there is not
            self.connection.execute("DROP TABLE half")

    def test_refuses_a_later_version(self) -> None:
        """What a later version has written, an earlier one cannot know how to read."""
        migrate(self.connection, FUTURE)
        with self.assertRaisesRegex(
            SchemaError, r"a newer tradeproxy .*version 2; this one knows 1"
        ):
            migrate(self.connection)

    def test_refuses_the_file_of_another_program(self) -> None:
        """Whether it has a mark of its own or none, nothing is added to it."""
        for statement in ("CREATE TABLE theirs (x)", "PRAGMA application_id = 7"):
            connection = in_memory()
            self.addCleanup(connection.close)
            connection.execute(statement)
            before = connection.execute("SELECT name FROM sqlite_schema").fetchall()
            with self.assertRaisesRegex(SchemaError, "another program"):
                migrate(connection)
            self.assertEqual(
                connection.execute("SELECT name FROM sqlite_schema").fetchall(), before
            )


class HeaderTests(SynchronousTestCase):
    """A file says what it is without SQLite."""

    def test_reads_what_sqlite_has_written(self) -> None:
        """The version is found in the first bytes."""
        path = Path(self.mktemp())
        connection = sqlite3.connect(path, isolation_level=None)
        migrate(connection)
        connection.close()
        header = Header.parse(path.read_bytes())
        assert header is not None
        self.assertEqual(header, Header(APPLICATION_ID, len(MIGRATIONS)))
        check_header(header)

    def test_finds_none_in_other_files(self) -> None:
        """Nothing, other text and a file that is cut off have no header."""
        for page in (b"", b"x" * 100, b"SQLite format 3\0" + bytes(80)):
            self.assertIsNone(Header.parse(page))
