"""Rows that an older version wrote: repaired, and added to newer tables in short steps."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from tradeproxy.journal.base import max_optional
from tradeproxy.journal.connection import Transaction, fetch_value
from tradeproxy.wire.event import MAX_TIME, MIN_TIME
from tradeproxy.wire.messages import TradeUpdate, parse_server

MAX_STEP = 0.001
"""Seconds for which one step reads rows. With the commit it blocks the reactor for 2 to 4 ms."""

STEP_EVERY = 0.01
"""Seconds between two steps. A million rows take two minutes, at a fifth of one processor."""

_UNINDEXED = "unindexed"
"""The key in `meta`; see schema.py."""

_CANDIDATES = (b'"fill"', b'"partial_fill"', b'"trade_bust"', b'"trade_correct"')
"""What the payload of an execution contains. Searching for it saves parsing most of the rows."""


def repair_times(connection: sqlite3.Connection) -> int:
    """Remove times outside the calendar, which earlier versions stored.

    Returns how many events had one. Without such an event this is two look-ups in an index, and a
    pass over the orders, which are few. May raise sqlite3.Error.
    """
    limits = MAX_TIME, MIN_TIME
    if fetch_value(connection, "SELECT 1 FROM orders WHERE time > ? OR time < ?", *limits):
        with Transaction(connection):
            connection.execute("UPDATE orders SET time = 0 WHERE time > ? OR time < ?", limits)
    # Not with OR: SQLite then reads all rows in their order until one matches.
    query = (
        "SELECT min(seq) FROM (SELECT seq FROM events WHERE high > ?"
        " UNION ALL SELECT seq FROM events WHERE high < ?)"
    )
    first = fetch_value(connection, query, *limits)
    if first is None:
        return 0
    with Transaction(connection):
        cursor = connection.execute(
            "UPDATE events SET time = NULL WHERE time > ? OR time < ?", limits
        )
        connection.executemany(
            "UPDATE events SET high = ? WHERE seq = ?", _read_max_times(connection, first)
        )
    return cursor.rowcount


def _read_max_times(connection: sqlite3.Connection, first: int) -> list[tuple[int | None, int]]:
    """Return the highest time up to each row from `first` on, with the row's number."""
    query = "SELECT high FROM events WHERE seq = ?"
    max_time: int | None = fetch_value(connection, query, first - 1)
    found: list[tuple[int | None, int]] = []
    for seq, time in connection.execute(
        "SELECT seq, time FROM events WHERE seq >= ? ORDER BY seq", (first,)
    ):
        max_time = max_optional(max_time, time)
        found.append((max_time, seq))
    return found


class OlderRows:
    """The rows of schema version 1, which are not in the tables of version 2 yet.

    The newest rows come first: Alpaca repeats recent events, and clients resume from them. Every
    method may raise sqlite3.Error.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute
        text = fetch_value(connection, "SELECT value FROM meta WHERE key = ?", _UNINDEXED)
        self.last = 0 if text is None else self._read_number(text)
        """The number of the last row that is missing in the new tables; 0 if none is."""

    def _read_number(self, text: str) -> int:
        try:
            return int(text)
        except ValueError:  # damaged: begin again
            query = "SELECT coalesce(max(seq), 0) FROM events"
            return int(fetch_value(self._connection, query))

    @property
    def max_time(self) -> int | None:
        """The highest time up to row `last` (microseconds since 1970); None without such a row."""
        query = "SELECT high FROM events WHERE seq <= ? ORDER BY seq DESC LIMIT 1"
        max_time: int | None = fetch_value(self._connection, query, self.last)
        return max_time

    def add_some(self, seconds: float) -> bool:
        """Add rows for some seconds, in one transaction; return whether more must follow."""
        if self.last:
            with _unsynced(self._connection), Transaction(self._connection):
                last = self._add_rows(seconds)
            self.last = last  # not earlier: a failed COMMIT rolls the rows back
        return self.last > 0

    def _add_rows(self, seconds: float) -> int:
        """Add rows, and return the next value of `last`."""
        end = perf_counter() + seconds
        cursor = self._execute(
            "SELECT seq, time, high, payload FROM events WHERE seq <= ? ORDER BY seq DESC",
            (self.last,),
        )
        last = 0
        for seq, time, max_time, payload in cursor:
            if time is not None and time < max_time:
                self._execute("INSERT OR IGNORE INTO late VALUES (?, ?)", (seq, time))
            if digest := read_execution(payload):
                self._execute("INSERT OR IGNORE INTO executions VALUES (?, ?)", (seq, digest))
            if perf_counter() >= end:
                last = seq - 1
                break
        cursor.close()  # an unfinished SELECT is an open read transaction
        if last:
            self._execute("UPDATE meta SET value = ? WHERE key = ?", (str(last), _UNINDEXED))
        else:
            self._execute("DELETE FROM meta WHERE key = ?", (_UNINDEXED,))
        return last


@contextmanager
def _unsynced(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit without a sync of the disk, which takes longer than a step.

    After a power cut the step may be lost as a whole.
    """
    synchronous = fetch_value(connection, "PRAGMA synchronous")
    connection.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA synchronous = {synchronous}")


def read_execution(payload: bytes | None) -> bytes:
    """Return the hash of the execution in an event's frame; empty if there is none."""
    if payload is None or not any(each in payload for each in _CANDIDATES):
        return b""
    message = parse_server(payload)
    return message.event.execution if isinstance(message, TradeUpdate) else b""
