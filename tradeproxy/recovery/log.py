"""The log of an account, read from a time on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tradeproxy.journal.base import Journal, Row

ROWS_A_READ = 1000
"""Rows of the log per read."""


def find_start(journal: Journal, time: int) -> int:
    """Return the number of the row after which events of `time` (microseconds) or later begin."""
    first = journal.first_since(time)
    return journal.last if first is None else first - 1


def read_rows(journal: Journal, after: int) -> Iterator[Row]:
    """Yield the rows behind number `after`. Raises TrimmedError or UnreadableError."""
    while (batch := journal.read(after, ROWS_A_READ)) is not None:
        yield from batch.rows
        after = batch.last
