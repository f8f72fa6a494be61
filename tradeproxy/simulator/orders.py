"""Orders as values: requests, their current state, and the JSON of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias

from tradeproxy.simulator.errors import ApiError, unprocessable
from tradeproxy.wire.amount import parse_amount

Document: TypeAlias = dict[str, Any]
"""A JSON object."""

SIDES = ("buy", "sell")
TYPES = ("market", "limit", "stop", "stop_limit", "trailing_stop")
LIMIT_TYPES = ("limit", "stop_limit")
FIXED_STOP_TYPES = ("stop", "stop_limit")
STOP_TYPES = (*FIXED_STOP_TYPES, "trailing_stop")
COMBINED_CLASSES = ("bracket", "oco", "oto", "mleg")
"""The classes of orders with several legs, which the simulator rejects."""

COMBINED_FIELDS = ("take_profit", "stop_loss", "legs")
"""Fields that only those classes have."""

POSITION_INTENTS = ("buy_to_open", "buy_to_close", "sell_to_open", "sell_to_close")
TIMES_IN_FORCE = ("day", "gtc", "ioc", "fok", "opg", "cls")
SMALLEST, LARGEST = Decimal("1e-9"), Decimal("1e12")
"""The range of quantities and prices. Without it, "1e999999999" becomes a gigabyte of digits."""

LONGEST_TEXT = 128
"""Characters; Alpaca's limit for a client_order_id."""


