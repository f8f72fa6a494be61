"""The log of one account as the hub sees it, wherever it is kept: appended to in bursts, read by position."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tradeproxy.journal.metadata import Metadata
from tradeproxy.runtime.stats import COMMIT_BOUNDS, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from tradeproxy.wire.event import Event, OrderState
    from tradeproxy.wire.proxy_status import JournalStatus


@dataclass(frozen=True, slots=True)
class Row:
    """One event in its place; or, without a payload, the place of events that were not kept."""

    seq: int
    """1 for the first event of an account, and one more for each that follows; never used twice."""
    payload: bytes | None
    time: int | None = None
    """Of the event: microseconds since 1970."""
    durable: bool = True
    """Whether it is on the disk. While it is not, no cursor may point behind it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that follow each other: those that one append added, or that one read found; never empty.

    `unplaced` rows have no place of their own: there was no room to keep them. They all bear the number of
    the hole in the log that stands for them, and reading the log yields that hole in their stead.
    """

    rows: tuple[Row, ...]
    overflow: bool = False
    received_at: float | None = field(default=None, compare=False)
    """When the first of it came to this process (Unix time); None: just now."""
    first: int = field(init=False, compare=False, repr=False)
    """The number of the first row."""
    last: int = field(init=False, compare=False, repr=False)
    """The number of the last row."""
    encoded: dict[object, bytes] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """What has been made of it to be sent, by whom it was made: once, for all who get the same."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", self.rows[0].seq)
        object.__setattr__(self, "last", self.rows[-1].seq)


class TrimmedError(Exception):
    """What was to be read is no longer kept."""


class UnreadableError(Exception):
    """What was to be read is there, and the disk does not give it: later it may."""


class Journal(Protocol):
    """The durable, ordered log of one account. Errors of the disk stay inside: see `status`.

    Compared and hashed by identity.
    """

    epoch: str
    """16 hexadecimal digits; positions of another epoch mean nothing here."""
    first: int
    """The lowest number that can be read; last + 1 when there is none."""
    last: int
    """The highest number given; 0 at the very beginning."""
    complete_from: int
    """From when on the log is complete (microseconds since 1970): created then, or trimmed up to there."""
    latest_time: int | None
    """The highest time of any event so far, one that has been trimmed included."""
    dedup_horizon: int | None
    """History at or before this time (microseconds) is known, though it may no longer be kept."""
    duplicates: int
    """Events that were not appended, for they had been before."""
    event_counts: Counter[str]
    """How many events of each kind were appended, by this process."""
    commit_seconds: Histogram
    """Seconds that the disk took for each burst."""
    status: JournalStatus
    is_loaded: bool
    """Whether all that is in the log can be read here: not yet, while a node reads what others wrote."""
    on_committed: Callable[[Batch], None]
    """Called with every burst once it is on the disk, or declared not to be; at once, or later."""
    on_status: Callable[[JournalStatus], None]
    """Called when `status` has changed."""
    on_new_epoch: Callable[[], None]
    """Called when another epoch has begun, to which positions lead on: at once by `identify`, or later."""
    on_replaced: Callable[[], None]
    """Called when the log has become another one, to which no position of before leads on."""

    def __hash__(self) -> int: ...

    @property
    def is_current(self) -> bool:
        """Whether all that is in the log has been handed on, as far as is known here."""

    def open(self) -> None:
        """Begin; raises JournalError with a line for the user where that cannot be."""

    def close(self) -> None:
        """Commit what can be, and let go."""

    def append(self, events: Sequence[Event]) -> None:
        """Add the events that are new, in their order, in one transaction."""

    def read(self, after: int, limit: int) -> Batch | None:
        """Return up to `limit` rows that follow number `after`; None at the end.

        Raises TrimmedError, or UnreadableError.
        """

    def row(self, seq: int) -> Row | None:
        """Return one row; None if it is not kept. Raises UnreadableError."""

    def has(self, event: Event) -> bool:
        """Whether this very event has been appended before, or lies before the horizon."""

    def reaches(self, seq: int) -> bool:
        """Whether the log has come to a number. Raises UnreadableError where that is not known yet."""

    def find(self, identity: str) -> int | None:
        """Return the number of the last event with this identity. Raises UnreadableError."""

    def first_since(self, time: int) -> int | None:
        """Return the number of the first event with this time or a later one; None if all are earlier."""

    def order(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order that an event told of."""

    def open_orders(self) -> Sequence[OrderState]:
        """Return every order that was open when an event last told of it."""

    def get_metadata(self, key: str) -> str | None:
        """Return what was remembered under a name."""

    def set_metadata(self, key: str, value: str | None) -> None:
        """Keep a short text under a name, durably when that is possible; None forgets it."""

    def advance_dedup_horizon(self, time: int) -> None:
        """Move the horizon to this time, unless it is further on."""

    def identify(self, account_id: str) -> bool:
        """Begin a new epoch if the log is another account's; return whether it is. The numbers go on."""


class JournalError(Exception):
    """The journal cannot be used; the text is a line for the user that names the file or the variable."""


class JournalBase(Metadata, ABC):
    """The part of hub.journal.Journal that does not depend on where the log is."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        self.duplicates = 0
        self.event_counts: Counter[str] = Counter()
        self.commit_seconds = Histogram(COMMIT_BOUNDS)
        self.on_committed: Callable[[Batch], None] = lambda _: None
        self.on_status: Callable[[JournalStatus], None] = lambda _: None
        self.on_new_epoch: Callable[[], None] = lambda: None
        self.on_replaced: Callable[[], None] = lambda: None

    def has(self, event: Event) -> bool:
        """Whether this very event has been appended before, or lies before the horizon."""
        known = self._contains(
            event
        )  # first: a file that turns out to be damaged moves the horizon
        return known or (
            event.time is not None
            and self.dedup_horizon is not None
            and event.time <= self.dedup_horizon
        )

    def set_metadata(self, key: str, value: str | None) -> None:
        """Keep a short text under a name, durably once that is possible; None forgets it."""
        if self.get_metadata(key) != value:
            self._notes[key] = value
            self._save()

    def advance_dedup_horizon(self, time: int) -> None:
        """Move the horizon to this time, unless it is further on."""
        if self.dedup_horizon is None or time > self.dedup_horizon:
            self.dedup_horizon = time
            self._save()

    @abstractmethod
    def _contains(self, event: Event) -> bool:
        """Whether this very event is kept, or waits for that."""

    @abstractmethod
    def _save(self) -> None:
        """Let the facts be saved, as they are now."""


TRIM_STEP = 1000
"""Rows that are trimmed at once."""

TRIM_EVERY = 10.0
"""Seconds between looks for rows that are due to be trimmed."""

TRIM_AGAIN = 0.1
"""Seconds to the next look while more of them are due."""


class Trimmer:
    """Lets a journal trim TRIM_STEP rows at most, time and again; `step` returns whether more may be due."""

    def __init__(self, clock: IReactorTime, step: Callable[[], bool]) -> None:
        self._clock = clock
        self._step = step
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin with it, in TRIM_EVERY seconds."""
        self._timer = self._clock.callLater(TRIM_EVERY, self._trim)

    def stop(self) -> None:
        """Trim no more; harmless if that has been done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _trim(self) -> None:
        timer = self._timer = self._clock.callLater(TRIM_EVERY, self._trim)
        if self._step():
            timer.reset(TRIM_AGAIN)
