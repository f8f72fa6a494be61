"""Positions that a client named and this node does not have: whether they are yet to come, or never were.

A client that has come from a quicker node may know an event that is still on its way here. Whoever asks for
it is told to come back, until it has become certain that the event never was: by a look at the log that was
sent after the question, and once this node has read as far as the log was then.
"""

from __future__ import annotations

MOST = 1000
"""Positions that are remembered."""

LOOKS = 20
"""After so many looks at the log it is asked again: a number that it had not may have been given since."""


class Absent:
    """Which positions have been asked for, and which of them are certain not to be in the log."""

    def __init__(self) -> None:
        self.asked: frozenset[object] = frozenset()
        """Those of which nothing is known yet."""
        self._doubtful: dict[object, int] = {}
        self._certain: dict[object, int] = {}  # for how many looks

    def is_known(self, position: object) -> bool:
        """Whether a position that is not here is certainly not in the log; if not, the question is noted."""
        if position in self._certain:
            return True
        if position not in self._doubtful and len(self.asked) + len(self._doubtful) < MOST:
            self.asked |= {position}
        return False

    def settle(self, asked: frozenset[object], end: int) -> None:
        """Note that the log ended at a number after these had been asked for."""
        self.asked -= asked
        self._doubtful.update(dict.fromkeys(asked, end))
        self._certain = {position: looks - 1 for position, looks in self._certain.items() if looks}

    def reached(self, last: int) -> None:
        """Note how far this node has read."""
        for position in [position for position, end in self._doubtful.items() if end <= last]:
            del self._doubtful[position]
            self._certain[position] = LOOKS
        while len(self._certain) > MOST:
            del self._certain[next(iter(self._certain))]
