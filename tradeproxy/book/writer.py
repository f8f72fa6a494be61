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

WRITE_BYTES = 4 * 1024 * 1024
"""Bytes of orders after which it is written at once: until then they are in memory."""


class _Changing(NamedTuple):
    tables: Tables
    state: BookState
    strategies: Strategies


class BookWriter:
    """Writes a state and its cursor in one transaction. Idle until `begin`."""

    def __init__(
        self,
        tail: LogTail,
        on_error: Callable[[Exception], None],
    ) -> None:
        """Write nothing yet.

        Args:
            tail: has the cursor of the state.
            on_error: called if the book's tables cannot be used, or cannot have what changed. What
                is not written is lost then.
        """
        self._tail = tail
        self._on_error = on_error
        self._changing: _Changing | None = None

    def begin(self, tables: Tables, state: BookState, strategies: Strategies) -> None:
        """Write this state from now on."""
        self._changing = _Changing(tables, state, strategies)

    def stop(self) -> None:
        """Write nothing any more."""
        self._changing = None

    @property
    def is_due(self) -> bool:
        """Whether so much has changed that it must be written before more rows are applied."""
        what = self._changing
        return what is not None and (
            max(len(what.state.events), what.strategies.records.unsaved) >= WRITE_ROWS
            or what.state.orders.dirty_bytes >= WRITE_BYTES
        )

    @property
    def has_changes(self) -> bool:
        """Whether anything is not written."""
        what = self._changing
        return what is not None and (what.state.has_changes or what.strategies.records.has_changes)

    def write(self) -> bool:
        """Write what changed, with the cursor; return whether that is done. See Positions."""
        what = self._changing
        if what is None or not self.has_changes:
            return True
        if (cursor := self._tail.cursor) is None:
            return False  # the last row is not durable, or the log is another one

        def save(sql: sqlite3.Connection) -> None:
            store.save(sql, what.state, cursor)
            what.strategies.save(sql)

        try:
            what.tables.run(save, writes=True)
        except UnreadableError:
            return False
        except Exception as error:  # the next attempt would end like this one, and so on for ever
            self._on_error(error)
            return False
        what.state.clear_changes()
        what.strategies.records.clear_changes()
        return True
