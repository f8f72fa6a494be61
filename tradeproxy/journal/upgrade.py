"""Rows that an older version wrote: what the tables need of them is added in short steps."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from tradeproxy.wire.messages import TradeUpdate, parse_server

if TYPE_CHECKING:
    import sqlite3

MAX_STEP = 0.001
"""Seconds for which one step reads rows. With the commit it blocks the reactor for 2 to 4 ms."""

STEP_EVERY = 0.01
"""Seconds between two steps. A million rows take two minutes, at a fifth of one processor."""

_UNINDEXED = "unindexed"
"""The key in `meta`; see schema.py."""

_CANDIDATES = (b'"fill"', b'"partial_fill"', b'"trade_bust"', b'"trade_correct"')
"""What the payload of an execution contains. Searching for it saves parsing most of the rows."""


class OlderRows:
    """The rows of schema version 1, which are not in the tables of version 2 yet.

    The newest rows come first: Alpaca repeats recent events, and clients resume from them. Every
    method may raise sqlite3.Error.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        row = self._execute("SELECT value FROM meta WHERE key = ?", (_UNINDEXED,)).fetchone()
        self.last = 0 if row is None else self._read_number(row[0])
        """The number of the last row that is missing in the new tables; 0 if none is."""

    def _read_number(self, text: str) -> int:
        try:
            return int(text)
        except ValueError:  # damaged: begin again
            [last] = self._execute("SELECT max(seq) FROM events").fetchone()
            return last or 0

    @property
    def max_time(self) -> int | None:
        """The highest time up to row `last` (microseconds since 1970); None without such a row."""
        row = self._execute(
            "SELECT high FROM events WHERE seq <= ? ORDER BY seq DESC LIMIT 1", (self.last,)
        ).fetchone()
        return None if row is None else row[0]

    def add_some(self, seconds: float) -> int:
        """Add rows for some seconds, and return the next value of `last`.

        Call it in a transaction, while `last` is not 0. Set `last` once that is committed.
        """
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


def read_execution(payload: bytes | None) -> bytes:
    """Return the hash of the execution in an event's frame; empty if there is none."""
    if payload is None or not any(each in payload for each in _CANDIDATES):
        return b""
    message = parse_server(payload)
    return message.event.execution if isinstance(message, TradeUpdate) else b""
