"""Tests for tradeproxy.journal.retention: when rows are trimmed; test_trimming has which ones."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.journal.retention import Trimmer


class TrimmerTests(SynchronousTestCase):
    """Steps follow each other at intervals, so that the reactor serves clients in between."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.more = [True, True, False, False]
        self.times: list[float] = []
        self.trimmer = Trimmer(self.clock, self.step)

    def step(self) -> bool:
        self.times.append(self.clock.seconds())
        return self.more.pop(0)

    def test_steps_are_10_seconds_apart_and_a_tenth_while_more_rows_are_due(self) -> None:
        """The first one is not at the start, which has other work."""
        self.trimmer.start()
        self.clock.pump([0.0625] * 400)
        self.assertEqual(self.times, [10.0, 10.125, 10.25, 20.25])

    def test_stop_ends_steps_and_may_come_again_or_first(self) -> None:
        """A journal that could not be opened is closed too."""
        self.trimmer.stop()
        self.trimmer.start()
        self.trimmer.stop()
        self.trimmer.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
