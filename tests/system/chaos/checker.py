"""Whether a client's log is what it was promised; pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as a client got it."""

    number: int
    recovered: str | None = None
    """The mark of an event that did not come by the stream."""
    certain: bool = True
    """False if it may come again on another connection: it had no cursor, or its time was asked for again."""
    connection: int = 1
    """On which of the client's connections it came."""
    time: int = 0
    """The event's own, in microseconds since 1970."""


@dataclass(frozen=True, slots=True)
class DeclaredGap:
    """A time of which the proxy has said that its events are not to be had whole: seconds, inclusive."""

    begin: float
    end: float


@dataclass(slots=True)
class Log:
    """What one client has noted."""

    name: str
    knows_cursors: bool = True
    """Whether it is told which events have no cursor."""
    entries: list[Entry] = field(default_factory=list)
    positions_lost: list[int] = field(default_factory=list)
    """Lengths of `entries` at which the client was told that what follows cannot be had whole."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a client's log is held against."""

    emitted: Mapping[int, float]
    """The numbers of the events, and the times at which they happened."""
    gaps: Sequence[DeclaredGap] = ()
    retold: Container[int] = ()
    """Those that Alpaca told twice: the second time, after newer ones, may be the first that was heard."""
    forgotten: Container[int] = ()
    """Those that the proxy's store had, and has lost since: they may come again, on another connection."""
    without_cursor: Mapping[int, int] = field(default_factory=dict)
    """See `deliveries_without_cursor`; for clients that cannot know."""


COUNTS = ("received", "late", "repeated", "declared", "duplicates", "disorder", "lost")
"""What a verdict counts, in the order of its fields."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts for one client; of the last three, none may be above 0."""

    name: str
    received: int
    late: int
    """Marked as recovered, after newer ones."""
    repeated: int
    """Came again though the first time was good, as the contract says they may; the last place counts."""
    declared: int
    """Did not come, as the proxy had said."""
    duplicates: int
    disorder: int
    lost: int
    breaches: Sequence[tuple[str, int]] = field(default=(), compare=False)
    """What was not as promised: a word, and the number of the event."""
    excused: Sequence[int] = field(default=(), compare=False)
    """The numbers of those that were declared."""

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.duplicates or self.disorder or self.lost)


def judge(log: Log, truth: Truth) -> Verdict:
    """Hold a log against the truth."""
    unseen = {} if log.knows_cursors else truth.without_cursor
    times: Counter[int] = Counter()
    places: dict[int, Entry] = {}
    breaches: list[tuple[str, int]] = []
    repeated = 0
    for entry in log.entries:
        number = entry.number
        before = places.get(number)
        if before is not None:
            is_certain = before.certain and number not in truth.forgotten
            is_certain = is_certain and times[number] > unseen.get(number, 0)
            if is_certain or before.connection == entry.connection:
                breaches.append(("again", number))
                continue
            repeated += 1
            del places[number]  # it counts where it came last
        times[number] += 1
        places[number] = entry
    duplicates = len(breaches)
    newest = late = 0
    for entry in places.values():
        if entry.recovered is not None:
            late += 1
            continue
        if entry.number < newest and entry.number not in truth.retold:
            breaches.append(("behind", entry.number))
        newest = max(newest, entry.number)
    missing = [number for number in truth.emitted if number not in places]
    excused = [number for number in missing if _is_declared(number, log, truth)]
    lost = sorted(set(missing).difference(excused))
    disorder = len(breaches) - duplicates
    breaches += [("lost", number) for number in lost]
    return Verdict(
        log.name,
        len(places),
        late,
        repeated,
        len(excused),
        duplicates,
        disorder,
        len(lost),
        breaches,
        excused,
    )


def deliveries_without_cursor(logs: Sequence[Log]) -> Counter[int]:
    """Count for each event how many times a client got it without a cursor: one that is told, at most."""
    most: Counter[int] = Counter()
    for log in logs:
        if log.knows_cursors:
            most |= Counter(entry.number for entry in log.entries if not entry.certain)
    return most


def _is_declared(number: int, log: Log, truth: Truth) -> bool:
    if any(gap.begin <= truth.emitted[number] <= gap.end for gap in truth.gaps):
        return True
    for length in log.positions_lost:
        before = max((entry.number for entry in log.entries[:length]), default=0)
        after = min(
            (entry.number for entry in log.entries[length:] if entry.number > before), default=None
        )
        if before < number and (after is None or number < after):
            return True
    return False
