"""The interface of an account's log, and the code that every implementation shares.

The hub appends events in batches and reads rows by sequence number. `journal.sqlite` keeps the log
in a file; `cluster.redis_journal` keeps it in Redis, where several nodes share it.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from msgspec import Struct
from twisted.internet.defer import Deferred

from tradeproxy.journal.metadata import Metadata, TrimmedEvent
from tradeproxy.runtime.dates import SECOND, Dates
from tradeproxy.runtime.stats import COMMIT_BOUNDS, Histogram
from tradeproxy.wire.event import Event, OrderState
from tradeproxy.wire.proxy_status import JournalStatus

_T = TypeVar("_T")

READ_BYTES = 256 * 1024
"""The limit of the payloads that one read returns, in bytes, unless its first row is larger."""

MAX_DEVIATION = 2_000_000
"""Microseconds by which two right clocks may differ here: a Date header has whole seconds."""


class Row(Struct, frozen=True, gc=False):
    """One row of the log: an event, or a hole.

    A hole has no payload. It stands for events that were delivered but could not be stored.
    """

    seq: int
    """The first event of an account has 1, and each later row one more. No number is reused."""
    payload: bytes | None
    time: int | None = None
    """The event's time (microseconds since 1970)."""
    durable: bool = True
    """Whether the row is on the disk. Until then no cursor may point at it: a crash loses it."""


@dataclass(slots=True, init=False)
class Batch:
    """Consecutive rows that travel together: added by one append or found by one read. Never empty.

    With `overflow`, the rows could not be stored. They all have the sequence number of one hole.
    A later read of the log returns that hole, not these rows.
    """

    rows: tuple[Row, ...]
    overflow: bool
    received_at: float | None = field(compare=False)
    """When this process received the first row (Unix time). None means just now."""
    first: int = field(compare=False, repr=False)
    """The sequence number of the first row."""
    last: int = field(compare=False, repr=False)
    """The sequence number of the last row."""
    encoded: dict[object, bytes] = field(compare=False, repr=False)
    """A cache of the bytes that were made of this batch, by encoder.

    All clients that get the same bytes share one entry.
    """

    def __init__(
        self, rows: tuple[Row, ...], overflow: bool = False, received_at: float | None = None
    ) -> None:
        self.rows, self.overflow, self.received_at = rows, overflow, received_at
        self.first, self.last = rows[0].seq, rows[-1].seq
        self.encoded = {}


class TrimmedError(Exception):
    """The requested rows are no longer stored."""


class UnreadableError(Exception):
    """The rows may exist but cannot be read now. A later attempt may succeed."""


class Tables(Protocol):
    """The database with the tables of schema.BOOK_TABLES."""

    @property
    def is_busy(self) -> bool:
        """Whether a thread writes to its file now. A transaction may take long meanwhile."""

    def run(self, work: Callable[[sqlite3.Connection], _T], *, writes: bool = False) -> _T:
        """Return what `work` returns. With `writes`, it is one transaction, which is not synced.

        Raises UnreadableError if the database cannot be used now, and sqlite3.Error for what is
        wrong with the statements.
        """


class NotLeadingError(Exception):
    """Another node leads the account: only the leader may change what nodes share."""


class ImportLog(Protocol):
    """The pages of an account's imports, which all of its nodes get in one order."""

    generation: int
    """It changes when pages that were read before are no longer valid."""
    is_copied: bool
    """Whether all pages that there were at the start are here."""
    on_pages: Callable[[], None]
    """Called when there are more pages."""

    @property
    def count(self) -> int:
        """How many pages there are of this account."""

    def read(self, number: int) -> bytes:
        """Return a page by its number, from 0 on."""

    async def sync(self) -> None:
        """Get the pages that there are by now. Raises UnreadableError or NotLeadingError."""

    async def append(self, page: bytes) -> None:
        """Append a page for all nodes. Raises UnreadableError or NotLeadingError.

        After an error the page may be there. Appended again, it is there twice.
        """


