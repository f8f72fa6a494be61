"""SIGHUP, which Twisted does not handle: it stops the process, or reloads the settings."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorFromThreads

from tradeproxy.runtime.reactor import Reactor

TERMINAL = "/dev/tty"
"""Names the controlling terminal of the process that opens it (POSIX, 10.1)."""


def stop_on_hangup(reactor: Reactor) -> None:
    """Stop cleanly on SIGHUP (the terminal was closed), as on SIGTERM.

    An unclean exit leaves Alpaca's connection slot in use for a while. A process that ignores
    SIGHUP (nohup) continues.
    """

    def stop() -> None:
        with suppress(ReactorNotRunning):  # the reactor is already stopping
            reactor.stop()

    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(stop))


class HangupService(Service):
    """Reloads on SIGHUP from its start on, if the process has no controlling terminal.

    twistd starts the services after it has become a daemon, which has none. A process that ignores
    SIGHUP (nohup) continues to ignore it.
    """

    def __init__(
        self, reactor: IReactorFromThreads, reload: Callable[[], None], terminal: str = TERMINAL
    ) -> None:
        """Create the service; `reload` is called in a turn of the reactor."""
        self._reactor = reactor
        self._reload = reload
        self._terminal = terminal

    def startService(self) -> None:
        """Decide now: when a terminal is closed, the process has none at the time of the signal."""
        super().startService()
        is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        if not is_ignored and not self._has_terminal():
            reload = self._reload_if_running
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(reload))

    def _has_terminal(self) -> bool:
        try:
            os.close(os.open(self._terminal, os.O_RDONLY | os.O_NOCTTY))
        except OSError:  # ENXIO
            return False
        return True

    def _reload_if_running(self) -> None:
        if self.running:
            self._reload()
