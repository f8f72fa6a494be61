"""Tests for tradeproxy.runtime.gc_service."""

from __future__ import annotations

import gc
import resource
import weakref

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.gc_service import (
    CHECK_INTERVAL,
    MAX_GROWTH,
    MAX_WAIT,
    MAX_WAIT_UNGROWN,
    GcService,
    read_resident_memory,
)


class Cycle:
    """An object that only the garbage collector can free."""

    def __init__(self) -> None:
        self.itself = self


def old_garbage() -> weakref.ref[Cycle]:
    """Return a weak reference to garbage in the oldest generation."""
    cycle = Cycle()
    gc.collect(1)
    found = weakref.ref(cycle)
    del cycle
    for _ in range(12):  # so that the oldest generation is known to have grown
        gc.collect(1)
    return found


class CollectorTests(SynchronousTestCase):
    """Full collections run while no events arrive."""

    def setUp(self) -> None:
        self.events = 0
        self.clock = Clock()
        self.memory = 0
        self.service = GcService(lambda: self.events, self.clock, lambda: self.memory)
        self.service.startService()
        self.addCleanup(self.service.stopService)

    def test_collection_waits_for_quiet(self) -> None:
        """While events arrive, old garbage stays. It is freed later."""
        garbage = old_garbage()
        for _ in range(3):
            self.events += 1
            self.clock.advance(CHECK_INTERVAL)
        self.assertIsNotNone(garbage())
        self.clock.advance(CHECK_INTERVAL)
        self.assertIsNone(garbage())

    def test_collection_runs_after_max_wait(self) -> None:
        """If events never stop, memory matters more than a delay of some milliseconds."""
        garbage = old_garbage()
        for _ in range(int(MAX_WAIT / CHECK_INTERVAL)):
            self.events += 1
            self.clock.advance(CHECK_INTERVAL)
        self.assertIsNone(garbage())

    def test_collection_runs_when_memory_has_grown_while_events_arrive(self) -> None:
        """With 1,800 logins a second memory grew by a gigabyte until MAX_WAIT.

        The collection then stopped the stream for 3.8 seconds.
        """
        for step, is_left in ((MAX_GROWTH - 1, True), (1, False), (1, True)):
            garbage = old_garbage()
            self.events += 1
            self.memory += step
            self.clock.advance(CHECK_INTERVAL)
            self.assertIs(garbage() is not None, is_left)

    def test_resident_memory_is_read(self) -> None:
        """It is in bytes. The kernel's maximum, in KiB, may be some pages behind."""
        maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self.assertTrue(10_000_000 < read_resident_memory() < 2 * maximum)

    def test_collection_runs_without_new_objects(self) -> None:
        """When many clients disconnect, more objects are freed than created."""
        cycle = Cycle()
        garbage = weakref.ref(cycle)
        gc.collect()
        del cycle
        for _ in range(int(MAX_WAIT / CHECK_INTERVAL)):
            self.clock.advance(CHECK_INTERVAL)
        self.assertIsNone(garbage())

    def test_collection_without_new_objects_waits_longer_for_quiet(self) -> None:
        """A few events a second create no lasting objects, and a collection delays some of them."""
        cycle = Cycle()
        garbage = weakref.ref(cycle)
        gc.collect()
        del cycle
        for checks, is_left in ((int(MAX_WAIT / CHECK_INTERVAL), True), (1000, False)):
            for _ in range(checks):
                self.events += 1
                self.clock.advance(CHECK_INTERVAL)
            self.assertIs(garbage() is not None, is_left)
        self.assertGreater(1000 * CHECK_INTERVAL, MAX_WAIT_UNGROWN)

    def test_objects_of_the_start_are_scanned_once(self) -> None:
        """Modules and services stay. To scan them took 15 ms every minute, even while idle."""
        scanned = []

        def observe(phase: str, _info: dict[str, int]) -> None:
            if phase == "start":
                scanned.append(len(gc.get_objects()))

        self.addCleanup(gc.callbacks.remove, observe)
        gc.callbacks.append(observe)
        self.clock.pump([CHECK_INTERVAL] * int(MAX_WAIT / CHECK_INTERVAL))
        self.assertLess(max(scanned), gc.get_freeze_count() / 10)

    def test_stop_before_start_is_harmless(self) -> None:
        """This happens if a port is in use."""
        GcService(lambda: 0, self.clock).stopService()

    def test_python_runs_no_full_collection(self) -> None:
        """Allocations do not trigger one. The stop restores Python's thresholds."""
        before = gc.get_stats()[2]["collections"]
        kept = [[n] for n in range(200_000)]
        self.assertEqual(gc.get_stats()[2]["collections"], before, len(kept))
