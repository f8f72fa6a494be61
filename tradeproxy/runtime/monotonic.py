"""The clock for timers and intervals: it cannot be set, and it counts the time of a suspend."""

from __future__ import annotations

import time

from tradeproxy.runtime.reactor import Reactor

CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux's CLOCK_BOOTTIME also counts while the machine sleeps: a lease expires and a connection
dies then too. Other systems have CLOCK_MONOTONIC."""


def monotonic() -> float:
    """Return the seconds of CLOCK."""
    return time.clock_gettime(CLOCK)


def use_monotonic_clock(reactor: Reactor) -> None:
    """Let a reactor measure its timers with `monotonic`. Its seconds are no dates afterwards.

    By default Twisted uses time.time: after the date is set back by an hour, a pending timer would
    not fire for an hour. Call this before the first timer is set: a pending one has the other
    clock.
    """
    assert not reactor.getDelayedCalls(), "a timer has the other clock"
    reactor.seconds = monotonic  # type: ignore[method-assign]  # what callLater calls
