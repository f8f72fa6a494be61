"""Tests for tradeproxy.runtime.reactor."""

from __future__ import annotations

import time
from typing import cast

from twisted.internet.base import ReactorBase
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tradeproxy.runtime.reactor import CLOCK, Reactor, monotonic, use_monotonic_clock


class MonotonicTests(SynchronousTestCase):
    """Timers and intervals do not depend on the date of the machine."""

    def test_clock_counts_sleep_of_machine(self) -> None:
        """It is CLOCK_BOOTTIME where the system has that."""
        if not hasattr(time, "CLOCK_BOOTTIME"):
            raise SkipTest("this system has no such clock")
        self.assertEqual(CLOCK, time.CLOCK_BOOTTIME)

    def test_reactor_measures_timers_without_the_date(self) -> None:
        """After the date is set back by an hour, a timer must not wait for an hour."""

        class IdleReactor(ReactorBase):
            def installWaker(self) -> None:
                """Do nothing: this reactor never runs."""

        reactor = cast(Reactor, IdleReactor())
        use_monotonic_clock(reactor)
        call = reactor.callLater(5, lambda: None)
        self.assertLess(abs(call.getTime() - monotonic() - 5), 1)
        call.cancel()
