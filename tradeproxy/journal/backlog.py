"""The end of the log, which the database does not have yet: a bounded queue in memory.

While the disk works, these rows are in the spool too, and so they are durable. While it fails, the
backlog is all there is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from tradeproxy.journal.base import READ_BYTES, Row
from tradeproxy.wire.amount import is_more
from tradeproxy.wire.event import Event  # noqa: TC001  # msgspec needs it to decode an Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tradeproxy.wire.event import OrderState

MAX_EVENTS = 10_000
MAX_BYTES = 16 * 1024 * 1024
"""Limit of the payloads together, in bytes."""

MAX_UNSTORED = 100_000
"""Events of holes that are remembered, so that a repeat is recognised.

Their hashes take 10 MB, and storing them 0.3 s. Beyond the limit the oldest tenth is forgotten: a
check of Alpaca's history asks for the newest ones.
"""


class Entry(Struct, frozen=True, gc=False):
    """A row of the log with every stored field. An entry without an event is a hole."""

    seq: int
    event: Event | None
    max_time: int | None
    """The highest time of this and all earlier events (microseconds since 1970).

    The database column is named `high`.
    """
    received: int
    """When the proxy received the event (microseconds since 1970)."""
    unstored: tuple[bytes, ...] = ()
    """The hashes of the keys of the events that a hole stands for, as far as remembered."""
    durable: bool = False
    """Whether the row survives a crash."""

    def row(self) -> Row:
        """Return the row that readers get."""
        if self.event is None:
            return Row(self.seq, None, None, self.durable)
        return Row(self.seq, self.event.payload, self.event.time, self.durable)


class Backlog:
    """Entries with consecutive sequence numbers. A hole stands for events that exceed the limits.

    The limits bound the memory that a failing disk can cost. Of the events of holes, only hashes
    are kept, and at most `max_unstored` of them.
    """

    def __init__(
        self,
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BYTES,
        max_unstored: int = MAX_UNSTORED,
    ) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._max_unstored = max_unstored
        self._bytes = 0
        self._entries: list[Entry] = []
        # How many entries are in `_keys` and `_orders`: see `index`.
        self._indexed = 0
        self._keys: set[tuple[str, bytes]] = set()
        # The states of each order, as its events here have them.
        self._orders: dict[str, tuple[OrderState, ...]] = {}
        # The hash of each event of a hole, with the hole's number: oldest first.
        self._unstored: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def volatile(self) -> int:
        """How many entries a crash would lose."""
        return sum(not entry.durable for entry in self._entries)

    @property
    def events(self) -> Iterable[Event]:
        """The events of the entries, in order, without those of holes."""
        return (entry.event for entry in self._entries if entry.event is not None)

    @property
    def orders(self) -> Iterable[str]:
        """The id of each order that has an event here, in the order of their last events."""
        self.index()
        return self._orders

    def has_room_for(self, event: Event) -> bool:
        """Whether the event fits within both limits."""
        return (
            len(self._entries) < self._max_events
            and self._bytes + len(event.payload) <= self._max_bytes
        )

    def add(self, entry: Entry) -> None:
        """Append an entry, which must have the next sequence number.

        The limits are not checked here: see `has_room_for`.
        """
        self._entries.append(entry)
        if entry.event is not None:
            self._bytes += len(entry.event.payload)

    def index(self) -> None:
        """Add the new entries to what `has` and `find_order` search: most entries need not be."""
        for entry in self._entries[self._indexed :]:
            if (event := entry.event) is not None:
                self._keys.add(event.key)
                if (state := event.order) is not None:
                    self._orders[state.id] = (*self._orders.pop(state.id, ()), state)
        self._indexed = len(self._entries)

    def widen_hole(self, max_time: int | None) -> int | None:
        """Let the hole at the end stand for one more event, and return its sequence number.

        Returns None if the last entry is not a hole. `max_time` is that of the new event.
        """
        if not self._entries or self._entries[-1].event is not None:
            return None
        self._entries[-1] = replace(self._entries[-1], max_time=max_time)
        return self._entries[-1].seq

    def remember(self, event: Event) -> None:
        """Remember an event that the hole at the end stands for: `has` then finds it."""
        self._unstored[event.key_hash] = self._entries[-1].seq
        if len(self._unstored) > self._max_unstored:
            # Many at once: the front of a dict gets slow to reach when single keys are deleted.
            for key in list(islice(self._unstored, self._max_unstored // 10 + 1)):
                del self._unstored[key]

    def head(self, count: int) -> Sequence[Entry]:
        """Return the first `count` entries. Holes have the hashes of their events."""
        entries = self._entries[:count]
        unstored: defaultdict[int, list[bytes]] = defaultdict(list)
        for key, seq in self._unstored.items():
            if seq > entries[-1].seq:
                break
            unstored[seq].append(key)
        return [
            replace(entry, unstored=tuple(unstored[entry.seq])) if entry.event is None else entry
            for entry in entries
        ]

    def mark_volatile(self) -> None:
        """Record that a crash would lose every entry."""
        self._entries = [replace(entry, durable=False) for entry in self._entries]

    def drop(self, count: int) -> None:
        """Remove the first `count` entries."""
        remaining = self._entries[count:]
        unstored = {
            key: seq for key, seq in self._unstored.items() if remaining and seq >= remaining[0].seq
        }
        self.clear()
        self._unstored = unstored
        for entry in remaining:
            self.add(entry)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries, self._keys, self._orders, self._bytes = [], set(), {}, 0
        self._unstored, self._indexed = {}, 0

    def read(self, after: int, limit: int) -> list[Row]:
        """Return up to `limit` rows that follow number `after`, with READ_BYTES of payload at most.

        The first one is returned whatever its size. `after` must not be lower than the first
        entry's number minus one.
        """
        if not self._entries:
            return []
        start = after + 1 - self._entries[0].seq
        rows: list[Row] = []
        size = 0
        for entry in self._entries[start : start + limit]:
            size += len(entry.event.payload) if entry.event is not None else 0
            if rows and size > READ_BYTES:
                break
            rows.append(entry.row())
        return rows

    def has(self, event: Event) -> bool:
        """Whether this event is here or a hole here stands for it, by its key."""
        if self._indexed < len(self._entries):
            self.index()
        return event.key in self._keys or (
            bool(self._unstored) and event.key_hash in self._unstored
        )

    def next_hole(self, after: int) -> int | None:
        """Return the number of the first hole behind number `after`; None if there is none."""
        holes = (entry.seq for entry in self._entries if entry.event is None and entry.seq > after)
        return next(holes, None)

    def find(self, identity: str) -> int | None:
        """Return the number of the first event with this identity; None if there is none."""
        matches = (e.seq for e in self._entries if e.event and e.event.identity == identity)
        return next(matches, None)

    def first_since(self, time: int) -> int | None:
        """Return the number of the first entry whose `max_time` is at least `time` (microseconds).

        Returns None if there is none.
        """
        # max_time never decreases. It is None only before the first event that has a time.
        at = bisect_left(
            self._entries, time, key=lambda e: time - 1 if e.max_time is None else e.max_time
        )
        return self._entries[at].seq if at < len(self._entries) else None

    def first_at(self, time: int) -> int | None:
        """Return the number of the first entry with exactly this time (microseconds)."""
        matches = (e.seq for e in self._entries if e.event and e.event.time == time)
        return next(matches, None)

    def find_max_time(self, limit: int) -> int | None:
        """Return the highest time of an entry that is not after `limit`; None if there is none."""
        # As in the database: `max_time` may be that of an earlier epoch, or of a hole's event.
        times = (
            time
            for e in self._entries
            for time in (e.max_time, None if e.event is None else e.event.time)
        )
        return max((time for time in times if time is not None and time <= limit), default=None)

    def find_order(self, order_id: str, known: OrderState | None = None) -> OrderState | None:
        """Return the newest state of an order; `known` is that of all earlier events.

        One state after the other is compared with what is known before it, as in the database:
        of three late states, the result depends on the order of the comparisons.
        """
        self.index()
        for state in self._orders.get(order_id, ()):
            known = newer_state(known, state)
        return known


def newer_state(known: OrderState | None, state: OrderState) -> OrderState:
    """Return the newer of two states of one order. At equal times `state` wins.

    Alpaca can send an order's events late and out of order. A state without a time counts as newer.
    Times alone do not show the order of events: an event may have a time a little before that of
    the previous one. So an order that has closed, or is filled further, is newer too.
    """
    if known is None or state.time >= known.time:
        return state
    if state.is_open == known.is_open:
        is_newer = is_more(state.filled_qty, known.filled_qty)
    else:
        is_newer = known.is_open
    return replace(state, time=known.time) if is_newer or not state.time else known
