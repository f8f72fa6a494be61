"""Positions that clients ask a node for and it has not read: they may be in the log, or in none.

A node may lag behind: a client that comes from a faster node can name a position that this node has
not read yet. The node answers "try again" (UnreadableError) until the position is certainly not in
the log:

| position | event                                                      | then      |
|----------|------------------------------------------------------------|-----------|
| new      | a client asks for it                                       | asked     |
| asked    | a check of the log, sent after the question, had end N     | doubtful  |
| doubtful | this node has read up to N and not found it                | certain   |
| certain  | CHECKS_KEPT more checks: the log may have got it since     | new       |
"""

from __future__ import annotations

MAX_POSITIONS = 1000
"""Positions to keep, at most: invalid requests must not fill the memory."""

CHECKS_KEPT = 20
"""Checks of the log for which a missing position stays certain. A number beyond the log's end may
belong to an event later."""


class MissingPositions:
    """Positions that clients asked for and this node does not have."""

    def __init__(self) -> None:
        self.asked: frozenset[object] = frozenset()
        """Positions asked for since the last check of the log."""
        self._doubtful: dict[object, int] = {}  # with the log's end at the check
        self._certain: dict[object, int] = {}  # with the checks for which it stays certain

    def is_certain(self, position: object) -> bool:
        """Whether a position is certainly not in the log; if not, it is added to `asked`."""
        if position in self._certain:
            return True
        if position not in self._doubtful and len(self.asked) + len(self._doubtful) < MAX_POSITIONS:
            self.asked |= {position}
        return False

    def record_log_end(self, asked: frozenset[object], end: int) -> None:
        """Record a check: the log ended at number `end`, after `asked` had been asked for."""
        self.asked -= asked
        self._doubtful.update(dict.fromkeys(asked, end))
        self._certain = {position: left - 1 for position, left in self._certain.items() if left}

    def record_read_to(self, last: int) -> None:
        """Record that this node has read up to number `last`."""
        for position in [position for position, end in self._doubtful.items() if end <= last]:
            del self._doubtful[position]
            self._certain[position] = CHECKS_KEPT
        while len(self._certain) > MAX_POSITIONS:
            del self._certain[next(iter(self._certain))]
