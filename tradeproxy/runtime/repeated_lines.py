"""The log has the 1st, 10th, 100th … line of a kind that may repeat all day."""

from __future__ import annotations


def is_logged(count: int) -> bool:
    """Whether the count is 1, 10, 100 …: these occurrences of one kind are logged."""
    return str(count).strip("0") == "1"
