"""The journal in an SQLite file: its numbers, its bounds, and what is read of disk and backlog as one log."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from tradeproxy.journal.backlog import Backlog, Entry, newer
from tradeproxy.journal.base import (
    TRIM_STEP,
    Burst,
    JournalBase,
    JournalError,
    TrimmedError,
    Trimming,
    UnreadableError,
)
from tradeproxy.journal.disk import Disk
from tradeproxy.journal.file import JournalFile
from tradeproxy.journal.schema import SchemaError
from tradeproxy.journal.store import DamageError, Store, is_damage, reason_of

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

    is_whole = is_current = True

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
        self._trimming = Trimming(clock, lambda: self._disk.ask(self._trim, False))
        self._disk = Disk(
            name,
            None if path is None else JournalFile(path),
            clock,
            self._backlog,
            full_sync=full_sync,
            connect=connect,
            begin_epoch=self._begin_epoch,
            facts=self.facts,
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
            reason = f"{reason_of(error)} ({error})" if isinstance(error, sqlite3.Error) else str(error)
            raise JournalError(f"{self._disk}: {reason}") from None
        self._trimming.start()

    def close(self) -> None:
        """Commit what can be, and let go; harmless if that has been done."""
        self._trimming.stop()
        self._disk.close()

    def _load(self) -> None:
        why = ""
        try:
            store = self._disk.open()
            known = store is not None and self._take_up_from(store)
            self._disk.check()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            known, why = False, "damaged"
        if self.base_url != self._base_url:
            self.forget_account(self._base_url)
            known, why = False, why or "other-url"
        if not known:
            self._disk.replace(why)

    def _take_up_from(self, store: Store) -> bool:
        facts, rows = store.facts(), store.bounds()
        if not facts and rows is None:
            return False  # its maker was killed at that moment
        try:
            self.take_up(facts, rows)
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
        self._disk.heal()
        received = self._now()
        added = self._disk.write(lambda store: store.append(events, self.last, self.latest, received))
        if added is None:
            self._wait_with(events)
            return
        self.commits.observe((self._now() - received) / 1_000_000)
        self.duplicates += len(events) - len(added)
        if added:
            self.kinds.update([entry.event.kind for entry in added if entry.event is not None])
            self.last, self.latest = added[-1].seq, added[-1].high
            self.on_committed(Burst(tuple([entry.row(durable=True) for entry in added])))

    def _wait_with(self, events: Sequence[Event]) -> None:
        placed: list[Row] = []
        unplaced: list[Row] = []
        for event in self._fresh(events):
            self.kinds[event.kind] += 1
            if event.time is not None and (self.latest is None or event.time > self.latest):
                self.latest = event.time
            if not unplaced and self._backlog.has_room_for(event):
                placed.append(self._add(event).row(durable=False))
                continue
            seq = self._backlog.widen_hole(self.latest)
            if seq is None:
                seq = self._add(None).seq
            unplaced.append(Entry(seq, event, None, 0).row(durable=False))
        for rows, is_unplaced in ((placed, False), (unplaced, True)):
            if rows:
                self.on_committed(Burst(tuple(rows), is_unplaced))

    def _fresh(self, events: Sequence[Event]) -> list[Event]:
        fresh: dict[tuple[str, bytes], Event] = {}
        for event in events:
            key = (event.identity, event.digest)
            if key in fresh or self._knows(event):
                self.duplicates += 1
            else:
                fresh[key] = event
        return list(fresh.values())

    def _add(self, event: Event | None) -> Entry:
        self.last += 1
        entry = Entry(self.last, event, self.latest, self._now())
        self._backlog.add(entry)
        return entry

    # The way out.

    def read(self, after: int, limit: int) -> Burst | None:
        """Return up to `limit` rows that follow number `after`, about 256 KiB at most; None at the end.

        Raises TrimmedError for what is not kept, UnreadableError for what the disk does not give back.
        """
        if after < self.first - 1:
            raise TrimmedError
        if after < self._last_on_disk:
            rows = self._disk.ask(lambda store: store.read(after, limit), None)
            if rows is None:  # by now the file may be another one, in which it is not kept
                raise TrimmedError if after < self.first - 1 else UnreadableError
        else:
            rows = self._backlog.read(after, limit)
        return Burst(tuple(rows)) if rows else None

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

    def _knows(self, event: Event) -> bool:
        return self._backlog.has(event) or self._disk.ask(lambda store: store.has(event), False)

    def find(self, identity: str) -> int | None:
        """Return the number of the last event with this identity. Raises UnreadableError."""
        if (seq := self._backlog.find(identity)) is not None:
            return seq
        nowhere = 0
        found = self._disk.ask(lambda store: store.find(identity) or nowhere, None)
        if found is None and not self.status.durable:
            raise UnreadableError
        return found or None

    def first_since(self, time: int) -> int | None:
        """Return the number of the first event with this time or a later one; None if all are earlier.

        Where the disk does not say, that is the first there is: reading from there tells what is wrong.
        """
        doubt: int | None = self.first
        seq = self._disk.ask(lambda store: store.first_since(time), doubt)
        return self._backlog.first_since(time) if seq is None else seq

    def order(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order that an event told of."""
        known = self._disk.ask(lambda store: store.order(order_id), None)
        told = self._backlog.order(order_id)
        return known if told is None else newer(known, told)

    def open_orders(self) -> Sequence[OrderState]:
        """Return every order that was open when an event last told of it."""
        nothing: list[OrderState] = []
        states = {state.id: state for state in self._disk.ask(Store.open_orders, nothing)}
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
            self._disk.heal()
            self._backlog.clear()  # what is left is not of this account
            self.forget_account(self._base_url)
        self.account_id = account_id
        if known is None:
            self._disk.save()
        else:
            self._disk.replace_in_time("other-account")
            self.on_begun()
        return known is not None

    # Trimming.

    def _trim(self, store: Store) -> bool:
        """Trim some rows that are due, and return whether there may be more."""
        before = self.first, self.begins, self.horizon
        due = store.due(self.first, TRIM_STEP, self.last - self._max_events, self._now() - self._max_age)
        through = min(due, self._last_on_disk)
        if through < self.first:
            return False
        self.trim(through, store.high(through))
        try:
            store.trim(through, self.facts())
        except sqlite3.Error:
            self.first, self.begins, self.horizon = before  # or the facts would be saved without it
            raise
        return self.first - before[0] == TRIM_STEP

    @property
    def _last_on_disk(self) -> int:
        return self.last - len(self._backlog)

    def _now(self) -> int:
        return round(self._clock.seconds() * 1_000_000)
