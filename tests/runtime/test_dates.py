"""Tests for tradeproxy.runtime.dates."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.dates import (
    AGREEMENT,
    CLIENT_SKEW,
    CONFIRM_AFTER,
    TOLERANCE,
    UNKNOWN_SKEW,
    Dates,
)

NOW = 1_800_000_000.0
YEAR = 365 * 86_400.0


class DatesTests(SynchronousTestCase):
    """Alpaca's clock is estimated from Date headers, of which one may be wrong."""

    def setUp(self) -> None:
        self.clock = Clock()  # the machine has just been started
        self.error = 0.0
        self.dates = Dates(self.clock.seconds, self.own)

    def own(self) -> float:
        return self.true() + self.error

    def true(self) -> float:
        return NOW + self.clock.seconds()

    def test_first_date_needs_a_second_source(self) -> None:
        """That is this machine's clock, or another answer half a minute later."""
        self.assertIsNone(self.dates.alpaca())
        self.assertTrue(self.dates.observe(self.true()))
        self.assertEqual(self.dates.alpaca(), NOW)
        self.error = -YEAR
        self.dates = Dates(self.clock.seconds, self.own)
        self.assertFalse(self.dates.observe(self.true()))
        self.clock.advance(CONFIRM_AFTER - 1)
        self.assertFalse(self.dates.observe(self.true()))
        self.assertIsNone(self.dates.alpaca())
        self.clock.advance(1)
        self.assertTrue(self.dates.observe(self.true() + AGREEMENT))
        self.assertEqual(self.dates.alpaca(), self.true() + AGREEMENT)

    def test_estimate_moves_with_the_clock_of_intervals(self) -> None:
        """This machine's clock may be set while the proxy runs."""
        self.dates.observe(self.true())
        self.error = -3600.0
        self.clock.advance(900)
        self.assertEqual((self.dates.alpaca(), self.dates.now()), (NOW + 900, NOW + 900))
        self.assertEqual(self.dates.alpaca_at(300), NOW + 300)
        self.assertTrue(self.dates.observe(self.true() - TOLERANCE))
        self.assertEqual(self.dates.alpaca(), self.true() - TOLERANCE)

    def test_single_wrong_date_is_ignored(self) -> None:
        """One answer of a portal or a cache was a year ahead."""
        self.dates.observe(self.true())
        for error in (YEAR, -YEAR, TOLERANCE + 1):
            self.assertFalse(self.dates.observe(self.true() + error))
            self.clock.advance(CONFIRM_AFTER)
        self.assertEqual(self.dates.alpaca(), self.true())

    def test_date_after_a_sleep_is_confirmed_by_this_machine(self) -> None:
        """On macOS the clock of intervals stops while the machine sleeps; its date does not."""
        self.dates.observe(self.true())
        self.error = 3600.0
        self.assertTrue(self.dates.observe(self.own() + 1))
        self.assertEqual(self.dates.alpaca(), self.own() + 1)

    def test_repeated_date_of_a_cache_is_ignored(self) -> None:
        """It does not advance between two answers."""
        self.dates.observe(self.true())
        self.clock.advance(3600)
        for _ in range(3):
            self.assertFalse(self.dates.observe(NOW))
            self.clock.advance(CONFIRM_AFTER)

    def test_two_dates_that_agree_replace_a_wrong_estimate(self) -> None:
        """The first estimate may have come from a machine whose clock was wrong too."""
        self.error = YEAR
        self.dates.observe(self.own())
        self.assertFalse(self.dates.observe(self.true()))
        self.clock.advance(CONFIRM_AFTER)
        self.assertTrue(self.dates.observe(self.true()))
        self.assertEqual(self.dates.alpaca(), self.true())

    def test_without_estimate_no_time_is_in_the_future(self) -> None:
        """This machine's clock may be decades behind."""
        far = round((NOW + YEAR) * 1_000_000)
        self.assertFalse(self.dates.is_future(far))
        self.dates.observe(self.true())
        self.assertTrue(self.dates.is_future(far))
        self.assertFalse(self.dates.is_future(round((NOW + TOLERANCE) * 1_000_000)))

    def test_new_estimate_moves_the_limit_of_events_back(self) -> None:
        """The limit of before is kept, as it only rises until there is a new estimate."""
        self.dates.observe(NOW + 250)
        later = round((NOW + TOLERANCE + 200) * 1_000_000)
        self.assertFalse(self.dates.is_future(later))
        self.dates.observe(NOW)
        self.assertTrue(self.dates.is_future(later))

    def test_since_limit_without_estimate_allows_for_a_wrong_clock(self) -> None:
        """Over a minute behind, the proxy rejected every position of a client."""
        self.assertEqual(self.dates.since_limit(), NOW + UNKNOWN_SKEW)
        self.dates.observe(self.true())
        self.error = -YEAR
        self.assertEqual(self.dates.since_limit(), NOW + CLIENT_SKEW)

    def test_past_is_over_by_both_plausible_clocks(self) -> None:
        """A Date that is a bit ahead is accepted; the machine's clock may be the right one."""
        self.assertEqual(self.dates.past(), round(self.own() * 1_000_000))
        for ahead, past in ((90, 0), (-90, -90)):
            self.dates.observe(self.true() + ahead)
            self.assertEqual(self.dates.past(), round((self.true() + past) * 1_000_000))
        self.dates.observe(self.true())
        self.error = -YEAR
        self.assertEqual(self.dates.past(), round(self.true() * 1_000_000))
