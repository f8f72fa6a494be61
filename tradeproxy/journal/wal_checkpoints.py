"""Checkpoints of SQLite's write-ahead log in a thread: they copy many pages, and sync the disk.

SQLite makes one itself, within the COMMIT that lets the log grow to a number of pages. All clients
wait meanwhile. So the store leaves that to a second connection, which a thread uses:

    the log has                what happens
    -------------------------  ---------------------------------------------------------------
    fewer than CHANGES new     nothing
    CHANGES, or more           a checkpoint in a thread, unless one is running
    MAX_PAGES in all           SQLite makes one in each COMMIT, until the log begins again

These checkpoints are passive: they wait for no reader and no writer, and none waits for them. The
log begins again with the first write after a checkpoint that has reached its end. In a flood, when
there are writes during each one, that happens at MAX_PAGES.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from threading import Lock
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from tradeproxy.journal.connection import set_sync

InThread = Callable[[Callable[[], None]], Deferred[Any]]
"""Calls a function that blocks in a thread."""

CHANGES = 4_000
"""Changed rows, of all tables, after which a checkpoint is due: 1,400 to 3,000 pages. Many of them
are the same ones, so twice as many rows take less than twice as long."""

MAX_PAGES = 8_000
"""Pages of the log (32 MB) from which SQLite does not wait for the thread."""

CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"


class WalCheckpoints:
    """The checkpoints of one database, one at a time.

    The connection is theirs. It is as old as the store's own: a file that is put at the path later
    is never written to. Its errors are ignored, as SQLite does in a COMMIT: the next write or
    read fails too, and that is reported.
    """

    _log = Logger()

    def __init__(
        self, connection: sqlite3.Connection, in_thread: InThread, *, full_sync: bool
    ) -> None:
        """Open the files, and run nothing yet. May raise sqlite3.Error.

        `connection` is for any thread, in autocommit mode; it is closed if the files fail.
        """
        self._connection = connection
        self._in_thread = in_thread
        try:
            set_sync(connection, full_sync)
            # SQLite opens the write-ahead log with the first read.
            connection.execute("PRAGMA schema_version").fetchall()
        except BaseException:
            connection.close()
            raise
        self._changes = 0
        self.is_running = False
        """Whether one runs, or waits for its thread."""
        self.lock: AbstractContextManager[Any] = Lock()
        """Keeps the thread from the files. To get it may take as long as a checkpoint."""

    def begin_when_due(self, changes: int) -> None:
        """Begin a checkpoint if it is due. `changes` counts all since the store was opened."""
        if changes - self._changes >= CHANGES and not self.is_running:
            self._changes, self.is_running = changes, True
            # Called directly, it raises if the process cannot start a thread: after the COMMIT.
            running = maybeDeferred(self._in_thread, self._run)
            running.addErrback(lambda failure: self._log.failure("WAL checkpoint", failure))
            running.addCallback(self._end)

    def _end(self, _: object) -> None:
        self.is_running = False

    def _run(self) -> None:
        # After `close`, this fails.
        with self.lock, suppress(sqlite3.Error):
            self._connection.execute(CHECKPOINT).fetchall()

    def close(self) -> None:
        """Wait for the end of a checkpoint, and close the connection."""
        with self.lock, suppress(sqlite3.Error):
            self._connection.close()
