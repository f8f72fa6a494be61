"""Writes the state of a book, with its cursor."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from tradeproxy.book import store
from tradeproxy.book.state import BookState
from tradeproxy.book.strategies import Strategies
from tradeproxy.hub.log_tail import LogTail
from tradeproxy.journal.base import Tables, UnreadableError

WRITE_ROWS = 160
"""Rows after which the state is written at once: that takes about 3 ms. Fewer rows cost more each,
since a write takes whole pages, and most of them are the same ones again."""

BUILD_ROWS, BUSY_ROWS = 256, 320
"""The same while the book is built. Its two transactions take 2 ms each. While a checkpoint of the
write-ahead log runs, which a write would wait for, up to BUSY_ROWS are applied before it: in a
large file a transaction takes 3 ms then."""

WRITE_BYTES = 4 * 1024 * 1024
"""Bytes of orders after which it is written at once: until then they are in memory."""


class _Changing(NamedTuple):
    tables: Tables
    state: BookState
    strategies: Strategies


class BookWriter:
    """Writes a state and its cursor in one transaction. Idle until `begin`.

    While the book is built, the strategies are written first, with a cursor of their own. A crash
    may leave them ahead of the rest: the rows up to their cursor are in them already.
    """

    def __init__(
        self,
        tail: LogTail,
        on_error: Callable[[Exception], None],
        on_write: Callable[[], None],
    ) -> None:
        """Write nothing yet.

        Args:
            tail: has the cursor of the state.
            on_error: called if the book's tables cannot be used, or cannot have what changed. What
                is not written is lost then.
            on_write: called after a write, while the state still says what has changed.
        """
        self._tail = tail
        self._on_error = on_error
        self._on_write = on_write
        self._changing: _Changing | None = None
        self.is_building = False
        """Whether the book is built: a write is larger then."""
        self.is_held = False
        """Whether the strategies have rows that the state has not. Nothing is written then: after a
        crash, they would get these rows again, and note a correction that they know."""

    def begin(self, tables: Tables, state: BookState, strategies: Strategies) -> None:
        """Write this state from now on."""
        self.is_held = False
        self._changing = _Changing(tables, state, strategies)
        self.is_building = True

    def stop(self) -> None:
        """Write nothing any more."""
        self._changing = None

    @property
    def is_due(self) -> bool:
        """Whether so much has changed that it must be written before more rows are applied."""
        if not self.is_building or self._changing is None:
            return self.has_many
        return self._has(BUSY_ROWS if self._changing.tables.is_busy else BUILD_ROWS)

    @property
    def room(self) -> int:
        """Rows that may be applied before the next write, while the book is built; at least one.

        If that write has failed, there may be more.
        """
        what = self._changing
        return BUSY_ROWS if what is None else max(BUSY_ROWS - len(what.state.events), 1)

    @property
    def has_many(self) -> bool:
        """Whether it must be written while no book is built."""
        return self._has(WRITE_ROWS)

    def _has(self, rows: int) -> bool:
        what = self._changing
        return what is not None and (
            max(len(what.state.events), what.strategies.records.unsaved) >= rows
            or what.state.orders.dirty_bytes >= WRITE_BYTES
        )

    @property
    def has_changes(self) -> bool:
        """Whether anything is not written."""
        what = self._changing
        return what is not None and (what.state.has_changes or what.strategies.records.has_changes)

    def write(self) -> bool:
        """Write what changed, with the cursor; return whether that is done. See Positions.

        While the book is built, a call writes half of it.
        """
        what = self._changing
        if what is None or not self.has_changes:
            return True
        if self.is_held or (cursor := self._tail.cursor) is None:
            return False  # or the last row is not durable, or the log is another one

        records = what.strategies.records
        writes_half = self.is_building and records.has_changes

        def save(sql: sqlite3.Connection) -> None:
            what.strategies.save(sql)
            if writes_half:
                store.save_meta(sql, {"strategies": cursor})
            else:
                store.save(sql, what.state, cursor)

        try:
            what.tables.run(save, writes=True)
        except UnreadableError:
            return False
        except Exception as error:  # the next attempt would end like this one, and so on for ever
            self._on_error(error)
            return False
        records.clear_changes()
        if not writes_half:
            self._on_write()
            what.state.clear_changes()
        return True
