"""A journal's file in SQL: one connection, with methods that do or ask one thing and raise sqlite3.Error."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tradeproxy.journal.backlog import Entry
from tradeproxy.journal.base import Row
from tradeproxy.journal.schema import migrate
from tradeproxy.wire.event import OrderState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tradeproxy.wire.event import Event

READ_BYTES = 256 * 1024
"""Of payload; about what one read returns, if that is more than one row."""

# Only the same event is passed over: a number that is taken already is an error.
_INSERT = """
    INSERT INTO events (seq, identity, digest, time, high, received, payload) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (identity, digest) DO NOTHING
"""
_UPDATE_ORDER = """
    INSERT INTO orders (id, seq, status, filled_qty, time, closed) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        seq = excluded.seq, status = excluded.status, filled_qty = excluded.filled_qty,
        time = excluded.time, closed = excluded.closed
    WHERE excluded.time >= orders.time
"""
_SAVE = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_READ = "SELECT seq, payload, time FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
_ORDER = "SELECT id, status, filled_qty, time FROM orders"

_DAMAGE = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,  # a table or column is missing
    sqlite3.SQLITE_CONSTRAINT,  # a number is taken that the log did not have
}
_REASONS = {
    sqlite3.SQLITE_FULL: "disk full",
    sqlite3.SQLITE_READONLY: "the file is read-only",
    sqlite3.SQLITE_IOERR: "disk error",
    sqlite3.SQLITE_BUSY: "another program holds the file",
    sqlite3.SQLITE_LOCKED: "another program holds the file",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_PERM: "the file cannot be opened",
}


class DamageError(sqlite3.DatabaseError):
    """The file has lost something that SQLite does not miss."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file cannot be used any more, however often one tries."""
    return isinstance(error, DamageError) or _code(error) in _DAMAGE


def describe_error(error: sqlite3.Error) -> str:
    """Say in plain words what is wrong with the disk."""
    return _REASONS.get(_code(error), "SQLite cannot use the file")


def _code(error: sqlite3.Error) -> int:
    # Extended codes have the basic one in the low byte; errors of the Python module have none.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF


