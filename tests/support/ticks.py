"""A timer for code that bounds its steps by time."""

from __future__ import annotations


class Ticks:
    """Each look at it takes `tick` seconds: none at first, so that no step ends early."""

    def __init__(self) -> None:
        self.tick = 0.0
        self._seconds = 0.0

    def __call__(self) -> float:
        self._seconds += self.tick
        return self._seconds
