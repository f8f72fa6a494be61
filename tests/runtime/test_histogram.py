"""Tests for tradeproxy.runtime.stats."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.stats import Histogram


class HistogramTests(SynchronousTestCase):
    """Values, counted by size."""

    def test_counts_up_to_each_bound_and_in_all(self) -> None:
        """A value that equals a bound is within it."""
        histogram = Histogram((1.0, 2.0, 5.0))
        for value in (0.5, 1, 1.5, 5, 7):
            histogram.observe(value)
        self.assertEqual((histogram.counts, histogram.total), ([2, 3, 4, 5], 15.0))

    def test_takes_time_that_went_backwards_for_none(self) -> None:
        """A sum that falls would look like a restart."""
        histogram = Histogram((1.0,))
        histogram.observe(-3)
        self.assertEqual((histogram.counts, histogram.total), ([1, 1], 0.0))
