"""A simulated Alpaca at the end of a wire in memory, in fake time."""

from __future__ import annotations

from random import Random
from typing import Any

import txaio
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tradeproxy.simulator.service import Simulator


def fake_time(case: SynchronousTestCase) -> Clock:
    """Return a clock that Autobahn's timers run by, for the length of a test."""
    clock = Clock()
    clock.advance(1_800_000_000)  # Unix time, as a reactor's seconds() are
    case.patch(txaio.config, "loop", clock)
    return clock


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects clients to a simulator; it refuses while `refusing`, as a host does that is down."""

    def __init__(self, simulator: Simulator, clock: Clock) -> None:
        self.refusing = False
        self.hanging = False
        self.attempts: list[float] = []
        self.canceled = 0
        self._simulator = simulator
        self._clock = clock
        self._pumps: list[iosim.IOPump] = []

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.attempts.append(self._clock.seconds())
        if self.hanging:
            return Deferred(self._cancel)
        if self.refusing:
            return fail(ConnectionRefusedError())
        client = protocolFactory.buildProtocol(None)
        server = self._simulator.factory.buildProtocol(None)
        ends = (server, iosim.FakeTransport(server, True), client, iosim.FakeTransport(client, False))
        self._pumps.append(iosim.connect(*ends, greet=False, clock=self._clock))
        return succeed(client)

    def flush(self) -> None:
        """Carry whatever was written to where it belongs."""
        for pump in self._pumps:
            pump.flush()

    def _cancel(self, _: Deferred[Any]) -> None:
        self.canceled += 1

    def advance(self, seconds: float) -> None:
        """Let time pass, from one timer to the next, and the wire carry what is written meanwhile."""
        self.flush()
        end = self._clock.seconds() + seconds
        while (now := self._clock.seconds()) < end:
            next_timer = min((call.getTime() for call in self._clock.getDelayedCalls()), default=end)
            self._clock.advance(max(min(next_timer, end) - now, 0))
            self.flush()


def simulator(clock: Clock, **options: Any) -> Simulator:
    """Return a simulator that runs by `clock`, the same for every test."""
    return Simulator(clock, Random(0), **options)
