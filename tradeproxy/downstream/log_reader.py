"""The log in steps: as much of it at once as a client is sent before it is seen whether it reads."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from tradeproxy.journal.base import Batch

if TYPE_CHECKING:
    from tradeproxy.journal.base import Journal
    from tradeproxy.wire.proxy_status import JournalStatus

STEP_ROWS = 128
STEP_BYTES = 64 * 1024
"""A transport holds one step at most on top of those bytes at which it asks for a pause."""


CACHED_STEPS = 8
"""Clients that fell behind together read at a few different positions, rarely at more."""


class LogReader:
    """Reads the logs; what clients that fell behind together need is read once for all of them."""

    def __init__(self) -> None:
        self._read_step = lru_cache(maxsize=CACHED_STEPS)(_read_step)

    def read(self, journal: Journal, after: int) -> Batch | None:
        """Return the next step behind number `after`, None at the end: a hole alone, or rows up to one.

        Raises TrimmedError, or UnreadableError.
        """
        return self._read_step(
            journal, journal.epoch, journal.first, journal.last, journal.status, after
        )


def _read_step(
    journal: Journal, epoch: str, first: int, last: int, status: JournalStatus, after: int
) -> Batch | None:
    """Read one step. All that the result depends on is an argument, and so part of the cache's key.

    Bounds and status rarely change while many clients catch up.
    """
    burst = journal.read(after, STEP_ROWS)
    if burst is None:
        return None
    size = 0
    for index, row in enumerate(burst.rows):
        size += len(row.payload or b"")
        if index > 0 and (
            row.payload is None or size > STEP_BYTES or burst.rows[0].payload is None
        ):
            return Batch(burst.rows[:index])
    return burst
