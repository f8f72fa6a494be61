"""A journal's store as it comes and goes: what fails is tried again, what is damaged is replaced."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, TypeVar

from twisted.logger import Logger

from tradeproxy.journal.schema import SchemaError
from tradeproxy.journal.store import Store, describe_error, is_damage
from tradeproxy.wire.proxy_status import JournalStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from tradeproxy.journal.backlog import Backlog
    from tradeproxy.journal.file import JournalFile

STEP = 1000
"""Rows that one transaction commits from the backlog."""

RETRY_EVERY = 1.0
"""Seconds between attempts to write while the disk takes nothing."""

CHECKED_SIZE = 32 * 1024 * 1024
"""Bytes up to which a file is read whole when it is opened: that takes a fraction of a second."""

_T = TypeVar("_T")


class Disk:
    """One account's store, in a file or in memory, and whether it takes what is written.

    `begin_epoch` is called before a new file begins, and returns the epoch; `facts` says what is saved in it,
    and again whenever the disk has healed; `on_status` is told of every change. There may be no store at all
    while not even a file can be had.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        file: JournalFile | None,
        clock: IReactorTime,
        backlog: Backlog,
        *,
        full_sync: bool,
        connect: Callable[..., sqlite3.Connection],
        begin_epoch: Callable[[], str],
        facts: Callable[[], Mapping[str, str | None]],
        on_status: Callable[[JournalStatus], None],
    ) -> None:
        self.status = JournalStatus(durable=True, reason="", since=clock.seconds())
        self._name = name
        self._file = file
        self._clock = clock
        self._backlog = backlog
        self._full_sync = full_sync
        self._connect = connect
        self._begin_epoch = begin_epoch
        self._facts = facts
        self._on_status = on_status
        self._store: Store | None = None
        self._to_set_aside = ""
        self._retrying: IDelayedCall | None = None

    def __str__(self) -> str:
        return ":memory:" if self._file is None else str(self._file.path)

    def open(self) -> Store | None:
        """Take the files for this process and return the store in them; None if there is none yet.

        Raises JournalError, SchemaError, OSError or sqlite3.Error.
        """
        if self._file is None:
            return None
        self._file.acquire()
        if self._file.size > 0:
            self._store = self._open_store()
        return self._store

    def check(self) -> None:
        """Read the file, unless it is large; raises DamageError where it is damaged."""
        if self._store is not None and self._file is not None and self._file.size <= CHECKED_SIZE:
            self._store.check_integrity()

    def close(self) -> None:
        """Commit what can be, and let go; harmless if that has been done."""
        if self._retrying is not None:
            self._retrying.cancel()
            self._retrying = None
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

    def query(self, question: Callable[[Store], _T], otherwise: _T) -> _T:
        """Return what the store says; `otherwise` while it says nothing."""
        if self._store is None:
            return otherwise
        try:
            return question(self._store)
        except sqlite3.Error as error:
            self._handle_error(error)
            return otherwise

    def write(self, command: Callable[[Store], _T]) -> _T | None:
        """Have the store do something that would find its place in a new file too; None if it could not.

        Nothing is tried while the disk is not as it should be: see `heal`.
        """
        for _ in range(2):  # the second time if a new file has taken a damaged one's place
            if self.status.durable and (done := self.query(command, None)) is not None:
                return done
        self._degrade("the file is damaged, and a new one too")  # unless that is known by now
        return None

    def save(self) -> None:
        """Save the facts; while the disk is not as it should be, healing will."""
        if self.status.durable:
            self.query(lambda store: store.save_metadata(self._facts()), None)

    def retry_now(self) -> None:
        """Commit the backlog, if the disk takes it again; does nothing while nothing is wrong."""
        if self._retrying is not None and self._retry_once():
            self._retrying.cancel()
            self._retrying = None

    def replace(self, why: str = "") -> None:
        """Begin a new epoch in a new file; `why` goes into the name under which an old one is kept.

        Raises OSError, SchemaError or sqlite3.Error where that cannot be now.
        """
        self._close_store()
        epoch = self._begin_epoch()
        if why:
            self._to_set_aside = f"{why}-{epoch}"
        self._create()

    def replace_when_possible(self, why: str, reason: str = "") -> None:
        """Replace the file now or as soon as that can be; `reason` says what is wrong until then."""
        try:
            self.replace(why)
        except (OSError, SchemaError):
            self._degrade(reason or "the file cannot be replaced")
        except sqlite3.Error as error:
            self._degrade(reason or describe_error(error))

    def _create(self) -> None:
        if self._file is not None:
            if self._to_set_aside:
                aside = self._file.set_aside(self._to_set_aside)
                self._to_set_aside = ""
                self._log.warn(
                    "{account}: the journal begins anew, the old one is kept as {aside}",
                    account=self._name,
                    aside=aside,
                )
            self._file.create()
        self._store = self._open_store()
        self._store.save_metadata(self._facts())

    def _open_store(self) -> Store:
        # No waiting for another program's lock: that would stop the reactor.
        connection = self._connect(str(self), timeout=0, isolation_level=None)
        return Store(connection, full_sync=self._full_sync)

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    # When something is wrong.

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
        self._retrying = self._clock.callLater(RETRY_EVERY, self._retry)
        self._change_status(durable=False, reason=reason)

    def _retry(self) -> None:
        self._retrying = self._clock.callLater(RETRY_EVERY, self._retry)
        self.retry_now()

    def _retry_once(self) -> bool:
        try:
            if self._store is None:
                self._create()
            assert self._store is not None
            self._store.save_metadata(
                self._facts()
            )  # also where no event waits: something that the disk could refuse
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
        self.status = JournalStatus(durable, reason, self._clock.seconds())
        self._on_status(self.status)
