"""Full garbage collections run while no events arrive, or when memory has grown."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

CHECK_INTERVAL = 5.0
"""Seconds between two checks for new events, and of the memory."""

MAX_GROWTH = 20 * 1024 * 1024
"""Bytes: if resident memory has grown by so much since the last collection, the next one runs.

It bounds the garbage, however fast clients come and leave. Memory that stays in use causes one
collection for so many bytes."""

MAX_WAIT = 60.0
"""Seconds: the maximum between full collections, if objects were created or it is quiet."""

MAX_WAIT_UNGROWN = 600.0
"""Seconds: the maximum otherwise. Then only clients that have left may have become garbage."""

OLDEST_GENERATION = 2
NEVER = 1_000_000_000


def read_resident_memory() -> int:
    """Return the resident memory of this process (bytes); always 0 without Linux's /proc."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()[1]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


class GcService(Service):
    """Runs full collections between events, not during them.

    With 5,000 clients a full collection takes about 70 ms. Python runs one when the number of
    objects has grown by a quarter, for example when many clients connect. Events then wait.
    Collections of young objects go on as usual. This service runs a full collection when
    `progress` has not changed between two checks. `progress` grows with every event. It also runs
    one when the resident memory has grown by MAX_GROWTH.
    What exists at the start is frozen: modules and services, which stay. A full collection scans
    the objects that were made since then.
    """

    def __init__(
        self,
        progress: Callable[[], int],
        clock: IReactorTime,
        read_memory: Callable[[], int] = read_resident_memory,
    ) -> None:
        """Collect nothing yet; `read_memory` returns the resident memory (bytes)."""
        self._progress = progress
        self._read_memory = read_memory
        self._memory = 0
        self._checking = LoopingCall(self._check)
        self._checking.clock = clock
        self._clock = clock
        self._before = 0
        self._last = 0.0
        self._thresholds = gc.get_threshold()

    def startService(self) -> None:
        """Run the first full collection, over all imported and built objects, and freeze them."""
        super().startService()
        young, middle, _ = self._thresholds
        gc.set_threshold(young, middle, NEVER)
        self._collect()
        gc.freeze()
        self._checking.start(CHECK_INTERVAL, now=False)

    def stopService(self) -> None:
        """Restore Python's own thresholds."""
        super().stopService()
        if self._checking.running:
            self._checking.stop()
        gc.unfreeze()
        gc.set_threshold(*self._thresholds)

    def _check(self) -> None:
        now = self._progress()
        quiet, self._before = now == self._before, now
        grown = gc.get_count()[OLDEST_GENERATION] > 0
        limit = MAX_WAIT if grown or quiet else MAX_WAIT_UNGROWN
        has_waited = self._clock.seconds() - self._last >= limit
        if (grown and quiet) or has_waited or self._read_memory() - self._memory >= MAX_GROWTH:
            self._collect()

    def _collect(self) -> None:
        gc.collect()
        self._last = self._clock.seconds()
        self._memory = self._read_memory()
