"""Tests for tradeproxy.journal.schema."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.journal.connection import DamageError
from tradeproxy.journal.schema import (
    APPLICATION_ID,
    MIGRATIONS,
    Header,
    SchemaError,
    check_header,
    check_tables,
    migrate,
)

FUTURE = (*MIGRATIONS, "ALTER TABLE events ADD COLUMN source TEXT NOT NULL DEFAULT 'stream'")
EVENT = "INSERT INTO events (seq, identity, received, payload) VALUES (1, 'a', 0, 'x')"


def in_memory() -> sqlite3.Connection:
    """Return a connection to an empty database."""
    return sqlite3.connect(":memory:", isolation_level=None)


class MigrationTests(SynchronousTestCase):
    """Older files are upgraded; files of later versions are rejected unchanged."""

    def setUp(self) -> None:
        self.connection = in_memory()
        self.addCleanup(self.connection.close)

    def version(self) -> tuple[int, int]:
        [application_id] = self.connection.execute("PRAGMA application_id").fetchone()
        [version] = self.connection.execute("PRAGMA user_version").fetchone()
        return application_id, version

    def test_migrate_empty_file_creates_tables_and_marks(self) -> None:
        """An empty file accepts events afterwards."""
        migrate(self.connection)
        self.connection.execute(EVENT)
        self.assertEqual(self.version(), (APPLICATION_ID, len(MIGRATIONS)))

    def test_migrate_current_version_writes_nothing(self) -> None:
        """The second call works on a read-only connection."""
        migrate(self.connection)
        self.connection.execute("PRAGMA query_only = ON")
        migrate(self.connection)

    def test_migrate_older_version_keeps_events(self) -> None:
        """Only the missing steps are applied."""
        migrate(self.connection)
        self.connection.execute(EVENT)
        migrate(self.connection, FUTURE)
        rows = self.connection.execute("SELECT seq, identity, source FROM events").fetchall()
        self.assertEqual(rows, [(1, "a", "stream")])
        self.assertEqual(self.version(), (APPLICATION_ID, len(FUTURE)))

    def test_migrate_step_fails_rolls_back(self) -> None:
        """Half a step would leave a file of no version."""
        migrate(self.connection)
        for script in (
            "CREATE TABLE half (x); CREATE TABLE events (x)",
            "CREATE TABLE half (x); nonsense",
        ):
            with self.assertRaises(sqlite3.OperationalError):
                migrate(self.connection, (*MIGRATIONS, script))
            self.assertEqual(self.version(), (APPLICATION_ID, len(MIGRATIONS)))
            self.assertFalse(self.connection.in_transaction)
            # Succeeds only if the table of the failed step does not exist.
            self.connection.execute("CREATE TABLE half (x)")
            self.connection.execute("DROP TABLE half")

    def test_migrate_later_version_raises(self) -> None:
        """An older version cannot read what a later one has written."""
        migrate(self.connection, FUTURE)
        later, known = len(FUTURE), len(MIGRATIONS)
        problem = rf"a newer tradeproxy .*version {later}; this one knows {known}"
        with self.assertRaisesRegex(SchemaError, problem):
            migrate(self.connection)

    def test_migrate_file_of_another_program_raises_and_changes_nothing(self) -> None:
        """The file may have an application_id of its own, or none."""
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


class ForeignSchemaTests(SynchronousTestCase):
    """A file that another program has changed. SQLite would run the statements in its schema."""

    def setUp(self) -> None:
        self.connection = in_memory()
        self.addCleanup(self.connection.close)

    def prepare(self, statement: str, version: int = len(MIGRATIONS)) -> None:
        """Make the tables of a version, and run a statement of the other program."""
        self.connection.close()
        self.connection = in_memory()
        migrate(self.connection, MIGRATIONS[:version])
        self.connection.execute(statement)

    def test_migrate_trigger_view_or_virtual_table_raises_before_change(self) -> None:
        """A trigger on `meta` would run with the next step of the upgrade."""
        for statement, what in (
            ("CREATE TRIGGER t AFTER INSERT ON meta BEGIN DELETE FROM events; END", "trigger 't'"),
            ("CREATE VIEW v AS SELECT 1", "view 'v'"),
            ("CREATE VIRTUAL TABLE w USING fts5(x)", "virtual table 'w'"),
            (f'CREATE VIEW "{"a" * 999}" AS SELECT 1', f"view '{'a' * 64}'"),
            ('CREATE VIEW "a\n\x1b" AS SELECT 1', r"view 'a\n\x1b'"),
        ):
            for version in range(1, len(MIGRATIONS) + 1):
                self.prepare(statement, version)
                with self.assertRaises(SchemaError) as caught:
                    migrate(self.connection)
                self.assertEqual(
                    str(caught.exception), f"it has a {what}, which tradeproxy does not make"
                )
                [found] = self.connection.execute("PRAGMA user_version").fetchone()
                self.assertEqual(found, version)

    def test_check_missing_or_changed_table_is_damage(self) -> None:
        """The version in the header says only what the file once had."""
        for statement in (
            "DROP TABLE late",
            "ALTER TABLE late RENAME COLUMN time TO at",
            "ALTER TABLE late ADD COLUMN more",
            "ALTER TABLE late ADD COLUMN more AS (time + 1)",
        ):
            self.prepare(statement)
            with self.assertRaisesRegex(DamageError, "the table late is missing or has other"):
                migrate(self.connection)

    def test_check_further_table_raises(self) -> None:
        """It is not deleted or set aside: somebody needs it. SQLite's own tables are fine."""
        self.prepare("CREATE TABLE theirs (x)")
        with self.assertRaisesRegex(SchemaError, "it has a table 'theirs', which tradeproxy"):
            migrate(self.connection)
        self.connection.execute("DROP TABLE theirs")
        self.connection.execute("ANALYZE")
        check_tables(self.connection)

    def test_schema_is_not_trusted(self) -> None:
        """An index on an expression could call a function with side effects."""
        migrate(self.connection)
        [trusted] = self.connection.execute("PRAGMA trusted_schema").fetchone()
        self.assertEqual(trusted, 0)


class SqliteHeaderTests(SynchronousTestCase):
    """The marks of a file can be read without SQLite."""

    def test_parse_file_written_by_sqlite_returns_marks(self) -> None:
        """The application_id and the version are in the first 100 bytes."""
        path = Path(self.mktemp())
        connection = sqlite3.connect(path, isolation_level=None)
        migrate(connection)
        connection.close()
        header = Header.parse(path.read_bytes())
        assert header is not None
        self.assertEqual(header, Header(APPLICATION_ID, len(MIGRATIONS)))
        check_header(header)

    def test_parse_exactly_100_bytes_reads_marks_at_their_offsets(self) -> None:
        """The version is at byte 60, the application_id at byte 68: four bytes each, big-endian."""
        page = b"SQLite format 3\0" + bytes(range(16, 100))
        self.assertEqual(Header.parse(page), Header(0x44454647, 0x3C3D3E3F))
        self.assertIsNone(Header.parse(page[:99]))

    def test_mark_of_journals_never_changes(self) -> None:
        """With another one, every existing journal would be another program's file."""
        connection = in_memory()
        self.addCleanup(connection.close)
        migrate(connection)
        page = connection.serialize()[:100]
        self.assertEqual(page[68:72], b"trPx")

    def test_parse_other_file_returns_none(self) -> None:
        """An empty file, other content and a truncated header are not SQLite files."""
        for page in (b"", b"x" * 100, b"SQLite format 3\0" + bytes(80)):
            self.assertIsNone(Header.parse(page))
