"""Tests for the progress bar of `tradeproxy export`."""

from __future__ import annotations

import io

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.cli.progress import ProgressBar


class ProgressBarTests(SynchronousTestCase):
    """ProgressBar."""

    def setUp(self) -> None:
        self.clock, self.err = Clock(), io.StringIO()

    def make_bar(self, *, is_shown: bool = True) -> ProgressBar:
        return ProgressBar(self.err, "work", is_shown=is_shown, seconds=self.clock.seconds)

    def test_bar_appears_after_a_second(self) -> None:
        """Then it is drawn at most ten times a second, and erased at the end."""
        bar = self.make_bar()
        bar.show(0.1)
        self.clock.advance(1)
        for fraction in (0.5, 0.6):
            bar.show(fraction)
        bar.clear()
        self.assertEqual(self.err.getvalue(), f"\rwork [{15 * '#'}{15 * '.'}]  50%" + "\r\x1b[K")

    def test_short_or_hidden_work_writes_nothing(self) -> None:
        """Standard error in a file gets no control sequence."""
        short, hidden = self.make_bar(), self.make_bar(is_shown=False)
        short.show(1)
        self.clock.advance(5)
        hidden.show(0.5)
        hidden.clear()
        short.clear()
        self.assertEqual(self.err.getvalue(), "")
