"""What the account has told, whether or not anybody listened: its trade events in order; pure.

The time of an event is its `at`, else its `timestamp`, else the moment of its telling.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

from tradeproxy.simulator.clock import compact, nanoseconds
from tradeproxy.wire.messages import TRADE_UPDATES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tradeproxy.simulator.orders import Document

EVENTS_KEPT, BYTES_KEPT = 200_000, 128 * 1024 * 1024
"""What a history holds at most; about 100,000 events of the common size."""

FILL_EVENTS = ("fill", "partial_fill")

_HEAD, _TAIL = f'{{"stream":"{TRADE_UPDATES}","data":'.encode(), b"}"
_SPACE = re.compile(r"[ \t\n\r]*")
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


@dataclass(frozen=True, slots=True)
class FillRecord:
    """What makes an event a fill among the account's activities: its id there, and its time."""

    id: str
    time: int


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One event: the frame's payload, where in it the data is, and its time in nanoseconds since 1970."""

    payload: bytes
    start: int
    stop: int
    time: int
    event_id: str | None
    fill: FillRecord | None

    @property
    def data(self) -> bytes:
        """The `data` object as it stands in the frame, in one line."""
        # Between the tokens of JSON a line break is a space; within them it does not occur.
        return self.payload[self.start : self.stop].translate(_LINE_BREAKS)


class EventHistory:
    """The last events, each at a position of its own; positions count up from 0 and are never reused."""

    def __init__(self, events_kept: int = EVENTS_KEPT, bytes_kept: int = BYTES_KEPT) -> None:
        self.first = 0
        self.end = 0
        self._events_kept = events_kept
        self._bytes_kept = bytes_kept
        self._bytes = 0
        self._records: dict[int, EventRecord] = {}

    def append(self, record: EventRecord) -> None:
        """Add an event; the oldest are forgotten for it, but it is not, however large."""
        self._records[self.end] = record
        self._bytes += len(record.payload)
        self.end += 1
        while len(self._records) > 1 and (
            len(self._records) > self._events_kept or self._bytes > self._bytes_kept
        ):
            self._bytes -= len(self._records.pop(self.first).payload)
            self.first += 1

    def __getitem__(self, position: int) -> EventRecord:
        return self._records[position]

    def __iter__(self) -> Iterator[EventRecord]:
        return iter(self._records.values())

    def last(self, count: int) -> list[EventRecord]:
        """Return the last `count` events, or as many as there are."""
        return [
            self._records[position]
            for position in range(max(self.first, self.end - count), self.end)
        ]

    def position_of(self, event_id: str) -> int | None:
        """Return the position of the last event with an id; None if there is none."""
        positions = range(self.end - 1, self.first - 1, -1)
        return next((at for at in positions if self._records[at].event_id == event_id), None)


def event_payload(data: Document) -> bytes:
    """Write an event's `data` as the stream carries it."""
    return _HEAD + json.dumps(data, separators=(",", ":")).encode() + _TAIL


def event_record(data: Document, now: int) -> EventRecord:
    """Return the record of an event with this `data`, told at `now`, in nanoseconds since 1970."""
    payload = event_payload(data)
    return _record(payload, len(_HEAD), len(payload) - len(_TAIL), data, now)


def payload_record(payload: bytes, now: int) -> EventRecord | None:
    """Return the record of a frame told at `now`; None for a frame that is no trade event."""
    try:
        text = payload.decode()
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match frame:
        case {"stream": "trade_updates", "data": {} as data}:
            start, stop = _data_within(text)
            return _record(
                payload, len(text[:start].encode()), len(text[:stop].encode()), data, now
            )
    return None


def _record(payload: bytes, start: int, stop: int, data: Document, now: int) -> EventRecord:
    moved = nanoseconds(data.get("timestamp"))
    time = next((time for time in (nanoseconds(data.get("at")), moved) if time is not None), now)
    event_id = data.get("event_id")
    return EventRecord(
        payload,
        start,
        stop,
        time,
        event_id if isinstance(event_id, str) else None,
        _fill(payload, data, time if moved is None else moved),
    )


def _fill(payload: bytes, data: Document, time: int) -> FillRecord | None:
    if data.get("event") not in FILL_EVENTS or not isinstance(data.get("order"), dict):
        return None
    execution_id = data.get("execution_id")
    if not isinstance(execution_id, str):
        execution_id = str(uuid5(NAMESPACE_OID, payload.decode()))
    return FillRecord(f"{compact(time)}::{execution_id}", time)


def _data_within(text: str) -> tuple[int, int]:
    """Return where the value of `data` begins and ends in a JSON object that has one."""
    decoder = json.JSONDecoder()
    found = (0, 0)
    index = _skip(text, _skip(text, 0) + 1)  # past the "{"
    while text[index] != "}":
        name, index = decoder.raw_decode(text, index)
        start = _skip(text, _skip(text, index) + 1)  # past the ":"
        _, stop = decoder.raw_decode(text, start)
        if name == "data":
            found = (start, stop)  # of several the last one counts, as everywhere in Python
        index = _skip(text, stop)
        index = _skip(text, index + (text[index] == ","))
    return found


def _skip(text: str, index: int) -> int:
    space: Any = _SPACE.match(text, index)
    return int(space.end())
