"""Which rows of a log are kept, and when the others are trimmed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

TRIM_STEP = 1000
"""Rows trimmed in one step. It bounds the time for which the reactor is blocked."""

TRIM_EVERY = 10.0
"""Seconds between two checks for rows to trim."""

TRIM_AGAIN = 0.1
"""Seconds until the next check while more rows are due."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The rule: a row is due when it is too old, or when enough newer rows are stored.

    A row is trimmed only together with all rows before it.
    """

    max_age: float
    """Seconds after receipt for which a row is kept."""
    max_events: int
    """How many rows are kept at most."""

    def get_due(self, last: int, now: float) -> tuple[int, int]:
        """Return what is due: the last sequence number, and the time of receipt before which.

        Args:
            last: the highest sequence number of the log.
            now: Unix time in seconds. The returned time is in microseconds.
        """
        return last - self.max_events, round((now - self.max_age) * 1_000_000)


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
