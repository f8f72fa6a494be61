"""The second SIGINT or SIGTERM shortens a stop.

Twisted's handlers stop the reactor at every signal, and raise an error if it is stopping already.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from types import FrameType

from twisted.application.service import IService, MultiService
from twisted.logger import Logger

from tradeproxy.runtime.reactor import Reactor


def shorten_stop(service: IService) -> None:
    """Have a service, and those in it, stop without waiting for the other side of a connection.

    A service that waits for one at its stop has a method `shorten_stop`. It may be called before
    the stop of this service, and more than once.
    """
    shorten = getattr(service, "shorten_stop", None)
    if shorten is not None:
        shorten()
    elif isinstance(service, MultiService):
        for child in service:
            shorten_stop(child)


def watch_stop_signals(reactor: Reactor, shorten: Callable[[], None] = lambda: None) -> None:
    """Call `shorten`, in a turn of the reactor, for a SIGINT or SIGTERM while it is stopping.

    The first signal does what Twisted does: it stops the reactor, and becomes the exit status.
    """
    _StopSignals(reactor, shorten)


class _StopSignals:
    _log = Logger()

    def __init__(self, reactor: Reactor, shorten: Callable[[], None]) -> None:
        self._reactor = reactor
        self._shorten = shorten
        self._is_stopping = False
        reactor.addSystemEventTrigger("before", "shutdown", self._begin_stop)
        reactor.callWhenRunning(self._install)

    def _install(self) -> None:
        # A signal that is ignored (nohup), or that another program handles, stays as it is.
        reactor = self._reactor
        for number, handler in (signal.SIGINT, reactor.sigInt), (signal.SIGTERM, reactor.sigTerm):
            if signal.getsignal(number) == handler:
                signal.signal(number, partial(self._handle, handler))

    def _begin_stop(self) -> None:
        self._is_stopping = True

    def _handle(
        self, first: Callable[[int, FrameType | None], None], number: int, frame: FrameType | None
    ) -> None:
        if self._is_stopping:
            self._reactor.callFromThread(self._stop_now, signal.Signals(number).name)
        else:
            self._is_stopping = True
            first(number, frame)

    def _stop_now(self, name: str) -> None:
        self._log.info("{signal} again: stopping without waiting for any answer", signal=name)
        self._shorten()
