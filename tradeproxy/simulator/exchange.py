"""The exchange: orders in, trading events out; no timers, no input or output.

Every operation answers with an Outcome, whose events are the `data` objects of Alpaca's trade-updates
stream, or with the Refusal that Alpaca would give. An order that something will happen to by itself (a
fill, a reject) is `due`: whoever owns the clock then calls `proceed`, as often as it stays so.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from tradeproxy.simulator.eventclock import EventClock
from tradeproxy.simulator.orders import (
    Amendment,
    Document,
    Order,
    Refusal,
    Status,
    Terms,
    bad_input,
    number_text,
)
from tradeproxy.simulator.portfolio import CENT, Portfolio, random_uuid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime
    from random import Random

REJECTED_SYMBOL = "REJECT"
"""Orders for this symbol are accepted and then rejected."""

FINISHED_ORDERS_KEPT = 10_000
"""So that a demonstration can run for months."""

NOT_FOUND = Refusal(404, 40410000, "order not found")
NOT_OPEN = Refusal(422, 42210000, "order is not open")

_FRACTION = Decimal("1e-9")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation did: the orders it is about, and the events that it caused, in order."""

    orders: tuple[Order, ...]
    events: tuple[Document, ...]


class _Step(Enum):
    """What will happen next to an order by itself."""

    EXECUTE = auto()
    CANCEL = auto()
    REJECT = auto()


