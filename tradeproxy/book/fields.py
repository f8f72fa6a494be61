"""The fields of events, orders and positions that the book needs, read from Alpaca's JSON.

Nothing here raises for what Alpaca wrote: a field of another type counts as absent.
"""

from __future__ import annotations

import json
from typing import Any

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder, encode

from tradeproxy.wire.amount import parse_amount, read_float, read_int
from tradeproxy.wire.event import CLOSED_STATUSES, MAX_WORD_LENGTH, read_time

MAX_LEGS = 16
"""Legs of an order that are read. Alpaca allows four."""

NOTHING = Raw(b"")


class OrderFields(Struct, frozen=True, gc=False):
    """An order object of an event or of an answer."""

    id: str
    client_order_id: str
    symbol: str
    status: str
    filled_qty: str
    submitted: int
    updated: int
    """Microseconds since 1970; 0 without `updated_at`."""
    side: str
    asset_id: str
    asset_class: str
    document: bytes
    legs: tuple[OrderFields, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether the order itself can still change."""
        return self.status not in CLOSED_STATUSES


class LegFill(Struct, frozen=True, gc=False):
    """The part of one leg in a multi-leg fill."""

    order_id: str
    symbol: str
    qty: str
    price: str


class EventFields(Struct, frozen=True, gc=False):
    """The `data` of a trade update. Amounts are empty if the event has none."""

    kind: str
    time: int | None
    qty: str
    price: str
    position_qty: str
    position_qtys: tuple[tuple[str, str], ...]
    order: OrderFields | None
    legs: tuple[LegFill, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols of the order and its legs, as Alpaca wrote them."""
        if self.order is None:
            return ()
        if not self.order.legs:
            return (self.order.symbol,) if self.order.symbol else ()
        found = (order.symbol for order in (self.order, *self.order.legs))
        return tuple(dict.fromkeys(symbol for symbol in found if symbol))


class _Data(Struct, gc=False):
    event: Any = None
    at: Any = None
    timestamp: Any = None
    qty: Any = None
    price: Any = None
    position_qty: Any = None
    position_qtys: Any = None
    order: Raw = NOTHING
    legs: Any = None


class _Frame(Struct, gc=False):
    data: _Data


class _RawFrame(Struct, gc=False):
    data: Raw = NOTHING


class _Order(Struct, gc=False):
    id: Any = None
    client_order_id: Any = None
    symbol: Any = None
    status: Any = None
    filled_qty: Any = None
    submitted_at: Any = None
    created_at: Any = None
    updated_at: Any = None
    side: Any = None
    asset_id: Any = None
    asset_class: Any = None
    legs: Raw = NOTHING


_FRAME = Decoder(_Frame, float_hook=str)
_RAW_FRAME = Decoder(_RawFrame)
_ORDER = Decoder(_Order, float_hook=str)
_LEGS = Decoder(list[Raw])


def normalize_symbol(symbol: str) -> str:
    """Return a symbol as positions and filters compare it: upper case, without the slash."""
    return symbol.replace("/", "").upper()


def read_event(payload: bytes) -> EventFields | None:
    """Return the fields of a frame of the stream; None if it has no object in `data`."""
    try:
        data = _FRAME.decode(payload).data
    except (DecodeError, RecursionError):
        return _read_loosely(payload)
    order = None if data.order in (b"", b"null") else read_order(bytes(data.order))
    return EventFields(
        data.event if isinstance(data.event, str) else "",
        read_time(data.at) or read_time(data.timestamp),
        _read_amount(data.qty),
        _read_amount(data.price),
        _read_amount(data.position_qty),
        _read_quantities(data.position_qtys),
        order,
        () if data.legs is None else _read_leg_fills(data.legs),
    )


def _read_loosely(payload: bytes) -> EventFields | None:
    """Read a frame that only Python's parser accepts, such as one with NaN in it."""
    try:
        frame = json.loads(payload, parse_int=read_int, parse_float=read_float, parse_constant=str)
        plain = encode(frame)
        return None if plain == payload else read_event(plain)
    except (ValueError, RecursionError, TypeError):
        return None


def read_data(payload: bytes) -> bytes:
    """Return the `data` object of a frame as JSON; `{}` if there is none."""
    try:
        return bytes(_RAW_FRAME.decode(payload).data) or b"{}"
    except (DecodeError, RecursionError):
        return b"{}"


def read_order(document: bytes) -> OrderFields | None:
    """Return the fields of an order object; None without an id."""
    try:
        order = _ORDER.decode(document)
    except (DecodeError, RecursionError):
        return None
    if not (order_id := _read_word(order.id)):
        return None
    legs: tuple[OrderFields, ...] = ()
    if order.legs not in (b"", b"null", b"[]"):
        legs = _read_legs(bytes(order.legs))
    submitted = read_time(order.submitted_at) or read_time(order.created_at) or 0
    return OrderFields(
        order_id,
        _read_word(order.client_order_id),
        _read_word(order.symbol),
        _read_word(order.status),
        _read_amount(order.filled_qty) or "0",
        submitted,
        read_time(order.updated_at) or 0,
        _read_word(order.side),
        _read_word(order.asset_id),
        _read_word(order.asset_class),
        document,
        legs,
    )


def find_order(payload: bytes, order_id: str) -> bytes | None:
    """Return the JSON of an order in a frame: its order, or a leg of that; None if it has none."""
    event = read_event(payload)
    if event is None or event.order is None:
        return None
    for order in (event.order, *event.order.legs):
        if order.id == order_id:
            return order.document
    return None


def with_legs(document: bytes, legs: list[bytes]) -> bytes:
    """Return an order object with these objects in `legs`."""
    order = _load(document)
    order["legs"] = [_load(leg) for leg in legs] if legs else None
    return encode(order)


def _load(document: bytes) -> dict[str, Any]:
    loaded = json.loads(document, parse_int=read_int, parse_float=read_float)
    return loaded if isinstance(loaded, dict) else {}


def _read_legs(document: bytes) -> tuple[OrderFields, ...]:
    try:
        legs = _LEGS.decode(document)
    except (DecodeError, RecursionError):
        return ()
    return tuple(order for leg in legs[:MAX_LEGS] if (order := read_order(bytes(leg))) is not None)


def _read_leg_fills(value: Any) -> tuple[LegFill, ...]:
    legs = value[:MAX_LEGS] if isinstance(value, list) else []
    return tuple(
        LegFill(
            _read_word(leg.get("order_id")),
            _read_word(leg.get("symbol")),
            _read_amount(leg.get("qty")),
            _read_amount(leg.get("price")),
        )
        for leg in legs
        if isinstance(leg, dict)
    )


def _read_quantities(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        return ()
    items = ((_read_word(symbol), _read_amount(qty)) for symbol, qty in value.items())
    return tuple((symbol, qty) for symbol, qty in items if symbol and qty)[:MAX_LEGS]


def _read_word(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= MAX_WORD_LENGTH else ""


def _read_amount(value: Any) -> str:
    """Return an amount as Alpaca wrote it; "" if it is no number within the bounds."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = _read_word(value)
    return text if text and parse_amount(text) is not None else ""
