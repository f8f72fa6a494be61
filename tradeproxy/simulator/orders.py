"""Orders as values: what a client asks for, what became of it, and the JSON of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from tradeproxy.simulator.clock import nanoseconds
from tradeproxy.simulator.errors import unprocessable

if TYPE_CHECKING:
    from collections.abc import Mapping

Document: TypeAlias = dict[str, Any]
"""A JSON object, ready to be written."""

SIDES = ("buy", "sell")
TYPES = ("market", "limit")
STOP_TYPES = ("stop", "stop_limit", "trailing_stop")
TIMES_IN_FORCE = ("day", "gtc", "ioc", "fok", "opg", "cls")
SMALLEST, LARGEST = Decimal("1e-9"), Decimal("1e12")
"""The range of quantities and prices; without it, "1e999999999" would be a gigabyte of digits."""

LONGEST_TEXT = 128
"""In characters; the length of a client_order_id at Alpaca."""


class OrderStatus(Enum):
    """Where an order stands, in Alpaca's words."""

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
        """Whether something can still happen to the order."""
        return self in (OrderStatus.PENDING_NEW, OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """What a client asks for. One of `qty` and `notional` is set; without a limit price any price will do."""

    symbol: str
    side: str
    type: str
    time_in_force: str
    qty: Decimal | None = None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    client_order_id: str = ""

    def marketable_at(self, price: Decimal) -> bool:
        """Whether the order trades at once while the market is at `price`."""
        if self.limit_price is None:
            return True
        return self.limit_price >= price if self.side == "buy" else self.limit_price <= price


@dataclass(frozen=True, slots=True)
class ReplaceRequest:
    """What a client wants changed; None leaves a field as it was."""

    qty: Decimal | None = None
    limit_price: Decimal | None = None
    time_in_force: str | None = None
    client_order_id: str = ""

    def applied_to(self, request: OrderRequest) -> OrderRequest:
        """Return the request for the order that takes the place of the one that `request` made."""
        return replace(
            request,
            qty=self.qty or request.qty,
            limit_price=self.limit_price or request.limit_price,
            time_in_force=self.time_in_force or request.time_in_force,
            client_order_id=self.client_order_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order and what has become of it. Times are RFC 3339 text; `ended_at` is None while it is open."""

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
        """Whether the order came after one time and before another; nanoseconds since 1970, None for any."""
        time = nanoseconds(self.created_at) or 0
        return (after is None or time > after) and (until is None or time < until)

    def document(self) -> Document:
        """Write the order with every key that Alpaca sends, in Alpaca's order, numbers as text."""
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
    """Write a number as Alpaca does: text, plain digits, no needless zeros."""
    return None if number is None else f"{number.normalize():f}"


def parse_order(document: object) -> OrderRequest:
    """Read the body of POST /v2/orders, or raise a Refusal; numbers may be JSON numbers or text."""
    fields = _fields(document)
    if fields.get("type") in STOP_TYPES:
        raise unprocessable("stop orders are not simulated")
    request = OrderRequest(
        symbol=_text(fields, "symbol").upper(),
        side=choice(fields, "side", SIDES),
        type=choice(fields, "type", TYPES),
        time_in_force=choice(fields, "time_in_force", TIMES_IN_FORCE),
        qty=_number(fields, "qty"),
        notional=_number(fields, "notional"),
        limit_price=_number(fields, "limit_price"),
        client_order_id=_text(fields, "client_order_id"),
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
    """Read the body of PATCH /v2/orders/{id}, or raise a Refusal."""
    fields = _fields(document)
    return ReplaceRequest(
        qty=_number(fields, "qty"),
        limit_price=_number(fields, "limit_price"),
        time_in_force=choice(fields, "time_in_force", TIMES_IN_FORCE)
        if "time_in_force" in fields
        else None,
        client_order_id=_text(fields, "client_order_id"),
    )


def _fields(document: object) -> Document:
    if not isinstance(document, dict):
        raise unprocessable("request body must be a JSON object")
    return {name: value for name, value in document.items() if value is not None}


def choice(fields: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    """Return a field that has to be one of some words, or raise a Refusal."""
    if (value := fields.get(name)) not in choices:
        raise unprocessable(f"{name} must be one of {', '.join(choices)}")
    return str(value)


def _number(fields: Document, name: str) -> Decimal | None:
    if name not in fields:
        return None
    try:
        number = Decimal(str(fields[name]))
    except InvalidOperation:
        number = Decimal("NaN")
    if number.is_nan() or not SMALLEST <= number <= LARGEST:
        raise unprocessable(f"{name} must be > 0")
    return number


def _text(fields: Document, name: str) -> str:
    value = fields.get(name)
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise unprocessable(f"{name} must be at most {LONGEST_TEXT} characters long")
    return value if isinstance(value, str) else ""
