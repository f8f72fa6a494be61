"""Numbers with a noun, for people."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """Return `1 event` or `2 events`."""
    return f"{number} {noun}{plural_ending(number)}"


def plural_ending(number: int) -> str:
    """Return the ending of a noun behind a number, for the format of a log line."""
    return "" if number == 1 else "s"
