"""Tests for tradeproxy.runtime.stats."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.stats import SERIES_LENGTH, SERIES_STEP, SlowestSeries

NOW = 1_800_000_000


class PaceTests(SynchronousTestCase):
    """The slowest delivery of every ten seconds."""

    def test_the_slowest_of_a_step_counts(self) -> None:
        """One that was quicker, before or after, does not hide it."""
        pace = SlowestSeries()
        for taken in (0.25, 0.5, 0.125):
            pace.record(NOW - taken, NOW)
        self.assertEqual(pace.series(NOW // SERIES_STEP), [None] * (SERIES_LENGTH - 1) + [0.5])

    def test_each_step_has_its_place(self) -> None:
        """Where nothing was delivered is a gap, and what is older than all steps is gone."""
        pace = SlowestSeries()
        pace.record(NOW - 1, NOW)
        pace.record(NOW + 18, NOW + 20)
        self.assertEqual(pace.series(NOW // SERIES_STEP + 3)[-4:], [1, None, 2, None])
        self.assertEqual(
            pace.series(NOW // SERIES_STEP + SERIES_LENGTH + 2), [None] * SERIES_LENGTH
        )

    def test_a_clock_that_is_set_back_takes_no_time(self) -> None:
        """Rather than less than none."""
        pace = SlowestSeries()
        pace.record(NOW + 5, NOW)
        self.assertEqual(pace.series(NOW // SERIES_STEP)[-1], 0)

    def test_keeps_no_more_than_it_shows(self) -> None:
        """However long the proxy runs."""
        pace = SlowestSeries()
        for step in range(3 * SERIES_LENGTH):
            pace.record(NOW + step * SERIES_STEP, NOW + step * SERIES_STEP)
        self.assertEqual(
            pace.series(NOW // SERIES_STEP + 3 * SERIES_LENGTH - 1), [0.0] * SERIES_LENGTH
        )
        self.assertEqual(pace.series(NOW // SERIES_STEP + SERIES_LENGTH), [None] * SERIES_LENGTH)
