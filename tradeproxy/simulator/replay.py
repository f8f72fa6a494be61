"""The events of one response to GET /v2/events/trades, and its end. Pure.

| parameters             | from the history            | then live                    |
|------------------------|-----------------------------|------------------------------|
| none                   | nothing                     | every event, without an end  |
| `since`                | from that time on           | every event, without an end  |
| `since`, `until`       | between those times         | every event up to that time  |
| `since_id`             | after that event            | every event, without an end  |
| `since_id`, `until_id` | after one, up to the other  | every event up to that event |

If the history does not contain an id, the order of ids decides. Live events are not compared with
`since`: they are new, even if their own time is older.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TypeAlias

from tradeproxy.simulator.clock import nanoseconds, ulid_milliseconds
from tradeproxy.simulator.errors import bad_request
from tradeproxy.simulator.history import EventHistory, EventRecord

MILLISECOND = 1_000_000
"""In nanoseconds, the unit of every time in this module."""

PARAMETERS = ("since", "until", "since_id", "until_id")


@dataclass(frozen=True, slots=True)
class EventRange:
    """The range of events that a client requests: by times, by ids, or unlimited."""

    since: int | None = None
    until: int | None = None
    since_id: str | None = None
    until_id: str | None = None

    @property
    def deadline(self) -> int | None:
        """The end of the range, inclusive; None if it has no end."""
        if self.until_id is not None:
            return (_read_milliseconds(self.until_id) + 1) * MILLISECOND - 1
        return self.until

    def begins_after(self, record: EventRecord) -> bool:
        """Whether the event is before the range."""
        if self.since_id is not None:
            return not _is_later(record, self.since_id)
        return self.since is not None and record.time < self.since

    def ends_before(self, record: EventRecord) -> bool:
        """Whether the event is after the range."""
        if self.until_id is not None:
            return record.event_id != self.until_id and _is_later(record, self.until_id)
        return self.until is not None and record.time > self.until


def parse_event_range(fields: Mapping[str, str]) -> EventRange:
    """Parse a request's parameters. Raises ApiError with the name of an invalid one."""
    parameters = {name: fields[name] for name in PARAMETERS if name in fields}
    for end, start in (("until", "since"), ("until_id", "since_id")):
        if end in parameters and start not in parameters:
            raise bad_request(f"{end} needs {start}", 40010001)
    if "since" in parameters and "since_id" in parameters:
        raise bad_request("since and since_id exclude each other", 40010001)
    times = {
        name: nanoseconds(text) for name, text in parameters.items() if not name.endswith("_id")
    }
    ids = {name: text.upper() for name, text in parameters.items() if name.endswith("_id")}
    for name, time in times.items():
        if time is None:
            raise bad_request(f"{name} is not an RFC 3339 time", 40010001)
    for name, event_id in ids.items():
        if ulid_milliseconds(event_id) is None:
            raise bad_request(f"{name} is not a ULID", 40010001)
    since, until = times.get("since"), times.get("until")
    return EventRange(since, until, ids.get("since_id"), ids.get("until_id"))


@dataclass(frozen=True, slots=True)
class Damage:
    """The faults of a response.

    After `cut_after` events the connection closes. After `drop_after` events, `dropped` are
    omitted. After `stall_after` events nothing follows, not even the end.
    """

    cut_after: int | None = None
    drop_after: int | None = None
    dropped: int = 0
    stall_after: int | None = None


INTACT = Damage()


@dataclass(frozen=True, slots=True)
class Dropped:
    """A loss of `count` events at this point of the response."""

    count: int


class ResponseEnd(Enum):
    """How a response ends: complete, or cut off."""

    COMPLETE = auto()
    CUT = auto()


Step: TypeAlias = EventRecord | Dropped


class EventReplay:
    """The iteration of one response over the history and then over live events.

    `end` is None until the response ends. If the history drops events before they are read, the
    response contains a Dropped with their number.
    """

    def __init__(
        self, history: EventHistory, event_range: EventRange, now: int, damage: Damage = INTACT
    ) -> None:
        self.end: ResponseEnd | None = None
        self._history = history
        self._damage = damage
        self._sent_count = 0
        self._to_drop = 0
        self._live_from = history.end
        self._position, self._stop, self._range = _resolve_range(history, event_range)
        if event_range.deadline is not None and event_range.deadline < now:
            self.expire()

    @property
    def stalled(self) -> bool:
        """Whether a fault has stopped the response without an end."""
        return self._sent_count == self._damage.stall_after

    def expire(self) -> None:
        """End the range at the current end of the history, because its deadline has passed."""
        self._stop = self._history.end if self._stop is None else self._stop

    def next(self) -> Step | None:
        """Return the next step; None if there is none yet, or after the end."""
        if self.end is not None or self.stalled:
            return None
        if self._sent_count == self._damage.drop_after:
            self._to_drop = self._damage.dropped
            self._damage = replace(self._damage, drop_after=None)
            return Dropped(self._to_drop)
        if self._sent_count == self._damage.cut_after:
            self.end = ResponseEnd.CUT
            return None
        if (lost := self._history.first - self._position) > 0:
            self._position = self._history.first
            return Dropped(lost)
        while (record := self._advance()) is not None:
            if not self._to_drop:
                self._sent_count += 1
                return record
            self._to_drop -= 1
        return None

    def _advance(self) -> EventRecord | None:
        """Return the next event of the range, and skip events outside it."""
        while self._position < (self._history.end if self._stop is None else self._stop):
            record = self._history[self._position]
            live = self._position >= self._live_from
            if live and self._range.ends_before(record):
                self._stop = self._position
                break
            self._position += 1
            if live and record.event_id is not None and record.event_id == self._range.until_id:
                self._stop = self._position
            if live or not (self._range.begins_after(record) or self._range.ends_before(record)):
                return record
        if self._stop is not None:
            self.end = ResponseEnd.COMPLETE
        return None


def _resolve_range(
    history: EventHistory, event_range: EventRange
) -> tuple[int, int | None, EventRange]:
    """Return the start, the stop (exclusive), and the range that each event must still match."""
    since_id, until_id = event_range.since_id, event_range.until_id
    if event_range.since is None and since_id is None:
        return history.end, None, event_range
    start, stop = history.first, None
    if since_id is not None and (position := history.position_of(since_id)) is not None:
        start, event_range = position + 1, replace(event_range, since_id=None)
    if until_id is not None and (position := history.position_of(until_id)) is not None:
        stop, event_range = position + 1, replace(event_range, until_id=None)
    return start, stop, event_range


def _is_later(record: EventRecord, event_id: str) -> bool:
    if record.event_id is not None:
        return record.event_id > event_id
    return record.time // MILLISECOND > _read_milliseconds(event_id)


def _read_milliseconds(event_id: str) -> int:
    milliseconds = ulid_milliseconds(event_id)
    assert milliseconds is not None, "parse_event_range checks it"
    return milliseconds
