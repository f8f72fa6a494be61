"""Tests for tradeproxy.runtime.signals: what SIGHUP does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

from twisted.internet.error import ReactorNotRunning
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.reactor import Reactor
from tradeproxy.runtime.signals import HangupService, stop_on_hangup


class FakeReactor:
    """Runs a call from a signal handler at once, and counts its stops."""

    def __init__(self) -> None:
        self.stops = 0

    def callFromThread(self, function: Callable[[], None]) -> None:
        function()

    def stop(self) -> None:
        self.stops += 1
        if self.stops > 1:
            raise ReactorNotRunning


class HangupTests(SynchronousTestCase):
    """Signals to this process; the disposition of SIGHUP is restored after each test."""

    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        self.reactor = FakeReactor()
        self.reloads = 0
        self.terminal = Path(self.mktemp())  # missing: there is no controlling terminal
        self.service = HangupService(
            cast(Reactor, self.reactor), self.count_reload, str(self.terminal)
        )

    def count_reload(self) -> None:
        self.reloads += 1

    def hang_up(self) -> tuple[int, int]:
        """Send SIGHUP, and return the numbers of stops and of reloads."""
        os.kill(os.getpid(), signal.SIGHUP)
        return self.reactor.stops, self.reloads

    def test_hangup_before_start_stops(self) -> None:
        """Twice, too: the reactor may be stopping already."""
        stop_on_hangup(cast(Reactor, self.reactor))
        self.assertEqual(self.hang_up(), (1, 0))
        self.assertEqual(self.hang_up(), (2, 0))

    def test_hangup_without_terminal_reloads(self) -> None:
        """As daemons do. It stopped the proxy, so a `systemctl reload` had no way to exist."""
        stop_on_hangup(cast(Reactor, self.reactor))
        self.service.startService()
        self.assertEqual(self.hang_up(), (0, 1))

    def test_hangup_with_terminal_stops(self) -> None:
        """Its user has closed the terminal. It may not be one any more when the signal comes."""
        stop_on_hangup(cast(Reactor, self.reactor))
        self.terminal.touch()
        self.service.startService()
        self.terminal.unlink()
        self.assertEqual(self.hang_up(), (1, 0))

    def test_ignored_hangup_stays_ignored(self) -> None:
        """A process under nohup has to survive its terminal, and may have none."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop_on_hangup(cast(Reactor, self.reactor))
        self.service.startService()
        self.assertEqual(self.hang_up(), (0, 0))

    def test_hangup_during_stop_does_nothing(self) -> None:
        """The clients are being closed."""
        stop_on_hangup(cast(Reactor, self.reactor))
        self.service.startService()
        self.service.stopService()
        self.assertEqual(self.hang_up(), (0, 0))
