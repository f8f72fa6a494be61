"""The reactor as the proxy uses it: its type, a clock that cannot be set, and cheaper calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

from twisted.internet import interfaces
from twisted.python import log

CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux's CLOCK_BOOTTIME also counts while the machine sleeps: a lease expires and a connection
dies then too. Other systems have CLOCK_MONOTONIC."""


class Reactor(
    interfaces.IReactorCore,
    interfaces.IReactorFDSet,
    interfaces.IReactorPluggableNameResolver,
    interfaces.IReactorSSL,
    interfaces.IReactorTCP,
    interfaces.IReactorThreads,
    interfaces.IReactorTime,
):
    """What every reactor of Twisted provides on POSIX: sockets, timers, threads and names."""

    sigInt: Callable[[int, FrameType | None], None]
    """Stops because of SIGINT. No interface of Twisted has this method, nor the next one."""
    sigTerm: Callable[[int, FrameType | None], None]
    """Stops because of SIGTERM."""


def get_reactor() -> Reactor:
    """Return the process's reactor. The first call installs one, unless that has been done."""
    # Twisted gives it the type of some of these interfaces only.
    from twisted.internet import reactor

    return cast("Reactor", reactor)


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


def drop_log_context() -> None:
    """Let the reactors for epoll, poll and kqueue call readers and writers without a context.

    They call them through `twisted.python.log.callWithLogger`, which sets a context for messages
    of the old log: eleven calls, a tenth of what an event costs. No line of ours shows it.
    """
    log.callWithLogger = _call  # type: ignore[assignment]  # the names of the arguments differ


def _call(_logger: Any, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function. An error is logged, and does not end the reactor."""
    try:
        return function(*arguments, **options)
    except KeyboardInterrupt:
        raise
    except BaseException:
        log.err()
        return None
