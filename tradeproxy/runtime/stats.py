"""Measurements as plain numbers: histograms, and the slowest delivery of each step."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import accumulate

COMMIT_BOUNDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Seconds; from an SSD without a sync to a failing disk."""

LATENCY_BOUNDS = (5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; from one client to an event that waited the longest time for a backfill."""

BATCH_SIZE_BOUNDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""Events."""


class Histogram:
    """Cumulative counts of values up to each bound, the count of all values, and their sum."""

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Take the upper bounds, in ascending order."""
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value, which is not negative."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def counts(self) -> list[int]:
        """The number of values up to each bound. The last item is the number of all values."""
        return list(accumulate(self._counts))


SERIES_STEP = 10
"""Seconds."""

SERIES_LENGTH = 60


class SlowestSeries:
    """Seconds from the read of a batch to the last client's write. Kept in memory only."""

    def __init__(self) -> None:
        self._slowest: deque[tuple[int, float]] = deque(maxlen=SERIES_LENGTH)
        # The step of the last item, and the time that it took.
        self._step, self._taken = -1.0, 0.0

    def record(self, done: float, taken: float) -> None:
        """Record when a batch was delivered (Unix time), and how long that took (seconds)."""
        step = done // SERIES_STEP
        if step == self._step:
            if taken <= self._taken:
                return
            self._slowest.pop()
        self._slowest.append((int(step), taken))
        self._step, self._taken = step, taken

    def series(self, step: int) -> list[float | None]:
        """Return the slowest time of each of the SERIES_LENGTH steps that end with `step`.

        A step without a delivery has None.
        """
        slowest = dict(self._slowest)
        return [slowest.get(at) for at in range(step - SERIES_LENGTH + 1, step + 1)]
