"""Orders at the simulated exchange whose events are numbered, some of them never sent."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from tests.system.chaos.numbered import NumberedEvents
from tradeproxy.simulator.exchange import ExchangeResult
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.orders import OrderRequest

RESTING = OrderRequest(
    symbol="SPY",
    side="buy",
    type="limit",
    time_in_force="gtc",
    qty=Decimal(1),
    limit_price=Decimal("0.01"),
)
"""An order that never fills."""


class NumberedOrders:
    """Opens and cancels orders. Each order has one event of a kind: `new`, then `canceled`."""

    def __init__(self, events: NumberedEvents) -> None:
        self._events = events
        self._exchange = events.alpaca.exchange
        self._numbers: dict[str, dict[str, int]] = {}
        self._open: list[str] = []
        self._old: list[str] = []

    def open_unseen(self, count: int) -> None:
        """Open orders before the proxy runs for the first time. They have no numbered event."""
        for _ in range(count):
            (order,) = self._exchange.submit(RESTING).orders
            self._old.append(order.id)

    def open(self, count: int) -> list[int]:
        """Open orders, and return the numbers of their events."""
        numbers: list[int] = []
        for _ in range(count):
            result = self._exchange.submit(RESTING)
            self._open.append(result.orders[0].id)
            numbers += self._apply(result)
        return numbers

    def cancel(self, count: int) -> list[int]:
        """Cancel the oldest orders that are open, and return the numbers of their events."""
        ended, self._open = self._open[:count], self._open[count:]
        return self._cancel(ended)

    def cancel_unseen(self, count: int) -> list[int]:
        """Cancel orders that were open before the proxy ran, and return the numbers."""
        ended, self._old = self._old[:count], self._old[count:]
        return self._cancel(ended)

    def cancel_unreported(self, count: int) -> list[int]:
        """Cancel orders without an event, and return the numbers of those events."""
        self._events.alpaca.inject(Fault(FaultKind.UNREPORTED, count=count))
        return self.cancel(count)

    def trade(self) -> list[int]:
        """Open some orders, cancel some older ones, and return the numbers of the events."""
        return [*self.cancel(2), *self.open(4), *self.cancel(2)]

    @property
    def numbers(self) -> set[int]:
        """The numbers of all events of these orders."""
        return {number for kinds in self._numbers.values() for number in kinds.values()}

    def find(self, order_id: str, kind: str) -> tuple[int, Sequence[int]] | None:
        """Return the number of an order's event, and those of its earlier events."""
        kinds = self._numbers.get(order_id, {})
        if (number := kinds.get(kind)) is None:
            return None
        return number, tuple(earlier for earlier in kinds.values() if earlier < number)

    def _cancel(self, order_ids: Sequence[str]) -> list[int]:
        results = [self._exchange.cancel(order_id) for order_id in order_ids]
        return [number for result in results for number in self._apply(result)]

    def _apply(self, result: ExchangeResult) -> list[int]:
        events = [self._events.assign_number(data) for data in result.events]
        for data in events:
            self._numbers.setdefault(data["order"]["id"], {})[data["event"]] = data["n"]
        self._events.alpaca.apply(ExchangeResult(result.orders, tuple(events)))
        return [data["n"] for data in events]
