"""The journal in an SQLite file: its numbers, its bounds, and what is read of disk and backlog as one log."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from tradeproxy.journal.backlog import Backlog, Entry, newer_state
from tradeproxy.journal.base import (
    TRIM_STEP,
    Batch,
    JournalBase,
    JournalError,
    TrimmedError,
    Trimmer,
    UnreadableError,
)
from tradeproxy.journal.disk import Disk
from tradeproxy.journal.file import JournalFile
from tradeproxy.journal.schema import SchemaError
from tradeproxy.journal.store import DamageError, Store, describe_error, is_damage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.journal.base import Row
    from tradeproxy.wire.event import Event, OrderState
    from tradeproxy.wire.proxy_status import JournalStatus


class SqliteJournal(JournalBase):
    """One account's log, in a file of its own or, without a path, in memory for as long as it is open.

    Implements hub.journal.Journal, which says what may be relied on. What the disk does not take waits in a
    backlog, which is the end of the log until it is committed.
    """

    is_loaded = is_current = True

    def __init__(
        self,
        name: str,
        path: Path | None,
        clock: IReactorTime,
        *,
        base_url: str,
        full_sync: bool,
        max_age: float,
        max_events: int,
        random_bytes: Callable[[int], bytes] = os.urandom,
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect,
    ) -> None:
        """Events are kept for `max_age` seconds after they came, but at most `max_events` of them."""
        super().__init__(base_url)
        self.name = name
        self._clock = clock
        self._base_url = base_url
        self._max_age = round(max_age * 1_000_000)
        self._max_events = max_events
        self._random_bytes = random_bytes
        self._backlog = Backlog()
        self._trimmer = Trimmer(clock, lambda: self._disk.query(self._trim, False))
        self._disk = Disk(
            name,
            None if path is None else JournalFile(path),
            clock,
            self._backlog,
            full_sync=full_sync,
            connect=connect,
            begin_epoch=self._begin_epoch,
            facts=self.encode,
            on_status=self._status_changed,
        )
        self.status = self._disk.status

    # Opening and closing.

    def open(self) -> None:
        """Begin; raises JournalError with a line that begins with the file's path where that cannot be."""
        try:
            self._load()
        except JournalError:
            raise
        except (OSError, SchemaError, sqlite3.Error) as error:
            self._disk.close()
            reason = (
                f"{describe_error(error)} ({error})"
                if isinstance(error, sqlite3.Error)
                else str(error)
            )
            raise JournalError(f"{self._disk}: {reason}") from None
        self._trimmer.start()

    def close(self) -> None:
        """Commit what can be, and let go; harmless if that has been done."""
        self._trimmer.stop()
        self._disk.close()

    def _load(self) -> None:
        why = ""
        try:
            store = self._disk.open()
            known = store is not None and self._load_metadata(store)
            self._disk.check()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            known, why = False, "damaged"
        if self.base_url != self._base_url:
            self.reset_account(self._base_url)
            known, why = False, why or "other-url"
        if not known:
            self._disk.replace(why)

    def _load_metadata(self, store: Store) -> bool:
        facts, rows = store.load_metadata(), store.bounds()
        if not facts and rows is None:
            return False  # its maker was killed at that moment
        try:
            self.load(facts, rows)
        except (KeyError, ValueError):
            raise DamageError("facts") from None
        return True

    def _begin_epoch(self) -> str:
        self.begin_epoch(self._random_bytes(8).hex(), self._last_on_disk + 1, self._now())
        return self.epoch

    def _status_changed(self, status: JournalStatus) -> None:
        self.status = status
        self.on_status(status)

    # The way in.

    def append(self, events: Sequence[Event]) -> None:
        """Add the events that are new, in their order, and hand them to `on_committed` at once.

        What the disk does not take is handed on all the same; `on_status` has been called by then.
        """
        self._disk.retry_now()
        received = self._now()
        added = self._disk.write(
            lambda store: store.append(events, self.last, self.latest_time, received)
        )
        if added is None:
            self._append_to_backlog(events)
            return
        self.commit_seconds.observe((self._now() - received) / 1_000_000)
        self.duplicates += len(events) - len(added)
        if added:
            self.event_counts.update(
                [entry.event.kind for entry in added if entry.event is not None]
            )
            self.last, self.latest_time = added[-1].seq, added[-1].max_time
            self.on_committed(Batch(tuple([entry.row(durable=True) for entry in added])))

    def _append_to_backlog(self, events: Sequence[Event]) -> None:
        placed: list[Row] = []
        unplaced: list[Row] = []
        for event in self._without_duplicates(events):
            self.event_counts[event.kind] += 1
            if event.time is not None and (
                self.latest_time is None or event.time > self.latest_time
            ):
                self.latest_time = event.time
            if not unplaced and self._backlog.has_room_for(event):
                placed.append(self._add(event).row(durable=False))
                continue
            seq = self._backlog.widen_hole(self.latest_time)
            if seq is None:
                seq = self._add(None).seq
            unplaced.append(Entry(seq, event, None, 0).row(durable=False))
        for rows, is_unplaced in ((placed, False), (unplaced, True)):
            if rows:
                self.on_committed(Batch(tuple(rows), is_unplaced))

    def _without_duplicates(self, events: Sequence[Event]) -> list[Event]:
        fresh: dict[tuple[str, bytes], Event] = {}
        for event in events:
            key = (event.identity, event.digest)
            if key in fresh or self._contains(event):
                self.duplicates += 1
            else:
                fresh[key] = event
        return list(fresh.values())

    def _add(self, event: Event | None) -> Entry:
        self.last += 1
        entry = Entry(self.last, event, self.latest_time, self._now())
        self._backlog.add(entry)
        return entry

    # The way out.

    def read(self, after: int, limit: int) -> Batch | None:
        """Return up to `limit` rows that follow number `after`, about 256 KiB at most; None at the end.

        Raises TrimmedError for what is not kept, UnreadableError for what the disk does not give back.
        """
        if after < self.first - 1:
            raise TrimmedError
        if after < self._last_on_disk:
            rows = self._disk.query(lambda store: store.read(after, limit), None)
            if rows is None:  # by now the file may be another one, in which it is not kept
                raise TrimmedError if after < self.first - 1 else UnreadableError
        else:
            rows = self._backlog.read(after, limit)
        return Batch(tuple(rows)) if rows else None

    def row(self, seq: int) -> Row | None:
        """Return one row; None if it is not kept. Raises UnreadableError."""
        try:
            burst = self.read(seq - 1, 1)
        except TrimmedError:
            return None
        return None if burst is None else burst.rows[0]

    def reaches(self, seq: int) -> bool:
        """Whether the log has come to a number."""
        return seq <= self.last

    def _contains(self, event: Event) -> bool:
        return self._backlog.has(event) or self._disk.query(lambda store: store.has(event), False)

    def find(self, identity: str) -> int | None:
        """Return the number of the last event with this identity. Raises UnreadableError."""
        if (seq := self._backlog.find(identity)) is not None:
            return seq
        nowhere = 0
        found = self._disk.query(lambda store: store.find(identity) or nowhere, None)
        if found is None and not self.status.durable:
            raise UnreadableError
        return found or None

    def first_since(self, time: int) -> int | None:
        """Return the number of the first event with this time or a later one; None if all are earlier.

        Where the disk does not say, that is the first there is: reading from there tells what is wrong.
        """
        doubt: int | None = self.first
        seq = self._disk.query(lambda store: store.first_since(time), doubt)
        return self._backlog.first_since(time) if seq is None else seq

    def order(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order that an event told of."""
        known = self._disk.query(lambda store: store.order(order_id), None)
        told = self._backlog.order(order_id)
        return known if told is None else newer_state(known, told)

    def open_orders(self) -> Sequence[OrderState]:
        """Return every order that was open when an event last told of it."""
        nothing: list[OrderState] = []
        states = {state.id: state for state in self._disk.query(Store.open_orders, nothing)}
        for told in self._backlog.orders:
            states[told.id] = self.order(told.id) or told
        return [state for state in states.values() if state.is_open]

    # What is kept beside the events.

    def _save(self) -> None:
        self._disk.save()

    def identify(self, account_id: str) -> bool:
        """Begin a new epoch if the log is another account's; return whether it is. The numbers go on."""
        known = self.account_id
        if known == account_id:
            return False
        if known is not None:
            self._disk.retry_now()
            self._backlog.clear()  # what is left is not of this account
            self.reset_account(self._base_url)
        self.account_id = account_id
        if known is None:
            self._disk.save()
        else:
            self._disk.replace_when_possible("other-account")
            self.on_new_epoch()
        return known is not None

    # Trimming.

    def _trim(self, store: Store) -> bool:
        """Trim some rows that are due, and return whether there may be more."""
        before = self.first, self.complete_from, self.dedup_horizon
        due = store.find_due(
            self.first, TRIM_STEP, self.last - self._max_events, self._now() - self._max_age
        )
        through = min(due, self._last_on_disk)
        if through < self.first:
            return False
        self.record_trim(through, store.get_max_time(through))
        try:
            store.trim(through, self.encode())
        except sqlite3.Error:
            self.first, self.complete_from, self.dedup_horizon = (
                before  # or the facts would be saved without it
            )
            raise
        return self.first - before[0] == TRIM_STEP

    @property
    def _last_on_disk(self) -> int:
        return self.last - len(self._backlog)

    def _now(self) -> int:
        return round(self._clock.seconds() * 1_000_000)
