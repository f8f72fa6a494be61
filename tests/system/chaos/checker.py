"""Compares the log of a client with the events that were emitted. Pure functions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One event as a client received it."""

    number: int
    recovered: str | None = None
    """The value of `recovered`, if the event did not come from Alpaca's stream."""
    certain: bool = True
    """False if the event may come again on another connection.

    It had no cursor, or the client resumed from an earlier time.
    """
    connection: int = 1
    """The number of the client's connection on which it came."""
    time: int = 0
    """The time of the event, in microseconds since 1970."""
    replaces: Sequence[int] = ()
    """The earlier events of its order, if the proxy made it of the order's present state."""


@dataclass(frozen=True, slots=True)
class DeclaredGap:
    """A period that the proxy reported as incomplete; Unix times, both inclusive."""

    begin: float
    end: float
    has_orders: bool = False
    """Whether the proxy made events of the orders that changed. Only the other events may miss."""


@dataclass(slots=True)
class ClientLog:
    """The record of one client."""

    name: str
    has_cursors: bool = True
    """Whether the client sees which events have no cursor."""
    entries: list[ReceivedEvent] = field(default_factory=list)
    positions_lost: list[int] = field(default_factory=list)
    """Lengths of `entries` at the times when the proxy reported a lost position."""
    may_repeat: bool = False
    """Whether the client resumes so that any event may come again, on another connection."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a client's log is compared with."""

    emitted: Mapping[int, float]
    """The Unix time of each event, by its number."""
    gaps: Sequence[DeclaredGap] = ()
    resent: Container[int] = ()
    """Events that Alpaca sent twice. A client may only get the second, after newer events."""
    lost_from_log: Container[int] = ()
    """Events that the log had and lost. They may come again, on another connection."""
    without_cursor: Mapping[int, int] = field(default_factory=dict)
    """The result of `count_deliveries_without_cursor`, for clients that see no cursors."""
    order_events: Container[int] = ()
    """Events of orders that Alpaca's list of orders has."""
    unfindable: Container[int] = ()
    """Events that the stream did not deliver, and no request for the history can return."""
    places: Sequence[Mapping[int, int]] = ()
    """For each client, the place of each event among those that it received."""


COUNTS = ("received", "late", "repeated", "declared", "duplicates", "disorder", "lost")
"""The counts of a verdict, in the order of its fields."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts for one client; `duplicates`, `disorder` and `lost` must be 0."""

    name: str
    received: int
    late: int
    """Events that were marked as recovered."""
    repeated: int
    """Events that came again where the contract allows it; the last position counts."""
    declared: int
    """Missing events that are unfindable, in a declared gap, or after a lost position."""
    duplicates: int
    disorder: int
    lost: int
    breaches: Sequence[tuple[str, int]] = field(default=(), compare=False)
    """Each violation: a word, and the number of the event."""
    excused: Sequence[int] = field(default=(), compare=False)
    """The numbers of the events that `declared` counts."""

    @property
    def is_clean(self) -> bool:
        """Whether the client got every event once and in order, except as declared."""
        return not (self.duplicates or self.disorder or self.lost)


def judge(log: ClientLog, truth: Truth) -> Verdict:
    """Compare a log with the truth.

    An event may come twice only on another connection, and if the first delivery had no cursor or
    the client resumes by time, or marked as recovered after the client lost its position. An event
    that was made of an order counts as the event that it equals, and replaces the earlier ones of
    that order that are missing. Those may come later. Live events must be in order. Recovered
    events may come at any position.
    """
    without_cursor = {} if log.has_cursors else truth.without_cursor
    times: Counter[int] = Counter()
    positions: dict[int, ReceivedEvent] = {}
    indices: dict[int, int] = {}
    replaced: set[int] = set()
    breaches: list[tuple[str, int]] = []
    repeated = 0
    for index, entry in enumerate(log.entries):
        number = entry.number
        if (before := positions.get(number)) is not None:
            is_certain = before.certain and not log.may_repeat
            is_certain = is_certain and number not in truth.lost_from_log
            is_certain = is_certain and times[number] > without_cursor.get(number, 0)
            if entry.recovered is not None:
                since = (indices[number] < length <= index for length in log.positions_lost)
                is_certain = is_certain and not any(since)
            if is_certain or before.connection == entry.connection:
                breaches.append(("again", number))
                continue
            repeated += 1
            del positions[number]  # the last position counts
        times[number] += 1
        positions[number] = entry
        indices[number] = index
        replaced.update(entry.replaces)
    duplicates = len(breaches)
    newest = late = 0
    for entry in positions.values():
        if entry.recovered is not None:
            late += 1
            continue
        if entry.number < newest and entry.number not in truth.resent:
            breaches.append(("behind", entry.number))
        newest = max(newest, entry.number)
    missing = [
        number for number in truth.emitted if number not in positions and number not in replaced
    ]
    excused = [number for number in missing if _is_declared(number, log, truth)]
    lost = sorted(set(missing).difference(excused))
    disorder = len(breaches) - duplicates
    breaches += [("lost", number) for number in lost]
    return Verdict(
        log.name,
        len(positions),
        late,
        repeated,
        len(excused),
        duplicates,
        disorder,
        len(lost),
        breaches,
        excused,
    )


def count_deliveries_without_cursor(logs: Sequence[ClientLog]) -> Counter[int]:
    """Return for each event the most deliveries without a cursor that any client saw."""
    most: Counter[int] = Counter()
    for log in logs:
        if log.has_cursors:
            most |= Counter(entry.number for entry in log.entries if not entry.certain)
    return most


def _is_declared(number: int, log: ClientLog, truth: Truth) -> bool:
    if number in truth.unfindable:
        return True
    for gap in truth.gaps:
        is_covered = gap.has_orders and number in truth.order_events
        if not is_covered and gap.begin <= truth.emitted[number] <= gap.end:
            return True
    for length in log.positions_lost:
        before = max((entry.number for entry in log.entries[:length]), default=0)
        # Recovered events come at any position, so they do not show where the stream goes on.
        live = (entry.number for entry in log.entries[length:] if entry.recovered is None)
        after = min((number for number in live if number > before), default=None)
        if before < number and (after is None or number < after):
            return True
        # A recovered event may have been behind the lost position, whatever its number.
        ends = [entry.number for entry in log.entries[max(length - 1, 0) : length + 1]]
        if len(ends) == 2 and any(_is_between(number, ends, places) for places in truth.places):
            return True
    return False


def _is_between(number: int, ends: Sequence[int], places: Mapping[int, int]) -> bool:
    if number not in places or not all(end in places for end in ends):
        return False
    return places[ends[0]] < places[number] < places[ends[1]]
