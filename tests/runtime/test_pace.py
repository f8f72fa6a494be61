"""Tests for tradeproxy.runtime.stats."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.stats import SERIES_LENGTH, SERIES_STEP, SlowestSeries

NOW = 1_800_000_000


class PaceTests(SynchronousTestCase):
    """The slowest delivery in each step of ten seconds."""

    def test_step_keeps_its_slowest_delivery(self) -> None:
        """A quicker delivery, before or after, does not replace it."""
        pace = SlowestSeries()
        for taken in (0.25, 0.5, 0.125):
            pace.record(NOW, taken)
        self.assertEqual(pace.series(NOW // SERIES_STEP), [None] * (SERIES_LENGTH - 1) + [0.5])

    def test_steps_without_delivery_are_gaps(self) -> None:
        """A step without a delivery is a gap. Steps beyond the range are dropped."""
        pace = SlowestSeries()
        pace.record(NOW, 1)
        pace.record(NOW + 20, 2)
        self.assertEqual(pace.series(NOW // SERIES_STEP + 3)[-4:], [1, None, 2, None])
        self.assertEqual(
            pace.series(NOW // SERIES_STEP + SERIES_LENGTH + 2), [None] * SERIES_LENGTH
        )

    def test_number_of_steps_is_bounded(self) -> None:
        """It does not grow while the proxy runs."""
        pace = SlowestSeries()
        for step in range(3 * SERIES_LENGTH):
            pace.record(NOW + step * SERIES_STEP, 0.0)
        self.assertEqual(
            pace.series(NOW // SERIES_STEP + 3 * SERIES_LENGTH - 1), [0.0] * SERIES_LENGTH
        )
        self.assertEqual(pace.series(NOW // SERIES_STEP + SERIES_LENGTH), [None] * SERIES_LENGTH)
