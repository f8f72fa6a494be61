"""The events of the stream that wait for missed ones, in the stream's order."""

from __future__ import annotations

from collections import deque
from itertools import takewhile
from typing import NamedTuple

from tradeproxy.wire.event import Event

MAX_BUFFERED = 10_000
"""Events that are buffered. A burst of Alpaca's has some hundred."""

MAX_BUFFERED_BYTES = 16 * 1024 * 1024
"""Bytes of the events that are buffered."""


class BufferedEvent(NamedTuple):
    """One event that waits."""

    event: Event
    received_at: float | None
    """When it was received, by the clock that measures intervals; None if that is unknown."""


class EventBuffer:
    """A bounded queue of events. The owner releases it once it is full."""

    def __init__(self) -> None:
        self._events: deque[BufferedEvent] = deque()
        # Each key is that of at least one event of the queue. Of a repeat it may be missing.
        self._keys: set[tuple[str, bytes]] = set()
        self._bytes = 0
        self._newest = 0  # the highest time of all that were appended

    def __contains__(self, event: Event) -> bool:
        """Whether the stream brought this event, and it waits."""
        return event.key in self._keys

    @property
    def events(self) -> tuple[Event, ...]:
        """All events, oldest first."""
        return tuple(buffered.event for buffered in self._events)

    @property
    def is_full(self) -> bool:
        """Whether it has reached MAX_BUFFERED or MAX_BUFFERED_BYTES."""
        return len(self._events) >= MAX_BUFFERED or self._bytes >= MAX_BUFFERED_BYTES

    def append(self, event: Event, received_at: float | None) -> None:
        """Add the next event of the stream."""
        self._events.append(BufferedEvent(event, received_at))
        self._keys.add(event.key)
        self._bytes += len(event.payload)
        self._newest = max(self._newest, event.time or 0)

    def take_before(self, event: Event, now: int) -> list[BufferedEvent]:
        """Remove and return the events that the stream brought before this one.

        They are left where they are unless an event has a time after `now` (microseconds since
        1970), which no history has: missed events may belong between the others. They are left,
        too, if one of them is newer than `event` by a valid time: an old event came again.
        """
        if event not in self or self._newest <= now or self._follows_newer(event, now):
            return []
        before = []
        while self._events[0].event.key != event.key:
            before.append(self._take())
        return before

    def take_all(self) -> list[BufferedEvent]:
        """Remove and return all events, oldest first."""
        return [self._take() for _ in range(len(self._events))]

    def _follows_newer(self, event: Event, now: int) -> bool:
        if event.time is None:
            return False
        before = takewhile(lambda buffered: buffered.event.key != event.key, self._events)
        times = (buffered.event.time for buffered in before)
        return any(time is not None and event.time < time <= now for time in times)

    def _take(self) -> BufferedEvent:
        taken = self._events.popleft()
        self._keys.discard(taken.event.key)
        self._bytes -= len(taken.event.payload)
        return taken
