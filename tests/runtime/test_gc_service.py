"""Tests for tradeproxy.runtime.gc_service."""

from __future__ import annotations

import gc
import weakref

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.gc_service import CHECK_INTERVAL, MAX_WAIT, GcService


class Cycle:
    """Something that only the collector can take away."""

    def __init__(self) -> None:
        self.itself = self


def old_garbage() -> weakref.ref[Cycle]:
    """Return a reference to garbage that the passes over young objects have left behind."""
    cycle = Cycle()
    gc.collect(1)
    found = weakref.ref(cycle)
    del cycle
    for _ in range(12):  # so that the oldest generation is known to have grown
        gc.collect(1)
    return found


class CollectorTests(SynchronousTestCase):
    """Full passes are made while nothing happens."""

    def setUp(self) -> None:
        self.events = 0
        self.clock = Clock()
        self.service = GcService(lambda: self.events, self.clock)
        self.service.startService()
        self.addCleanup(self.service.stopService)

    def test_waits_until_it_is_quiet(self) -> None:
        """While events come, what is old and unused stays; then it goes."""
        garbage = old_garbage()
        for _ in range(3):
            self.events += 1
            self.clock.advance(CHECK_INTERVAL)
        self.assertIsNotNone(garbage())
        self.clock.advance(CHECK_INTERVAL)
        self.assertIsNone(garbage())

    def test_does_not_wait_for_ever(self) -> None:
        """Where events never cease, memory matters more than one delay of some milliseconds."""
        garbage = old_garbage()
        for _ in range(int(MAX_WAIT / CHECK_INTERVAL)):
            self.events += 1
            self.clock.advance(CHECK_INTERVAL)
        self.assertIsNone(garbage())

    def test_looks_now_and_then_even_if_nothing_is_made(self) -> None:
        """When many clients disconnect, more objects are freed than created."""
        cycle = Cycle()
        garbage = weakref.ref(cycle)
        gc.collect(1)
        gc.freeze()
        del cycle
        for _ in range(int(MAX_WAIT / CHECK_INTERVAL)):
            self.clock.advance(CHECK_INTERVAL)
        self.assertIsNone(garbage())

    def test_a_stop_before_the_start_is_harmless(self) -> None:
        """As when a port was taken."""
        GcService(lambda: 0, self.clock).stopService()

    def test_python_itself_makes_no_full_pass(self) -> None:
        """Whatever is allocated meanwhile; after the stop it does as before."""
        before = gc.get_stats()[2]["collections"]
        kept = [[n] for n in range(200_000)]
        self.assertEqual(gc.get_stats()[2]["collections"], before, len(kept))
