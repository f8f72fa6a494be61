"""What was measured, counted by size: plain numbers, for whoever asks."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import accumulate

COMMIT_BOUNDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
)
"""Seconds: an SSD without a sync, to a disk that is about to fail."""

LATENCY_BOUNDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
"""Seconds: one client, to what waited for missed events as long as it may."""

BATCH_SIZE_BOUNDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""Events."""


class Histogram:
    """How many values there were up to each of some bounds, and in all; and their sum."""

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Bounds ascend."""
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value; a negative one, of a clock that was set back, as 0."""
        value = max(value, 0.0)
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def counts(self) -> list[int]:
        """How many values were at most each bound, and, as the last, how many there were at all."""
        return list(accumulate(self._counts))


SERIES_STEP = 10
"""Seconds."""

SERIES_LENGTH = 60


class SlowestSeries:
    """Times from the read of a burst to the last client's write, in seconds; kept in memory only."""

    def __init__(self) -> None:
        self._slowest: deque[tuple[int, float]] = deque(maxlen=SERIES_LENGTH)

    def record(self, begun: float, done: float) -> None:
        """Take one burst's times (Unix time); a clock that was set back counts as no time at all."""
        step, taken = int(done) // SERIES_STEP, max(done - begun, 0.0)
        if self._slowest and self._slowest[-1][0] == step:
            taken = max(taken, self._slowest.pop()[1])
        self._slowest.append((step, taken))

    def series(self, step: int) -> list[float | None]:
        """Return the slowest of each of the last STEPS steps, of which `step` is the last; None for none."""
        slowest = dict(self._slowest)
        return [slowest.get(at) for at in range(step - SERIES_LENGTH + 1, step + 1)]
