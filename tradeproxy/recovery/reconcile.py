"""Synthetic events, built from orders and fills when Alpaca's event history is not available.

An order shows its present state, not the events that led to it. For the filled quantity that has
not been delivered, emit one fill per matching fill activity, then one per part that is left. So
each part of the quantity is reported once. All functions are pure.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias, TypeGuard

from tradeproxy.recovery.delivered import (
    ZERO,
    Delivered,
    QuantityRange,
    parse_decimal,
    read_time,
    subtract_all,
)
from tradeproxy.recovery.sse_parser import MAX_EVENT_SIZE
from tradeproxy.wire.event import CLOSED_STATUSES, MAX_WORD_LENGTH, Event, OrderState
from tradeproxy.wire.frame import frame_event
from tradeproxy.wire.messages import TradeUpdate, parse_server

Document: TypeAlias = dict[str, Any]
"""A JSON object."""

FILL_STATUSES = ("partially_filled", "filled")

MULTI_LEG = "mleg"
"""The order_class of a multi-leg order."""


@dataclass(frozen=True, slots=True)
class FillActivity:
    """One fill in the account's activities (`GET /v2/account/activities`)."""

    order_id: str
    span: QuantityRange
    """The part of the order's quantity that it fills."""
    event: str
    """`fill` or `partial_fill`."""
    price: str | None
    time: str
    """RFC 3339, as Alpaca wrote it."""


def is_id(value: Any) -> TypeGuard[str]:
    """Whether this is a valid id: ASCII text of 1 to MAX_WORD_LENGTH characters."""
    return isinstance(value, str) and value.isascii() and 0 < len(value) <= MAX_WORD_LENGTH


def read_fill(document: Any) -> FillActivity | None:
    """Read an activity; None if it is not a valid fill."""
    match document:
        case {
            "order_id": str(order_id),
            "transaction_time": str(time),
            "qty": qty_text,
            "cum_qty": cum_text,
        } if is_id(order_id) and read_time(time):
            qty, cum = parse_decimal(qty_text), parse_decimal(cum_text)
            if qty is None or cum is None or not ZERO < qty <= cum:
                return None
            price = document.get("price")
            event = "fill" if document.get("type") == "fill" else "partial_fill"
            price_text = None if price is None else str(price)
            return FillActivity(order_id, QuantityRange(cum - qty, cum), event, price_text, time)
    return None


def expand(documents: Iterable[Any]) -> Iterator[Document]:
    """Yield the orders in a response and their legs.

    The legs of a multi-leg order are left out: Alpaca's events report them with the whole order.
    Legs of legs are dropped. Alpaca has none, and each level of them would have all deeper ones.
    """
    for document in documents:
        if _is_order(document):
            order = _drop_deeper_legs(document)
            yield order
            if order.get("order_class") != MULTI_LEG:
                yield from filter(_is_order, _legs(order))


def leg_ids(order: Document) -> set[str]:
    """Return the ids of the legs of a multi-leg order, which `expand` leaves out."""
    legs = _legs(order) if order.get("order_class") == MULTI_LEG else []
    return {leg["id"] for leg in filter(_is_order, legs)}


def _is_order(document: Any) -> bool:
    return isinstance(document, dict) and is_id(document.get("id"))


def _legs(order: Document) -> list[Any]:
    legs = order.get("legs")
    return legs if isinstance(legs, list) else []


def _drop_deeper_legs(order: Document) -> Document:
    legs = _legs(order)
    if not any(isinstance(leg, dict) and leg.get("legs") for leg in legs):
        return order
    return order | {
        "legs": [leg | {"legs": None} if isinstance(leg, dict) else leg for leg in legs]
    }


def read_order_state(order: Document) -> OrderState:
    """Return the state of an order. Its time is `updated_at`."""
    filled = parse_decimal(order.get("filled_qty")) or ZERO
    time = read_time(order.get("updated_at"))
    return OrderState(order["id"], str(order.get("status")), f"{filled:f}", time)


def last_change(order: Document, fills: Iterable[FillActivity]) -> int:
    """Return the time of the newest change of an order and its fills."""
    return max([read_time(order.get("updated_at")), *(read_time(fill.time) for fill in fills)])


