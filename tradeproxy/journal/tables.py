"""The book's tables in a temporary database, for a journal that is not in a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from tradeproxy.journal.base import UnreadableError
from tradeproxy.journal.connection import Transaction, is_fault
from tradeproxy.journal.schema import BOOK_TABLES

_T = TypeVar("_T")


class TemporaryTables:
    """The tables in a temporary file that SQLite makes once it needs one, and deletes."""

    is_busy = False

    def __init__(self) -> None:
        # Without a name, the database is a file that no other process can open.
        self._connection = sqlite3.connect("", isolation_level=None)
        for name, value in (("journal_mode", "OFF"), ("synchronous", "OFF"), ("temp_store", "1")):
            self._connection.execute(f"PRAGMA {name} = {value}")
        self._connection.executescript(BOOK_TABLES)
        self._transaction = Transaction(self._connection)

    def run(self, work: Callable[[sqlite3.Connection], _T], *, writes: bool = False) -> _T:
        """See journal.base.Tables."""
        try:
            if not writes:
                return work(self._connection)
            with self._transaction:
                return work(self._connection)
        except sqlite3.Error as error:
            if is_fault(error):
                raise UnreadableError from None
            raise

    def close(self) -> None:
        """Delete the file."""
        with suppress(sqlite3.Error):
            self._connection.close()
