"""The exchange: it takes orders and returns trading events. No timers, no I/O.

Every operation returns an ExchangeResult. Its events are the `data` objects of Alpaca's
trade-updates stream. An invalid operation raises the ApiError that Alpaca would send. Some orders
have a next step, such as a fill. The owner of the clock calls `step` after a delay while
`has_next_step` is true.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random
from typing import Any

from tradeproxy.simulator.clock import EventClock, is_between, nanoseconds, random_uuid
from tradeproxy.simulator.errors import ApiError, unprocessable
from tradeproxy.simulator.market import find_expiry
from tradeproxy.simulator.orders import (
    Document,
    Order,
    OrderRequest,
    OrderStatus,
    ReplaceRequest,
    number_text,
    usual_time_in_force,
)
from tradeproxy.simulator.portfolio import CENT, Portfolio

REJECTED_SYMBOL = "REJECT"
"""The exchange accepts orders for this symbol and then rejects them."""

UNTRADED = {
    "ioc": OrderStatus.CANCELED,
    "fok": OrderStatus.CANCELED,
    "opg": OrderStatus.EXPIRED,
    "cls": OrderStatus.EXPIRED,
}
"""The final status of an order that cannot trade immediately, by time in force; others rest."""

FINISHED_ORDERS_KEPT = 10_000
"""Bounds the memory of a demonstration that runs for months."""

MOST_OPEN_ORDERS = 20_000
"""The maximum of open orders; the exchange rejects further ones."""

_FRACTION = Decimal("1e-9")


@dataclass(frozen=True, slots=True)
class ExchangeResult:
    """The result of an operation: its orders, and the events that it caused, in order."""

    orders: tuple[Order, ...]
    events: tuple[Document, ...]


class Exchange:
    """The orders, positions and cash of one account.

    Args:
        seconds: Returns Unix time.
        random: The source of ids, prices and partial fills.
        keep: The number of finished orders to keep; older ones are forgotten.
        most_open: The maximum of open orders.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        random: Random,
        keep: int = FINISHED_ORDERS_KEPT,
        most_open: int = MOST_OPEN_ORDERS,
    ) -> None:
        self._seconds = seconds
        self._random = random
        self._keep = keep
        self._most_open = most_open
        self.clock = EventClock(seconds, random)
        self.portfolio = Portfolio(random)
        """The account's id, cash, positions and prices."""
        self._orders: dict[str, Order] = {}
        self._open: dict[str, Order] = {}
        self._client_order_ids: dict[str, str] = {}
        self._resting: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._next: dict[str, OrderStatus] = {}
        self._finished: deque[str] = deque()

    def submit(self, request: OrderRequest, *, reject: bool = False) -> ExchangeResult:
        """Accept a new order. Raises ApiError if Alpaca would reject the request.

        With `reject`, or for REJECTED_SYMBOL, the order's next step is its rejection.
        """
        self._check_unused(request.client_order_id)
        return self._accept(random_uuid(self._random), request, reject=reject)

    def set_price(self, symbol: str, price: Decimal) -> ExchangeResult:
        """Set a market price; the result contains the resting orders that now trade."""
        self.portfolio.instrument(symbol).price = price
        return ExchangeResult(self._orders_reached(symbol), ())

    def close_position(self, name: str, part: Decimal | None = None) -> ExchangeResult:
        """Submit a market order that closes a position, by symbol or asset id, or a `part` of it.

        Raises ApiError if there is no such position, or if `part` is more than it has.
        """
        held = self.portfolio.find_position(name)
        qty, side = abs(held.position), "sell" if held.position > 0 else "buy"
        if part is not None and part > qty:
            raise ApiError(403, 40310000, f"insufficient qty available for order, available: {qty}")
        return self.submit(
            OrderRequest(
                symbol=held.symbol,
                side=side,
                type="market",
                time_in_force=usual_time_in_force(held.symbol),
                qty=qty if part is None else part,
                position_intent=f"{side}_to_close",
            )
        )

    def cancel(self, order_id: str) -> ExchangeResult:
        """Cancel an open order. Raises ApiError if it is unknown or not open."""
        order = self._open_order(order_id)
        return self._finish(order, OrderStatus.CANCELED, cancel_requested_at=self.clock.timestamp())

    def cancel_all(self) -> ExchangeResult:
        """Cancel every open order, oldest first."""
        return _merge([self.cancel(order.id) for order in self.orders()])

    def replace(self, order_id: str, request: ReplaceRequest) -> ExchangeResult:
        """Replace an open order; the result contains the new order.

        Raises ApiError if the order is unknown or not open, if the client_order_id is in use, or if
        the new order would be invalid.
        """
        order = self._open_order(order_id)
        self._check_unused(request.client_order_id)
        wanted = request.applied_to(order.request)
        successor_id = random_uuid(self._random)
        finished = self._finish(order, OrderStatus.REPLACED, replaced_by=successor_id)
        successor = self._accept(successor_id, wanted, replaces=order.id)
        return ExchangeResult(successor.orders, finished.events + successor.events)

    def order(self, order_id: str) -> Order:
        """Return an order. Raises ApiError if it is unknown."""
        if order_id not in self._orders:
            raise ApiError(404, 40410000, "order not found")
        return self._orders[order_id]

    def order_by_client_id(self, client_order_id: str) -> Order:
        """Return the order with a `client_order_id`. Raises ApiError if it is unknown."""
        return self.order(self._client_order_ids.get(client_order_id, ""))

    def orders(
        self,
        status: str = "open",
        newest_first: bool = False,
        after: int | None = None,
        until: int | None = None,
    ) -> list[Order]:
        """List orders, oldest first.

        Args:
            status: `open`, `closed` or `all`.
            newest_first: Reverse the order.
            after: Only orders submitted after this time (nanoseconds since 1970).
            until: Only orders submitted before this time (nanoseconds since 1970).
        """
        orders = self._open if status == "open" else self._orders
        found = [
            order for order in orders.values() if status != "closed" or order.id not in self._open
        ]
        if after is not None or until is not None:
            found = [
                order
                for order in found
                if is_between(nanoseconds(order.created_at) or 0, after, until)
            ]
        return found[::-1] if newest_first else found

    def has_next_step(self, order_id: str) -> bool:
        """Whether the order has a next step, such as a fill."""
        return order_id in self._next

    def step(self, order_id: str) -> ExchangeResult:
        """Run the next step of an order. Raises KeyError if it has none."""
        order = self._orders[order_id]
        status = self._next[order_id]
        return self._fill(order) if status is OrderStatus.FILLED else self._finish(order, status)

    def burst(self, count: int) -> ExchangeResult:
        """Cause `count` events: accept and cancel orders far from the market."""
        request = OrderRequest(
            symbol="SPY",
            side="buy",
            type="limit",
            time_in_force="day",
            qty=Decimal(1),
            limit_price=CENT,
        )
        results: list[ExchangeResult] = []
        for number in range(count):
            is_odd = number % 2 == 1
            results.append(
                self.cancel(results[-1].orders[0].id) if is_odd else self.submit(request)
            )
        return _merge(results)

    def draft(self, symbol: str) -> Order:
        """Return an order that the exchange does not have: it buys two units at the market."""
        time = self.clock.timestamp()
        lasting = usual_time_in_force(symbol)
        return Order(
            id=self.new_id(),
            asset_id=self.portfolio.instrument(symbol).asset_id,
            request=OrderRequest(
                symbol=symbol,
                side="buy",
                type="market",
                time_in_force=lasting,
                qty=Decimal(2),
                client_order_id=self.new_id(),
            ),
            status=OrderStatus.NEW,
            created_at=time,
            updated_at=time,
            expires_at=find_expiry(lasting, self._seconds()),
        )

    def new_id(self) -> str:
        """Return a new id, a UUID."""
        return random_uuid(self._random)

    def stamped(self, data: Document) -> Document:
        """Return an event's data; a missing id or time is set to a new id or the current time."""
        at, event_id = self.clock.stamp()
        return {"at": at, "event_id": event_id, "timestamp": at, **data}

    def _open_order(self, order_id: str) -> Order:
        order = self.order(order_id)
        if not order.status.open:
            raise ApiError(422, 42210000, "order is not open")
        return order

    def _check_unused(self, client_order_id: str) -> None:
        if client_order_id in self._client_order_ids:
            raise unprocessable("client_order_id must be unique")

    def _accept(
        self,
        order_id: str,
        request: OrderRequest,
        replaces: str | None = None,
        reject: bool = False,
    ) -> ExchangeResult:
        if len(self._open) >= self._most_open:
            raise ApiError(403, 40310000, "too many open orders")
        instrument = self.portfolio.instrument(request.symbol)
        client_order_id = request.client_order_id or random_uuid(self._random)
        created_at, updated_at = sorted((self.clock.timestamp(), self.clock.timestamp()))
        rejected = reject or request.symbol == REJECTED_SYMBOL
        order = Order(
            id=order_id,
            asset_id=instrument.asset_id,
            request=replace(
                request,
                client_order_id=client_order_id,
                position_intent=request.position_intent or instrument.find_intent(request.side),
            ),
            status=OrderStatus.PENDING_NEW if rejected else OrderStatus.NEW,
            created_at=created_at,
            updated_at=updated_at,
            expires_at=find_expiry(request.time_in_force, self._seconds()),
            replaces=replaces,
        ).at_market(instrument.price)
        self._orders[order.id] = self._open[order.id] = order
        self._client_order_ids[client_order_id] = order.id
        if rejected:
            self._next[order.id] = OrderStatus.REJECTED
            return ExchangeResult((order,), ())
        if order.trades_at(instrument.price):
            self._next[order.id] = OrderStatus.FILLED
        elif request.time_in_force in UNTRADED:
            self._next[order.id] = UNTRADED[request.time_in_force]
        else:
            self._resting[request.symbol][order.id] = None
        event = self._event("new", order, execution_id=random_uuid(self._random))
        return ExchangeResult((order,), (event,))

    def _fill(self, order: Order) -> ExchangeResult:
        request = order.request
        price = self.portfolio.instrument(request.symbol).trade_price(request)
        remaining = _total_qty(request, price) - order.filled_qty
        qty = self._choose_qty(order, remaining)
        filled = order.filled_qty + qty
        paid = order.filled_qty * (order.filled_avg_price or 0) + qty * price
        position = self.portfolio.settle(request.symbol, request.side, qty, price)
        is_complete = qty == remaining
        order = self._change(
            order,
            OrderStatus.FILLED if is_complete else OrderStatus.PARTIALLY_FILLED,
            filled_qty=filled,
            filled_avg_price=(paid / filled).quantize(_FRACTION),
        )
        event = self._event(
            "fill" if is_complete else "partial_fill",
            order,
            price=number_text(price),
            qty=number_text(qty),
            position_qty=number_text(position),
            execution_id=random_uuid(self._random),
            settle_date=self.clock.timestamp(days=1)[:10],
        )
        return ExchangeResult((order, *self._orders_reached(request.symbol)), (event,))

    def _orders_reached(self, symbol: str) -> tuple[Order, ...]:
        """Apply a symbol's price to its resting orders, and return those that trade next."""
        price, resting = self.portfolio.instrument(symbol).price, self._resting[symbol]
        reached = []
        for order_id in tuple(resting):
            order = self._orders[order_id].at_market(price)
            self._orders[order_id] = self._open[order_id] = order
            if order.trades_at(price):
                del resting[order_id]
                self._next[order_id] = OrderStatus.FILLED
                reached.append(order)
        return tuple(reached)

    def _choose_qty(self, order: Order, remaining: Decimal) -> Decimal:
        """Return the quantity to fill now. An order gets at most one partial fill."""
        untouched, request = order.status is OrderStatus.NEW, order.request
        divisible = request.qty is not None and request.time_in_force != "fok" and remaining > 1
        if untouched and divisible and self._random.random() < 0.5:
            return Decimal(self._random.randint(1, max(1, int(remaining) - 1)))
        return remaining

    def _finish(self, order: Order, status: OrderStatus, **changes: Any) -> ExchangeResult:
        finished = self._change(order, status, **changes)
        return ExchangeResult((finished,), (self._event(status.value, finished),))

    def _change(self, order: Order, status: OrderStatus, **changes: Any) -> Order:
        time = self.clock.timestamp()
        ended_at = None if status.open else time
        changed = replace(order, status=status, updated_at=time, ended_at=ended_at, **changes)
        self._orders[order.id] = self._open[order.id] = changed
        if not status.open:
            del self._open[order.id]
            self._resting[order.request.symbol].pop(order.id, None)
            self._next.pop(order.id, None)
            self._finished.append(order.id)
            if len(self._finished) > self._keep:
                forgotten = self._orders.pop(self._finished.popleft())
                del self._client_order_ids[forgotten.request.client_order_id]
        return changed

    def _event(self, name: str, order: Order, **fields: Any) -> Document:
        at, event_id = self.clock.stamp()
        return {
            "at": at,
            "event_id": event_id,
            "event": name,
            "timestamp": order.updated_at,
            "order": order.document(),
            **fields,
        }


def _merge(results: Sequence[ExchangeResult]) -> ExchangeResult:
    return ExchangeResult(
        tuple(order for result in results for order in result.orders),
        tuple(event for result in results for event in result.events),
    )


def _total_qty(request: OrderRequest, price: Decimal) -> Decimal:
    if request.qty is not None:
        return request.qty
    assert request.notional is not None, "a request has a qty or a notional"
    return max((request.notional / price).quantize(_FRACTION), _FRACTION)
