"""Orders as values: what a client asks for, what became of it, and the JSON of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, TypeAlias

Document: TypeAlias = dict[str, Any]
"""A JSON object, ready to be written."""


class Status(Enum):
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
        return self in (Status.PENDING_NEW, Status.NEW, Status.PARTIALLY_FILLED)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What Alpaca answers in place of what was asked: an HTTP status, its own code, and a sentence."""

    status: int
    code: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the client asks for. Exactly one of `qty` and `notional` is set."""

    symbol: str
    side: str
    type: str
    time_in_force: str
    qty: Decimal | None = None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    extended_hours: bool = False
    position_intent: str = ""
    client_order_id: str = ""

    def marketable_at(self, price: Decimal) -> bool:
        """Whether an order on these terms trades at once while the market is at `price`."""
        if self.type == "market":
            return True
        if self.type != "limit" or self.limit_price is None:
            return False
        return self.limit_price >= price if self.side == "buy" else self.limit_price <= price


@dataclass(frozen=True, slots=True)
class Amendment:
    """The terms that a PATCH changes; None leaves one as it was."""

    qty: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: str | None = None
    client_order_id: str = ""

    def applied_to(self, terms: Terms) -> Terms:
        """Return the terms of the order that takes the place of one with `terms`."""
        return replace(
            terms,
            qty=self.qty or terms.qty,
            limit_price=self.limit_price or terms.limit_price,
            stop_price=self.stop_price or terms.stop_price,
            time_in_force=self.time_in_force or terms.time_in_force,
            client_order_id=self.client_order_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order and what has become of it. Times are RFC 3339 text, empty prices and times None."""

    id: str
    asset_id: str
    terms: Terms
    status: Status
    created_at: str
    updated_at: str
    submitted_at: str
    expires_at: str
    filled_qty: Decimal = Decimal(0)
    filled_avg_price: Decimal | None = None
    filled_at: str | None = None
    expired_at: str | None = None
    cancel_requested_at: str | None = None
    canceled_at: str | None = None
    failed_at: str | None = None
    replaced_at: str | None = None
    replaced_by: str | None = None
    replaces: str | None = None

    def document(self) -> Document:
        """Write the order with every key that Alpaca sends, in Alpaca's order, numbers as text."""
        terms = self.terms
        return {
            "id": self.id,
            "client_order_id": terms.client_order_id,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "submitted_at": self.submitted_at,
            "filled_at": self.filled_at,
            "expired_at": self.expired_at,
            "cancel_requested_at": self.cancel_requested_at,
            "canceled_at": self.canceled_at,
            "failed_at": self.failed_at,
            "replaced_at": self.replaced_at,
            "replaced_by": self.replaced_by,
            "replaces": self.replaces,
            "asset_id": self.asset_id,
            "symbol": terms.symbol,
            "asset_class": "crypto" if "/" in terms.symbol else "us_equity",
            "notional": number_text(terms.notional),
            "qty": number_text(terms.qty),
            "filled_qty": number_text(self.filled_qty),
            "filled_avg_price": number_text(self.filled_avg_price),
            "order_class": "",
            "order_type": terms.type,
            "type": terms.type,
            "side": terms.side,
            "position_intent": terms.position_intent,
            "time_in_force": terms.time_in_force,
            "limit_price": number_text(terms.limit_price),
            "stop_price": number_text(terms.stop_price),
            "status": self.status.value,
            "extended_hours": terms.extended_hours,
            "legs": None,
            "trail_percent": None,
            "trail_price": None,
            "hwm": None,
            "expires_at": self.expires_at,
        }


def number_text(number: Decimal | None) -> str | None:
    """Write a number as Alpaca does: text, plain digits, no needless zeros."""
    return None if number is None else f"{number.normalize():f}"


SIDES = ("buy", "sell")
TIMES_IN_FORCE = ("day", "gtc", "ioc", "fok", "opg", "cls")
TYPES = ("market", "limit", "stop", "stop_limit")
SMALLEST, LARGEST = Decimal("1e-9"), Decimal("1e12")
"""The range of quantities and prices; without it, "1e999999999" would be a gigabyte of digits."""

_LIMITED = ("limit", "stop_limit")
_STOPPED = ("stop", "stop_limit")


def parse_terms(document: object) -> Terms | Refusal:
    """Read the body of POST /v2/orders; numbers may be JSON numbers or text."""
    terms = _read_terms(document)
    return bad_input(terms) if isinstance(terms, str) else terms


def parse_amendment(document: object) -> Amendment | Refusal:
    """Read the body of PATCH /v2/orders/{id}."""
    if not isinstance(document, dict):
        return bad_input("request body must be a JSON object")
    for name in ("qty", "limit_price", "stop_price"):
        if document.get(name) is not None and _positive(document[name]) is None:
            return bad_input(f"{name} must be > 0")
    time_in_force = document.get("time_in_force")
    if time_in_force not in (None, *TIMES_IN_FORCE):
        return bad_input("invalid time_in_force")
    return Amendment(
        qty=_positive(document.get("qty")),
        limit_price=_positive(document.get("limit_price")),
        stop_price=_positive(document.get("stop_price")),
        time_in_force=time_in_force,
        client_order_id=_text(document.get("client_order_id")),
    )


def bad_input(message: str) -> Refusal:
    """Refuse a request that cannot be understood, as Alpaca does."""
    return Refusal(422, 40010001, message)


def _read_terms(document: object) -> Terms | str:
    if not isinstance(document, dict):
        return "request body must be a JSON object"
    terms = Terms(
        symbol=_text(document.get("symbol")).upper(),
        side=_text(document.get("side")),
        type=_text(document.get("type")),
        time_in_force=_text(document.get("time_in_force")),
        qty=_positive(document.get("qty")),
        notional=_positive(document.get("notional")),
        limit_price=_positive(document.get("limit_price")),
        stop_price=_positive(document.get("stop_price")),
        extended_hours=document.get("extended_hours") is True,
        position_intent=_text(document.get("position_intent")),
        client_order_id=_text(document.get("client_order_id")),
    )
    asked_for = [name for name in ("qty", "notional") if document.get(name) is not None]
    problems = (
        (not terms.symbol, "symbol is required"),
        (len(asked_for) != 1, "exactly one of qty or notional is required"),
        (terms.qty is None and terms.notional is None, f"{'/'.join(asked_for)} must be > 0"),
        (terms.side not in SIDES, "invalid side"),
        (terms.type not in TYPES, "invalid order type"),
        (terms.time_in_force not in TIMES_IN_FORCE, "invalid time_in_force"),
        (terms.notional is not None and terms.type != "market", "notional orders must be market orders"),
        (
            terms.type in _LIMITED and terms.limit_price is None,
            f"{terms.type} orders require a limit_price > 0",
        ),
        (
            terms.type in _STOPPED and terms.stop_price is None,
            f"{terms.type} orders require a stop_price > 0",
        ),
    )
    return next((problem for is_so, problem in problems if is_so), terms)


def _positive(value: object) -> Decimal | None:
    # bool is an int; json.loads also yields NaN and Infinity.
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and SMALLEST <= number <= LARGEST else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