class Store:
    """The events, the orders and the facts of one journal.

    Takes the connection over, closing it too if the file cannot be used. The connection must be in autocommit
    mode (isolation_level=None). Raises SchemaError for a file that is not for this version.
    """

    def __init__(self, connection: sqlite3.Connection, *, full_sync: bool) -> None:
        self._connection = connection
        self._execute = connection.execute
        try:
            self._execute(f"PRAGMA synchronous = {'FULL' if full_sync else 'NORMAL'}")
            self._execute(
                f"PRAGMA fullfsync = {full_sync}"
            )  # macOS: its fsync stops at the drive's cache
            self._execute(
                "PRAGMA secure_delete = OFF"
            )  # Debian's SQLite overwrites, at 30 times the cost
            migrate(connection)
            self._execute(
                "PRAGMA journal_mode = WAL"
            )  # not before: the file might be another program's
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Carry the write-ahead log over if that is possible, and close the file."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def check_integrity(self) -> None:
        """Read the whole file; raises DamageError where it is damaged."""
        if self._execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise DamageError("quick_check")

    # Facts: short texts by name.

    def load_metadata(self) -> dict[str, str]:
        """Return all facts."""
        return dict(self._execute("SELECT key, value FROM meta"))

    def save_metadata(self, facts: Mapping[str, str | None]) -> None:
        """Save facts; None removes one."""
        self.commit((), facts)

    # Events.

    def bounds(self) -> tuple[int, int, int | None] | None:
        """Return the numbers of the first and the last row, and the last one's `high`; None without rows."""
        row = self._execute("SELECT seq, high FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        if row is None:
            return None
        [first] = self._execute("SELECT min(seq) FROM events").fetchone()
        return first, *row

    def append(
        self, events: Sequence[Event], last: int, high: int | None, received: int
    ) -> list[Entry]:
        """Add the events that are new behind number `last`, in one transaction, and return what was added."""
        added: list[Entry] = []
        with self._transaction():
            for event in events:
                time = event.time
                reached = time if high is None or (time is not None and time > high) else high
                entry = Entry(last + 1, event, reached, received)
                if self._insert(entry, event):
                    added.append(entry)
                    last, high = last + 1, reached
        return added

    def commit(self, entries: Sequence[Entry], facts: Mapping[str, str | None]) -> None:
        """Add entries that have their numbers, and save facts, in one transaction."""
        with self._transaction():
            for entry in entries:
                event = entry.event
                if event is None or not self._insert(entry, event):
                    # A repeat that could not be recognised when it came keeps its place, without a name.
                    payload = None if event is None else event.payload
                    time = None if event is None else event.time
                    self._execute(
                        _INSERT,
                        (entry.seq, None, None, time, entry.max_time, entry.received, payload),
                    )
            self._save(facts)

    def read(self, after: int, limit: int) -> list[Row]:
        """Return up to `limit` rows behind number `after`: at least one, since there must be one."""
        rows: list[Row] = []
        size = 0
        cursor = self._execute(_READ, (after, limit))
        for seq, payload, time in cursor:
            size += len(payload or b"")
            if rows and size > READ_BYTES:
                cursor.close()  # an unfinished statement keeps the write-ahead log from being reused
                break
            after += 1
            if seq != after:
                raise DamageError(f"event {after} is missing")
            rows.append(Row(seq, payload, time))
        if not rows:
            raise DamageError(f"event {after + 1} is missing")
        return rows

    def has(self, event: Event) -> bool:
        """Whether this very event is here."""
        query = "SELECT seq FROM events WHERE identity = ? AND digest = ?"
        return self._first(query, event.identity, event.digest) is not None

    def find(self, identity: str) -> int | None:
        """Return the number of the last event with this identity."""
        if (
            not identity.isascii()
        ):  # no event has it, and SQLite does not take all that Python calls text
            return None
        return self._first("SELECT max(seq) FROM events WHERE identity = ?", identity)

    def first_since(self, time: int) -> int | None:
        """Return the number of the first row up to which an event has this time or a later one."""
        return self._first(
            "SELECT seq FROM events WHERE high >= ? ORDER BY high, seq LIMIT 1", time
        )

    # Orders.

    def order(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order that an event told of."""
        row = self._execute(f"{_ORDER} WHERE id = ?", (order_id,)).fetchone()
        return None if row is None else OrderState(*row)

    def open_orders(self) -> list[OrderState]:
        """Return the orders whose newest state is open, in the order of their events."""
        return [
            OrderState(*row) for row in self._execute(f"{_ORDER} WHERE closed = 0 ORDER BY seq")
        ]

    # Trimming.

    def find_due(self, first: int, count: int, seq: int, received: int) -> int:
        """Return the number up to which rows may go: at most `count` of them, from `first` on.

        Those go whose number is at most `seq`, and those that came before `received`.
        """
        kept = "SELECT seq FROM events WHERE seq > ? AND seq < ? AND received >= ? ORDER BY seq LIMIT 1"
        end = first + count
        stays = self._first(kept, max(first - 1, seq), end, received)
        return (end if stays is None else stays) - 1

    def get_max_time(self, seq: int) -> int | None:
        """Return the highest time up to a row."""
        return self._first("SELECT high FROM events WHERE seq = ?", seq)

    def trim(self, through: int, facts: Mapping[str, str | None]) -> None:
        """Forget the rows up to a number, with the closed orders that only they told of, and save facts."""
        with self._transaction():
            self._execute("DELETE FROM events WHERE seq <= ?", (through,))
            self._execute("DELETE FROM orders WHERE closed = 1 AND seq <= ?", (through,))
            self._save(facts)

    # Below are the parts of transactions.

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            # SQLite ends some transactions by itself; and an error here would hide the cause.
            with suppress(sqlite3.Error):
                self._execute("ROLLBACK")
            raise

    def _insert(self, entry: Entry, event: Event) -> bool:
        key = (entry.seq, event.identity, event.digest)
        values = (*key, event.time, entry.max_time, entry.received, event.payload)
        if self._execute(_INSERT, values).rowcount == 0:
            return False
        if (order := event.order) is not None:
            closed = not order.is_open
            state = (order.id, entry.seq, order.status, order.filled_qty, order.time, closed)
            self._execute(_UPDATE_ORDER, state)
        return True

    def _save(self, facts: Mapping[str, str | None]) -> None:
        for key, value in facts.items():
            if value is None:
                self._execute("DELETE FROM meta WHERE key = ?", (key,))
            else:
                self._execute(_SAVE, (key, value))

    def _first(self, query: str, *values: object) -> int | None:
        row = self._execute(query, values).fetchone()
        return None if row is None else row[0]
