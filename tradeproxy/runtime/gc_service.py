"""When Python's garbage collector may look at everything: not while events come."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.task import LoopingCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

CHECK_INTERVAL = 5.0
"""Seconds between two looks at whether it is quiet."""

MAX_WAIT = 60.0
"""Seconds after which it is done even though it never was quiet: what clients leave behind that come and go
all the time, some kilobytes each, would fill the memory else."""

OLDEST_GENERATION = 2
NEVER = 1_000_000_000


class GcService(Service):
    """Takes the collector's full passes out of the way of the stream.

    With 5,000 clients such a pass takes some 70 ms, and Python makes one whenever the number of objects has
    grown by a quarter, as when many clients connect: just then events are delayed. The passes over young
    objects go on as always. A full one is made when `progress`, a number that grows with every event, has
    not changed from one look to the next; what it finds alive is left out of all passes until the next.
    """

    def __init__(self, progress: Callable[[], int], clock: IReactorTime) -> None:
        self._progress = progress
        self._checking = LoopingCall(self._check)
        self._checking.clock = clock
        self._clock = clock
        self._before = 0
        self._last = 0.0
        self._thresholds = gc.get_threshold()

    def startService(self) -> None:
        """Make the first full pass, over all that has been imported and built."""
        super().startService()
        young, middle, _ = self._thresholds
        gc.set_threshold(young, middle, NEVER)
        self._collect()
        self._checking.start(CHECK_INTERVAL, now=False)

    def stopService(self) -> None:
        """Leave it to Python again."""
        super().stopService()
        if self._checking.running:
            self._checking.stop()
        gc.unfreeze()
        gc.set_threshold(*self._thresholds)

    def _check(self) -> None:
        now = self._progress()
        quiet, self._before = now == self._before, now
        grown = gc.get_count()[OLDEST_GENERATION] > 0
        if (grown and quiet) or self._clock.seconds() - self._last >= MAX_WAIT:
            self._collect()

    def _collect(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._last = self._clock.seconds()
