"""Tests of the simulator over time, and of its services."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock

from tests.simulator.support import LISTEN, LOGIN, LoopbackTestCase, MemoryTestCase
from tradeproxy.simulator.orders import Order, Terms
from tradeproxy.simulator.service import OrderFlow, Simulator, SimulatorService

reactor: Any = global_reactor


class AccountTests(MemoryTestCase):
    """The exchange and the stream together, over time."""

    def submit(self, **changes: Any) -> Order:
        terms = Terms(symbol="SPY", side="buy", type="market", time_in_force="day", qty=Decimal(1), **changes)
        accepted = self.simulator.carry_out(self.simulator.exchange.submit(terms))
        assert isinstance(accepted, tuple)
        return accepted[0]

    def test_orders_fill_after_a_moment(self) -> None:
        """A market order is new at once, and filled within a quarter of a second."""
        peer = self.connect(LOGIN, LISTEN)
        self.submit()
        self.settle()
        self.assertEqual(peer.events, ["new"])
        self.settle(0.25)
        self.assertEqual(peer.events, ["new", "fill"])

    def test_what_was_canceled_in_time_does_not_fill(self) -> None:
        """Cancelling within the moment is the order's end."""
        peer = self.connect(LOGIN, LISTEN)
        order = self.submit()
        self.simulator.carry_out(self.simulator.exchange.cancel(order.id))
        self.settle(1)
        self.assertEqual(peer.events, ["new", "canceled"])

    def test_nothing_is_left_at_the_end(self) -> None:
        """The end cancels what was still to happen."""
        self.submit()
        self.successResultOf(self.simulator.end())
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])

    def test_events_carry_the_time_of_the_clock(self) -> None:
        """Events are stamped with the reactor's time, or with that of another clock."""
        self.assertEqual(self.submit().created_at[:20], "2026-09-21T14:13:20.")
        elsewhen = datetime(2030, 1, 1, tzinfo=UTC)
        self.simulator = Simulator(self.clock, Random(1), now=lambda: elsewhen)
        self.assertEqual(self.submit().created_at[:20], "2030-01-01T00:00:00.")


class OrderFlowTests(MemoryTestCase):
    """The random trading of the demonstration."""

    def test_shows_every_sort_of_event(self) -> None:
        """In ten minutes there are fills, partial fills, cancels and rejects, and few orders stay open."""
        peer = self.connect(LOGIN, LISTEN)
        flow = OrderFlow(self.simulator, self.clock, Random(2))
        flow.startService()
        for _ in range(6000):
            self.settle(0.1)
        seen = Counter(peer.events)
        self.assertEqual(set(seen), {"new", "fill", "partial_fill", "canceled", "rejected"})
        self.assertGreater(sum(seen.values()), 600)
        self.assertLess(len(self.simulator.exchange.orders()), 20)
        flow.stopService()
        self.simulator.end()
        self.settle(5)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_may_stop_before_it_started(self) -> None:
        """Stopping a flow that does not run does nothing."""
        clock = Clock()
        OrderFlow(self.simulator, clock, Random(2)).stopService()
        self.assertEqual(clock.getDelayedCalls(), [])


class SimulatorServiceTests(LoopbackTestCase):
    """The simulator on a port."""

    def free_port(self) -> int:
        port = reactor.listenTCP(0, Simulator(reactor, Random(1)).site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def test_serves_and_stops(self) -> None:
        """It serves the stream with an order flow, and at the stop the client gets a close frame."""
        simulator = Simulator(reactor, Random(1))
        service = SimulatorService(simulator, "unix:simulator.socket", reactor, order_flow=True)
        service.startService()
        peer = await self.dial_unix("simulator.socket", reactor)
        await peer.opened
        peer.say(LOGIN, LISTEN)
        for _ in range(3):
            await peer.queue.get()
        self.assertEqual(peer.events, ["new"])
        await service.stopService()
        self.assertEqual((await peer.closed)[:2], (True, 1001))
        self.assertFalse(simulator.connected)

    async def test_a_busy_port_fails_the_start(self) -> None:
        """When the port is taken, startService raises."""
        description = f"tcp:{self.free_port()}:interface=127.0.0.1"
        service = SimulatorService(Simulator(reactor, Random(1)), description, reactor)
        with self.assertRaises(CannotListenError):
            service.startService()
        await service.stopService()