class Log(Protocol):
    """The durable, ordered log of one account, as its readers have it. Hashed by identity.

    Errors of the disk or of Redis are not raised, except as documented: see `status`.
    """

    epoch: str
    """16 hexadecimal digits. Positions of another epoch are invalid in this log."""
    first: int
    """The lowest number that can be read; last + 1 if there are no rows."""
    last: int
    """The highest number in use; 0 in a new log."""
    base_url: str
    """Where the account's API is."""
    account_id: str | None
    """Alpaca's id of the account; None until it is known."""
    dates: Dates
    """The account's dates: by this machine's clock, and by Alpaca's."""
    complete_from: int
    """The log has every event from this time on (microseconds since 1970).

    It is the time of creation, or just after the newest event that was trimmed.
    """
    newest_trimmed: TrimmedEvent | None
    """The event of row `first` - 1; None if nothing was trimmed, or by an older version."""
    latest_time: int | None
    """The highest time of all events (microseconds since 1970), trimmed ones included."""
    dedup_horizon: int | None
    """Events from history at or before this time (microseconds) count as duplicates.

    They have been delivered, although the log may no longer store them.
    """
    duplicates: int
    """How many events were dropped because the log had them already."""
    event_counts: Counter[str]
    """How many events of each kind this process has appended."""
    commit_seconds: Histogram
    """How long each commit took, in seconds."""
    status: JournalStatus
    tables: Tables | None
    """The tables that the book has in the journal's file; None if the log is not in a file."""
    import_log: ImportLog | None
    """The imports that nodes share; None if no other node shares the log."""
    is_loaded: bool
    """Whether the whole log can be read here. False while a node still loads it from Redis."""

    def __hash__(self) -> int: ...

    @property
    def newest_time(self) -> int | None:
        """The highest time of all events, without times that lie in the future."""

    @property
    def unread(self) -> Sequence[Event]:
        """The events that were appended and cannot be read yet, oldest first."""

    @property
    def is_current(self) -> bool:
        """Whether every row of the log has been passed on, as far as this process can see."""

    def read(self, after: int, limit: int, *, finds_damage: bool = True) -> Batch | None:
        """Return up to `limit` rows that follow number `after`; None at the end.

        Without `finds_damage`, a damaged payload may be among them: a caller that parses each one
        asks for `row` if it is no event, which finds the damage. Raises TrimmedError or
        UnreadableError.
        """

    def row(self, seq: int) -> Row | None:
        """Return one row; None if it is not stored. Raises UnreadableError."""

    def has(self, event: Event) -> bool:
        """Whether this event was appended before, or is not after the dedup horizon."""

    def contains(self, event: Event) -> bool:
        """Whether this event is stored or queued to be stored, by its key."""

    def next_hole(self, after: int) -> int | None:
        """Return the number of the first hole behind number `after`; None if there is none.

        Raises UnreadableError while that is not known.
        """

    def reaches(self, seq: int) -> bool:
        """Whether the log has assigned this number. Raises UnreadableError if that is unknown."""

    def find(self, identity: str) -> int | None:
        """Return the number of the first event with this identity; None if there is none.

        The event may be the newest one that was trimmed. Raises UnreadableError.
        """

    def first_at(self, time: int) -> int | None:
        """Return the number of the first event with exactly this time (microseconds since 1970).

        Returns None if there is none. Raises UnreadableError while that is not known.
        """

    def first_since(self, time: int) -> int | None:
        """Return the number of the first event at or after `time` (microseconds since 1970).

        Returns None if all events are earlier.
        """

    def order(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order in any event; None if the order is unknown."""

    def open_orders(self) -> Sequence[OrderState]:
        """Return the orders whose newest state is open, at least the newest 10,000 of them."""

    def get_metadata(self, key: str) -> str | None:
        """Return the text that `set_metadata` stored under this key."""

    def correct_complete_from(self, now: int) -> int:
        """Return `complete_from` by a clock that shows `now` (microseconds since 1970)."""


class Journal(Log, Protocol):
    """The log, as the account has it, which alone writes to it."""

    on_committed: Callable[[Batch], None]
    """Called with every batch that is on the disk, or is declared not to be: at once, or later."""
    on_status: Callable[[JournalStatus], None]
    """Called when `status` has changed."""
    on_new_epoch: Callable[[], None]
    """Called when a new epoch has begun and its numbers continue: by `identify`, or later."""
    on_replaced: Callable[[], None]
    """Called when the log is a different one, in which no earlier position is valid."""

    def open(self) -> None:
        """Open the log. Raises JournalError, whose text is a line for the user."""

    def close(self) -> None:
        """Commit what can be committed, and release all resources."""

    def append(self, events: Sequence[Event]) -> None:
        """Add the events that are new, in their order, in one transaction."""

    def set_metadata(self, key: str, value: str | None, *, is_urgent: bool = True) -> None:
        """Store a short text under a key, durably as soon as possible. None removes it.

        If it is not urgent, it is committed with the rows that wait for that, ten seconds at most.
        """

    def when_saved(self) -> Deferred[bool]:
        """Return a Deferred that fires with whether the urgent metadata up to now is durable.

        It may fire late, or with False: then the metadata may become durable later.
        """

    def advance_dedup_horizon(self, time: int) -> None:
        """Move the dedup horizon to `time` (microseconds since 1970). It never moves back."""

    def correct_times(self) -> None:
        """Correct the bounds that a wrong clock or a wrong time has set.

        Call it when `dates` has a new estimate of Alpaca's clock.
        """

    def identify(self, account_id: str) -> bool:
        """Record Alpaca's id of the account. Begin a new epoch if the log has another one.

        The numbers continue. Returns whether a new epoch has begun.
        """


class JournalError(Exception):
    """The journal cannot be used. The text is a line that names the file or the variable."""


class JournalBase(Metadata, ABC):
    """The part of Journal that does not depend on where the log is stored."""

    def __init__(self, base_url: str, dates: Dates) -> None:
        super().__init__(base_url)
        self.dates = dates
        self.tables: Tables | None = None
        self.import_log: ImportLog | None = None
        # The epoch that this process began, and when, by `dates.clock`: until it is corrected.
        self._begun: tuple[str, float] | None = None
        self.duplicates = 0
        self.event_counts: Counter[str] = Counter()
        self.commit_seconds = Histogram(COMMIT_BOUNDS)
        self.on_committed: Callable[[Batch], None] = lambda _: None
        self.on_status: Callable[[JournalStatus], None] = lambda _: None
        self.on_new_epoch: Callable[[], None] = lambda: None
        self.on_replaced: Callable[[], None] = lambda: None

    @property
    def newest_time(self) -> int | None:
        """The highest time of all events, without times that lie in the future."""
        limit = self.dates.event_limit()
        if self.latest_time is None or limit is None or self.latest_time <= limit:
            return self.latest_time
        return self._find_max_time(limit)

    def has(self, event: Event) -> bool:
        """Whether this event was appended before, or is not after the dedup horizon."""
        # The log is queried first: a file that turns out to be damaged moves the horizon.
        known = self.contains(event)
        return known or (
            event.time is not None
            and self.dedup_horizon is not None
            and event.time <= self.dedup_horizon
        )

    def set_metadata(self, key: str, value: str | None, *, is_urgent: bool = True) -> None:
        """See Journal.set_metadata."""
        if self.get_metadata(key) != value:
            self._notes[key] = value
            self._save(is_urgent=is_urgent)

    def advance_dedup_horizon(self, time: int) -> None:
        """Move the dedup horizon to `time` (microseconds since 1970). It never moves back."""
        if self.dedup_horizon is None or time > self.dedup_horizon:
            self.dedup_horizon = time
            self._save()

    def correct_times(self) -> None:
        """Correct the bounds that a wrong clock or a wrong time has set.

        The log began by this machine's clock, which may have been wrong. Earlier versions moved the
        bounds to the time of an event even if that was years ahead.
        """
        if self.dates.alpaca() is None:
            return
        before = self.complete_from, self.dedup_horizon
        self.complete_from = self.correct_complete_from(self.dates.now_microseconds())
        if self._begun is not None and self._begun[0] == self.epoch:
            self._begun = None
        if self.dates.is_future(self.complete_from):
            self.complete_from = self.dates.now_microseconds()
        if self.dedup_horizon is not None and self.dates.is_future(self.dedup_horizon):
            self.dedup_horizon = None
        if (self.complete_from, self.dedup_horizon) != before:
            self._save_bounds()

    def correct_complete_from(self, now: int) -> int:
        """Return `complete_from` by a clock that shows `now` (microseconds since 1970)."""
        if self._begun is None or self._begun[0] != self.epoch:
            return self.complete_from
        began = now - round((self.dates.clock() - self._begun[1]) * SECOND)
        is_right = abs(began - self.complete_from) <= MAX_DEVIATION
        return self.complete_from if is_right else began

    def _begin(self, metadata: Metadata, epoch: str, first: int, max_time: int | None) -> None:
        """Begin an epoch in `metadata` now. A `max_time` that lies in the future is a wrong one."""
        now = self.dates.now_microseconds()
        if max_time is not None and self.dates.is_future(max_time):
            max_time = now
        metadata.begin_epoch(epoch, first, now, max_time)
        if metadata.dedup_horizon is not None:
            # The newest event may have a time that is a bit ahead. Until the time of the horizon,
            # every event that a backfill finds would be dropped.
            metadata.dedup_horizon = min(metadata.dedup_horizon, self.dates.past())
        is_set_by_clock = metadata.complete_from == now
        self._begun = (epoch, self.dates.clock()) if is_set_by_clock else None

    def record_trim(self, through: int, newest: TrimmedEvent, max_time: int | None) -> None:
        """See Metadata.record_trim."""
        super().record_trim(through, newest, max_time)
        self._begun = None

    def _save_bounds(self) -> None:
        """Save the metadata with the bounds."""
        self._save()

    @abstractmethod
    def _find_max_time(self, limit: int) -> int | None:
        """Return the highest time of the stored events that is not after `limit`."""

    @abstractmethod
    def contains(self, event: Event) -> bool:
        """Whether this event is stored or queued to be stored, by its key."""

    @abstractmethod
    def _save(self, *, is_urgent: bool = True) -> None:
        """Save the metadata as it is now, at once or when the store accepts it."""


def max_optional(one: int | None, other: int | None) -> int | None:
    """Return the later of two times; None only if both are None."""
    return max((time for time in (one, other) if time is not None), default=None)
