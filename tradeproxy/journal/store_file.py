"""The store in its file: opened, or made beside what is left of an old one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from tradeproxy.journal.connection import DamageError
from tradeproxy.journal.file import JournalFile
from tradeproxy.journal.store import Store
from tradeproxy.journal.wal_checkpoints import InThread, WalCheckpoints
from tradeproxy.runtime.account_log import AccountLogger

CHECKED_SIZE = 32 * 1024 * 1024
"""The largest file (bytes) that is checked when it is opened: a fraction of a second."""

LOST = "lost"
"""Part of the new name of what is left of a database that was removed."""


class StoreFile:
    """Opens one account's store, in the files of its journal or in memory.

    Its methods raise JournalError, SchemaError, OSError or sqlite3.Error.
    """

    def __init__(
        self,
        account: str,
        file: JournalFile | None,
        *,
        full_sync: bool,
        connect: Callable[..., sqlite3.Connection],
        in_thread: InThread | None,
    ) -> None:
        """Open nothing yet.

        Args:
            account: its name, for the log.
            file: the files of the journal; None keeps the store in memory.
            full_sync: whether every commit is synced to the disk.
            connect: sqlite3.connect, or a replacement for tests.
            in_thread: runs checkpoints of the write-ahead log; None leaves them to COMMIT.
        """
        self.path = None if file is None else file.path
        self.lost: Path | None = None
        """The file that is not at its path any more, by the last look."""
        self._log = AccountLogger(self, account)
        self._file = file
        self._full_sync = full_sync
        self._connect = connect
        self._in_thread = in_thread
        # The parts of the old file's new name, kept until the renaming succeeds.
        self._aside: tuple[str, str] | None = None

    def __str__(self) -> str:
        return ":memory:" if self.path is None else str(self.path)

    def open(self) -> Store | None:
        """Lock the files for this process and return their store; None if there is none yet."""
        if self._file is None:
            return None
        self._file.acquire()
        if self._file.has_lost_database:
            # SQLite would take what is left for a part of the next database.
            raise DamageError("the database is missing")
        return self._open() if self._file.size > 0 else None

    def check(self, store: Store) -> None:
        """Read the whole file, unless it is large. Raises DamageError if it is damaged."""
        if self._file is not None and self._file.size <= CHECKED_SIZE:
            store.check_integrity()

    def give_up(self, why: str, epoch: str) -> None:
        """Let the next `create` rename the old file. The first reason becomes part of its name."""
        self._aside = self._aside[0] if self._aside else why, epoch

    def create(self) -> Store:
        """Return the store of the file at the path, which is made if there is none.

        Call `remember` once it is written to.
        """
        if self._file is not None:
            if self._aside is not None:
                why, epoch = self._aside
                if why == LOST:
                    self._file.lock()  # makes the directory, if that is gone too
                if names := self._file.set_aside(why, epoch):
                    self._log.warn(
                        "started a new journal; the old one is kept as {aside}", aside=names[0]
                    )
                self._aside = None
            self._file.lock()
            self._file.watch.forget()
            self._file.create()
        return self._open()

    def set_aside_foreign(self, epoch: str) -> None:
        """Rename files with which another program has replaced the open ones."""
        if self._file is not None:
            self._file.set_aside_foreign(epoch)

    def release(self) -> None:
        """Unlock the files, whose store is closed."""
        if self._file is not None:
            self._file.release()

    def remember(self) -> None:
        """Record which files are open now."""
        self.lost = None
        if self._file is not None:
            self._file.watch.remember()

    def find_lost(self) -> Path | None:
        """Return the first file that is gone, or is another one now; None if all are in place.

        It is logged once.
        """
        lost = None if self._file is None else self._file.find_lost()
        if lost is not None and lost != self.lost:
            self._log.error("{path} was removed, or is another file now", path=str(lost))
        self.lost = lost
        return lost

    def _open(self) -> Store:
        is_threaded = self._file is not None and self._in_thread is not None
        open_checkpoints = self._open_checkpoints if is_threaded else None
        # timeout=0: waiting for another program's lock would block the reactor.
        connection = self._connect(str(self), timeout=0, isolation_level=None)
        return Store(connection, full_sync=self._full_sync, open_checkpoints=open_checkpoints)

    def _open_checkpoints(self) -> WalCheckpoints:
        assert self._in_thread is not None
        connection = self._connect(
            str(self), timeout=0, isolation_level=None, check_same_thread=False
        )
        return WalCheckpoints(connection, self._in_thread, full_sync=self._full_sync)
