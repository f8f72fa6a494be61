"""Tests for the rate limiter in tradeproxy.upstream.rate_limiter."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.upstream.rate_limiter import RateLimiter


class RateLimiterTests(SynchronousTestCase):
    """A maximum of requests in any minute, and a block on Alpaca's demand."""

    def test_delay_full_window_waits_for_oldest_request(self) -> None:
        """After 60 requests, the next one waits until the oldest one is a minute old."""
        limiter = RateLimiter()
        for second in range(60):
            self.assertEqual(limiter.delay(second / 2), 0.0)
            limiter.count_request(second / 2)
        self.assertEqual(limiter.delay(30), 30.0)
        self.assertEqual(limiter.delay(60), 0.0)
        limiter.count_request(60)
        self.assertEqual(limiter.delay(60), 0.5)

    def test_delay_blocked_twice_waits_for_later_time(self) -> None:
        """The latest of several blocks applies."""
        limiter = RateLimiter()
        limiter.block_until(1010)
        limiter.block_until(1005)
        self.assertEqual([limiter.delay(now) for now in (1000, 1009, 1010, 1011)], [10, 1, 0, 0])
