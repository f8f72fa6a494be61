"""When a journal is trimmed: every few seconds, and soon again while more is due."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

TRIM_STEP = 1000
"""Rows that are trimmed at once."""

TRIM_EVERY = 10.0
"""Seconds between looks for rows that are due to be trimmed."""

TRIM_AGAIN = 0.1
"""Seconds to the next look while more of them are due."""


class Trimming:
    """Lets a journal trim TRIM_STEP rows at most, time and again; `step` returns whether more may be due."""

    def __init__(self, clock: IReactorTime, step: Callable[[], bool]) -> None:
        self._clock = clock
        self._step = step
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin with it, in TRIM_EVERY seconds."""
        self._timer = self._clock.callLater(TRIM_EVERY, self._trim)

    def stop(self) -> None:
        """Trim no more; harmless if that has been done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _trim(self) -> None:
        timer = self._timer = self._clock.callLater(TRIM_EVERY, self._trim)
        if self._step():
            timer.reset(TRIM_AGAIN)
