"""What operators are shown of an account's trade log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class TradeLogState:
    """The counts of this process, and how far the files have come."""

    rows: int = 0
    """Events that were written."""
    missing: int = 0
    """Events that were trimmed before they were written, could not be written, or are holes."""
    is_failing: bool = False
    """Whether nothing can be written now."""
    position: int | None = None
    """The number of the last row that is in the files; None while another node writes."""
