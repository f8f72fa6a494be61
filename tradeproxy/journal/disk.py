"""The store of a journal and its failures: retry what fails, replace a file that is damaged."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, TypeVar

from twisted.logger import Logger

from tradeproxy.journal.connection import DamageError, describe_error, is_damage
from tradeproxy.journal.schema import SchemaError
from tradeproxy.journal.store import Store
from tradeproxy.wire.proxy_status import JournalStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from tradeproxy.journal.backlog import Backlog
    from tradeproxy.journal.file import JournalFile

STEP = 1000
"""Rows of the backlog that one transaction commits. It bounds the time that blocks the reactor."""

RETRY_EVERY = 1.0
"""Seconds between two attempts to write while the disk fails."""

CHECKED_SIZE = 32 * 1024 * 1024
"""The largest file (bytes) that is checked when it is opened: a fraction of a second."""

_T = TypeVar("_T")


class Disk:
    """One account's store, in a file or in memory, and whether it accepts writes.

    `status.durable` and the presence of a store make three states:

        state             event                            next state
        ----------------  -------------------------------  ----------------
        durable           the disk fails                   retrying
        durable           damage, new file created         durable
        durable           damage, no new file possible     without a store
        retrying          a retry commits the backlog      durable
        retrying          damage, new file created         retrying
        retrying          damage, no new file possible     without a store
        without a store   a retry creates a file           durable

    A new file begins a new epoch. An old file is renamed, never deleted.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        file: JournalFile | None,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        backlog: Backlog,
        *,
        full_sync: bool,
        connect: Callable[..., sqlite3.Connection],
        begin_epoch: Callable[[], str],
        metadata: Callable[[], Mapping[str, str | None]],
        on_status: Callable[[JournalStatus], None],
    ) -> None:
        """Open nothing yet.

        Args:
            name: the account, for the log.
            file: the files of the journal; None keeps the store in memory.
            clock: schedules the retries.
            wall_clock: Unix time in seconds, for the status.
            backlog: the events to commit when the disk works again.
            full_sync: whether every commit is synced to the disk.
            connect: sqlite3.connect, or a replacement for tests.
            begin_epoch: called before a new file begins; returns the epoch.
            metadata: returns what to save in a new file, and after every failure.
            on_status: called with every new status.
        """
        self.status = JournalStatus(durable=True, reason="", since=wall_clock())
        self._name = name
        self._file = file
        self._clock = clock
        self._wall_clock = wall_clock
        self._backlog = backlog
        self._full_sync = full_sync
        self._connect = connect
        self._begin_epoch = begin_epoch
        self._metadata = metadata
        self._on_status = on_status
        self._store: Store | None = None
        # The suffix for renaming the old file, kept until the renaming succeeds.
        self._aside_suffix = ""
        self._retry_timer: IDelayedCall | None = None

    def __str__(self) -> str:
        return ":memory:" if self._file is None else str(self._file.path)

    def open(self) -> Store | None:
        """Lock the files for this process and return their store; None if there is none yet.

        Raises JournalError, SchemaError, OSError or sqlite3.Error.
        """
        if self._file is None:
            return None
        self._file.acquire()
        if self._file.has_lost_database:
            # SQLite would take what is left for a part of the next database.
            raise DamageError("the database is missing")
        if self._file.size > 0:
            self._store = self._open_store()
        return self._store

    def check(self) -> None:
        """Read the whole file, unless it is large. Raises DamageError if it is damaged."""
        if self._store is not None and self._file is not None and self._file.size <= CHECKED_SIZE:
            self._store.check_integrity()

    def close(self) -> None:
        """Commit what can be committed, and release the files. A second call has no effect."""
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None
            self._retry_once()
        if self._backlog:
            self._log.error(
                "{account}: closed with {count} events that are not on the disk",
                account=self._name,
                count=len(self._backlog),
            )
        self._close_store()
        if self._file is not None:
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

    def write(self, command: Callable[[Store], _T]) -> _T | None:
        """Run `command` on the store and return its result; None if that failed.

        The command must not depend on the rows of the old file: it may run on a new one. While
        the disk fails, nothing is attempted: see `retry_now`.
        """
        # The second attempt is for a new file that replaced a damaged one during the first.
        for _ in range(2):
            if self.status.durable and (result := self.query(command, None)) is not None:
                return result
        # Has no effect if the first attempt has already reported another reason.
        self._degrade("the file is damaged, and a new one too")
        return None

    def save(self) -> None:
        """Save the metadata. While the disk fails, the next successful retry saves it."""
        if self.status.durable:
            self.query(lambda store: store.save_metadata(self._metadata()), None)

    def retry_now(self) -> None:
        """Try to commit the backlog now. Has no effect while the disk works."""
        if self._retry_timer is not None and self._retry_once():
            self._retry_timer.cancel()
            self._retry_timer = None

    def replace(self, why: str = "") -> None:
        """Begin a new epoch in a new file. `why` becomes part of the old file's new name.

        Raises OSError, SchemaError or sqlite3.Error if that is impossible now.
        """
        self._close_store()
        epoch = self._begin_epoch()
        if why:
            self._aside_suffix = f"{why}-{epoch}"
        self._create()

    def replace_when_possible(self, why: str, reason: str = "") -> None:
        """Replace the file now, or by retrying. `reason` is the status until that succeeds."""
        try:
            self.replace(why)
        except (OSError, SchemaError):
            self._degrade(reason or "the file cannot be replaced")
        except sqlite3.Error as error:
            self._degrade(reason or describe_error(error))

    def _create(self) -> None:
        if self._file is not None:
            if self._aside_suffix:
                aside = self._file.set_aside(self._aside_suffix)
                self._aside_suffix = ""
                if aside is not None:
                    self._log.warn(
                        "{account}: started a new journal; the old one is kept as {aside}",
                        account=self._name,
                        aside=aside,
                    )
            self._file.create()
        self._store = self._open_store()
        self._store.save_metadata(self._metadata())

    def _open_store(self) -> Store:
        # timeout=0: waiting for another program's lock would block the reactor.
        connection = self._connect(str(self), timeout=0, isolation_level=None)
        return Store(connection, full_sync=self._full_sync)

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    # Failures.

    def _handle_error(self, error: sqlite3.Error) -> None:
        if is_damage(error):
            self.replace_when_possible("damaged", "the file is damaged")
        else:
            self._degrade(describe_error(error))

    def _degrade(self, reason: str) -> None:
        if not self.status.durable:
            return
        self._log.error(
            "{account}: events are delivered without being on the disk: {reason}",
            account=self._name,
            reason=reason,
        )
        self._retry_timer = self._clock.callLater(RETRY_EVERY, self._retry)
        self._change_status(durable=False, reason=reason)

    def _retry(self) -> None:
        self._retry_timer = self._clock.callLater(RETRY_EVERY, self._retry)
        self.retry_now()

    def _retry_once(self) -> bool:
        try:
            if self._store is None:
                self._create()
            assert self._store is not None
            # Saved even if the backlog is empty: a write is the only proof that the disk works.
            self._store.save_metadata(self._metadata())
            while entries := self._backlog.head(STEP):
                self._store.commit(entries, {})
                self._backlog.drop(len(entries))
        except (OSError, SchemaError):
            return False
        except sqlite3.Error as error:
            self._handle_error(error)
            return False
        self._log.info("{account}: every event is on the disk again", account=self._name)
        self._change_status(durable=True, reason="")
        return True

    def _change_status(self, *, durable: bool, reason: str) -> None:
        self.status = JournalStatus(durable, reason, self._wall_clock())
        self._on_status(self.status)
