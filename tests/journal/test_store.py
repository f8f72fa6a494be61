"""Tests for tradeproxy.journal.store: what each query and each transaction does."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import (
    FIRST_AT,
    ORDER_STATES,
    Connections,
    event,
    event_id_of,
    order_id_of,
    time_of,
)
from tradeproxy.journal import stored_keys
from tradeproxy.journal.backlog import Entry
from tradeproxy.journal.base import UnreadableError, max_optional
from tradeproxy.journal.connection import DamageError
from tradeproxy.journal.metadata import TrimmedEvent
from tradeproxy.journal.retention import Due
from tradeproxy.journal.schema import APPLICATION_ID, MIGRATIONS, SchemaError
from tradeproxy.journal.store import Store
from tradeproxy.wire.event import MAX_TIME, Event, format_time

EXECUTION = {"event": "fill", "execution_id": "x", "qty": "1", "price": "2.5"}
RECEIVED = 7
"""When the rows of a test were received (microseconds since 1970), unless it says otherwise."""


def at(n: int, second: int, **fields: Any) -> Event:
    """Return event `n` with the time of event `second`."""
    return event(n, at=format_time(time_of(second)), **fields)


class StoreCase(SynchronousTestCase):
    """A base class with an empty store in memory, and its connection."""

    def setUp(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(self.connection.close)
        self.prepare()
        self.store = Store(self.connection, full_sync=False)

    def prepare(self) -> None:
        """Change the database before the store opens it."""

    def append(self, *new: Event, received: int = RECEIVED) -> list[Entry]:
        """Add the events that are new to the store, with the next numbers."""
        _, last, max_time = self.store.bounds() or (1, 0, None)
        entries: list[Entry] = []
        for each in new:
            if not self.store.has(each):
                max_time = max_optional(max_time, each.time)
                entries.append(Entry(last + 1 + len(entries), each, max_time, received))
        self.store.commit(entries, {})
        return entries

    def query_value(self, query: str) -> Any:
        [value] = self.connection.execute(query).fetchone()
        return value


class OpenStoreTests(SynchronousTestCase):
    """A store sets how SQLite writes its file."""

    def test_open_sets_pragmas_whatever_the_defaults_are(self) -> None:
        """Debian's SQLite overwrites deleted rows, which makes trimming slow."""
        path = Path(self.mktemp())
        for full_sync, synchronous in ((True, 2), (False, 1)):
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA secure_delete = ON")
                connection.execute(f"PRAGMA fullfsync = {not full_sync}")
                Store(connection, full_sync=full_sync)
                found = {
                    name: connection.execute(f"PRAGMA {name}").fetchone()[0]
                    for name in ("synchronous", "fullfsync", "secure_delete", "journal_mode")
                }
            self.assertEqual(
                found,
                {
                    "synchronous": synchronous,
                    "fullfsync": full_sync,
                    "secure_delete": 0,
                    "journal_mode": "wal",
                },
            )

    def test_write_of_the_book_is_not_synced_on_its_own(self) -> None:
        """It can be built again, and events must not wait for it. They are synced as before."""
        connection = sqlite3.connect(self.mktemp(), isolation_level=None)
        with closing(connection):
            store = Store(connection, full_sync=True)

            def read(connection: sqlite3.Connection) -> int:
                [level] = connection.execute("PRAGMA synchronous").fetchone()
                return int(level)

            levels = [store.run(read, writes=writes) for writes in (False, True, False)]
        self.assertEqual(levels, [2, 1, 2])

    def test_open_file_of_another_program_closes_connection(self) -> None:
        """An open connection would keep a lock on the file."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.execute("CREATE TABLE theirs (x)")
        self.assertRaises(SchemaError, Store, connection, full_sync=False)
        self.assertRaises(sqlite3.ProgrammingError, connection.execute, "SELECT 1")

    def test_write_ahead_log_that_begins_again_gives_space_back(self) -> None:
        """After a full disk, one account's log had most of it for ever: SQLite only reuses it."""
        path = Path(self.mktemp())
        log = path.with_name(f"{path.name}-wal")
        store = Store(sqlite3.connect(path, isolation_level=None), full_sync=False)
        self.addCleanup(store.close)
        store.run(lambda sql: sql.execute("CREATE TABLE large (x)"), writes=True)
        store.run(
            lambda sql: sql.execute("INSERT INTO large VALUES (zeroblob(24000000))"), writes=True
        )
        self.assertGreater(log.stat().st_size, 24_000_000)
        store.checkpoint()
        store.save_metadata({"a": "1"})
        self.assertEqual(log.stat().st_size, 16 * 1024 * 1024)

    def test_close_closes_connection(self) -> None:
        """Only then can another process begin to use the file."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        Store(connection, full_sync=False).close()
        self.assertRaises(sqlite3.ProgrammingError, connection.execute, "SELECT 1")


class StoredRowsTests(StoreCase):
    """What the queries for rows return."""

    def test_load_metadata_leaves_out_what_is_no_text(self) -> None:
        """Another program has written it. A missing key is reported as damage then."""
        self.store.save_metadata({"a": "1", "gone": "2"})
        self.store.save_metadata({"gone": None})
        self.connection.execute("INSERT INTO meta VALUES ('b', x'ff'), (x'ff', 'c')")
        self.assertEqual(self.store.load_metadata(), {"a": "1"})

    def test_bounds_are_first_and_last_number_and_highest_time(self) -> None:
        """The last row may be late."""
        self.assertIsNone(self.store.bounds())
        self.append(event(1), event(9), event(5))
        self.store.trim(1, {})
        self.assertEqual(self.store.bounds(), (2, 3, time_of(9)))

    def test_read_ends_with_the_row_that_completes_256_kib(self) -> None:
        """One byte more is left to the next read. The first row is returned whatever its size."""
        limit = 262_144
        self.append(*(replace(event(n), payload=b"{}".ljust(limit // 2)) for n in (1, 2)))
        self.append(
            replace(event(3), payload=b"{}"), replace(event(4), payload=b"{}".ljust(limit + 1))
        )
        self.store.commit([Entry(5, None, time_of(4), 0)], {})
        self.append(replace(event(6), payload=b"{}".ljust(limit)), replace(event(7), payload=b"{}"))
        found = [[row.seq for row in self.store.read(after, 9)] for after in (0, 1, 2, 3, 4, 5)]
        self.assertEqual(found, [[1, 2], [2, 3], [3], [4], [5, 6], [6]])

    def test_read_leaves_no_transaction_open(self) -> None:
        """An open one keeps SQLite from reusing the write-ahead log, which would grow."""
        self.append(*(replace(event(n), payload=b"{}".ljust(200_000)) for n in (1, 2)))
        self.assertEqual(len(self.store.read(0, 9)), 1)
        self.connection.execute("DROP TABLE events")  # SQLite refuses it during a SELECT

    def test_has_takes_at_most_one_query_without_holes_and_older_rows(self) -> None:
        """Every event of a backfill is asked for."""
        copy = event(4, order_id=order_id_of(1), **EXECUTION)
        self.append(event(1, **EXECUTION))
        self.store.commit([Entry(2, None, time_of(1), 0, (event(2).key_hash,))], {})
        for each, known in ((event(3), False), (copy, True)):
            self.assertEqual(len(self.trace_has(each, known)), 2)
        self.store.trim(2, {})
        for each in (event(3), copy):
            self.assertLessEqual(len(self.trace_has(each, False)), 1)

    def trace_has(self, each: Event, known: bool) -> list[str]:
        """Return the statements that `has` runs, whose answer must be `known`."""
        statements: list[str] = []
        self.connection.set_trace_callback(statements.append)
        self.assertIs(self.store.has(each), known)
        self.connection.set_trace_callback(None)
        return statements

    def test_first_at_does_not_find_a_time_that_a_trimmed_row_had(self) -> None:
        """A client may have stopped at the trimmed row. It would miss the one that follows."""
        self.append(event(5), event(4), at(6, 5))
        self.assertEqual(self.store.first_at(time_of(5)), 1)
        self.store.trim(1, {})
        self.assertIsNone(self.store.first_at(time_of(5)))

    def test_find_max_time_has_limit_included(self) -> None:
        """A wrong time years ahead hides the ones before it."""
        self.append(event(3), at(4, 10**9), event(5), event(2))
        late = [self.store.get_late_time(seq) for seq in (1, 2, 3, 4, 5)]
        self.assertEqual(late, [None, None, time_of(5), time_of(2), None])
        found = [self.store.find_max_time(time_of(n)) for n in (1, 2, 3, 4, 5, 6)]
        expected = [None, 2, 3, 3, 5, 5]
        self.assertEqual(found, [None if n is None else time_of(n) for n in expected])

    def test_newest_ten_thousand_open_orders_are_read(self) -> None:
        """At a start all of them are read at once."""
        self.append(*map(event, range(1, 10_002)))
        found = [state.id for state in self.store.open_orders()]
        self.assertEqual((len(found), found[0]), (10_000, order_id_of(2)))

    def test_order_keeps_the_newer_state(self) -> None:
        """The same rule as in the backlog."""
        for known, state, expected in ORDER_STATES:
            for n, each in enumerate((known, state)):
                self.append(replace(event(n), identity=f"{known} {state} {n}", order=each))
            self.assertEqual(self.store.order(expected.id), expected, (known, state))
            self.connection.execute("DELETE FROM orders")
        self.assertIsNone(self.store.order(order_id_of(1)))


class OlderStoreTests(StoreCase):
    """Rows of schema version 1 are not in the newer tables until they are upgraded."""

    def prepare(self) -> None:
        """Write rows 5 to 7; the one with the highest time was trimmed."""
        self.connection.executescript(MIGRATIONS[0])
        self.connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self.connection.execute("PRAGMA user_version = 1")
        for seq, n in ((5, 7), (6, 8), (7, 6)):
            values = (seq, event_id_of(seq), b"", time_of(n), time_of(9), 0, b"")
            self.connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def test_first_at_is_unknown_before_the_highest_time_of_older_rows(self) -> None:
        """From that time on, no older row can have it."""
        self.append(event(12), event(8), event(10))
        for n in (5, 6, 8):
            self.assertRaises(UnreadableError, self.store.first_at, time_of(n))
        found = [self.store.first_at(time_of(n)) for n in (9, 10, 11, 12)]
        self.assertEqual(found, [None, 10, None, 8])
        self.assertFalse(self.store.older_rows.add_some(60.0))
        found = [self.store.first_at(time_of(n)) for n in (5, 6, 7, 8, 9)]
        self.assertEqual(found, [None, 7, 5, 6, None])


class TrimStoreTests(StoreCase):
    """Which rows are trimmed, and what stays known of them."""

    def find_due(self, seq: int, before: int | None = None, *, first: int, count: int) -> int:
        limit = time_of(100)
        return self.store.find_due(first, count, Due(seq, before, limit))

    def test_find_due_by_number_has_count_as_limit(self) -> None:
        """One step blocks the reactor only shortly."""
        for seq, through in ((-5, -5), (1, 1), (2, 2), (5, 4)):
            self.assertEqual(self.find_due(seq, first=2, count=3), through)

    def test_find_due_by_age_stops_before_first_row_to_keep(self) -> None:
        """The clock may have been years behind at its receipt: its event's time counts too."""
        self.append(*(at(n, n) for n in range(1, 5)))
        self.append(*(at(n, n) for n in range(5, 8)), received=time_of(90))
        self.append(at(8, 80), received=time_of(90))
        for seq, before, first, count, through in (
            (0, time_of(1), 1, 9, 0),
            (0, time_of(2), 1, 9, 1),
            (0, time_of(3), 1, 9, 2),
            (0, time_of(5), 1, 9, 4),
            (0, time_of(90), 1, 9, 4),
            (0, time_of(90) + 1, 1, 9, 7),
            (0, time_of(90) + 1, 1, 3, 3),
            (0, time_of(90) + 1, 3, 3, 5),
            (0, time_of(3), 3, 3, 2),
            (2, time_of(1), 1, 9, 2),
            (6, time_of(1), 1, 9, 6),
            (8, time_of(1), 1, 9, 8),
            (8, time_of(1), 2, 3, 4),
            (5, time_of(90), 2, 9, 5),
            (-5, time_of(3), 1, 9, 2),
        ):
            found = self.find_due(seq, before, first=first, count=count)
            self.assertEqual(found, through, (seq, before - FIRST_AT, first, count))

    def test_find_due_keeps_rows_from_the_newest_time_on(self) -> None:
        """Whatever their age, but not beyond their count. A time in the future is none."""
        self.append(event(1), at(2, 10**9), event(3), at(4, 3), event(5), event(4))
        old = MAX_TIME
        for n, through in ((200, 4), (3, 2), (2, 0), (0, 6)):
            limit = time_of(n)
            self.assertEqual(self.store.find_due(1, 6, Due(0, old, limit)), through, n)
        self.assertEqual(self.store.find_due(1, 3, Due(0, old, time_of(200))), 3)
        self.assertEqual(self.store.find_due(1, 3, Due(9, old, time_of(2))), 3)

    def test_find_due_newest_row_is_late_keeps_it(self) -> None:
        """The rows before it have a higher time only because of one that lies in the future."""
        self.append(at(1, 10**9), event(2), event(3))
        self.assertEqual(self.store.find_due(1, 9, Due(0, MAX_TIME, time_of(100))), 2)

    def test_read_trimmed_has_time_only_if_no_earlier_row_has_it(self) -> None:
        """A client with this time may have stopped at the earlier one."""
        self.append(event(1), event(3), at(4, 3), event(5), event(2), event(6, at=None), event(7))
        expected = [(1, 1), (3, 3), (None, 3), (5, 5), (None, 5), (None, 5), (7, 7)]
        ids = [event_id_of(n) for n in (1, 3, 4, 5, 2, 6, 7)]
        for through, (time, max_time) in enumerate(expected, 1):
            newest = TrimmedEvent(through, ids[through - 1], time and time_of(time))
            found = self.store.read_trimmed(through, time_of(100))
            self.assertEqual(found, (newest, time_of(max_time)))
        self.assertEqual(self.store.read_trimmed(5, time_of(3))[1], time_of(3))
        self.assertRaises(DamageError, self.store.read_trimmed, 8, time_of(100))

    def test_read_trimmed_hole_has_no_id_and_no_time(self) -> None:
        """It stands for events up to its highest time."""
        self.append(event(1))
        self.store.commit([Entry(2, None, time_of(6), 0)], {})
        self.assertEqual(
            self.store.read_trimmed(2, time_of(100)), (TrimmedEvent(2, "", None), time_of(6))
        )

    def test_trim_deletes_everything_that_belongs_to_the_rows(self) -> None:
        """The file would grow otherwise. The metadata is saved with it."""
        self.append(event(3, **EXECUTION), event(1, status="filled"), event(4))
        self.store.commit([Entry(4, None, time_of(4), 0, (event(8).key_hash,))], {})
        self.append(event(2, order_id="o"), event(5, status="filled", order_id="p"))
        tables = ("events", "executions", "late", "unstored", "orders")
        for through, left in ((0, (6, 1, 2, 1, 5)), (4, (2, 0, 1, 0, 4)), (6, (0, 0, 0, 0, 3))):
            self.store.trim(through, {"trimmed": str(through)})
            found = tuple(self.query_value(f"SELECT count(*) FROM {name}") for name in tables)
            self.assertEqual(found, left, through)
            self.assertEqual(self.store.load_metadata(), {"trimmed": str(through)})


