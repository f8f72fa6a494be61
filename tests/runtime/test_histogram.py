"""Tests for tradeproxy.runtime.stats."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.stats import Histogram


class HistogramTests(SynchronousTestCase):
    """A histogram counts values by size."""

    def test_values_are_counted_per_bound_and_in_total(self) -> None:
        """A value equal to a bound counts in it."""
        histogram = Histogram((1.0, 2.0, 5.0))
        for value in (0.5, 1, 1.5, 5, 7):
            histogram.observe(value)
        self.assertEqual((histogram.counts, histogram.total), ([2, 3, 4, 5], 15.0))