class Exchange:
    """The orders, positions and cash of one account.

    `now` gives the time in UTC. The last `keep` orders that are over stay known; older ones are forgotten.
    """

    def __init__(self, now: Callable[[], datetime], random: Random, keep: int = FINISHED_ORDERS_KEPT) -> None:
        self._random = random
        self._keep = keep
        self._clock = EventClock(now, random)
        self._opened_at = self._clock.timestamp()
        self._portfolio = Portfolio(random)
        self._orders: dict[str, Order] = {}
        self._by_client_id: dict[str, str] = {}
        self._steps: dict[str, _Step] = {}
        self._finished: deque[str] = deque()

    # What a client asks for

    def submit(self, terms: Terms) -> Outcome | Refusal:
        """Take a new order."""
        if terms.client_order_id in self._by_client_id:
            return bad_input("client_order_id must be unique")
        return self._accept(random_uuid(self._random), terms)

    def cancel(self, order_id: str) -> Outcome | Refusal:
        """Cancel an open order."""
        return self._end(order_id, Status.CANCELED, cancel_requested_at=self._clock.timestamp())

    def cancel_all(self) -> Outcome:
        """Cancel every open order, the oldest first."""
        outcomes = [self.cancel(order.id) for order in self.orders()]
        ended = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
        return Outcome(
            tuple(order for outcome in ended for order in outcome.orders),
            tuple(event for outcome in ended for event in outcome.events),
        )

    def replace(self, order_id: str, amendment: Amendment) -> Outcome | Refusal:
        """End an open order and put one with other terms in its place; the outcome's order is the new one."""
        order = self._orders.get(order_id)
        if order is None:
            return NOT_FOUND
        if not order.status.open:
            return NOT_OPEN
        if amendment.client_order_id in self._by_client_id:
            return bad_input("client_order_id must be unique")
        successor_id = random_uuid(self._random)
        ended = self._change(order, Status.REPLACED, replaced_by=successor_id)
        replaced = self._event("replaced", ended)
        successor = self._accept(successor_id, amendment.applied_to(order.terms), replaces=order.id)
        return Outcome(successor.orders, (replaced, *successor.events))

    def order(self, order_id: str) -> Order | Refusal:
        """Look an order up."""
        return self._orders.get(order_id, NOT_FOUND)

    def order_by_client_id(self, client_order_id: str) -> Order | Refusal:
        """Look an order up by the id that its client gave it."""
        return self.order(self._by_client_id.get(client_order_id, ""))

    def orders(
        self, status: str = "open", symbols: Collection[str] = (), newest_first: bool = False
    ) -> list[Order]:
        """List the orders that are `open`, `closed` or `all`; with no symbols given, those of any."""
        found = [
            order
            for order in self._orders.values()
            if (status == "all" or order.status.open == (status == "open"))
            and (not symbols or order.terms.symbol in symbols)
        ]
        return found[::-1] if newest_first else found

    def account(self) -> Document:
        """Describe the account as GET /v2/account does."""
        return self._portfolio.document(self._opened_at)

    # What happens by itself

    def due(self, order_id: str) -> bool:
        """Whether something will happen to this order by itself."""
        return order_id in self._steps

    def proceed(self, order_id: str) -> Outcome | Refusal:
        """Let the next thing happen to an order that is due."""
        match self._steps.get(order_id):
            case _Step.EXECUTE:
                return self._execute(self._orders[order_id])
            case _Step.CANCEL:
                return self._end(order_id, Status.CANCELED)
            case _Step.REJECT:
                return self._end(order_id, Status.REJECTED)
        return NOT_FOUND

    def expire(self, order_id: str) -> Outcome | Refusal:
        """Let an open order reach the end of its time."""
        return self._end(order_id, Status.EXPIRED)

    def churn(self, count: int) -> Outcome:
        """Make `count` events: orders far from the market, each accepted and then canceled."""
        terms = Terms(
            symbol="SPY", side="buy", type="limit", time_in_force="day", qty=Decimal(1), limit_price=CENT
        )
        orders: list[Order] = []
        events: list[Document] = []
        while len(events) < count:
            outcome = (
                self.cancel(orders[-1].id)
                if len(events) % 2
                else self._accept(random_uuid(self._random), terms)
            )
            assert isinstance(outcome, Outcome)
            orders.extend(outcome.orders)
            events.extend(outcome.events)
        return Outcome(tuple(orders), tuple(events))

    # How it is done

    def _accept(self, order_id: str, terms: Terms, replaces: str | None = None) -> Outcome:
        instrument = self._portfolio.instrument(terms.symbol)
        time = self._clock.timestamp()
        rejected = terms.symbol == REJECTED_SYMBOL
        order = Order(
            id=order_id,
            asset_id=instrument.asset_id,
            terms=replace(
                terms,
                client_order_id=terms.client_order_id or random_uuid(self._random),
                position_intent=terms.position_intent or instrument.intent(terms.side),
            ),
            status=Status.PENDING_NEW if rejected else Status.NEW,
            created_at=time,
            updated_at=time,
            submitted_at=time,
            expires_at=self._clock.expiry(terms.time_in_force),
            replaces=replaces,
        )
        self._orders[order.id] = order
        self._by_client_id[order.terms.client_order_id] = order.id
        if rejected:
            self._steps[order.id] = _Step.REJECT
            return Outcome((order,), ())
        if terms.marketable_at(instrument.price):
            self._steps[order.id] = _Step.EXECUTE
        elif terms.time_in_force in ("ioc", "fok"):
            self._steps[order.id] = _Step.CANCEL
        return Outcome((order,), (self._event("new", order, execution_id=random_uuid(self._random)),))

    def _execute(self, order: Order) -> Outcome:
        terms = order.terms
        price = self._portfolio.instrument(terms.symbol).trade_price(terms)
        remaining = _wanted(terms, price) - order.filled_qty
        qty = self._part(order, remaining)
        filled = order.filled_qty + qty
        paid = order.filled_qty * (order.filled_avg_price or 0) + qty * price
        position = self._portfolio.settle(terms.symbol, terms.side, qty, price)
        status = Status.FILLED if qty == remaining else Status.PARTIALLY_FILLED
        order = self._change(
            order, status, filled_qty=filled, filled_avg_price=(paid / filled).quantize(_FRACTION)
        )
        event = self._event(
            "fill" if status is Status.FILLED else "partial_fill",
            order,
            price=number_text(price),
            qty=number_text(qty),
            position_qty=number_text(position),
            execution_id=random_uuid(self._random),
        )
        return Outcome((order,), (event,))

    def _part(self, order: Order, remaining: Decimal) -> Decimal:
        """Choose how much of `remaining` is filled now: at most once an order, only a part."""
        untouched = order.status is Status.NEW
        divisible = order.terms.qty is not None and order.terms.time_in_force != "fok" and remaining > 1
        if untouched and divisible and self._random.random() < 0.5:
            return Decimal(self._random.randint(1, max(1, int(remaining) - 1)))
        return remaining

    def _end(self, order_id: str, status: Status, **changes: Any) -> Outcome | Refusal:
        order = self._orders.get(order_id)
        if order is None:
            return NOT_FOUND
        if not order.status.open:
            return NOT_OPEN
        ended = self._change(order, status, **changes)
        return Outcome((ended,), (self._event(status.value, ended),))

    def _change(self, order: Order, status: Status, **changes: Any) -> Order:
        time = self._clock.timestamp()
        if ended_at := _ENDED_AT.get(status):
            changes[ended_at] = time
        changed = replace(order, status=status, updated_at=time, **changes)
        self._orders[order.id] = changed
        if not status.open:
            self._steps.pop(order.id, None)
            self._finished.append(order.id)
            self._forget()
        return changed

    def _forget(self) -> None:
        while len(self._finished) > self._keep:
            order = self._orders.pop(self._finished.popleft())
            del self._by_client_id[order.terms.client_order_id]

    def _event(self, name: str, order: Order, **fields: Any) -> Document:
        at, event_id = self._clock.stamp()
        return {
            "at": at,
            "event_id": event_id,
            "event": name,
            "timestamp": order.updated_at,
            "order": order.document(),
            **fields,
        }


_ENDED_AT = {
    Status.FILLED: "filled_at",
    Status.CANCELED: "canceled_at",
    Status.EXPIRED: "expired_at",
    Status.REJECTED: "failed_at",
    Status.REPLACED: "replaced_at",
}


def _wanted(terms: Terms, price: Decimal) -> Decimal:
    if terms.qty is not None:
        return terms.qty
    assert terms.notional is not None, "terms have a qty or a notional"
    return max((terms.notional / price).quantize(_FRACTION), _FRACTION)