class OrderStatus(Enum):
    """The status of an order, as Alpaca names it."""

    PENDING_NEW = "pending_new"
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    REPLACED = "replaced"

    @property
    def open(self) -> bool:
        """Whether the order can still change."""
        return self in (OrderStatus.PENDING_NEW, OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """A request for a new order. Exactly one of `qty` and `notional` is set.

    `limit_price` is set for the types in LIMIT_TYPES, and `stop_price` for those in
    FIXED_STOP_TYPES. A trailing stop has a `trail_price` in USD or a `trail_percent`. If
    `position_intent` is empty, the exchange sets it by the position.
    """

    symbol: str
    side: str
    type: str
    time_in_force: str
    qty: Decimal | None = None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    extended_hours: bool = False
    position_intent: str = ""
    client_order_id: str = ""

    def marketable_at(self, price: Decimal) -> bool:
        """Whether the limit price allows a trade at a market price of `price`."""
        if self.limit_price is None:
            return True
        return self.limit_price >= price if self.side == "buy" else self.limit_price <= price


@dataclass(frozen=True, slots=True)
class ReplaceRequest:
    """A request to replace an order; None keeps a field."""

    qty: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail: Decimal | None = None
    time_in_force: str | None = None
    client_order_id: str = ""

    def applied_to(self, request: OrderRequest) -> OrderRequest:
        """Return `request` with these changes: the request for the new order.

        Raises ApiError if that is invalid, such as a market order with a limit price.
        """
        if self.trail is not None and request.type != "trailing_stop":
            raise unprocessable("trailing_stop orders, and no others, have a trail")
        changed = replace(
            request,
            qty=self.qty or request.qty,
            limit_price=self.limit_price or request.limit_price,
            stop_price=self.stop_price or request.stop_price,
            trail_price=request.trail_price and (self.trail or request.trail_price),
            trail_percent=request.trail_percent and (self.trail or request.trail_percent),
            time_in_force=self.time_in_force or request.time_in_force,
            client_order_id=self.client_order_id,
        )
        check_order(changed)
        return changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order and its state. Times are RFC 3339 text; `ended_at` is None while it is open.

    `hwm` is the best market price since the submission of a trailing stop: the highest for a sale,
    the lowest for a purchase. `triggered` is whether the market has reached the stop.
    """

    id: str
    asset_id: str
    request: OrderRequest
    status: OrderStatus
    created_at: str
    updated_at: str
    expires_at: str
    filled_qty: Decimal = Decimal(0)
    filled_avg_price: Decimal | None = None
    cancel_requested_at: str | None = None
    ended_at: str | None = None
    replaced_by: str | None = None
    replaces: str | None = None
    hwm: Decimal | None = None
    triggered: bool = False

    @property
    def stop_price(self) -> Decimal | None:
        """The current stop price, which follows `hwm` for a trailing stop; None without a stop."""
        if self.hwm is None:
            return self.request.stop_price
        trail = self.request.trail_price
        if trail is None:
            trail = self.hwm * (self.request.trail_percent or 0) / 100
        return self.hwm - trail if self.request.side == "sell" else self.hwm + trail

    def at_market(self, price: Decimal) -> Order:
        """Return the order after the market price has become `price`."""
        if self.triggered or self.request.type not in STOP_TYPES:
            return self
        order, is_sale = self, self.request.side == "sell"
        if self.request.type == "trailing_stop":
            best = max if is_sale else min
            order = replace(self, hwm=best(self.hwm or price, price))
        stop = order.stop_price
        assert stop is not None, "every stop order has one"
        return replace(order, triggered=price <= stop if is_sale else price >= stop)

    def trades_at(self, price: Decimal) -> bool:
        """Whether the order trades at a market price of `price`: stop reached, limit kept."""
        waits = self.request.type in STOP_TYPES and not self.triggered
        return not waits and self.request.marketable_at(price)

    def document(self) -> Document:
        """Return the order with every key that Alpaca sends, in Alpaca's order, numbers as text."""
        request = self.request
        ended_at = {self.status: self.ended_at}
        return {
            "id": self.id,
            "client_order_id": request.client_order_id,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "submitted_at": self.created_at,
            "filled_at": ended_at.get(OrderStatus.FILLED),
            "expired_at": ended_at.get(OrderStatus.EXPIRED),
            "cancel_requested_at": self.cancel_requested_at,
            "canceled_at": ended_at.get(OrderStatus.CANCELED),
            "failed_at": ended_at.get(OrderStatus.REJECTED),
            "replaced_at": ended_at.get(OrderStatus.REPLACED),
            "replaced_by": self.replaced_by,
            "replaces": self.replaces,
            "asset_id": self.asset_id,
            "symbol": request.symbol,
            "asset_class": asset_class(request.symbol),
            "notional": number_text(request.notional),
            "qty": number_text(request.qty),
            "filled_qty": number_text(self.filled_qty),
            "filled_avg_price": number_text(self.filled_avg_price),
            "order_class": "",
            "order_type": request.type,
            "type": request.type,
            "side": request.side,
            "position_intent": request.position_intent or f"{request.side}_to_open",
            "time_in_force": request.time_in_force,
            "limit_price": number_text(request.limit_price),
            "stop_price": number_text(self.stop_price),
            "status": self.status.value,
            "extended_hours": request.extended_hours,
            "legs": None,
            "trail_percent": number_text(request.trail_percent),
            "trail_price": number_text(request.trail_price),
            "hwm": number_text(self.hwm),
            "expires_at": self.expires_at,
        }


def asset_class(symbol: str) -> str:
    """Return Alpaca's class of a symbol: a pair such as BTC/USD is crypto, any other a stock."""
    return "crypto" if "/" in symbol else "us_equity"


def usual_time_in_force(symbol: str) -> str:
    """Return how long a symbol's orders usually last. Alpaca has no day orders for crypto."""
    return "gtc" if asset_class(symbol) == "crypto" else "day"


def number_text(number: Decimal | None) -> str | None:
    """Format a number as Alpaca does: text, no exponent, no trailing zeros."""
    return None if number is None else f"{number.normalize():f}"


def parse_order(document: object) -> OrderRequest:
    """Parse the body of POST /v2/orders. Numbers may be JSON numbers or text. Raises ApiError."""
    fields = _read_fields(document)
    _reject_combined(fields)
    intent = "position_intent" in fields
    request = OrderRequest(
        symbol=_read_text(fields, "symbol").upper(),
        side=choice(fields, "side", SIDES),
        type=choice(fields, "type", TYPES),
        time_in_force=choice(fields, "time_in_force", TIMES_IN_FORCE),
        qty=read_number(fields, "qty"),
        notional=read_number(fields, "notional"),
        limit_price=read_number(fields, "limit_price"),
        stop_price=read_number(fields, "stop_price"),
        trail_price=read_number(fields, "trail_price"),
        trail_percent=read_number(fields, "trail_percent"),
        extended_hours=fields.get("extended_hours") is True,
        position_intent=choice(fields, "position_intent", POSITION_INTENTS) if intent else "",
        client_order_id=_read_text(fields, "client_order_id"),
    )
    check_order(request)
    return request


def check_order(request: OrderRequest) -> None:
    """Raise ApiError if a field is missing, or if it belongs to another type of order."""
    if not request.symbol:
        raise unprocessable("symbol is required")
    if (request.qty is None) == (request.notional is None):
        raise unprocessable("exactly one of qty or notional is required")
    if request.notional is not None and request.type != "market":
        raise unprocessable("notional orders must be market orders")
    _check_prices(request)


def _reject_combined(fields: Document) -> None:
    """Raise ApiError for an order with legs: without them it would be another order."""
    kind = fields.get("order_class", "")
    if kind in COMBINED_CLASSES:
        raise ApiError(422, 42210000, f"{kind} orders are not simulated")
    if kind not in ("", "simple"):
        raise unprocessable(f"order_class must be one of simple, {', '.join(COMBINED_CLASSES)}")
    for name in COMBINED_FIELDS:
        if name in fields:
            raise unprocessable(f"simple orders have no {name}")


def _check_prices(request: OrderRequest) -> None:
    for name, types in (("limit_price", LIMIT_TYPES), ("stop_price", FIXED_STOP_TYPES)):
        if (request.type in types) != (getattr(request, name) is not None):
            raise unprocessable(f"{' and '.join(types)} orders, and no others, have a {name}")
    absent = (request.trail_price, request.trail_percent).count(None)
    if absent != (1 if request.type == "trailing_stop" else 2):
        raise unprocessable(
            "trailing_stop orders, and no others, have one of trail_price and trail_percent"
        )
    if request.trail_percent is not None and request.trail_percent >= 100:
        raise unprocessable("trail_percent must be < 100")
    if request.type == "trailing_stop" and request.time_in_force not in ("day", "gtc"):
        raise unprocessable("trailing_stop orders must be day or gtc orders")


def parse_replacement(document: object) -> ReplaceRequest:
    """Parse the body of PATCH /v2/orders/{id}. Raises ApiError."""
    fields = _read_fields(document)
    has_time = "time_in_force" in fields
    return ReplaceRequest(
        qty=read_number(fields, "qty"),
        limit_price=read_number(fields, "limit_price"),
        stop_price=read_number(fields, "stop_price"),
        trail=read_number(fields, "trail"),
        time_in_force=choice(fields, "time_in_force", TIMES_IN_FORCE) if has_time else None,
        client_order_id=_read_text(fields, "client_order_id"),
    )


def parse_price(document: object) -> tuple[str, Decimal]:
    """Parse a symbol and its market price. Raises ApiError."""
    fields = _read_fields(document)
    symbol, price = _read_text(fields, "symbol").upper(), read_number(fields, "price")
    if not symbol or price is None:
        raise unprocessable("symbol and price are required")
    return symbol, price


def _read_fields(document: object) -> Document:
    if not isinstance(document, dict):
        raise unprocessable("request body must be a JSON object")
    return {name: value for name, value in document.items() if value is not None}


def choice(fields: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    """Return a field that must be one of `choices`. Raises ApiError if it is not."""
    if (value := fields.get(name)) not in choices:
        raise unprocessable(f"{name} must be one of {', '.join(choices)}")
    return str(value)


def read_number(fields: Mapping[str, Any], name: str) -> Decimal | None:
    """Return a positive number, from a JSON number or text; None if absent. Raises ApiError."""
    if name not in fields:
        return None
    number = parse_amount(str(fields[name]))
    if number is None or not SMALLEST <= number <= LARGEST:
        raise unprocessable(f"{name} must be > 0")
    return number


def _read_text(fields: Document, name: str) -> str:
    value = fields.get(name)
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise unprocessable(f"{name} must be at most {LONGEST_TEXT} characters long")
    return value if isinstance(value, str) else ""
