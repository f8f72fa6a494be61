"""The limit of tradeproxy.downstream.client_log: some lines in a second, a report of the others."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from tests.support.memory import StrictClock
from tradeproxy.downstream.client_log import LineLimit


class LineLimitTests(SynchronousTestCase):
    """Strangers decide how often an event happens, not how long the log is."""

    def setUp(self) -> None:
        self.clock = StrictClock()
        self.reports: list[tuple[float, Counter[str]]] = []
        self.limit = LineLimit(
            3, self.clock, lambda counts: self.reports.append((self.clock.seconds(), counts))
        )

    def test_lines_are_limited_in_any_second(self) -> None:
        """Seconds that begin at fixed times would admit twice as many around such a time."""
        admitted = []
        for _ in range(40):
            if self.limit.admit("a"):
                admitted.append(self.clock.seconds())
            self.clock.advance(0.125)
        self.assertEqual(admitted, [n + part for n in range(5) for part in (0, 0.125, 0.25)])

    def test_rest_is_reported_by_kind_once_a_second(self) -> None:
        """A report comes a second after the first line that was left out, and none without one."""
        for kind in "aabbb":
            self.limit.admit(kind)
        self.clock.advance(0.5)
        self.limit.admit("a")
        self.assertEqual(self.reports, [])
        self.clock.advance(0.5)
        self.assertEqual(self.reports, [(1.0, {"b": 2, "a": 1})])
        self.assertTrue(self.limit.admit("a"))
        self.clock.advance(10)
        self.assertEqual(len(self.reports), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_flush_reports_at_once(self) -> None:
        """At a stop the process ends before the timer."""
        for kind in "aaab":
            self.limit.admit(kind)
        self.limit.flush()
        self.limit.flush()
        self.assertEqual(self.reports, [(0.0, {"b": 1})])
        self.assertEqual(self.clock.getDelayedCalls(), [])
