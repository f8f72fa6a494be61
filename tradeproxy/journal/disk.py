"""The failures of a journal's store: retry what fails, replace a file that is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tradeproxy.journal.backlog import Backlog, Entry
from tradeproxy.journal.base import JournalError, UnreadableError
from tradeproxy.journal.connection import DamageError, is_broken, is_damage, is_fault
from tradeproxy.journal.disk_status import DiskStatus
from tradeproxy.journal.schema import SchemaError
from tradeproxy.journal.spool import Spool
from tradeproxy.journal.store import Store
from tradeproxy.journal.store_file import LOST, StoreFile
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.wire.event import Event
from tradeproxy.wire.plural import plural_ending
from tradeproxy.wire.proxy_status import JournalStatus

STEP = 1000
"""Rows of the backlog that one transaction commits: they remain if a later one fails."""

RETRY_EVERY = 1.0
"""Seconds between two attempts to write while the disk fails."""

WATCH_EVERY = 2.0
"""Seconds between two looks at the paths of the open files."""

_NO_FILE = (OSError, JournalError, SchemaError)
"""What prevents a new file, besides sqlite3.Error."""

_T = TypeVar("_T")


class Disk:
    """One account's store, in a file or in memory, and whether it accepts writes.

    `status.durable` and the presence of a store make three states:

        state             event                                       next state
        ----------------  ------------------------------------------  ----------------
        durable           the disk fails                              retrying
        durable           damage or loss, new file created            durable
        durable           damage or loss, no new file possible        without a store
        durable           the write-ahead log is gone, reopened       durable
        durable           the same, and the database cannot be        retrying
                          written
        retrying          a retry commits the backlog                 durable
        retrying          damage or loss, new file created            retrying
        retrying          damage or loss, no new file possible        without a store
        without a store   a retry creates a file                      durable

    Loss: the database is gone from its path, or is another file now, or another process has the
    lock. A new file begins a new epoch. An old file is renamed, never deleted.
    """

    def __init__(
        self,
        name: str,
        file: StoreFile,
        spool: Spool,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        backlog: Backlog,
        *,
        begin_epoch: Callable[[], str],
        metadata: Callable[[], Mapping[str, str | None]],
        on_status: Callable[[JournalStatus], None],
        on_replaced: Callable[[], None],
    ) -> None:
        """Open nothing yet.

        Args:
            name: the account, for the log.
            file: opens the store.
            spool: takes the newest rows, if it can.
            clock: schedules the retries.
            wall_clock: Unix time in seconds, for the status.
            backlog: the rows that the store does not have yet.
            begin_epoch: called before a new file begins; returns the epoch.
            metadata: returns what to save in a new file, and after every failure.
            on_status: called with every new status.
            on_replaced: called when a new epoch has begun because the file was lost.
        """
        self._health = DiskStatus(name, file.path, wall_clock, on_status)
        self._log = AccountLogger(self, name)
        self._file = file
        self._spool = spool
        self._clock = clock
        self._backlog = backlog
        self._begin_epoch = begin_epoch
        self._metadata = metadata
        self._on_replaced = on_replaced
        self._store: Store | None = None
        self._is_unsaved = False  # metadata
        self._retry_timer: IDelayedCall | None = None
        self._watch_timer: IDelayedCall | None = None

    def __str__(self) -> str:
        return str(self._file)

    @property
    def status(self) -> JournalStatus:
        """Whether the disk accepts writes, and why not."""
        return self._health.status

    def describe(self, error: Exception) -> str:
        """Return what is wrong with the disk, as a short phrase."""
        return self._health.describe(error)

    def open(self) -> Store | None:
        """Lock the files for this process and return their store; None if there is none yet.

        Raises JournalError, SchemaError, OSError or sqlite3.Error.
        """
        self._store = self._file.open()
        return self._store

    def restore(self, epoch: str, last: int) -> Entry | None:
        """Add the rows of the spool to the backlog, and return the last one; None without rows.

        These are the rows of this epoch that follow number `last`. The next `flush` stores them.
        Raises OSError.
        """
        rows = self._spool.read(epoch, last)
        if not rows or rows[0].seq > last + 1:
            # In the second case a power cut has taken rows from the database.
            self._spool.restart()
            return None
        for row in rows:
            self._backlog.add(row)
        return rows[-1]

    def check(self) -> None:
        """Read the whole file, unless it is large. Raises DamageError if it is damaged."""
        if self._store is not None:
            self._file.check(self._store)

    def start_watching(self) -> None:
        """Look regularly whether the files are still at their paths."""
        if self._file.path is not None:
            self._watch_timer = self._clock.callLater(WATCH_EVERY, self._watch)
            with suppress(OSError):
                self._file.remember()

    def _watch(self) -> None:
        self._watch_timer = self._clock.callLater(WATCH_EVERY, self._watch)
        self.check_paths()

    def check_paths(self) -> bool:
        """Replace a database that is lost. Open it again if only another file of it is.

        Returns whether the store writes to the files at the paths.
        """
        if self._store is None:
            return True
        try:
            lost = self._file.find_lost()
        except OSError:
            return True  # the directory cannot be read at the moment
        if lost is not None and lost == self._file.path:
            self._replace_lost(LOST)
        elif lost is not None:
            self._reopen()
        # Last: the rows of a spool that is lost too are for the database at the path.
        self._check_spool()
        return self._file.lost is None

    def _check_spool(self) -> None:
        """Close a spool that is lost. The next commit makes another one."""
        if self._spool.is_lost:
            self._spool.close()
            self._backlog.mark_volatile()
            self.flush()

    def _reopen(self) -> None:
        """Write to the database what only the open files have, and open it again."""
        assert self._store is not None
        try:
            self._store.checkpoint()
            before = self._store.bounds()
            # On closing, SQLite deletes what is at these paths, without a look at what it is.
            self._file.set_aside_foreign(self._metadata()["epoch"] or "")
            self._close_store()
            self._create()
            if self._store.bounds() != before:
                raise DamageError("rows")
        except sqlite3.Error as error:
            self._handle_error(error)
        except _NO_FILE as error:
            self._degrade(self._health.describe_with_path(error))

    def close(self) -> None:
        """Commit what can be committed, and release the files. A second call has no effect."""
        if self._watch_timer is not None:
            self._watch_timer.cancel()
            self._watch_timer = None
        if self._retry_timer is not None:
            self._retry_once()  # with a timer: a failure starts no other one
            self._retry_timer.cancel()
            self._retry_timer = None
        self.flush()
        if count := self._backlog.volatile:
            self._log.error(
                "closed with {count} event{s} not on the disk", count=count, s=plural_ending(count)
            )
        self._close_store()
        self._spool.close(must_clear=not self._backlog)
        self._file.release()

    def query(self, question: Callable[[Store], _T], default: _T) -> _T:
        """Return what `question` reads from the store; `default` if the store fails."""
        if self._store is None:
            return default
        try:
            return question(self._store)
        except sqlite3.Error as error:
            self._handle_error(error)
            return default

    @property
    def is_busy(self) -> bool:
        """See journal.base.Tables."""
        return self._store is not None and self._store.is_busy

    def run(self, work: Callable[[sqlite3.Connection], _T], *, writes: bool = False) -> _T:
        """See journal.base.Tables. A failure is not one of the journal's, unless it is damage."""
        if self._store is None:
            raise UnreadableError
        try:
            return self._store.run(work, writes=writes)
        except sqlite3.Error as error:
            if is_broken(error):
                self._handle_error(error)
            if is_fault(error):
                raise UnreadableError from None
            raise

    def claim(self, event: Event) -> bool:
        """Record that the log gets the event; return whether it is surely its first of this key.

        Then it is neither in the store nor in the backlog. False is not certain.
        """
        return self._store is not None and self._store.claim(event) and self._health.status.durable

    def has(self, event: Event) -> bool:
        """Whether the store has the event, by its key. False while the store fails."""
        try:
            return self._store is not None and self._store.has(event)
        except sqlite3.Error as error:
            self._handle_error(error)
            return False

    def append(self, entries: Sequence[Entry]) -> bool:
        """Store the next rows of the log, and return whether they are durable.

        Rows that the spool takes wait in the backlog. The store gets others in one transaction,
        with all that wait for it. While the disk fails, nothing is attempted: see `retry_now`.
        """
        if not self._health.status.durable:
            return False
        if not self._spool.write(entries):
            return self._commit(entries)
        for entry in entries:
            self._backlog.add(entry)
        return True

    def file_rows(self) -> None:
        """Do what can wait for the delivery. The store gets the spool's rows if they are many."""
        if self._spool.is_full:
            self.flush()

    def flush(self) -> None:
        """Let the store have the rows of the spool. Has no effect while the disk fails."""
        if (self._backlog or self._is_unsaved) and self._health.status.durable:
            self._commit(())

    def _commit(self, entries: Sequence[Entry]) -> bool:
        """Add the backlog and these rows to the store; return whether that was possible."""
        # The second attempt is for a new file that replaced a damaged one during the first.
        for _ in range(2):
            if self._health.status.durable and self._try_commit(entries):
                self._backlog.clear()
                self._spool.restart()
                self._is_unsaved = False
                return True
        # The first attempt may have reported another reason already.
        if self._health.status.durable:
            self._degrade(f"the file is damaged, and a new one too: {self}")
        return False

    def _try_commit(self, entries: Sequence[Entry]) -> bool:
        def commit(store: Store) -> bool:
            metadata = self._metadata() if self._is_unsaved else {}
            store.commit([*self._backlog.head(len(self._backlog)), *entries], metadata)
            return True

        return self.query(commit, False)

    def save(self, *, is_urgent: bool = True) -> None:
        """Save the metadata, with all rows that wait for the store.

        If it is not urgent, it waits for them too: their commit comes soon.

        Without the spool, the store must not say more than its rows: that a gap is settled, or that
        events up to a time were delivered. While the disk fails, a successful retry does this.
        """
        if self._store is not None:
            self._is_unsaved = True
            if is_urgent or not self._backlog:
                self.flush()

    def retry_now(self) -> None:
        """Try to commit the backlog now. Has no effect while the disk works."""
        if self._retry_timer is not None and self._retry_once():
            self._retry_timer.cancel()
            self._retry_timer = None

    def replace(self, why: str = "") -> None:
        """Begin a new epoch in a new file. `why` becomes part of the old file's new name.

        Raises OSError, JournalError, SchemaError or sqlite3.Error if that is impossible now.
        """
        self._close_store()
        epoch = self._begin_epoch()
        if why:
            self._file.give_up(why, epoch)
        self._spool.close()  # its rows are of another epoch
        self._backlog.mark_volatile()
        self._create()
        if self._health.status.durable:
            assert self._store is not None
            self._store.commit(self._backlog.head(len(self._backlog)), {})
            self._backlog.clear()
            self._spool.restart()

    def replace_when_possible(self, why: str, reason: str = "") -> None:
        """Replace the file now, or by retrying. The status is `reason` and what prevents it."""
        try:
            self.replace(why)
        except (*_NO_FILE, sqlite3.Error) as error:
            self._degrade(reason + self._health.describe_with_path(error))

    def _replace_lost(self, why: str, reason: str = "") -> None:
        self.replace_when_possible(why, reason)
        self._on_replaced()

    def _create(self) -> None:
        self._store = self._file.create()
        self._claim_backlog()
        self._store.save_metadata(self._metadata())
        self._file.remember()

    def _claim_backlog(self) -> None:
        for event in self._backlog.events:
            self.claim(event)

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    # Failures.

    def _handle_error(self, error: sqlite3.Error) -> None:
        if is_damage(error):
            self._replace_lost("damaged", "the file is damaged; ")
        elif self._health.status.durable:
            self._degrade(self._health.describe_with_path(error))

    def _degrade(self, reason: str) -> None:
        if self._retry_timer is None:
            self._retry_timer = self._clock.callLater(RETRY_EVERY, self._retry)
        self._health.degrade(reason)

    def _retry(self) -> None:
        self._retry_timer = self._clock.callLater(RETRY_EVERY, self._retry)
        self._health.begin_retry()
        self.retry_now()

    def _retry_once(self) -> bool:
        if not self.check_paths():
            return False
        try:
            if self._store is None:
                self._create()
            assert self._store is not None
            # Saved even if the backlog is empty: a write is the only proof that the disk works.
            self._store.save_metadata(self._metadata())
            while entries := self._backlog.head(STEP):
                self._store.commit(entries, {})
                self._backlog.drop(len(entries))
            self._spool.restart()
        except (*_NO_FILE, sqlite3.Error) as error:
            if isinstance(error, sqlite3.Error) and is_damage(error):
                self._handle_error(error)
            else:
                self._degrade(self._health.describe_with_path(error))
            return False
        self._health.recover()
        return True