def find_missed_events(
    order: Document,
    delivered: Delivered,
    fills: Sequence[FillActivity],
    since: int,
    dedup_horizon: int | None,
) -> list[Document]:
    """Return the `data` of the events that clients need to know the present state of an order.

    Args:
        order: the order as Alpaca returns it.
        delivered: what clients got about it.
        fills: its fill activities from `since` on.
        since: the start of the search (microseconds since 1970). An order without a delivered
            event is ignored if its last change is older.
        dedup_horizon: changes of such an order that are not after this time are ignored too.
    """
    now = read_order_state(order)
    if delivered.state is None and (
        now.time < since or (dedup_horizon is not None and now.time <= dedup_horizon)
    ):
        return []
    events = list(_missed_fills(order, now, delivered, fills, since))
    events += _missed_status(order, now, delivered)
    if delivered.state is None and dedup_horizon is not None:
        return [event for event in events if read_time(event["timestamp"]) > dedup_horizon]
    return events


class UnusableError(Exception):
    """No event can be made: it would be too large, or is nested too deeply. It has `size`."""

    def __init__(self, size: int) -> None:
        super().__init__(f"an event of {size} bytes")
        self.size = size


def read_synthetic(data: Document) -> Event:
    """Return the event with this `data`.

    Raises UnusableError for more than MAX_EVENT_SIZE bytes: no event of the stream or of the
    history is larger. Alpaca's order may also be nested so deeply that only its parser read it.
    """
    try:
        payload = json.dumps(data, separators=(",", ":")).encode()
    except RecursionError:
        raise UnusableError(MAX_EVENT_SIZE) from None
    if len(payload) > MAX_EVENT_SIZE:
        raise UnusableError(len(payload))
    # The parser is what makes an Event: it keeps numbers as texts, which the digest needs.
    message = parse_server(frame_event(payload))
    if not isinstance(message, TradeUpdate):
        raise UnusableError(len(payload))
    return message.event


def _missed_fills(
    order: Document,
    now: OrderState,
    delivered: Delivered,
    fills: Sequence[FillActivity],
    since: int,
) -> Iterator[Document]:
    # Each event has `cum_qty`: it shows which part of the quantity the event reports. It also makes
    # the digests differ of two fills with the same time, price and quantity.
    total = Decimal(now.filled_qty)
    floor = _find_floor(order, delivered, fills, since)
    missing = deque(subtract_all(QuantityRange(floor, total), delivered.spans))
    is_whole = list(missing) == [QuantityRange(ZERO, total)]
    without_fill: list[QuantityRange] = []
    for fill in sorted(fills, key=lambda fill: fill.span.end):
        # No later fill can be in a part that ends before this one does.
        while missing and missing[0].end < fill.span.end:
            without_fill.append(missing.popleft())
        if missing and missing[0].start <= fill.span.start:
            part = missing.popleft()
            if part.start < fill.span.start:
                without_fill.append(QuantityRange(part.start, fill.span.start))
            if fill.span.end < part.end:
                missing.appendleft(QuantityRange(fill.span.end, part.end))
            is_whole = False
            qty = fill.span.end - fill.span.start
            event = _build_event(fill.event, fill.time, order, qty, fill.price)
            yield event | {"cum_qty": f"{fill.span.end:f}"}
    for part in (*without_fill, *missing):
        # The average price is the price of this event only if the event covers the whole quantity.
        price = order.get("filled_avg_price") if is_whole else None
        is_complete = now.status == "filled" and part.end == total
        kind = "fill" if is_complete else "partial_fill"
        event = _build_event(kind, order.get("updated_at"), order, part.end - part.start, price)
        yield event | {"cum_qty": f"{part.end:f}"}


def _find_floor(
    order: Document, delivered: Delivered, fills: Sequence[FillActivity], since: int
) -> Decimal:
    """Return the filled quantity below which no fill is missing, or is older than `since`."""
    if delivered.floor is not None:
        return delivered.floor
    if read_time(order.get("created_at")) >= since:
        return ZERO
    starts = [span.start for span in delivered.spans] + [fill.span.start for fill in fills]
    if delivered.state is not None:
        # All its events are newer than the gap, so fills before its first known one are unknown.
        starts.append(parse_decimal(delivered.state.filled_qty) or ZERO)
    return min(starts, default=ZERO)


def _missed_status(order: Document, now: OrderState, delivered: Delivered) -> Iterator[Document]:
    if now.status in FILL_STATUSES:
        return  # `_missed_fills` reports it
    if delivered.state is not None:
        if delivered.state.status == now.status or delivered.state.status in CLOSED_STATUSES:
            return
        if now.is_open and now.time < delivered.state.time:
            return  # the stream has already delivered a newer state
    yield {"event": now.status, "timestamp": order.get("updated_at"), "order": order}


def _build_event(event: str, time: Any, order: Document, qty: Decimal, price: Any) -> Document:
    prices = {} if price is None else {"price": price}
    return {"event": event, "timestamp": time, "order": order, **prices, "qty": f"{qty:f}"}
