"""The log in steps: as much of it at once as a client is sent before it is seen whether it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tradeproxy.downstream.once import Once
from tradeproxy.journal.base import Burst

if TYPE_CHECKING:
    from tradeproxy.journal.base import Journal

STEP_ROWS = 128
STEP_BYTES = 64 * 1024
"""A transport holds one step at most on top of those bytes at which it asks for a pause."""


class Steps:
    """Reads the logs; what clients that fell behind together need is read once for all of them."""

    def __init__(self) -> None:
        self._read: Once[Burst | None] = Once()

    def read(self, journal: Journal, after: int) -> Burst | None:
        """Return the next step behind number `after`, None at the end: a hole alone, or rows up to one.

        Raises TrimmedError, or UnreadableError.
        """
        # All that decides on the answer; bounds and status change seldom while many catch up.
        key = (id(journal), journal.epoch, journal.first, journal.last, journal.status, after)
        return self._read.get(key, lambda: _step(journal.read(after, STEP_ROWS)))


def _step(burst: Burst | None) -> Burst | None:
    if burst is None:
        return None
    size = 0
    for index, row in enumerate(burst.rows):
        size += len(row.payload or b"")
        if index > 0 and (row.payload is None or size > STEP_BYTES or burst.rows[0].payload is None):
            return Burst(burst.rows[:index])
    return burst
