"""The fields of events, orders and positions that the book needs, read from Alpaca's JSON.

Nothing here raises for what Alpaca wrote: a field of another type counts as absent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Annotated, Any

from msgspec import DecodeError, Meta, Raw, Struct
from msgspec.json import Decoder, decode, encode
from msgspec.structs import astuple

from tradeproxy.wire.amount import parse_amount
from tradeproxy.wire.event import CLOSED_STATUSES, MAX_WORD_LENGTH, read_time

MAX_LEGS = 16
"""Legs of an order, and positions of an event, that are read. Alpaca allows four legs."""

NOTHING = Raw(b"")
_NO_QUANTITIES: Mapping[str, str] = MappingProxyType({})


class BookOrder(Struct, frozen=True, gc=False):
    """An order object of an event or of an answer. A field that it lacks is empty."""

    id: str
    client_order_id: str
    symbol: str
    status: str
    filled_qty: str
    submitted: int
    """Microseconds since 1970; 0 without `submitted_at` and `created_at`."""
    updated: int
    """Microseconds since 1970; 0 without `updated_at`."""
    side: str
    asset_id: str
    asset_class: str
    document: bytes
    reported: ReportedOrder
    legs: tuple[BookOrder, ...] = ()
    is_linked: bool = False
    """Whether it replaces another order, or is replaced by one."""

    @property
    def is_open(self) -> bool:
        """Whether the order itself can still change."""
        return self.status not in CLOSED_STATUSES

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols of the order and its legs, as Alpaca wrote them."""
        if not self.legs:
            return (self.symbol,) if self.symbol else ()
        found = (order.symbol for order in (self, *self.legs))
        return tuple(dict.fromkeys(symbol for symbol in found if symbol))


class LegFill(Struct, frozen=True, gc=False):
    """The part of one leg in a multi-leg fill."""

    order_id: str = ""
    symbol: str = ""
    qty: str = ""
    price: str = ""
    execution_id: str = ""
    previous_execution_id: str = ""


class BookEvent(Struct, frozen=True, gc=False):
    """The `data` of a trade update. A field that it lacks is empty.

    Amounts are text as Alpaca wrote it, and may be no numbers.
    """

    kind: str
    qty: str
    price: str
    position_qty: str
    position_qtys: Mapping[str, str]
    order: BookOrder | None
    legs: tuple[LegFill, ...]
    is_recovered: bool
    """Whether the frame has the mark of an event that is late, or was made of an order."""
    reported: ReportedEvent


Word = Annotated[str, Meta(max_length=MAX_WORD_LENGTH)]


class _Leg(Struct, gc=False):
    order_id: Word | None = None
    symbol: Word | None = None
    qty: Word | None = None
    price: Word | None = None
    execution_id: Word | None = None
    previous_execution_id: Word | None = None


class ReportedEvent(Struct, gc=False):
    """The `data` of a trade update as it came: a field of type Any has any JSON value."""

    # In the order in which Alpaca writes them: they are found sooner then.
    at: Word | None = None
    event_id: Word | None = None
    event: Word | None = None
    timestamp: Word | None = None
    order: Raw = NOTHING
    position_qty: Word | None = None
    price: Word | None = None
    qty: Word | None = None
    execution_id: Word | None = None
    previous_execution_id: Word | None = None
    position_qtys: dict[Word, Word] | None = None
    legs: list[_Leg] | None = None
    cum_qty: Any = None
    commission: Any = None
    fee: Any = None
    fees: Any = None


class _Frame(Struct, gc=False):
    data: ReportedEvent
    recovered: Any = None


class _RawFrame(Struct, gc=False):
    data: Raw = NOTHING


class ReportedOrder(Struct, gc=False):
    """An order object as it came: a field of type Any has any JSON value."""

    # In the order in which Alpaca writes them: they are found sooner then.
    id: Word
    client_order_id: Word | None = None
    created_at: Word | None = None
    updated_at: Word | None = None
    submitted_at: Word | None = None
    replaced_by: Any = None
    replaces: Word | None = None
    asset_id: Word | None = None
    symbol: Word | None = None
    asset_class: Word | None = None
    filled_qty: Word | None = None
    filled_avg_price: Any = None
    order_class: Word | None = None
    side: Word | None = None
    status: Word | None = None
    legs: list[Raw] | None = None
    ratio_qty: Any = None
    multiplier: Any = None


# Every number that stays one is text as Alpaca wrote it.
_FRAME = Decoder(_Frame, float_hook=str)
_RAW_FRAME = Decoder(_RawFrame)
_ORDER = Decoder(ReportedOrder, float_hook=str)
_WORDS_OF_ORDER = [name for name in ReportedOrder.__struct_fields__ if name != "legs"]
_WORDS_OF_DATA = [
    name
    for name in ReportedEvent.__struct_fields__
    if name not in ("position_qtys", "order", "legs")
]


def normalize_symbol(symbol: str) -> str:
    """Return a symbol as positions and filters compare it: upper case, without the slash."""
    return symbol.replace("/", "").upper()


