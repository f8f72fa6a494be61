"""What the metrics show of the book of an account, whose room is above this one."""

from __future__ import annotations

from typing import Protocol


class BookStatus(Protocol):
    """The state of a book."""

    @property
    def rows_behind(self) -> int:
        """Rows of the log that are not applied yet."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing, as far as Alpaca's last answer shows."""

    @property
    def corrected(self) -> int:
        """Positions that were wrong in two comparisons in a row."""
