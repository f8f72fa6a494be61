"""Events made of orders that have moved: of Alpaca's shape, for want of its own; values in, values out.

An order shows where it came to, not how. What was filled is told once: whatever part of the filled quantity
no event has told of yet is told by the account's fills, and what these don't explain by one event more.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

from tradeproxy.recovery.delivered import ZERO, Delivered, QuantityRange, parse_decimal
from tradeproxy.wire.event import CLOSED_STATUSES, MAX_WORD_LENGTH, OrderState, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Document: TypeAlias = dict[str, Any]
"""A JSON object."""

FILL_STATUSES = ("partially_filled", "filled")

MULTI_LEG = "mleg"
"""The class of an order of several legs."""


@dataclass(frozen=True, slots=True)
class FillActivity:
    """A fill among the account's activities."""

    order_id: str
    span: QuantityRange
    event: str
    price: str | None
    time: str
    """RFC 3339, as Alpaca wrote it."""


def is_id(value: Any) -> bool:
    """Whether this can be an id of Alpaca's, to be kept and asked for."""
    return isinstance(value, str) and value.isascii() and 0 < len(value) <= MAX_WORD_LENGTH


def read_fill(document: Any) -> FillActivity | None:
    """Read an activity; None if it is not a fill that can be used."""
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
            text = None if price is None else str(price)
            return FillActivity(order_id, QuantityRange(cum - qty, cum), event, text, time)
    return None


def expand(documents: Iterable[Any]) -> Iterator[Document]:
    """Yield the orders in a response, with those that are nested in them.

    The legs of a multi-leg order are not orders of their own: what happens to them is told of the whole.
    """
    for document in documents:
        if isinstance(document, dict) and is_id(document.get("id")):
            yield document
            if document.get("order_class") != MULTI_LEG:
                yield from expand(_legs(document))


def leg_ids(orders: Iterable[Document]) -> set[str]:
    """Return the ids of the legs of multi-leg orders: those that `expand` leaves out."""
    parents = (order for order in orders if order.get("order_class") == MULTI_LEG)
    return {leg["id"] for parent in parents for leg in expand(_legs(parent))}


def _legs(order: Document) -> list[Any]:
    legs = order.get("legs")
    return legs if isinstance(legs, list) else []


def read_order_state(order: Document) -> OrderState:
    """Return what an order says of itself; its time is that of its last change."""
    filled = parse_decimal(order.get("filled_qty")) or ZERO
    return OrderState(
        order["id"], str(order.get("status")), f"{filled:f}", read_time(order.get("updated_at"))
    )


def last_change(order: Document, fills: Iterable[FillActivity]) -> int:
    """Return when something last happened to an order of which these are fills."""
    return max([read_time(order.get("updated_at")), *(read_time(fill.time) for fill in fills)])


def read_time(text: Any) -> int:
    """Read a time as microseconds since 1970; 0 for anything that is none."""
    try:
        return parse_time(text) if isinstance(text, str) else 0
    except (ValueError, OverflowError):
        return 0


def find_missed_events(
    order: Document, told: Delivered, fills: Sequence[FillActivity], since: int, horizon: int | None
) -> list[Document]:
    """Return the `data` of the events that bring what was told of an order to where it now is.

    `fills` are the order's, of the time from `since` on. An order of which nothing was told counts only if
    it has changed since, and after the horizon.
    """
    now = read_order_state(order)
    if told.state is None and not (now.time >= since and (horizon is None or now.time > horizon)):
        return []
    return [*_missed_fills(order, now, told, fills, since), *_missed_status(order, now, told)]


def _missed_fills(
    order: Document, now: OrderState, told: Delivered, fills: Sequence[FillActivity], since: int
) -> Iterator[Document]:
    total = Decimal(now.filled_qty)
    floor = _floor(order, told, fills, since)
    missing = [QuantityRange(floor, total)] if floor < total else []
    for span in told.spans:
        missing = _without(missing, span)
    whole = missing == [QuantityRange(ZERO, total)]
    for fill in sorted(fills, key=lambda fill: fill.span.end):
        if any(part.start <= fill.span.start and fill.span.end <= part.end for part in missing):
            missing = _without(missing, fill.span)
            whole = False
            made = _event(fill.event, fill.time, order, fill.span.end - fill.span.start, fill.price)
            # Fills of one moment may have one price and one quantity, and are not the same for that.
            yield made | {"cum_qty": f"{fill.span.end:f}"}
    if rest := sum((part.end - part.start for part in missing), ZERO):
        # The order's average is this one fill's price only where it is the average of nothing else.
        price = order.get("filled_avg_price") if whole else None
        complete = now.status == "filled" and missing[-1].end == total
        yield _event(
            "fill" if complete else "partial_fill", order.get("updated_at"), order, rest, price
        )


def _floor(order: Document, told: Delivered, fills: Sequence[FillActivity], since: int) -> Decimal:
    """Return up to where fills were told, be it before the time that is looked at."""
    if told.floor is not None:
        return told.floor
    if read_time(order.get("created_at")) >= since:
        return ZERO
    starts = [span.start for span in told.spans] + [fill.span.start for fill in fills]
    if (
        told.state is not None
    ):  # told of after the gap only: what came before its first fill is not known
        starts.append(parse_decimal(told.state.filled_qty) or ZERO)
    return min(starts, default=ZERO)


def _missed_status(order: Document, now: OrderState, told: Delivered) -> Iterator[Document]:
    if now.status in FILL_STATUSES:
        return
    if told.state is not None:
        if told.state.status == now.status or told.state.status in CLOSED_STATUSES:
            return
        if now.is_open and now.time < told.state.time:
            return  # the stream has been quicker than the answer
    yield {"event": now.status, "timestamp": order.get("updated_at"), "order": order}


def _event(event: str, time: Any, order: Document, qty: Decimal, price: Any) -> Document:
    prices = {} if price is None else {"price": price}
    return {"event": event, "timestamp": time, "order": order, **prices, "qty": f"{qty:f}"}


def _without(parts: Sequence[QuantityRange], taken: QuantityRange) -> list[QuantityRange]:
    """Return what is left of some parts, in order, without the one that is taken out of them."""
    left = []
    for part in parts:
        left.append(QuantityRange(part.start, min(part.end, taken.start)))
        left.append(QuantityRange(max(part.start, taken.end), part.end))
    return [part for part in left if part.start < part.end]