# An event's position is parsed for the position and for the strategy, and with the next event.
parse_number = lru_cache(maxsize=1024)(parse_amount)
"""Return a number within the bounds of wire/amount.py; None for any other text.

The text is kept for a while: it should have MAX_WORD_LENGTH characters at most."""


# When an order was submitted is in each of its events, and a fill has the time of its order.
parse_time = lru_cache(maxsize=1024)(read_time)
"""Return a time as microseconds since 1970; None if it is none. As `parse_number` for the text."""


def read_event(payload: bytes) -> BookEvent | None:
    """Return the fields of a frame of the stream; None if it has no object in `data`."""
    try:
        frame = _FRAME.decode(payload)
    except (DecodeError, RecursionError):
        loaded = _load_loosely(payload)
        if not isinstance(loaded.get("data"), dict):
            return None
        frame = _Frame(_clean_data(loaded["data"]), loaded.get("recovered"))
    data = frame.data
    return BookEvent(
        data.event or "",
        data.qty or "",
        data.price or "",
        data.position_qty or "",
        _take_first(data.position_qtys or _NO_QUANTITIES),
        read_order(bytes(data.order)) if data.order else None,
        () if data.legs is None else tuple(map(_read_leg, data.legs[:MAX_LEGS])),
        bool(frame.recovered),
        data,
    )


def _take_first(quantities: Mapping[str, str]) -> Mapping[str, str]:
    if len(quantities) <= MAX_LEGS:
        return quantities
    return dict(islice(quantities.items(), MAX_LEGS))


def _read_leg(leg: _Leg) -> LegFill:
    return LegFill(*(word or "" for word in astuple(leg)))


def read_data(payload: bytes) -> bytes:
    """Return the `data` object of a frame as JSON; `{}` if there is none."""
    try:
        return bytes(_RAW_FRAME.decode(payload).data) or b"{}"
    except (DecodeError, RecursionError):
        return encode(_load_loosely(payload).get("data") or {})


def read_order(document: bytes) -> BookOrder | None:
    """Return the fields of an order object and its legs; None without an id."""
    return _read_order(document, MAX_LEGS)


def _read_order(document: bytes, max_legs: int) -> BookOrder | None:
    try:
        order = _ORDER.decode(document)
    except (DecodeError, RecursionError):
        fields = _load_loosely(document)
        document = encode(fields)
        order = _clean_order(fields)
    if not order.id:
        return None
    return BookOrder(
        order.id,
        order.client_order_id or "",
        order.symbol or "",
        order.status or "",
        order.filled_qty or "0",
        parse_time(order.submitted_at) or parse_time(order.created_at) or 0,
        parse_time(order.updated_at) or 0,
        order.side or "",
        order.asset_id or "",
        order.asset_class or "",
        document,
        order,
        _read_legs(order.legs[:max_legs]) if order.legs else (),
        bool(order.replaces or order.replaced_by),
    )


def _read_legs(legs: list[Raw]) -> tuple[BookOrder, ...]:
    # A leg has no legs at Alpaca. With those, each level would be a copy of all levels below it.
    return tuple(order for leg in legs if (order := _read_order(bytes(leg), 0)) is not None)


# What msgspec or the types above reject: a number instead of text, NaN, a long word.


def _load_loosely(document: bytes) -> dict[str, Any]:
    """Return an object that Python's parser accepts; an empty one for anything else.

    A lone surrogate is a question mark: neither JSON in UTF-8 nor a table can have it.
    """
    try:
        loaded = json.loads(document, parse_int=str, parse_float=str, parse_constant=str)
        if b"\\u" in document or not document.isascii():
            text = json.dumps(loaded, ensure_ascii=False)
            loaded = decode(text.encode("utf-8", "replace"))
    except (ValueError, RecursionError, DecodeError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _clean_data(data: dict[str, Any]) -> ReportedEvent:
    legs, quantities, order = (data.get(name) for name in ("legs", "position_qtys", "order"))
    pairs = quantities.items() if isinstance(quantities, dict) else ()
    return ReportedEvent(
        **_clean_words(data, _WORDS_OF_DATA),
        position_qtys={symbol: _clean(qty) for symbol, qty in pairs if _clean(symbol)},
        order=Raw(encode(order)) if isinstance(order, dict) else NOTHING,
        legs=[
            _Leg(**_clean_words(leg, _Leg.__struct_fields__))
            for leg in (legs[:MAX_LEGS] if isinstance(legs, list) else ())
            if isinstance(leg, dict)
        ],
    )


def _clean_order(order: dict[str, Any]) -> ReportedOrder:
    legs = order.get("legs")
    return ReportedOrder(
        **_clean_words(order, _WORDS_OF_ORDER),
        legs=[Raw(encode(leg)) for leg in legs[:MAX_LEGS]] if isinstance(legs, list) else None,
    )


def _clean_words(fields: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: _clean(fields.get(name)) for name in names}


def _clean(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= MAX_WORD_LENGTH else ""


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
    try:
        loaded = decode(document)
    except (DecodeError, RecursionError):
        return _load_loosely(document)
    return loaded if isinstance(loaded, dict) else {}
