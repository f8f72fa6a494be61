"""The end of a log that is not on the disk yet: events that have their numbers, in memory, within bounds."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tradeproxy.journal.base import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tradeproxy.wire.event import Event, OrderState

MAX_EVENTS = 10_000
MAX_BYTES = 16 * 1024 * 1024
"""Of payload."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the log with all that is kept of it; without an event it is a hole."""

    seq: int
    event: Event | None
    max_time: int | None
    """The highest time of this and all earlier events (microseconds since 1970)."""
    received: int
    """When it came here (microseconds since 1970)."""

    def row(self, *, durable: bool) -> Row:
        """Return it as a reader sees it."""
        if self.event is None:
            return Row(self.seq, None, durable=durable)
        return Row(self.seq, self.event.payload, self.event.time, durable)


class Backlog:
    """Entries with successive numbers, the last of them a hole where there was no room."""

    def __init__(self, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: list[Entry] = []
        self._known: set[tuple[str, bytes]] = set()
        self._orders: dict[str, OrderState] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def orders(self) -> Iterable[OrderState]:
        """The newest state of each order that an event here tells of."""
        return self._orders.values()

    def has_room_for(self, event: Event) -> bool:
        """Whether the event can be kept."""
        return (
            len(self._entries) < self._max_events
            and self._bytes + len(event.payload) <= self._max_bytes
        )

    def add(self, entry: Entry) -> None:
        """Keep an entry, which must have the next number; whether there is room is the caller's question."""
        self._entries.append(entry)
        if (event := entry.event) is None:
            return
        self._bytes += len(event.payload)
        self._known.add((event.identity, event.digest))
        if (state := event.order) is not None:
            self._orders[state.id] = newer_state(self._orders.get(state.id), state)

    def widen_hole(self, high: int | None) -> int | None:
        """Let the hole at the end stand for one event more, and return its number; None if none is there."""
        if not self._entries or self._entries[-1].event is not None:
            return None
        self._entries[-1] = replace(self._entries[-1], max_time=high)
        return self._entries[-1].seq

    def head(self, count: int) -> Sequence[Entry]:
        """Return the first entries."""
        return self._entries[:count]

    def drop(self, count: int) -> None:
        """Forget the first entries."""
        rest = self._entries[count:]
        self.clear()
        for entry in rest:
            self.add(entry)

    def clear(self) -> None:
        """Forget everything."""
        self._entries, self._known, self._orders, self._bytes = [], set(), {}, 0

    def read(self, after: int, limit: int) -> list[Row]:
        """Return up to `limit` rows behind number `after`, which must not be before the first but one."""
        start = after + 1 - self._entries[0].seq if self._entries else 0
        return [entry.row(durable=False) for entry in self._entries[start : start + limit]]

    def has(self, event: Event) -> bool:
        """Whether this very event is here."""
        return (event.identity, event.digest) in self._known

    def find(self, identity: str) -> int | None:
        """Return the number of the last event with this identity."""
        matches = (
            e.seq for e in reversed(self._entries) if e.event and e.event.identity == identity
        )
        return next(matches, None)

    def first_since(self, time: int) -> int | None:
        """Return the number of the first entry up to which an event has this time or a later one."""
        # `high` never falls, and is None only before the first event that has a time.
        at = bisect_left(
            self._entries, time, key=lambda e: time - 1 if e.max_time is None else e.max_time
        )
        return self._entries[at].seq if at < len(self._entries) else None

    def order(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order that an event here told of."""
        return self._orders.get(order_id)


def newer_state(known: OrderState | None, told: OrderState) -> OrderState:
    """Return the state that holds: an event that comes late does not set an order back."""
    return told if known is None or told.time >= known.time else known
