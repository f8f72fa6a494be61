"""Whether a client's log is what it was promised; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as a client got it."""

    number: int
    recovered: str | None = None
    """The mark of an event that did not come by the stream."""
    certain: bool = True
    """False if it had no cursor: after a crash of the proxy it may come again."""


@dataclass(frozen=True, slots=True)
class DeclaredGap:
    """A time of which the proxy has said that its events are not to be had whole: seconds, inclusive."""

    begin: float
    end: float


@dataclass(slots=True)
class Log:
    """What one client has noted."""

    name: str
    entries: list[Entry] = field(default_factory=list)
    positions_lost: list[int] = field(default_factory=list)
    """Lengths of `entries` at which the client was told that what follows cannot be had whole."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts for one client; of the last three, none may be above 0."""

    name: str
    received: int
    late: int
    """Marked as recovered, after newer ones."""
    repeated: int
    """Came again after they had been delivered without a cursor, as the contract says they may."""
    declared: int
    """Did not come, as the proxy had said."""
    duplicates: int
    disorder: int
    lost: int

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.duplicates or self.disorder or self.lost)


def judge(log: Log, emitted: Mapping[int, float], gaps: Sequence[DeclaredGap]) -> Verdict:
    """Hold a log against the events that were emitted: their numbers, and the times at which they were."""
    seen: dict[int, bool] = {}
    newest = late = repeated = duplicates = disorder = 0
    for entry in log.entries:
        if entry.number in seen:
            if seen[entry.number]:
                duplicates += 1
            else:
                repeated += 1
            seen[entry.number] |= entry.certain
            continue
        seen[entry.number] = entry.certain
        if entry.recovered is not None:
            late += 1
        elif entry.number < newest:
            disorder += 1
        if entry.recovered is None:
            newest = max(newest, entry.number)
    missing = [number for number in emitted if number not in seen]
    declared = [number for number in missing if _is_declared(number, emitted[number], log, gaps)]
    return Verdict(
        log.name,
        len(seen),
        late,
        repeated,
        len(declared),
        duplicates,
        disorder,
        len(missing) - len(declared),
    )


def _is_declared(number: int, time: float, log: Log, gaps: Sequence[DeclaredGap]) -> bool:
    if any(gap.begin <= time <= gap.end for gap in gaps):
        return True
    for length in log.positions_lost:
        before = max((entry.number for entry in log.entries[:length]), default=0)
        after = min((entry.number for entry in log.entries[length:] if entry.number > before), default=None)
        if before < number and (after is None or number < after):
            return True
    return False
