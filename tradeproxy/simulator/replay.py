"""What one response of GET /v2/events/trades tells, and where it ends; pure.

| asked for          | history                                 | then                                    |
|--------------------|-----------------------------------------|-----------------------------------------|
| nothing            | none                                    | what happens, without an end            |
| `since`            | the events of that time and later       | what happens, without an end            |
| `since`, `until`   | of those, the ones up to that time      | what happens, until the time has passed |
| `since_id`         | the events told after that one          | what happens, without an end            |
| … and `until_id`   | of those, the ones up to that one       | what happens, up to that one            |

An id that the history does not hold stands for its place in the order of ids. What is told live is not
held against `since`: it is new, whatever it says of its time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from tradeproxy.simulator.clock import nanoseconds, ulid_milliseconds
from tradeproxy.simulator.errors import ApiError
from tradeproxy.simulator.history import EventRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tradeproxy.simulator.history import EventHistory

MILLISECOND = 1_000_000
"""In nanoseconds, which are the unit of every time here."""

PARAMETERS = ("since", "until", "since_id", "until_id")


@dataclass(frozen=True, slots=True)
class EventRange:
    """The part of all events that a client asks for: by times, by ids, or by neither."""

    since: int | None = None
    until: int | None = None
    since_id: str | None = None
    until_id: str | None = None

    @property
    def deadline(self) -> int | None:
        """The last moment at which something can happen that belongs to the span; None without an end."""
        if self.until_id is not None:
            return (_milliseconds(self.until_id) + 1) * MILLISECOND - 1
        return self.until

    def begins_after(self, record: EventRecord) -> bool:
        """Whether an event is too old."""
        if self.since_id is not None:
            return not _is_later(record, self.since_id)
        return self.since is not None and record.time < self.since

    def ends_before(self, record: EventRecord) -> bool:
        """Whether an event is too new."""
        if self.until_id is not None:
            return record.event_id != self.until_id and _is_later(record, self.until_id)
        return self.until is not None and record.time > self.until


def parse_event_range(fields: Mapping[str, str]) -> EventRange:
    """Read a request's parameters; the Refusal of bad ones names one of them."""
    given = {name: fields[name] for name in PARAMETERS if name in fields}
    for end, start in (("until", "since"), ("until_id", "since_id")):
        if end in given and start not in given:
            raise _refusal(f"{end} needs {start}")
    if "since" in given and "since_id" in given:
        raise _refusal("since and since_id exclude each other")
    times = {name: nanoseconds(text) for name, text in given.items() if not name.endswith("_id")}
    ids = {name: text.upper() for name, text in given.items() if name.endswith("_id")}
    for name, time in times.items():
        if time is None:
            raise _refusal(f"{name} is not an RFC 3339 time")
    for name, event_id in ids.items():
        if ulid_milliseconds(event_id) is None:
            raise _refusal(f"{name} is not a ULID")
    return EventRange(
        times.get("since"), times.get("until"), ids.get("since_id"), ids.get("until_id")
    )


@dataclass(frozen=True, slots=True)
class Damage:
    """What goes wrong with a response after so many events: it is cut, or `dropped` events are left out."""

    cut_after: int | None = None
    drop_after: int | None = None
    dropped: int = 0


INTACT = Damage()


@dataclass(frozen=True, slots=True)
class Dropped:
    """So many events are missing here."""

    count: int


class ResponseEnd(Enum):
    """How a response ends: as it should, or in the middle."""

    COMPLETE = auto()
    CUT = auto()


Step: TypeAlias = EventRecord | Dropped


class EventReplay:
    """One response's way through a history and along with it, from `now`. `ending` is None until the end.

    A reader who is overtaken by what the history forgets is told how much it missed.
    """

    def __init__(
        self, history: EventHistory, span: EventRange, now: int, damage: Damage = INTACT
    ) -> None:
        self.ending: ResponseEnd | None = None
        self._history = history
        self._damage = damage
        self._told = 0
        self._to_drop = 0
        self._live_from = history.end
        self._position, self._stop, self._span = _place(history, span)
        if span.deadline is not None and span.deadline < now:
            self.expire()

    def expire(self) -> None:
        """Take note that the span's deadline has passed: nothing more that happens belongs to it."""
        self._stop = self._history.end if self._stop is None else self._stop

    def next(self) -> Step | None:
        """Return what is to be told next; None when there is nothing for now, or no more."""
        if self.ending is not None:
            return None
        if self._told == self._damage.drop_after:
            self._to_drop = self._damage.dropped
            self._damage = replace(self._damage, drop_after=None)
            return Dropped(self._to_drop)
        if self._told == self._damage.cut_after:
            self.ending = ResponseEnd.CUT
            return None
        if (missed := self._history.first - self._position) > 0:
            self._position = self._history.first
            return Dropped(missed)
        while (record := self._advance()) is not None:
            if not self._to_drop:
                self._told += 1
                return record
            self._to_drop -= 1
        return None

    def _advance(self) -> EventRecord | None:
        """Go on to the next event of the span, past those that do not belong to it."""
        while self._position < (self._history.end if self._stop is None else self._stop):
            record = self._history[self._position]
            live = self._position >= self._live_from
            if live and self._span.ends_before(record):
                self._stop = self._position
                break
            self._position += 1
            if live and record.event_id is not None and record.event_id == self._span.until_id:
                self._stop = self._position
            if live or self._belongs(record):
                return record
        if self._stop is not None:
            self.ending = ResponseEnd.COMPLETE
        return None

    def _belongs(self, record: EventRecord) -> bool:
        return not (self._span.begins_after(record) or self._span.ends_before(record))


def _place(history: EventHistory, span: EventRange) -> tuple[int, int | None, EventRange]:
    """Return where to begin, before which position to stop, and what is left to be judged by each event."""
    if span.since is None and span.since_id is None:
        return history.end, None, span
    begin, stop = history.first, None
    if span.since_id is not None and (position := history.position_of(span.since_id)) is not None:
        begin, span = position + 1, replace(span, since_id=None)
    if span.until_id is not None and (position := history.position_of(span.until_id)) is not None:
        stop, span = position + 1, replace(span, until_id=None)
    return begin, stop, span


def _is_later(record: EventRecord, event_id: str) -> bool:
    if record.event_id is not None:
        return record.event_id > event_id
    return record.time // MILLISECOND > _milliseconds(event_id)


def _milliseconds(event_id: str) -> int:
    milliseconds = ulid_milliseconds(event_id)
    assert milliseconds is not None, "checked when it was read"
    return milliseconds


def _refusal(problem: str) -> ApiError:
    return ApiError(400, 40010001, problem)
