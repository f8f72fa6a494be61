"""The log of an account, read from a time on."""

from __future__ import annotations

from tradeproxy.journal.base import Log

ROWS_A_TURN = 500
"""Rows of the log that are read in one turn of the reactor, in about 20 milliseconds.

An event takes 40 microseconds. The stream brings fewer events in one turn.
"""


def find_start(log: Log, time: int) -> int:
    """Return the number of the row after which events of `time` (microseconds) or later begin."""
    first = log.first_since(time)
    return log.last if first is None else first - 1
