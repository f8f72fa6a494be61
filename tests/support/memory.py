"""Connections in memory, and fake time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import txaio
from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tradeproxy.simulator.service import Simulator
from tradeproxy.simulator.stream import StreamFactory

SERVER = IPv4Address("TCP", "127.0.0.1", 8099)
CLIENT = IPv4Address("TCP", "127.0.0.1", 50_000)


class StrictClock(Clock):
    """A clock that refuses a negative delay, as a reactor does."""

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002  # Twisted's name
        *args: object,
        **kw: object,
    ) -> IDelayedCall:
        """Schedule a call."""
        assert delay >= 0, f"{delay} is negative"
        return super().callLater(delay, callable, *args, **kw)


def fake_time(case: SynchronousTestCase) -> Clock:
    """Return a fake clock. Autobahn's timers use it too until the test ends."""
    clock = StrictClock()
    clock.advance(1_800_000_000)  # a reactor's seconds() are Unix time
    module: Any = txaio  # `config` is set at run time
    case.patch(module.config, "loop", clock)
    return clock


class LingeringTransport(iosim.FakeTransport):
    """A transport that only an abort closes: the peer keeps TCP or TLS open."""

    def loseConnection(self) -> None:
        pass

    def abortConnection(self) -> None:
        super().loseConnection()


class Wires:
    """Any number of connections in memory."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.transport = iosim.FakeTransport
        self._pumps: list[iosim.IOPump] = []

    def join(self, server: Any, client: Any) -> None:
        """Connect two protocols."""
        at_server: Any = self.transport(server, True, hostAddress=SERVER, peerAddress=CLIENT)
        at_server.connected = True  # as Twisted's own transports have
        at_client = self.transport(client, False, hostAddress=CLIENT, peerAddress=SERVER)
        self._pumps.append(
            iosim.connect(server, at_server, client, at_client, greet=False, clock=self.clock)
        )

    def flush(self) -> None:
        """Deliver all written bytes, and run the calls that are due."""
        moved = True
        while moved:
            self.clock.advance(0)
            moved = sum(pump.flush() for pump in self._pumps) > 0

    def advance(self, seconds: float) -> None:
        """Advance the clock from one timer to the next, and deliver bytes after each."""
        self.flush()
        end = self.clock.seconds() + seconds
        while (now := self.clock.seconds()) < end:
            next_timer = min((call.getTime() for call in self.clock.getDelayedCalls()), default=end)
            self.clock.advance(max(min(next_timer, end) - now, 0))
            self.flush()


@implementer(IStreamClientEndpoint)
class MemoryEndpoint(Wires):
    """Connects to a simulator; fails if `refusing`, and never answers if `hanging`."""

    def __init__(self, simulator: Simulator, clock: Clock) -> None:
        super().__init__(clock)
        self.refusing = False
        self.hanging = False
        self.attempts: list[float] = []
        self.canceled = 0
        self._simulator = simulator

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.attempts.append(self.clock.seconds())
        if self.hanging:
            return Deferred(self._cancel)
        if self.refusing:
            return fail(error.ConnectionRefusedError())
        client = protocolFactory.buildProtocol(None)
        self.join(StreamFactory(self._simulator).buildProtocol(None), client)
        return succeed(client)

    def _cancel(self, _: Deferred[Any]) -> None:
        self.canceled += 1


def simulator(clock: Clock, **options: Any) -> Simulator:
    """Return a simulator on `clock`, with the same random seed for every test."""
    return Simulator(clock, Random(0), wall_clock=clock.seconds, **options)
