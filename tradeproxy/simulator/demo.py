"""The demonstration: random orders of some strategies, and an outage in the first minute."""

from __future__ import annotations

from decimal import Decimal
from random import Random

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tradeproxy.runtime.reactor import Reactor
from tradeproxy.simulator.clock import random_uuid
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.orders import LARGEST, Order, OrderRequest
from tradeproxy.simulator.portfolio import CENT
from tradeproxy.simulator.service import SimulatorService
from tradeproxy.simulator.simulator import Simulator

ORDER_INTERVAL = (0.3, 1.5)
"""The minimum and maximum seconds between two orders of the flow."""

OPEN_ORDERS = 8
"""The maximum of resting orders; the flow cancels the oldest beyond it."""

PRICES = {
    "AAPL": Decimal("262.40"),
    "MSFT": Decimal("511.80"),
    "NVDA": Decimal("187.25"),
    "SPY": Decimal("668.10"),
    "TSLA": Decimal("438.55"),
    "BTC/USD": Decimal("105234.25"),
}
"""The symbols of the flow, with their first prices in USD."""

STRATEGIES = ("momentum", "pairs")
"""Most orders have a `client_order_id` that begins with one of them."""

NO_STRATEGY_SHARE = 0.25
"""How many orders have a UUID instead, as libraries make it."""

LIMIT_PERCENT = 3
"""The maximum distance of a limit from the market, in both directions."""

OUTAGE_AFTER, OUTAGE_LENGTH = 20.0, 5.0
"""When the outage begins after the start, and how long it lasts, in seconds."""


class OrderFlow(Service):
    """Small random orders for a demonstration.

    Most fill, some of them in two parts. Some rest and are canceled. A few expire or are rejected.
    Their client_order_id has the name of a strategy, or is a UUID.
    """

    def __init__(self, simulator: Simulator, reactor: IReactorTime, random: Random) -> None:
        self._simulator = simulator
        self._reactor = reactor
        self._random = random
        self._run = f"{random.getrandbits(16):04x}"
        self._count = 0
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        """Set the first prices; the first order follows after a delay of ORDER_INTERVAL."""
        super().startService()
        for symbol, price in PRICES.items():
            self._simulator.apply(self._simulator.exchange.set_price(symbol, price))
        self._schedule()

    def stopService(self) -> None:
        """Stop placing orders."""
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _schedule(self) -> None:
        self._next = self._reactor.callLater(self._random.uniform(*ORDER_INTERVAL), self._trade)

    def _trade(self) -> None:
        self._schedule()
        exchange = self._simulator.exchange
        kind = self._random.choices(("market", "limit", "closing", "rejected"), (6, 3, 1, 1))[0]
        if (order := self._order(kind)) is not None:
            self._simulator.apply(exchange.submit(order, reject=kind == "rejected"))
        resting = [order for order in exchange.orders() if not exchange.has_next_step(order.id)]
        if len(resting) > OPEN_ORDERS:
            self._simulator.apply(exchange.cancel(resting[0].id))

    def _order(self, kind: str) -> OrderRequest | None:
        """Return the next order, or None if all positions are about to be closed already."""
        for symbol in self._random.sample(tuple(PRICES), len(PRICES)):
            size = Decimal(self._random.randint(1, 10)) / (100 if "/" in symbol else 1)
            side, most = self._choose_side(symbol)
            if most > 0:
                return self._fill_in(kind, symbol, side, min(size, most))
        return None

    def _choose_side(self, symbol: str) -> tuple[str, Decimal]:
        """Return a side for an order that Alpaca would accept, and its largest quantity.

        No order trades against an open one, turns a position from long to short or back, or sells
        crypto short.
        """
        exchange = self._simulator.exchange
        position = exchange.portfolio.instrument(symbol).position
        waiting = [order for order in exchange.orders() if order.request.symbol == symbol]
        side = waiting[0].request.side if waiting else self._random.choice(("buy", "sell"))
        if "/" in symbol and not position and not waiting:
            side = "buy"
        if position == 0 or (position > 0) == (side == "buy"):
            return side, LARGEST  # it opens a position or adds to one
        return side, abs(position) - sum(map(_remaining_qty, waiting), Decimal(0))

    def _fill_in(self, kind: str, symbol: str, side: str, qty: Decimal) -> OrderRequest:
        self._count += 1
        limited = kind in ("limit", "closing")
        market = self._simulator.exchange.portfolio.instrument(symbol).price
        distance = Decimal(self._random.randint(-LIMIT_PERCENT * 10, LIMIT_PERCENT * 10)) / 1000
        times = ("ioc", "gtc") if "/" in symbol else ("cls", "day")
        return OrderRequest(
            symbol=symbol,
            side=side,
            type="limit" if limited else "market",
            time_in_force=times[0] if kind == "closing" else times[1],
            qty=qty,
            limit_price=(market * (1 + distance)).quantize(CENT) if limited else None,
            client_order_id=self._name_order(),
        )

    def _name_order(self) -> str:
        if self._random.random() < NO_STRATEGY_SHARE:
            return random_uuid(self._random)
        return f"{self._random.choice(STRATEGIES)}-{self._run}-{self._count}"


def _remaining_qty(order: Order) -> Decimal:
    assert order.request.qty is not None, "the flow sets it"
    return order.request.qty - order.filled_qty


class DemoOutage(Service):
    """One outage of the stream, OUTAGE_AFTER seconds after the start. Orders go on meanwhile."""

    def __init__(self, simulator: Simulator, reactor: IReactorTime) -> None:
        self._simulator = simulator
        self._reactor = reactor
        self._call: IDelayedCall | None = None

    def startService(self) -> None:
        """Start the time until the outage."""
        super().startService()
        fault = Fault(FaultKind.OUTAGE, seconds=OUTAGE_LENGTH)
        self._call = self._reactor.callLater(OUTAGE_AFTER, self._simulator.inject, fault)

    def stopService(self) -> None:
        """Cancel an outage that has not begun."""
        super().stopService()
        if self._call is not None and self._call.active():
            self._call.cancel()


class DemoService(SimulatorService):
    """A simulator with random orders; with `outage`, its stream has one in the first minute."""

    def __init__(
        self, simulator: Simulator, description: str, reactor: Reactor, *, outage: bool = False
    ) -> None:
        super().__init__(simulator, description, reactor)
        OrderFlow(simulator, reactor, simulator.random).setServiceParent(self)
        if outage:
            DemoOutage(simulator, reactor).setServiceParent(self)
