"""The SQL of a journal file: one connection; each method runs one query or one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import TypeVar

from tradeproxy.journal.backlog import Entry
from tradeproxy.journal.base import READ_BYTES, Row, UnreadableError, max_optional
from tradeproxy.journal.connection import BusyError, DamageError, Transaction, fetch_value, set_sync
from tradeproxy.journal.metadata import TrimmedEvent
from tradeproxy.journal.retention import Due
from tradeproxy.journal.schema import migrate
from tradeproxy.journal.stored_keys import StoredKeys
from tradeproxy.journal.upgrade import OlderRows, repair_times
from tradeproxy.journal.wal_checkpoints import CHECKPOINT, MAX_PAGES, WalCheckpoints
from tradeproxy.wire.amount import is_more
from tradeproxy.wire.event import Event, OrderState
from tradeproxy.wire.frame import is_frame

_T = TypeVar("_T")

KEPT_WAL = 16 * 1024 * 1024
"""Bytes that the file of the write-ahead log keeps when the log begins again. It seldom has more,
see wal_checkpoints. After a full disk or a flood, other accounts need the space."""

MAX_OPEN_ORDERS = 10_000
"""Open orders of one answer: about 30 ms and 5 MB. A flood of events can open any number."""

# Only a duplicate event is ignored. A sequence number that is already in use is an error.
_INSERT = """
    INSERT INTO events (seq, identity, digest, time, high, received, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (identity, digest) DO NOTHING
"""
# See newer_state in backlog.py.
_UPDATE_ORDER = """
    INSERT INTO orders (id, seq, status, filled_qty, time, closed) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        seq = excluded.seq, status = excluded.status, filled_qty = excluded.filled_qty,
        time = max(excluded.time, orders.time), closed = excluded.closed
    WHERE excluded.time >= orders.time OR excluded.time = 0 OR excluded.closed > orders.closed
        OR excluded.closed = orders.closed
            AND is_more(excluded.filled_qty, orders.filled_qty)
"""
_SAVE = """
    INSERT INTO meta (key, value) VALUES (?, ?)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
_INSERT_EXECUTION = """
    INSERT INTO executions (seq, digest) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING
"""
_INSERT_LATE = "INSERT INTO late (seq, time) VALUES (?, ?)"
_READ = "SELECT seq, payload, time FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
# A hole stands for events with times up to its `high`.
_MAX_TIME = """
    SELECT max(at) FROM (
        SELECT seq, CASE WHEN identity IS NULL THEN high ELSE time END AS at FROM events
    ) WHERE seq <= ?
"""
_ORDER = "SELECT id, status, filled_qty, time FROM orders"


class Store:
    """The events, orders and metadata of one journal. Every method may raise sqlite3.Error.

    The store owns the connection, and closes it if the file cannot be used. The connection must
    be in autocommit mode (isolation_level=None). Raises SchemaError if the file is not for this
    version.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        full_sync: bool,
        open_checkpoints: Callable[[], WalCheckpoints] | None = None,
    ) -> None:
        """Open the file.

        Args:
            connection: the database.
            full_sync: whether every commit is synced to the disk.
            open_checkpoints: opens a second connection, once the file is known to be ours; without
                it, SQLite makes the checkpoints of the write-ahead log in COMMIT.
        """
        self._connection = connection
        self._checkpoints: WalCheckpoints | None = None
        self._execute = connection.execute
        self._full_sync = full_sync
        self._transaction = Transaction(connection)
        try:
            connection.create_function(
                "is_more", 2, lambda new, old: is_more(str(new), str(old)), deterministic=True
            )
            set_sync(connection, full_sync)
            # Debian's SQLite overwrites deleted rows by default, which takes 30 times as long.
            self._execute("PRAGMA secure_delete = OFF")
            self.upgraded_from = migrate(connection)
            """The schema version that was found; 0 for a new file."""
            self.older_rows = OlderRows(connection)
            """The rows that are not in every table yet."""
            # After migrate: WAL mode changes the file, which may be another program's.
            self._execute("PRAGMA journal_mode = WAL")
            self._execute(f"PRAGMA journal_size_limit = {KEPT_WAL}")
            if open_checkpoints is not None:
                self._checkpoints = open_checkpoints()
                self._execute(f"PRAGMA wal_autocheckpoint = {MAX_PAGES}")
            self._keys = keys = StoredKeys(connection, self.older_rows)
        except BaseException:
            self.close()
            raise
        # The keys' own methods: every new event is asked for.
        self.claim, self.has = keys.claim, keys.has

    def close(self) -> None:
        """Merge the write-ahead log into the file if possible, and close it. Never raises."""
        if self._checkpoints is not None:
            self._checkpoints.close()
        with suppress(sqlite3.Error):
            self._connection.close()

    def checkpoint(self) -> None:
        """Write to the file what only the write-ahead log has. Raises BusyError if it must wait."""
        with nullcontext() if self._checkpoints is None else self._checkpoints.lock:
            busy, pages, written = self._execute(CHECKPOINT).fetchone()
        if busy or pages != written:
            raise BusyError("checkpoint")

    def _begin_checkpoint(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.begin_when_due(self._connection.total_changes)

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint runs in a thread."""
        return self._checkpoints is not None and self._checkpoints.is_running

    def check_integrity(self) -> None:
        """Read the whole file. Raises DamageError if it is damaged."""
        if self._execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise DamageError("quick_check")

    def run(self, work: Callable[[sqlite3.Connection], _T], *, writes: bool) -> _T:
        """Return what `work` returns of the book's tables.

        With `writes`, it is one transaction. It is not synced on its own: the book can be built
        again, and an append must not wait for it.
        """
        if not writes:
            return work(self._connection)
        if self._full_sync:
            # Not OFF: a transaction may have to move the write-ahead log to the file.
            self._execute("PRAGMA synchronous = NORMAL")
        try:
            with self._transaction:
                return work(self._connection)
        finally:
            if self._full_sync:
                self._execute("PRAGMA synchronous = FULL")
            self._begin_checkpoint()

    # Older rows, and the scan of keys.

    @property
    def must_prepare(self) -> bool:
        """Whether `prepare` must be called."""
        return not self._keys.is_complete

    def prepare(self, seconds: float) -> bool:
        """Bring rows of an older version into the present form for some seconds, then scan keys.

        Return whether more must follow.
        """
        must_continue = self.older_rows.add_some(seconds) or self._keys.scan()
        self._begin_checkpoint()
        return must_continue

    # Metadata: short texts by key.

    def load_metadata(self) -> dict[str, str]:
        """Return all metadata."""
        return {
            key: value
            for key, value in self._execute("SELECT key, value FROM meta")
            if isinstance(key, str) and isinstance(value, str)
        }

    def save_metadata(self, metadata: Mapping[str, str | None]) -> None:
        """Save metadata. None deletes a key."""
        self.commit((), metadata)

    # Events.

    def repair_times(self) -> int:
        """Remove times outside the calendar, and return how many events had one."""
        return repair_times(self._connection)

    def bounds(self) -> tuple[int, int, int | None] | None:
        """Return the first number, the last number and the highest time; None without rows."""
        row = self._execute("SELECT seq, high FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        if row is None:
            return None
        [first] = self._execute("SELECT min(seq) FROM events").fetchone()
        return first, *row

    def commit(self, entries: Sequence[Entry], metadata: Mapping[str, str | None]) -> None:
        """Add entries that have their numbers, and save metadata, in one transaction."""
        with self._transaction:
            for entry in entries:
                event = entry.event
                if entry.unstored:
                    self._keys.add_unstored(entry.unstored, entry.seq)
                if event is None or not self._insert(entry, event):
                    # The disk could not be read when the event came, so a duplicate was not
                    # recognised. Its number has been delivered, so it is stored too. Without a
                    # digest it is no duplicate for SQLite, and clients can name it.
                    self._insert_row(entry, None if event is None else event.identity, None, event)
                elif self._keys.filter.room <= 0:
                    self._keys.begin_scan()
            self._save(metadata)
        self._begin_checkpoint()

    def read(self, after: int, limit: int, *, finds_damage: bool = True) -> list[Row]:
        """Return up to `limit` rows that follow number `after`, and at least one.

        The next row must exist. Raises DamageError if it, or a row between two others, is missing,
        or if an event is none. Without `finds_damage`, any bytes count as one.
        """
        rows: list[Row] = []
        size = 0
        cursor = self._execute(_READ, (after, limit))
        for seq, payload, time in cursor:
            is_event = is_frame(payload) if finds_damage else isinstance(payload, bytes)
            if payload is not None and not is_event:
                raise DamageError(f"event {seq} is no event")
            size += len(payload or b"")
            if rows and size > READ_BYTES:
                # An unfinished SELECT is an open read transaction, which keeps SQLite from
                # reusing the write-ahead log: the log would grow.
                cursor.close()
                break
            after += 1
            if seq != after:
                raise DamageError(f"event {after} is missing")
            rows.append(Row(seq, payload, time))
        if not rows:
            raise DamageError(f"event {after + 1} is missing")
        return rows

    def list_keys(self, after: int, limit: int) -> list[tuple[str, bytes]]:
        """Return the keys of the newest `limit` events that are after a time or have none."""
        rows = self._execute(
            "SELECT identity, events.digest, executions.digest FROM events"
            " LEFT JOIN executions USING (seq) WHERE high > ? AND ifnull(time, high) > ?"
            " AND identity IS NOT NULL ORDER BY seq DESC LIMIT ?",
            (after, after, limit),
        )
        return [("", run) if run else (identity, digest) for identity, digest, run in rows]

    def next_hole(self, after: int) -> int | None:
        """Return the number of the first hole behind number `after`; None if there is none."""
        # Both columns: SQLite then finds the row in the index of the UNIQUE constraint.
        return self._first(
            "SELECT min(seq) FROM events WHERE identity IS NULL AND digest IS NULL AND seq > ?",
            after,
        )

    def find(self, identity: str) -> int | None:
        """Return the number of the first event with this identity; None if there is none.

        A correction may have the id of what it corrects, and a client may have only the first.
        """
        # Identities are ASCII. A str with a lone surrogate cannot be passed to SQLite at all.
        if not identity.isascii():
            return None
        return self._first("SELECT min(seq) FROM events WHERE identity = ?", identity)

    def first_since(self, time: int) -> int | None:
        """Return the number of the first row whose `max_time` is at least `time` (microseconds).

        Returns None if there is none.
        """
        return self._first(
            "SELECT seq FROM events WHERE high >= ? ORDER BY high, seq LIMIT 1", time
        )

    def first_at(self, time: int) -> int | None:
        """Return the number of the first row with exactly this time (microseconds).

        Returns None if there is none. Raises UnreadableError while that is not known.
        """
        if (seq := self._find_risen_to(time)) is not None:
            return seq
        older = self.older_rows.max_time
        if older is not None and time < older:
            raise UnreadableError  # an older row that is not in `late` yet may have this time
        return self._first("SELECT min(seq) FROM late WHERE time = ?", time)

    def _find_risen_to(self, time: int) -> int | None:
        """Return the number of the row with which the highest time rises to exactly this one."""
        row = self._execute(
            "SELECT seq, time FROM events WHERE high >= ? ORDER BY high, seq LIMIT 1", (time,)
        ).fetchone()
        return int(row[0]) if row is not None and row[1] == time else None

    def get_late_time(self, seq: int) -> int | None:
        """Return the time of a row that follows one with a higher time; None for any other."""
        return self._first("SELECT time FROM late WHERE seq = ?", seq)

    def find_max_time(self, limit: int) -> int | None:
        """Return the highest time of a row that is not after `limit` (microseconds since 1970)."""
        risen = self._first("SELECT max(high) FROM events WHERE high <= ?", limit)
        late = self._first("SELECT max(time) FROM late WHERE time <= ?", limit)
        return max_optional(risen, late)

    # Orders.

    def order(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order; None if the order is unknown."""
        row = self._execute(f"{_ORDER} WHERE id = ?", (order_id,)).fetchone()
        return None if row is None else OrderState(*row)

    def open_orders(self) -> list[OrderState]:
        """Return the newest MAX_OPEN_ORDERS whose newest state is open, in their events' order."""
        query = f"{_ORDER} WHERE closed = 0 ORDER BY seq DESC LIMIT ?"
        rows = self._execute(query, (MAX_OPEN_ORDERS,)).fetchall()
        return [OrderState(*row) for row in reversed(rows)]

    # Trimming.

    def find_due(self, first: int, count: int, due: Due) -> int:
        """Return the number of the last row to trim; `first` - 1 if no row is due.

        `first` is the number of the first stored row, and at most `count` rows are trimmed. A row
        is trimmed only together with all rows before it. Whatever their age, the rows from the
        first one with the highest time on are kept.
        """
        if due.before is None:
            return min(due.seq, first + count - 1)
        # The clock may have been years behind when a row was received. Its event's time is then
        # the better date, unless that is wrong and lies in the future.
        kept = (
            "SELECT seq FROM events WHERE seq > ? AND seq < ?"
            " AND (received >= ? OR time >= ? AND time <= ?) ORDER BY seq LIMIT 1"
        )
        end = first + count
        first_kept = self._first(kept, due.seq, end, due.before, due.before, due.event_limit)
        newest = self._find_newest(due.event_limit)
        return max(min(first_kept or end, newest or end) - 1, min(due.seq, end - 1))

    def _find_newest(self, limit: int) -> int | None:
        """Return the number of the first row with the highest time that is not after `limit`."""
        if (time := self.find_max_time(limit)) is None:
            return None
        seq = self._find_risen_to(time)
        return self._first("SELECT min(seq) FROM late WHERE time = ?", time) if seq is None else seq

    def read_trimmed(self, through: int, limit: int) -> tuple[TrimmedEvent, int | None]:
        """Return what stays known of the rows up to number `through` after they are trimmed.

        That is their last event, and their highest time that is not after `limit`. All times are
        microseconds since 1970. A hole has the identity "", which no event has.
        """
        max_time = self._first(f"{_MAX_TIME} AND at <= ?", through, limit)
        row = self._execute(
            "SELECT identity, time FROM events WHERE seq = ?", (through,)
        ).fetchone()
        if row is None:
            raise DamageError(f"event {through} is missing")
        identity, time = row
        others = self._first(_MAX_TIME, through - 1)
        is_only = time is not None and (others is None or time > others)
        return TrimmedEvent(through, identity or "", time if is_only else None), max_time

    def trim(self, through: int, metadata: Mapping[str, str | None]) -> None:
        """Delete the rows up to number `through`, and save metadata, in one transaction.

        Closed orders without a later event are deleted too. Open orders stay.
        """
        with self._transaction:
            self._execute("DELETE FROM events WHERE seq <= ?", (through,))
            self._execute("DELETE FROM executions WHERE seq <= ?", (through,))
            self._execute("DELETE FROM late WHERE seq <= ?", (through,))
            self._execute("DELETE FROM orders WHERE closed = 1 AND seq <= ?", (through,))
            self._execute("DELETE FROM unstored WHERE seq <= ?", (through,))
            self._save(metadata)
            has_unstored = self._keys.find_any_unstored()
        self._keys.has_unstored = has_unstored  # not earlier: a failed COMMIT brings the rows back
        self._begin_checkpoint()

    # Parts of transactions.

    def _insert(self, entry: Entry, event: Event) -> bool:
        # First: a key too many costs a query, no more. `has` asks for the same one.
        keys = self._keys
        keys.filter.add(event.execution or event.digest or event.identity)
        keys.filter.room -= 1
        if keys.has_unstored and keys.is_unstored(event):
            return False
        if (execution := event.execution) and (
            (self.older_rows.last > 0 and keys.is_older(event))
            or self._execute(_INSERT_EXECUTION, (entry.seq, execution)).rowcount == 0
        ):
            return False
        if not self._insert_row(entry, event.identity, execution or event.digest, event):
            return False
        if (order := event.order) is not None:
            closed = not order.is_open
            state = (order.id, entry.seq, order.status, order.filled_qty, order.time, closed)
            self._execute(_UPDATE_ORDER, state)
        return True

    def _insert_row(
        self, entry: Entry, identity: str | None, digest: bytes | None, event: Event | None
    ) -> bool:
        payload, time = (None, None) if event is None else (event.payload, event.time)
        key = (entry.seq, identity, digest)
        values = (*key, time, entry.max_time, entry.received, payload)
        if self._execute(_INSERT, values).rowcount == 0:
            return False
        if time is not None and entry.max_time is not None and time < entry.max_time:
            self._execute(_INSERT_LATE, (entry.seq, time))
        return True

    def _save(self, metadata: Mapping[str, str | None]) -> None:
        for key, value in metadata.items():
            if value is None:
                self._execute("DELETE FROM meta WHERE key = ?", (key,))
            else:
                self._execute(_SAVE, (key, value))

    def _first(self, query: str, *values: object) -> int | None:
        value: int | None = fetch_value(self._connection, query, *values)
        return value
