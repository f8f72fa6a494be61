"""The clock for timers and intervals: it never jumps, and it counts the time of a suspend."""

from __future__ import annotations

import time
from typing import Any


def monotonic() -> float:
    """Return seconds of a clock that cannot be set, and that also counts during a suspend.

    A lease expires and a connection dies while the machine sleeps, but CLOCK_MONOTONIC stops then.
    Linux has CLOCK_BOOTTIME; on other systems this is time.monotonic().
    """
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


def use_monotonic_clock(reactor: Any) -> None:
    """Let a reactor measure its timers with `monotonic`. Its seconds are no dates afterwards.

    By default Twisted uses time.time: after a clock is set back by an hour, no timer would fire
    for an hour. Call this before the first timer is set: a pending one has the other clock.
    """
    assert not reactor.getDelayedCalls(), "a timer has the other clock"
    reactor.seconds = monotonic