class KeyFilterTests(SynchronousTestCase):
    """A filter that lacks a stored key would let a fill through twice."""

    def setUp(self) -> None:
        self.connections = Connections()
        self.path = Path(self.mktemp())
        self.store = self.open()

    def open(self) -> Store:
        connection = self.connections(str(self.path), isolation_level=None)
        self.addCleanup(connection.close)
        return Store(connection, full_sync=False)

    def test_scan_on_disk_that_cannot_be_read_begins_again(self) -> None:
        """Whatever else cannot be read then. Until the scan is complete, the tables are asked."""
        fill = event(1, **EXECUTION)
        self.patch(stored_keys, "MIN_KEYS", 2)
        store = self.open()
        store.commit([Entry(1, fill, None, 1), Entry(2, event(2), None, 1)], {})
        self.assertTrue(store.must_prepare)  # two keys fill it
        for statement in ("SELECT identity", "SELECT seq, high"):
            self.connections.fail(statement, sqlite3.SQLITE_IOERR)
        for _ in range(3):
            self.assertRaises(sqlite3.OperationalError, store.prepare, 1)
        for statement in ("SELECT identity", "SELECT seq, high"):
            self.connections.fail(statement, None)
        for _ in range(2):
            self.assertTrue(all(map(store.has, (fill, event(2)))))
            store.prepare(1)
        self.assertFalse(store.must_prepare)

    def test_step_of_the_scan_takes_two_milliseconds(self) -> None:
        """Clients wait for it. Here, a page of a thousand keys takes one."""
        entries = [Entry(n, event(n), None, 1) for n in range(1, 4501)]
        self.store.commit(entries, {})
        times = itertools.count()
        self.patch(stored_keys, "perf_counter", lambda: next(times) / 1000)
        store = self.open()
        self.assertEqual([store.prepare(0), store.prepare(0)], [True, False])

    def test_trim_that_is_not_committed_keeps_events_of_holes(self) -> None:
        """A repeat of one of them is still recognised."""
        hole = Entry(1, None, 1, 1, unstored=(event(1).key_hash,))
        self.store.commit([hole, Entry(2, event(2), None, 1)], {})
        self.connections.fail("COMMIT", sqlite3.SQLITE_FULL)
        self.assertRaises(sqlite3.OperationalError, self.store.trim, 1, {})
        self.connections.fail("COMMIT", None)
        self.assertTrue(self.store.has(event(1)))

    def test_distant_number_reserves_no_memory(self) -> None:
        """The start ended with a traceback: the filter had room for all numbers in between."""
        self.store.commit([Entry(n, event(n), None, 1) for n in (1, 2)], {})
        self.store.close()
        connection = self.connections(str(self.path), isolation_level=None)
        connection.execute("UPDATE events SET seq = ? WHERE seq = 2", (2**61,))
        connection.close()
        self.assertTrue(self.open().has(event(2)))

    def test_scanned_keys_take_room(self) -> None:
        """A filter with too many keys would have each event cost a query."""
        self.store.commit([Entry(n, event(n), None, 1) for n in range(1, 9)], {})
        self.patch(stored_keys, "MIN_KEYS", 8)
        store = self.open()  # with room for 16
        for n, is_full in ((15, False), (16, True)):
            last = store.bounds()
            assert last is not None
            new = [Entry(k, event(k), None, 1) for k in range(last[1] + 1, n + 1)]
            store.commit(new, {})
            self.assertEqual(store.must_prepare, is_full, n)

    def test_scan_of_fills_leaves_room(self) -> None:
        """Each is in two tables, but takes one place: a full filter is made anew."""
        fills = [event(n, **{**EXECUTION, "execution_id": str(n)}) for n in range(1, 9)]
        self.store.commit([Entry(n, each, None, 1) for n, each in enumerate(fills, 1)], {})
        self.patch(stored_keys, "MIN_KEYS", 8)
        store = self.open()
        self.assertFalse(store.must_prepare)
        store.commit([Entry(9, event(9), None, 1)], {})
        self.assertFalse(store.must_prepare)
