"""A progress bar on a terminal, for work of more than a second."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TextIO

DELAY = 1.0
"""Seconds of work before the bar appears."""

INTERVAL = 0.1
"""Seconds between two drawings of the bar."""

LENGTH = 30
"""Characters of the bar. With its label and the percentage it fits into 60 columns."""


class ProgressBar:
    """Shows how much of the work is done, and nothing if the work takes less than DELAY.

    The label is what the work is, in a word. A bar needs a terminal that nothing else writes to.
    `seconds` is a monotonic clock.
    """

    def __init__(
        self, err: TextIO, label: str, *, is_shown: bool, seconds: Callable[[], float] = monotonic
    ) -> None:
        self._err = err
        self._label = label
        self._is_shown = is_shown
        self._seconds = seconds
        self._due = seconds() + DELAY
        self._is_drawn = False

    def show(self, fraction: float) -> None:
        """Draw the bar, if it is due. `fraction` is from 0 to 1."""
        if not self._is_shown or self._seconds() < self._due:
            return
        self._due = self._seconds() + INTERVAL
        self._is_drawn = True
        bar = ("#" * int(fraction * LENGTH)).ljust(LENGTH, ".")
        self._write(f"\r{self._label} [{bar}] {fraction:4.0%}")

    def clear(self) -> None:
        """Erase the bar."""
        if self._is_drawn:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self._err.write(text)
        self._err.flush()
