"""Tests for tradeproxy.journal.file_reader: a reader of the file that the proxy has open."""

from __future__ import annotations

import sqlite3

from tests.support.journals import NOW, JournalCase, event, events, time_of
from tradeproxy.journal import file_reader
from tradeproxy.journal.connection import DamageError
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.journal.schema import SchemaError

FAR_FUTURE = 2**62
"""A time after every event, in microseconds since 1970."""


class FileReaderTests(JournalCase):
    """Reading while the proxy has the journal open."""

    def read(self, begin: int = 0, end: int = FAR_FUTURE) -> list[bytes]:
        connection = file_reader.open_read_only(self.path)
        self.addCleanup(connection.close)
        return list(file_reader.read_payloads(connection, self.path, begin, end))

    def test_period_includes_begin_and_excludes_end(self) -> None:
        """The events are in the order of the journal, byte for byte."""
        journal = self.open()
        journal.append(events(*range(2000)))
        expected = [each.payload for each in events(*range(300, 1700))]
        self.assertEqual(self.read(time_of(300), time_of(1700)), expected)

    def test_progress_is_reported_after_each_page(self) -> None:
        """From 0 to 1, as far as the rows have come. One row alone has none."""
        for count, expected in ((1201, [499 / 1200, 999 / 1200, 1.0]), (1, [])):
            journal = self.open()
            journal.append([event(n) for n in range(count)])
            found: list[float] = []
            connection = file_reader.open_read_only(self.path)
            self.addCleanup(connection.close)
            read = file_reader.read_payloads(connection, self.path, 0, FAR_FUTURE, found.append)
            self.assertEqual(len(list(read)), count)
            self.assertEqual(found, expected)
            journal.close()
            del self.path

    def test_late_event_is_in_period_of_its_time(self) -> None:
        """An event that a backfill found late belongs to the day on which it happened."""
        journal = self.open()
        journal.append(events(1, 9, 2))
        found = self.read(time_of(2), time_of(5))
        self.assertEqual(found, [event(2).payload])

    def test_event_without_time_is_included(self) -> None:
        """It counts at the highest time before it, or else at its time of arrival."""
        journal = self.open()
        timeless = [event(n, at=None) for n in (0, 2)]
        journal.append([timeless[0], event(1), timeless[1], event(3)])
        arrived_at = round(NOW * 1_000_000)
        self.assertEqual(self.read(arrived_at, arrived_at + 1), [timeless[0].payload])
        expected = [each.payload for each in (event(1), timeless[1])]
        self.assertEqual(self.read(time_of(1), time_of(2)), expected)

    def test_period_without_events_is_empty(self) -> None:
        """Either the journal is empty, or the period begins after the last event."""
        journal = self.open()
        self.assertEqual(self.read(), [])
        journal.append(events(1))
        self.assertEqual(self.read(time_of(2)), [])

    def test_reader_does_not_block_proxy(self) -> None:
        """Between two queries of the reader, the proxy can truncate its write-ahead log."""
        journal = self.open()
        journal.append(events(*range(1200)))
        reading = file_reader.read_payloads(
            file_reader.open_read_only(self.path), self.path, 0, FAR_FUTURE
        )
        next(reading)
        journal.append(events(*range(1200, 1300)))
        self.assertTrue(journal.status.durable)
        writer = sqlite3.connect(self.path, timeout=0)
        [busy, _, _] = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        writer.close()
        self.assertEqual(busy, 0)
        self.assertEqual(len(list(reading)), 1299)

    def test_rows_that_move_to_the_database_meanwhile_are_written_once(self) -> None:
        """The reader of standard output may be slow, and the proxy moves rows every ten seconds."""
        journal = self.open()
        journal.append(events(*range(20)))
        for n in (20, 21):
            journal.append(events(n))
        connection = file_reader.open_read_only(self.path)
        self.addCleanup(connection.close)
        reading = file_reader.read_payloads(connection, self.path, 0, FAR_FUTURE)
        found = [next(reading)]
        self.clock.advance(TRIM_EVERY)
        found += reading
        self.assertEqual(found, [each.payload for each in events(*range(22))])

    def test_newest_events_are_in_the_spool_only(self) -> None:
        """The proxy moves them to the database every ten seconds. The period applies to them too.

        One that has no time counts at the highest time before it.
        """
        journal = self.open()
        journal.append(events(*range(4)))
        self.clock.advance(TRIM_EVERY)
        newest = [*events(4, 5), event(6, at=None), *events(7, 3, 8)]
        for each in newest:
            journal.append([each])
        connection = file_reader.open_read_only(self.path)
        self.addCleanup(connection.close)
        self.assertEqual(connection.execute("SELECT max(seq) FROM events").fetchone(), (4,))
        self.assertEqual(self.read(time_of(8)), [event(8).payload])
        self.assertEqual(self.read(time_of(9)), [])
        found = self.read(time_of(5), time_of(7))
        self.assertEqual(found, [event(5).payload, event(6, at=None).payload])
        expected = [event(3).payload, event(4).payload]
        self.assertEqual(self.read(time_of(3), time_of(5)), expected)

    def test_connection_is_read_only(self) -> None:
        """SQLite rejects a write."""
        self.open()
        connection = file_reader.open_read_only(self.path)
        self.addCleanup(connection.close)
        error = self.assertRaises(
            sqlite3.OperationalError, connection.execute, "DELETE FROM events"
        )
        self.assertIn("readonly", str(error))

    def test_other_schema_version_is_rejected_unchanged(self) -> None:
        """A newer schema is unknown, and only the proxy upgrades an older one."""
        self.open().close()
        for version, word in ((99, "newer"), (0, "older")):
            with sqlite3.connect(self.path) as connection:
                connection.execute(f"PRAGMA user_version = {version}")
            connection.close()
            before = self.path.read_bytes()
            error = self.assertRaises(SchemaError, file_reader.open_read_only, self.path)
            self.assertIn(word, str(error))
            self.assertEqual(self.path.read_bytes(), before)

    def test_foreign_schema_is_rejected(self) -> None:
        """The rules are the proxy's: no code, no missing table, and no trust in the schema."""
        self.open().close()
        connection = file_reader.open_read_only(self.path)
        self.addCleanup(connection.close)
        self.assertEqual(connection.execute("PRAGMA trusted_schema").fetchone(), (0,))
        for statement, error in (
            ("CREATE VIEW v AS SELECT 1", SchemaError),
            ("DROP TABLE late", DamageError),
        ):
            with sqlite3.connect(self.path) as other:
                other.execute(statement)
            self.assertRaises(error, file_reader.open_read_only, self.path)
            with sqlite3.connect(self.path) as other:
                other.execute("DROP VIEW IF EXISTS v")
