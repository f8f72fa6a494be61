"""Which rows of a log are kept, and when the others are trimmed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tradeproxy.runtime.dates import SECOND, Dates
from tradeproxy.wire.event import MAX_TIME

TRIM_STEP = 1000
"""Rows trimmed in one step. It bounds the time for which the reactor is blocked."""

TRIM_EVERY = 10.0
"""Seconds between two checks for rows to trim."""

TRIM_AGAIN = 0.1
"""Seconds until the next check while more rows are due."""


@dataclass(frozen=True, slots=True)
class Due:
    """Which rows are due. All times are microseconds since 1970."""

    seq: int
    """Rows up to this number are due, whatever their age."""
    before: int | None = None
    """Rows from before this time are due; None if no row is due by its age."""
    event_limit: int = MAX_TIME
    """An event with a later time has a wrong one: it does not count."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The rule: a row is due when it is too old, or when enough newer rows are stored.

    Its age counts only if it is too old by this machine's clock and by Alpaca's: one of them may
    be wrong for a while. A row is trimmed only together with all rows before it. Whatever their
    age, the last row is kept, and the rows from the first one with the newest time on. So the id,
    the cursor and the time of the last event of a quiet account stay valid positions.
    """

    max_age: float
    """Seconds after receipt for which a row is kept."""
    max_events: int
    """How many rows are kept at most."""

    def get_due(self, last: int, dates: Dates) -> Due:
        """Return which rows are due. `last` is the highest sequence number of the log."""
        seq = last - self.max_events
        if (limit := dates.event_limit()) is None:
            return Due(seq)
        before = min(dates.now(), dates.own()) - self.max_age
        return Due(seq, round(before * SECOND), limit)


class Trimmer:
    """Calls `step` repeatedly. A step trims at most TRIM_STEP rows.

    A step returns whether more rows may be due. The next one then follows sooner.
    """

    def __init__(self, clock: IReactorTime, step: Callable[[], bool]) -> None:
        self._clock = clock
        self._step = step
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Schedule the first step, in TRIM_EVERY seconds."""
        self._timer = self._clock.callLater(TRIM_EVERY, self._trim)

    def stop(self) -> None:
        """Cancel further steps. A second call has no effect."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _trim(self) -> None:
        # Scheduled before the step, so that a step that raises does not end the trimming.
        timer = self._timer = self._clock.callLater(TRIM_EVERY, self._trim)
        if self._step():
            timer.reset(TRIM_AGAIN)
