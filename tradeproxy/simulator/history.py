"""The history of the account's trade events, sent or not, in order. Pure.

The time of an event is its `at`, else its `timestamp`, else the time at which it was emitted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from uuid import NAMESPACE_OID, uuid5

from tradeproxy.simulator.clock import compact, nanoseconds
from tradeproxy.simulator.orders import Document
from tradeproxy.wire.event import EXECUTION_KINDS
from tradeproxy.wire.messages import TRADE_UPDATES

EVENTS_KEPT, BYTES_KEPT = 200_000, 128 * 1024 * 1024
"""The limits of a history. The bytes suffice for about 100,000 events of typical size."""

_HEAD, _TAIL = f'{{"stream":"{TRADE_UPDATES}","data":'.encode(), b"}"


@dataclass(frozen=True, slots=True)
class FillRecord:
    """The activity of a fill event: its id, and its time in nanoseconds since 1970."""

    id: str
    time: int


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One event.

    `payload` is the frame on the stream. `time` is in nanoseconds since 1970. `differing` is the
    history's copy of `data` if it is not the stream's.
    """

    payload: bytes
    time: int
    event_id: str | None
    fill: FillRecord | None
    differing: bytes | None = None

    @property
    def size(self) -> int:
        """The number of bytes of both copies."""
        return len(self.payload) + len(self.differing or b"")

    @property
    def data(self) -> bytes:
        """The bytes of the `data` object in the history."""
        return self.payload[len(_HEAD) : -len(_TAIL)] if self.differing is None else self.differing


class EventHistory:
    """The newest events. Positions count up from 0 and are never reused."""

    def __init__(self, events_kept: int = EVENTS_KEPT, bytes_kept: int = BYTES_KEPT) -> None:
        self.first = 0
        self.end = 0
        self._events_kept = events_kept
        self._bytes_kept = bytes_kept
        self._bytes = 0
        self._records: dict[int, EventRecord] = {}

    def append(self, record: EventRecord) -> None:
        """Add an event. Over the limits, the oldest events are dropped, but never the new one."""
        self._records[self.end] = record
        self._bytes += record.size
        self.end += 1
        while len(self._records) > 1 and (
            len(self._records) > self._events_kept or self._bytes > self._bytes_kept
        ):
            self._bytes -= self._records.pop(self.first).size
            self.first += 1

    def __getitem__(self, position: int) -> EventRecord:
        return self._records[position]

    def __iter__(self) -> Iterator[EventRecord]:
        return iter(self._records.values())

    def last(self, count: int) -> list[EventRecord]:
        """Return the last `count` events, or all if there are fewer."""
        positions = range(max(self.first, self.end - count), self.end)
        return [self._records[position] for position in positions]

    def last_fills(self, count: int) -> list[EventRecord]:
        """Return the last `count` fills, oldest first, or all if there are fewer."""
        newest_first = (record for record in reversed(self._records.values()) if record.fill)
        return list(islice(newest_first, count))[::-1]

    def position_of(self, event_id: str) -> int | None:
        """Return the position of the last event with this id; None if there is none."""
        positions = range(self.end - 1, self.first - 1, -1)
        return next((at for at in positions if self._records[at].event_id == event_id), None)


def event_payload(data: Document) -> bytes:
    """Return the stream's frame for an event's `data`."""
    return _HEAD + _encode(data) + _TAIL


def event_record(data: Document, now: int, streamed: Document | None = None) -> EventRecord:
    """Return the record of an event that is emitted at `now` (nanoseconds since 1970).

    `data` is that of the history; `streamed` is that of the stream, if it is different.
    """
    payload = event_payload(data if streamed is None else streamed)
    at, timestamp = nanoseconds(data.get("at")), nanoseconds(data.get("timestamp"))
    time = next((time for time in (at, timestamp) if time is not None), now)
    event_id = data.get("event_id")
    return EventRecord(
        payload,
        time,
        event_id if isinstance(event_id, str) else None,
        _build_fill(payload, data, time if timestamp is None else timestamp),
        None if streamed is None else _encode(data),
    )


def _encode(data: Document) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def _build_fill(payload: bytes, data: Document, time: int) -> FillRecord | None:
    if not isinstance(data.get("order"), dict) or str(data.get("event")) not in EXECUTION_KINDS:
        return None
    execution_id = data.get("execution_id")
    if not isinstance(execution_id, str):
        execution_id = str(uuid5(NAMESPACE_OID, payload.decode()))
    return FillRecord(f"{compact(time)}::{execution_id}", time)
