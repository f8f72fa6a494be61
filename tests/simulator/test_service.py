"""Tests of the simulator over time, and of its services."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from random import Random
from typing import Any

from twisted.internet.endpoints import clientFromString
from twisted.internet.error import CannotListenError

from tests.simulator.support import SimulatorTestCase
from tests.simulator.test_exchange import market
from tests.support.frames import AUTHENTICATE, LISTEN
from tests.support.reactor import reactor
from tests.support.sockets import SocketTestCase
from tradeproxy.simulator.demo import (
    OUTAGE_AFTER,
    OUTAGE_LENGTH,
    PRICES,
    STRATEGIES,
    DemoOutage,
    DemoService,
    OrderFlow,
)
from tradeproxy.simulator.orders import SIDES, Order
from tradeproxy.simulator.service import Simulator
from tradeproxy.wire.strategy_rule import NO_STRATEGY, BeforeDash, name_strategy


class TimeTests(SimulatorTestCase):
    """The exchange and the stream together."""

    def submit(self, **changes: Any) -> Order:
        (order,) = self.simulator.apply(self.simulator.exchange.submit(market(**changes)))
        return order

    def test_order_fills_after_delay(self) -> None:
        """A market order is new immediately, and fills within 0.25 s."""
        client = self.listener()
        self.submit()
        self.wires.flush()
        self.assertEqual(client.events(), ["new"])
        self.wires.advance(0.25)
        self.assertEqual(client.events(), ["fill"])

    def test_cancel_before_fill_is_final(self) -> None:
        """The cancel is the order's last event."""
        client = self.listener()
        order = self.submit()
        self.simulator.apply(self.simulator.exchange.cancel(order.id))
        self.wires.advance(1)
        self.assertEqual(client.events(), ["new", "canceled"])

    def test_stop_cancels_next_steps(self) -> None:
        """No timer remains after the stop."""
        self.submit()
        self.successResultOf(self.simulator.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class OrderFlowTests(SimulatorTestCase):
    """The random orders of the demonstration."""

    def test_order_flow_causes_every_kind_of_event(self) -> None:
        """In ten minutes there are fills, cancels, expiries and rejects, and few open orders."""
        client = self.listener()
        flow = OrderFlow(self.simulator, self.clock, Random(2))
        flow.startService()
        self.wires.advance(600)
        seen = Counter(client.events())
        self.assertEqual(
            set(seen), {"new", "fill", "partial_fill", "canceled", "expired", "rejected"}
        )
        self.assertGreater(sum(seen.values()), 600)
        self.assertLess(len(self.simulator.exchange.orders()), 20)
        flow.stopService()
        self.simulator.stop()
        self.wires.advance(5)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_orders_look_like_those_of_strategies(self) -> None:
        """Most have the name of one, some a UUID, and no made-up symbol is among them."""
        flow = OrderFlow(self.simulator, self.clock, Random(2))
        flow.startService()
        self.wires.advance(300)
        orders = self.simulator.exchange.orders("all")
        self.assertEqual({order.request.symbol for order in orders}, set(PRICES))
        names = [order.request.client_order_id for order in orders]
        found = Counter(name_strategy(BeforeDash(), name) for name in names)
        self.assertEqual(set(found), {*STRATEGIES, NO_STRATEGY})
        self.assertLess(found[NO_STRATEGY], len(names) / 2)
        self.assertEqual(len(set(names)), len(names))
        for order in orders:
            if order.filled_avg_price is not None:
                first = PRICES[order.request.symbol]
                self.assertTrue(first / 2 < order.filled_avg_price < first * 2)
        flow.stopService()
        self.simulator.stop()

    def test_orders_are_those_that_alpaca_accepts(self) -> None:
        """The demo sold crypto short, with day and cls orders, and closings were "to open"."""
        flow = OrderFlow(self.simulator, self.clock, Random(3))
        flow.startService()
        positions: dict[str, Decimal] = {}
        seen = set()
        exchange = self.simulator.exchange
        for _ in range(3000):
            known = {order.id for order in exchange.orders("all")}
            self.wires.advance(0.3)
            for order in exchange.orders("all"):
                request = order.request
                if order.id in known:
                    continue
                is_crypto = "/" in request.symbol
                times = ("gtc", "ioc") if is_crypto else ("day", "cls")
                self.assertIn(request.time_in_force, times)
                seen.add((request.position_intent, is_crypto))
                others = {
                    other.request.side
                    for other in exchange.orders()
                    if other.request.symbol == request.symbol
                }
                self.assertLessEqual(len(others), 1, "Alpaca rejects a trade against oneself")
            for instrument in exchange.portfolio.positions():
                before = positions.get(instrument.symbol, Decimal(0))
                self.assertGreaterEqual(before * instrument.position, 0, "it is closed first")
                positions[instrument.symbol] = instrument.position
                if "/" in instrument.symbol:
                    self.assertGreater(instrument.position, 0)
            for symbol in positions:
                positions[symbol] = exchange.portfolio.instrument(symbol).position
        stocks = {(f"{side}_to_{end}", False) for side in SIDES for end in ("open", "close")}
        self.assertEqual(seen, stocks | {("buy_to_open", True), ("sell_to_close", True)})
        flow.stopService()
        self.simulator.stop()

    def test_outage_comes_once_in_the_first_minute(self) -> None:
        """So a new user sees a gap that is recovered; a stop before it leaves no timer."""
        outage = DemoOutage(self.simulator, self.clock)
        outage.startService()
        self.listener()
        self.wires.advance(OUTAGE_AFTER)
        self.wires.flush()
        self.assertFalse(self.simulator.connected)
        self.assertIn("502", self.connect().http_status_line)
        self.wires.advance(OUTAGE_LENGTH)
        self.listener()
        self.wires.advance(600)
        self.assertTrue(self.simulator.listening)
        outage.stopService()
        outage.startService()
        outage.stopService()
        self.simulator.stop()
        self.wires.advance(5)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SimulatorServiceTests(SocketTestCase):
    """The simulator on an endpoint."""

    async def test_stop_closes_the_client(self) -> None:
        """It serves the stream and order flow; the stop sends a close frame."""
        simulator = Simulator(reactor, Random(1), binary=False)
        service = DemoService(simulator, "unix:simulator.socket", reactor, outage=True)
        service.startService()
        endpoint = clientFromString(reactor, "unix:simulator.socket")
        client = await self.dial(endpoint, "ws://localhost/stream")
        await client.opened
        client.sendMessage(AUTHENTICATE)
        client.sendMessage(LISTEN)
        await client.has(3)
        self.assertIn(b'"event":"new"', client.messages[2])
        await service.stopService()
        await client.gone()
        self.assertEqual(client.closed, (1001, None))

    async def test_port_in_use_fails_the_start(self) -> None:
        """The start raises, and the service can still stop."""
        simulator = await self.simulate()
        description = f"tcp:{self.alpaca_port}:interface=127.0.0.1"
        service = DemoService(simulator, description, reactor, outage=True)
        with self.assertRaises(CannotListenError):
            service.startService()
        await service.stopService()
