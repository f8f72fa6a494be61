"""The log of an account, read from a time on."""

from __future__ import annotations

from collections.abc import Iterator

from tradeproxy.journal.base import Log, Row

ROWS_A_READ = 1000
"""Rows of the log per read."""


def find_start(log: Log, time: int) -> int:
    """Return the number of the row after which events of `time` (microseconds) or later begin."""
    first = log.first_since(time)
    return log.last if first is None else first - 1


def read_rows(log: Log, after: int) -> Iterator[Row]:
    """Yield the rows behind number `after`. Raises TrimmedError or UnreadableError."""
    while (batch := log.read(after, ROWS_A_READ)) is not None:
        yield from batch.rows
        after = batch.last
