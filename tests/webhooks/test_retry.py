"""Tests for tradeproxy.webhooks.retry."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.webhooks.retry import MAX_CEILING, RetrySchedule, Verdict, judge


class VerdictTests(SynchronousTestCase):
    """What follows an answer."""

    def test_every_status_has_its_verdict(self) -> None:
        """All from 100 to 599, and no answer."""
        for status in (None, 100, *range(300, 400), 408, 429, *range(500, 600)):
            self.assertIs(judge(status), Verdict.RETRY, status)
        for status in range(200, 300):
            self.assertIs(judge(status), Verdict.DELIVERED)
        for status in (401, 403, 404, 410):
            self.assertIs(judge(status), Verdict.STOP)
        others = set(range(400, 500)) - {401, 403, 404, 408, 410, 429}
        self.assertEqual({judge(status) for status in others}, {Verdict.REJECTED})


class RetryScheduleTests(SynchronousTestCase):
    """When the next attempt begins."""

    def test_delay_doubles_to_a_maximum(self) -> None:
        """A random half of it keeps many webhooks from coming back at once."""
        for random, share in ((0.0, 0.5), (1.0, 1.0)):
            schedule = RetrySchedule(lambda random=random: random)  # type: ignore[misc]
            delays = [schedule.delay(None) for _ in range(12)]
            self.assertEqual(delays[:4], [share, 2 * share, 4 * share, 8 * share])
            self.assertEqual(delays[-1], MAX_CEILING * share)
            self.assertEqual(schedule.failures, 12)

    def test_retry_after_is_a_minimum(self) -> None:
        """It may be longer than the maximum; a shorter one does not hurry."""
        schedule = RetrySchedule(lambda: 0.5)
        self.assertEqual(schedule.delay(900.0), 900.5)
        self.assertEqual(schedule.delay(0.0), 1.5)
