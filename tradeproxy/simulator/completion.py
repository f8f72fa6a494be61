"""Complete events: a partial event with what an SDK needs to parse it. Pure.

What was sent stays, with one exception: an id that is no UUID becomes one, always the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from tradeproxy.simulator.errors import ApiError
from tradeproxy.simulator.exchange import Exchange
from tradeproxy.simulator.orders import LONGEST_TEXT, Document, asset_class, number_text
from tradeproxy.wire.amount import parse_amount
from tradeproxy.wire.event import EXECUTION_KINDS

DEFAULT_SYMBOL = "AAPL"

STATUSES = {
    "fill": "filled",
    "partial_fill": "partially_filled",
    "trade_bust": "filled",
    "trade_correct": "filled",
    "restated": "new",
    "order_cancel_rejected": "new",
    "order_replace_rejected": "new",
}
"""The order's status after an event, where it is not the event's own name."""

ENDS = {
    "fill": "filled_at",
    "canceled": "canceled_at",
    "expired": "expired_at",
    "rejected": "failed_at",
    "replaced": "replaced_at",
}
"""The field of the order that has the time of an event."""

ORDER_IDS = ("id", "asset_id", "replaces", "replaced_by")


def complete_event(data: Document, exchange: Exchange) -> Document:
    """Return an event's `data` with a complete order, the exchange's own one if its id is known.

    An `order` that is no object is left as it is.
    """
    given = data.get("order", {})
    if not isinstance(given, dict):
        return data
    event = str(data.get("event", "new"))
    order = _find_order(given, exchange)
    if event == "fill" and "qty" not in given:
        order["qty"] = data.get("qty", order["qty"])
    market = number_text(exchange.portfolio.instrument(order["symbol"]).price)
    order |= _derive(order | given)
    if event in EXECUTION_KINDS:
        order |= _fill(event == "partial_fill", order | given, data)
        order["filled_avg_price"] = data.get("price", (order | given)["limit_price"] or market)
    order["status"] = STATUSES.get(event, event)
    if event in ENDS:
        order[ENDS[event]] = order["updated_at"]
    order |= given
    return {
        "event": event,
        **(_execution(order, exchange) if event in EXECUTION_KINDS else {}),
        **_with_uuids(data, ("execution_id",)),
        "order": _with_uuids(order, ORDER_IDS),
    }


def _find_order(given: Document, exchange: Exchange) -> Document:
    try:
        return exchange.order(str(given.get("id"))).document()
    except ApiError:
        symbol = given.get("symbol")
        if not isinstance(symbol, str) or not 0 < len(symbol) <= LONGEST_TEXT:
            symbol = DEFAULT_SYMBOL
        return exchange.draft(symbol).document()


def _derive(order: Document) -> Document:
    """Return the fields that follow from others."""
    kind = "market" if order["limit_price"] is None else "limit"
    if order["type"] != "market":
        kind = order["type"]
    return {
        "type": kind,
        "order_type": kind,
        "asset_class": asset_class(str(order["symbol"])),
        "position_intent": f"{order['side']}_to_open",
    }


def _fill(partial: bool, order: Document, data: Document) -> Document:
    """Return the order's filled quantity: all of it, or a part, by default the half."""
    total, filled = order["qty"], data.get("qty")
    if not partial:
        filled = total
    elif filled is None and (amount := parse_amount(str(total))) is not None:
        filled = number_text(amount / 2)
    return {"filled_qty": filled}


def _execution(order: Document, exchange: Exchange) -> Document:
    """Return the fields of a fill beside its order."""
    return {
        "price": order["filled_avg_price"],
        "qty": order["filled_qty"],
        "position_qty": order["filled_qty"],
        "execution_id": exchange.new_id(),
    }


def _with_uuids(document: Document, names: Iterable[str]) -> Document:
    return document | {name: _as_uuid(document[name]) for name in names if name in document}


def _as_uuid(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        UUID(value)
    except ValueError:
        return str(uuid5(NAMESPACE_OID, value))
    return value
