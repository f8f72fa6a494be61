"""The reactor as the proxy uses it: the interfaces of Twisted that it needs, as one type."""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType
from typing import cast

from twisted.internet import interfaces


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
