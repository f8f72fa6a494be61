"""Orders as values: requests, their current state, and the JSON of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from tradeproxy.simulator.clock import nanoseconds
from tradeproxy.simulator.errors import unprocessable
from tradeproxy.wire.amount import parse_amount

if TYPE_CHECKING:
    from collections.abc import Mapping

Document: TypeAlias = dict[str, Any]
"""A JSON object."""

SIDES = ("buy", "sell")
TYPES = ("market", "limit")
STOP_TYPES = ("stop", "stop_limit", "trailing_stop")
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

    `limit_price` is None for a market order.
    """

    symbol: str
    side: str
    type: str
    time_in_force: str
    qty: Decimal | None = None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    client_order_id: str = ""

    def marketable_at(self, price: Decimal) -> bool:
        """Whether the order trades immediately at a market price of `price`."""
        if self.limit_price is None:
            return True
        return self.limit_price >= price if self.side == "buy" else self.limit_price <= price


@dataclass(frozen=True, slots=True)
class ReplaceRequest:
    """A request to replace an order; None keeps a field."""

    qty: Decimal | None = None
    limit_price: Decimal | None = None
    time_in_force: str | None = None
    client_order_id: str = ""

    def applied_to(self, request: OrderRequest) -> OrderRequest:
        """Return `request` with these changes: the request for the new order."""
        return replace(
            request,
            qty=self.qty or request.qty,
            limit_price=self.limit_price or request.limit_price,
            time_in_force=self.time_in_force or request.time_in_force,
            client_order_id=self.client_order_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order and its state. Times are RFC 3339 text; `ended_at` is None while it is open."""

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

    def submitted_between(self, after: int | None, until: int | None) -> bool:
        """Whether the order was submitted between two times, exclusive.

        Both are nanoseconds since 1970, or None for no limit.
        """
        time = nanoseconds(self.created_at) or 0
        return (after is None or time > after) and (until is None or time < until)

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
            "asset_class": "crypto" if "/" in request.symbol else "us_equity",
            "notional": number_text(request.notional),
            "qty": number_text(request.qty),
            "filled_qty": number_text(self.filled_qty),
            "filled_avg_price": number_text(self.filled_avg_price),
            "order_class": "",
            "order_type": request.type,
            "type": request.type,
            "side": request.side,
            "position_intent": f"{request.side}_to_open",
            "time_in_force": request.time_in_force,
            "limit_price": number_text(request.limit_price),
            "stop_price": None,
            "status": self.status.value,
            "extended_hours": False,
            "legs": None,
            "trail_percent": None,
            "trail_price": None,
            "hwm": None,
            "expires_at": self.expires_at,
        }


def number_text(number: Decimal | None) -> str | None:
    """Format a number as Alpaca does: text, no exponent, no trailing zeros."""
    return None if number is None else f"{number.normalize():f}"


def parse_order(document: object) -> OrderRequest:
    """Parse the body of POST /v2/orders. Numbers may be JSON numbers or text. Raises ApiError."""
    fields = _read_fields(document)
    if fields.get("type") in STOP_TYPES:
        raise unprocessable("stop orders are not simulated")
    request = OrderRequest(
        symbol=_read_text(fields, "symbol").upper(),
        side=choice(fields, "side", SIDES),
        type=choice(fields, "type", TYPES),
        time_in_force=choice(fields, "time_in_force", TIMES_IN_FORCE),
        qty=_read_number(fields, "qty"),
        notional=_read_number(fields, "notional"),
        limit_price=_read_number(fields, "limit_price"),
        client_order_id=_read_text(fields, "client_order_id"),
    )
    if not request.symbol:
        raise unprocessable("symbol is required")
    if (request.qty is None) == (request.notional is None):
        raise unprocessable("exactly one of qty or notional is required")
    if request.notional is not None and request.type != "market":
        raise unprocessable("notional orders must be market orders")
    if (request.type == "limit") != (request.limit_price is not None):
        raise unprocessable("limit orders, and no others, have a limit_price")
    return request


def parse_replacement(document: object) -> ReplaceRequest:
    """Parse the body of PATCH /v2/orders/{id}. Raises ApiError."""
    fields = _read_fields(document)
    return ReplaceRequest(
        qty=_read_number(fields, "qty"),
        limit_price=_read_number(fields, "limit_price"),
        time_in_force=choice(fields, "time_in_force", TIMES_IN_FORCE)
        if "time_in_force" in fields
        else None,
        client_order_id=_read_text(fields, "client_order_id"),
    )


def _read_fields(document: object) -> Document:
    if not isinstance(document, dict):
        raise unprocessable("request body must be a JSON object")
    return {name: value for name, value in document.items() if value is not None}


def choice(fields: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    """Return a field that must be one of `choices`. Raises ApiError if it is not."""
    if (value := fields.get(name)) not in choices:
        raise unprocessable(f"{name} must be one of {', '.join(choices)}")
    return str(value)


def _read_number(fields: Document, name: str) -> Decimal | None:
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
