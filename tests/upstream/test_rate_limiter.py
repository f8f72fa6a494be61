"""Tests for tradeproxy.upstream.http."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.upstream.http import MAX_REQUESTS, PERIOD, RateLimiter


class BudgetTests(SynchronousTestCase):
    """So many requests in any minute, and none while Alpaca says so."""

    def test_is_free_until_it_is_used_up(self) -> None:
        """Requests go at once; the one too many waits until the first is a minute old."""
        budget = RateLimiter()
        for second in range(MAX_REQUESTS):
            self.assertEqual(budget.delay(1000 + second / 2), 0.0)
            budget.count_request(1000 + second / 2)
        self.assertEqual(budget.delay(1030), PERIOD - 30)
        self.assertEqual(budget.delay(1060), 0.0)
        budget.count_request(1060)
        self.assertEqual(budget.delay(1060), 0.5)

    def test_is_closed_as_long_as_it_is_told(self) -> None:
        """The longest word counts."""
        budget = RateLimiter()
        budget.block_until(1010)
        budget.block_until(1005)
        self.assertEqual([budget.delay(now) for now in (1000, 1009, 1010, 1011)], [10, 1, 0, 0])
