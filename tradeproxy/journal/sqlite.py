"""The journal in an SQLite file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tradeproxy.journal.backlog import Backlog, Entry
from tradeproxy.journal.base import Batch, JournalBase, JournalError, Row, max_optional
from tradeproxy.journal.bookmark import Bookmark
from tradeproxy.journal.connection import DamageError, is_damage
from tradeproxy.journal.disk import Disk
from tradeproxy.journal.file import JournalFile
from tradeproxy.journal.metadata import OPEN_SINCE, UNKNOWN
from tradeproxy.journal.reader import RowReader
from tradeproxy.journal.retention import TRIM_STEP, Retention, Trimmer
from tradeproxy.journal.schema import MIGRATIONS, SchemaError
from tradeproxy.journal.spool import Spool, find_spool
from tradeproxy.journal.store import Store
from tradeproxy.journal.store_file import StoreFile
from tradeproxy.journal.upgrade import MAX_STEP, STEP_EVERY
from tradeproxy.journal.wal_checkpoints import InThread
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.runtime.dates import SECOND, Dates
from tradeproxy.wire.event import Event
from tradeproxy.wire.plural import plural_ending
from tradeproxy.wire.proxy_status import JournalStatus

MAX_SPOOLED = 16
"""Events that go to the spool together. More of them are cheaper in one transaction."""


class SqliteJournal(JournalBase):
    """One account's log, in its own file, or in memory until it is closed.

    Implements journal.base.Journal, which documents the methods. While the disk fails, events go
    to the backlog.
    """

    is_loaded = is_current = True
    unread: Sequence[Event] = ()

    def __init__(
        self,
        name: str,
        path: Path | None,
        clock: IReactorTime,
        dates: Dates,
        *,
        base_url: str,
        full_sync: bool,
        max_age: float,
        max_events: int,
        max_spooled: int = MAX_SPOOLED,
        upgrade_step: float = MAX_STEP,
        random_bytes: Callable[[int], bytes] = os.urandom,
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect,
        in_thread: InThread | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            name: the account, for the log.
            path: the database file; None keeps the log in memory.
            clock: the timers for retries and trimming.
            dates: the time of receipt, and the age of rows.
            base_url: the account's address at Alpaca; another one in the file begins a new epoch.
            full_sync: whether every commit is synced to the disk.
            max_age: seconds after receipt for which events are kept.
            max_events: how many events are kept at most.
            max_spooled: the largest number of events that go to the spool together.
            upgrade_step: seconds for which a step of the upgrade reads rows.
            random_bytes: the source of epochs; called with a number of bytes.
            connect: sqlite3.connect, or a replacement for tests.
            in_thread: runs checkpoints of the write-ahead log; None leaves them to COMMIT.
        """
        super().__init__(base_url, dates)
        self._log = AccountLogger(self, name)
        self._clock = clock
        self._base_url = base_url
        self._retention = Retention(max_age, max_events)
        self._random_bytes = random_bytes
        self._upgrade_step = upgrade_step
        self._backlog = Backlog()
        self._preparing: IDelayedCall | None = None
        self._announcing: IDelayedCall | None = None
        self._trimmer = Trimmer(clock, self._trim_step)
        file = None if path is None else JournalFile(path)
        spool = None if path is None else find_spool(path)
        self._disk = Disk(
            name,
            StoreFile(name, file, full_sync=full_sync, connect=connect, in_thread=in_thread),
            Spool(name, spool, lambda: self.epoch, max_spooled, full_sync=full_sync),
            clock,
            dates.own,
            self._backlog,
            begin_epoch=self._begin_epoch,
            metadata=self.encode,
            on_status=self._status_changed,
            on_replaced=self._file_replaced,
        )
        self.status = self._disk.status
        self._reader = reader = RowReader(self, self._disk, self._backlog)
        # What only reads is the reader's own method.
        self.read, self.row, self.next_hole = reader.read, reader.row, reader.next_hole
        self.find, self.order, self.open_orders = reader.find, reader.order, reader.open_orders
        self.first_at, self.first_since = reader.first_at, reader.first_since
        self.tables = None if file is None else self._disk
        self._bookmark = (
            None
            if file is None
            else Bookmark(
                file.path.with_suffix(".bookmark"),
                clock,
                self.encode_state,
                is_ours=file.has_lock,
                full_sync=full_sync,
            )
        )

    # Opening and closing.

    def open(self) -> None:
        """Open the log. Raises JournalError, whose text begins with the file's path."""
        try:
            self._load()
        except JournalError:
            raise
        except (OSError, SchemaError, sqlite3.Error) as error:
            reason = self._disk.describe(error)
            if isinstance(error, sqlite3.Error):
                reason += f" ({error})"
            self._disk.close()
            raise JournalError(f"{self._disk}: {reason}") from None
        self._trimmer.start()
        self._disk.start_watching()
        if self._bookmark is not None:
            self._bookmark.start()
        self._disk.flush()
        self._prepare_store()

    def close(self) -> None:
        """Commit what can be committed, and release the file. A second call has no effect."""
        self._trimmer.stop()
        self._disk.check_paths()
        if self._bookmark is not None:
            self._bookmark.stop()
        self._disk.close()
        for call in (self._preparing, self._announcing):
            if call is not None and call.active():
                call.cancel()

    def _prepare_store(self) -> None:
        """Run steps until all rows are in the present form, and all keys in the filter."""
        must_continue = self._disk.query(lambda store: store.prepare(self._upgrade_step), True)
        self._preparing = (
            self._clock.callLater(STEP_EVERY, self._prepare_store) if must_continue else None
        )

    def _load(self) -> None:
        why = ""
        try:
            store = self._disk.open()
            is_usable = store is not None and self._load_metadata(store)
            # After loading: a new file then continues with the numbers of a damaged one.
            self._disk.check()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            is_usable, why = False, "damaged"
        if self.base_url != self._base_url:
            self._set_rows_aside()
            self.reset_account(self._base_url)
            is_usable, why = False, why or "other-url"
        if not is_usable:
            if not self.epoch and self._bookmark is not None:
                self._continue_from(self._bookmark, is_damaged=why == "damaged")
            self._disk.replace(why)

    def _continue_from(self, bookmark: Bookmark, *, is_damaged: bool) -> None:
        """Take over the state of a lost log. Without it, a gap with an unknown beginning is open.

        Raises OSError.
        """
        state = bookmark.read()
        if state:
            if state["base_url"] == self.base_url:
                self.continue_from(state)
        elif is_damaged or state is not None:
            self.set_metadata(OPEN_SINCE, UNKNOWN)
            # Once the old journal is set aside, nothing else shows that there was one.
            bookmark.write()

    def _load_metadata(self, store: Store) -> bool:
        """Load the metadata; return False for an empty database. Raises DamageError."""
        if 0 < store.upgraded_from < len(MIGRATIONS):
            self._log.info(
                "upgraded the journal's tables from version {old} to version {new};"
                " an earlier tradeproxy cannot use it any more",
                old=store.upgraded_from,
                new=len(MIGRATIONS),
            )
        if repaired := store.repair_times():
            self._log.warn(
                "dropped the time of {count} event{s} in the journal: outside the calendar",
                count=repaired,
                s=plural_ending(repaired),
            )
        saved, rows = store.load_metadata(), store.bounds()
        if not saved and rows is None:
            # The process that created the file was killed before it saved anything.
            return False
        try:
            self.load(saved, rows)
        except (KeyError, ValueError):
            raise DamageError("metadata") from None
        if (newest := self._disk.restore(self.epoch, self.last)) is not None:
            self.last, self.latest_time = newest.seq, newest.max_time
        return True

    def _begin_epoch(self) -> str:
        epoch, first = self._random_bytes(8).hex(), self._reader.last_on_disk + 1
        self._begin(self, epoch, first, self.latest_time)
        return self.epoch

    def _file_replaced(self) -> None:
        # Not at once: the damage may have been found while a client's rows are read.
        if self._announcing is None or not self._announcing.active():
            self._announcing = self._clock.callLater(0, lambda: self.on_new_epoch())

    def _status_changed(self, status: JournalStatus) -> None:
        self.status = status
        self.on_status(status)

    # Appending.

    def append(self, events: Sequence[Event]) -> None:
        """Add the events that are new, in their order, and call `on_committed` with them.

        If the disk fails, the events are passed on nevertheless, after `on_status` was called.
        """
        if not self.status.durable:
            self._disk.retry_now()
        received, began = round(self.dates.own() * SECOND), self._clock.seconds()
        # Nearly always it is one, and surely new.
        is_new = len(events) == 1 and self._disk.claim(events[0])
        new = events if is_new else self._without_duplicates(events)
        if not new:
            return
        entries, rows = self._number(new, received)
        if self._disk.append(entries):
            seconds = self._clock.seconds() - began
            newest = entries[-1]
            self.last, self.latest_time = newest.seq, newest.max_time
            self.on_committed(Batch(tuple(rows)))
            # Clients have the events now. What only the metrics need comes last.
            self.commit_seconds.observe(seconds)
            self._disk.file_rows()
        else:
            self._append_to_backlog(new)
        for event in new:
            self.event_counts[event.kind] += 1

    def _number(self, events: Sequence[Event], received: int) -> tuple[list[Entry], list[Row]]:
        """Return durable entries with the next numbers, and the rows that readers get."""
        entries, rows, seq, max_time = [], [], self.last, self.latest_time
        for event in events:
            seq, time = seq + 1, event.time
            if max_time is None or (time is not None and time > max_time):
                max_time = time
            entries.append(Entry(seq, event, max_time, received, (), True))
            rows.append(Row(seq, event.payload, time))
        return entries, rows

    def _append_to_backlog(self, events: Sequence[Event]) -> None:
        stored: list[Row] = []
        overflow: list[Row] = []
        for event in events:
            self.latest_time = max_optional(self.latest_time, event.time)
            # After the first event without room, the rest of this call goes to the hole as well:
            # a Batch has rows with consecutive numbers, or rows of one hole.
            if not overflow and self._backlog.has_room_for(event):
                stored.append(self._add(event).row())
                continue
            seq = self._backlog.widen_hole(self.latest_time)
            if seq is None:
                seq = self._add(None).seq
            self._backlog.remember(event)
            overflow.append(Row(seq, event.payload, event.time, durable=False))
        for rows, is_overflow in ((stored, False), (overflow, True)):
            if rows:
                self.on_committed(Batch(tuple(rows), is_overflow))

    def _without_duplicates(self, events: Sequence[Event]) -> Sequence[Event]:
        new: dict[tuple[str, bytes], Event] = {}
        for event in events:
            key = event.key
            if key in new or self.contains(event):
                self.duplicates += 1
            else:
                new[key] = event
        # Not earlier: a query that finds damage leaves another store.
        for event in new.values():
            self._disk.claim(event)
        return list(new.values())

    def _add(self, event: Event | None) -> Entry:
        self.last += 1
        received = round(self.dates.own() * SECOND)
        entry = Entry(self.last, event, self.latest_time, received)
        self._backlog.add(entry)
        return entry

    # Reading: see also journal.reader.

    def reaches(self, seq: int) -> bool:
        """Whether the log has assigned this number."""
        return seq <= self.last

    def contains(self, event: Event) -> bool:
        """Whether this event is stored or queued to be stored, by its key."""
        return self._backlog.has(event) or self._disk.has(event)

    def _find_max_time(self, limit: int) -> int | None:
        return self._reader.find_max_time(limit)

    # Metadata.

    def _save(self, *, is_urgent: bool = True) -> None:
        self._disk.save(is_urgent=is_urgent)

    def when_saved(self) -> Deferred[bool]:
        """Return a Deferred that has fired with whether the urgent metadata is durable."""
        return succeed(self.status.durable)

    def identify(self, account_id: str) -> bool:
        """See Journal.identify."""
        recorded = self.account_id
        if recorded == account_id:
            return False
        if recorded is not None:
            self._disk.retry_now()
            self._set_rows_aside()
            self.reset_account(self._base_url)
        self.account_id = account_id
        if recorded is None:
            self._disk.save()
        else:
            self._disk.replace_when_possible("other-account")
            self.on_new_epoch()
        return recorded is not None

    def _set_rows_aside(self) -> None:
        """Leave the backlog to the old file, which is of another account than the next one."""
        self._disk.flush()
        # What could not be committed belongs to the other account's log.
        self._backlog.clear()

    # Trimming.

    def _trim_step(self) -> bool:
        self._disk.flush()
        return self._disk.query(self._trim, False)

    def _trim(self, store: Store) -> bool:
        """Trim rows that are due, and return whether there may be more."""
        if store.must_prepare and self._preparing is None:
            self._prepare_store()
        bounds = self.first, self.complete_from, self.dedup_horizon, self.newest_trimmed
        begun = self._begun
        due = self._retention.get_due(self.last, self.dates)
        newest_to_trim = min(self._reader.last_on_disk, self.last - 1)
        through = min(store.find_due(self.first, TRIM_STEP, due), newest_to_trim)
        if through < self.first:
            return False
        self.record_trim(through, *store.read_trimmed(through, due.event_limit))
        try:
            store.trim(through, self.encode())
        except sqlite3.Error:
            # The rows are still there. A later save must not store the new bounds.
            self.first, self.complete_from, self.dedup_horizon, self.newest_trimmed = bounds
            self._begun = begun
            raise
        return self.first - bounds[0] == TRIM_STEP
