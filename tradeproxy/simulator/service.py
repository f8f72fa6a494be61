"""The simulator as a service, and random order flow for demonstrations."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from twisted.application import strports
from twisted.application.service import MultiService, Service
from twisted.internet.defer import gatherResults, maybeDeferred

from tradeproxy.simulator.exchange import REJECTED_SYMBOL
from tradeproxy.simulator.orders import OrderRequest
from tradeproxy.simulator.simulator import Simulator
from tradeproxy.simulator.web import ApiSite

if TYPE_CHECKING:
    from random import Random

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["OrderFlow", "Simulator", "SimulatorService"]

ORDER_INTERVAL = (0.3, 1.5)
"""The minimum and maximum seconds between two orders of the flow."""

OPEN_ORDERS = 8
"""The maximum of resting orders; the flow cancels the oldest beyond it."""

SYMBOLS = ("AAPL", "MSFT", "NVDA", "SPY", "TSLA", "BTC/USD")


class OrderFlow(Service):
    """Small random orders for a demonstration.

    Most fill, some of them in two parts. Some rest and are canceled. A few expire or are rejected.
    """

    def __init__(self, simulator: Simulator, reactor: IReactorTime, random: Random) -> None:
        self._simulator = simulator
        self._reactor = reactor
        self._random = random
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        """Start; the first order follows after a delay of ORDER_INTERVAL."""
        super().startService()
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
        self._simulator.apply(exchange.submit(self._order()))
        resting = [order for order in exchange.orders() if not exchange.has_next_step(order.id)]
        if len(resting) > OPEN_ORDERS:
            self._simulator.apply(exchange.cancel(resting[0].id))

    def _order(self) -> OrderRequest:
        kind = self._random.choices(("market", "limit", "closing", "rejected"), (6, 3, 1, 1))[0]
        limited = kind in ("limit", "closing")
        return OrderRequest(
            symbol=REJECTED_SYMBOL if kind == "rejected" else self._random.choice(SYMBOLS),
            side=self._random.choice(("buy", "sell")),
            type="limit" if limited else "market",
            time_in_force="cls" if kind == "closing" else "day",
            qty=Decimal(self._random.randint(1, 10)),
            limit_price=Decimal(self._random.randint(50, 400)) if limited else None,
        )


class SimulatorService(MultiService):
    """Serves a simulator on an endpoint; startService raises if the port is in use.

    Args:
        simulator: The simulator to serve.
        description: The endpoint, as for twisted.application.strports.
        reactor: The reactor.
        order_flow: Whether to place random orders.
    """

    def __init__(
        self, simulator: Simulator, description: str, reactor: Any, order_flow: bool = False
    ) -> None:
        super().__init__()
        self._simulator = simulator
        strports.service(description, ApiSite(simulator), reactor=reactor).setServiceParent(self)
        if order_flow:
            OrderFlow(simulator, reactor, simulator.random).setServiceParent(self)

    def stopService(self) -> Deferred[Any]:
        """Stop listening and close the client's connection, within about a second."""
        return gatherResults([maybeDeferred(super().stopService), self._simulator.stop()])
