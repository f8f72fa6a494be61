"""How quickly one account's events are handed on: the slowest of every ten seconds, for ten minutes."""

from __future__ import annotations

from collections import deque

STEP = 10
"""Seconds."""

STEPS = 60


class Pace:
    """Times from the read of a burst to the last client's write, in seconds; kept in memory only."""

    def __init__(self) -> None:
        self._slowest: deque[tuple[int, float]] = deque(maxlen=STEPS)

    def note(self, begun: float, done: float) -> None:
        """Take one burst's times (Unix time); a clock that was set back counts as no time at all."""
        step, taken = int(done) // STEP, max(done - begun, 0.0)
        if self._slowest and self._slowest[-1][0] == step:
            taken = max(taken, self._slowest.pop()[1])
        self._slowest.append((step, taken))

    def series(self, step: int) -> list[float | None]:
        """Return the slowest of each of the last STEPS steps, of which `step` is the last; None for none."""
        slowest = dict(self._slowest)
        return [slowest.get(at) for at in range(step - STEPS + 1, step + 1)]
