"""What the book per strategy needs of an event or of an activity of Alpaca's. Pure.

Nothing here raises for what Alpaca wrote. A field of another type counts as absent; an execution
that cannot be booked for that reason says why in `problem`. A lone surrogate is a question mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any

from msgspec import Struct

from tradeproxy.book.fields import (
    BookEvent,
    BookOrder,
    normalize_symbol,
    parse_number,
    parse_time,
)
from tradeproxy.book.lots import EXACT, ONE, ZERO
from tradeproxy.wire.event import MAX_WORD_LENGTH, read_time
from tradeproxy.wire.printable import replace_surrogates

MULTI_LEG = "mleg"
"""The order_class of an order whose fills are those of its legs."""

MAX_LEGS = 16
"""Legs that are read. Alpaca allows four."""

FEES = ("commission", "fee", "fees")
"""The fields in which an event or an activity can carry what it cost. Alpaca's fills have none."""

OPTION_MULTIPLIER = Decimal(100)

# To look up a method of a context takes longer than to call it.
_minus, _normalize = EXACT.minus, EXACT.normalize

# The OCC's form: root, date, call or put, strike.
_OPTION = re.compile(r"[A-Z][A-Z0-9.]{0,5}[0-9]{6}[CP][0-9]{8}")

SIDES = {
    "buy": 1,
    "buy_minus": 1,
    "sell": -1,
    "sell_plus": -1,
    "sell_short": -1,
    "sell_short_exempt": -1,
}
"""The sign of a quantity by its side. Activities of short sales have sides of their own."""


class Kind(Enum):
    """What an execution does."""

    FILL = "fill"
    BUST = "trade_bust"
    CORRECT = "trade_correct"


_KINDS = {
    "fill": Kind.FILL,
    "partial_fill": Kind.FILL,
    "trade_bust": Kind.BUST,
    "trade_correct": Kind.CORRECT,
}


class OrderLinks(Struct, frozen=True, gc=False):
    """What says which strategy an order belongs to. "" stands for none."""

    id: str
    client_order_id: str = ""
    parent_id: str = ""
    """The order under which it is a leg."""
    replaces: str = ""
    """The order that it replaced."""


class Execution(Struct, frozen=True, gc=False):
    """A fill of an order or of a leg, or the cancellation or correction of one."""

    kind: Kind
    order_id: str
    execution: str
    """Its id; "" without one."""
    previous: str
    """The id of the execution that an amendment names; "" without one."""
    event_id: str
    time: int
    """Microseconds since 1970."""
    symbol: str
    """As Alpaca's positions have it: BTCUSD for BTC/USD."""
    asset_class: str
    qty: Decimal
    """Negative if sold."""
    price: Decimal
    multiplier: Decimal
    fee: Decimal
    filled: str
    """How much of the order is filled with it, normalized; "" if that is not known."""
    problem: str = ""
    """Why it cannot be booked; "" if it can."""
    position: Decimal | None = None
    """The account's position after it; None if the report does not say."""


class StrategyEvent(Struct, frozen=True, gc=False):
    """An event as the book per strategy sees it."""

    orders: tuple[OrderLinks, ...]
    """The orders whose links matter: filled ones, and all that are linked."""
    executions: tuple[Execution, ...]


NOTHING = StrategyEvent((), ())


def read_strategy_event(event: BookEvent, time: int) -> StrategyEvent:
    """Return what an event changes.

    `time` is that of an event without a time of its own (microseconds since 1970).
    """
    order, kind = event.order, _KINDS.get(event.kind)
    if order is None or not (kind is not None or order.legs or order.is_linked):
        return NOTHING
    orders = (
        OrderLinks(order.id, order.client_order_id, "", order.reported.replaces or ""),
        *(OrderLinks(leg.id, leg.client_order_id, order.id) for leg in order.legs),
    )
    if kind is None:
        return StrategyEvent(orders, ())
    # The time of the execution, as in Alpaca's activities. `at` is some milliseconds later.
    reported = event.reported
    moment = parse_time(reported.timestamp) or parse_time(reported.at) or time
    if event.legs:
        return StrategyEvent(orders, tuple(_read_legs(kind, event, order, moment)))
    if order.legs and order.reported.order_class == MULTI_LEG:
        return StrategyEvent(orders, tuple(_derive_legs(kind, event, order, moment)))
    # The legs of a bracket have events of their own.
    return StrategyEvent(orders, (_read_whole(kind, event, order, moment),))


def read_activity(document: Any) -> Execution | None:
    """Return the fill in an element of GET /v2/account/activities/FILL; None if it is none."""
    if not isinstance(document, dict):
        return None
    time, order_id = read_time(document.get("transaction_time")), _word(document.get("order_id"))
    if time is None or not order_id or document.get("type") not in ("fill", "partial_fill"):
        return None
    terms = _make_terms(
        _word(document.get("symbol")),
        _word(document.get("asset_class")),
        _number(document.get("multiplier")),
        _word(document.get("side")),
    )
    return _build(
        Kind.FILL,
        order_id,
        _Ids("", "", _word(document.get("id"))),
        time,
        terms,
        (document.get("qty"), document.get("price"), document.get("cum_qty")),
        _read_fee(*(document.get(name) for name in FEES)),
    )


def read_order_links(document: Any, parent_id: str = "") -> Iterator[OrderLinks]:
    """Yield the links of an order object of Alpaca's REST API, and of the orders nested in it."""
    if not isinstance(document, dict) or not (order_id := _word(document.get("id"))):
        return
    yield OrderLinks(
        order_id,
        _word(document.get("client_order_id")),
        parent_id,
        _word(document.get("replaces")),
    )
    if not parent_id:
        for leg in _list(document.get("legs")):
            yield from read_order_links(leg, order_id)


def _read_whole(kind: Kind, event: BookEvent, order: BookOrder, time: int) -> Execution:
    reported = event.reported
    return _build(
        kind,
        order.id,
        _Ids(
            reported.execution_id or "",
            reported.previous_execution_id or "",
            reported.event_id or "",
        ),
        time,
        _read_terms(order, order.symbol),
        (
            event.qty,
            event.price or order.reported.filled_avg_price,
            reported.cum_qty or order.reported.filled_qty,
        ),
        _read_fee(reported.commission, reported.fee, reported.fees),
        _number(event.position_qty),
    )


def _read_legs(kind: Kind, event: BookEvent, order: BookOrder, time: int) -> Iterator[Execution]:
    """Yield the parts of a multi-leg execution. Only the legs of the order have a side."""
    by_id = {leg.id: leg for leg in order.legs}
    reported = event.reported
    fee = _read_fee(reported.commission, reported.fee, reported.fees)
    for each in event.legs:
        leg = by_id.get(each.order_id)
        filled = None if leg is None else leg.reported.filled_qty
        yield _build(
            kind,
            each.order_id,
            _Ids(each.execution_id, each.previous_execution_id, reported.event_id or ""),
            time,
            _read_terms(leg, each.symbol or ("" if leg is None else leg.symbol)),
            (each.qty, each.price, filled),
            fee,
        )
        fee = ZERO  # it is of the whole


def _derive_legs(kind: Kind, event: BookEvent, order: BookOrder, time: int) -> Iterator[Execution]:
    """Yield the legs of a multi-leg fill that does not report them: one made of the order alone."""
    qty, filled = (_number(each) for each in (event.qty, event.reported.cum_qty))
    for leg in order.legs:
        ratio = _number(leg.reported.ratio_qty) or ONE
        amounts = (
            None if qty is None else str(EXACT.multiply(qty, ratio)),
            leg.reported.filled_avg_price,
            None if filled is None else str(EXACT.multiply(filled, ratio)),
        )
        ids = _Ids("", "", event.reported.event_id or "")
        yield _build(kind, leg.id, ids, time, _read_terms(leg, leg.symbol), amounts, ZERO)


class _Ids(Struct, frozen=True, gc=False):
    execution: str
    previous: str
    event: str


class _Terms(Struct, frozen=True, gc=False):
    """What is traded."""

    symbol: str
    asset_class: str
    multiplier: Decimal
    sign: int | None
    """Of the quantity; None if the side is not known."""


def _read_terms(order: BookOrder | None, symbol: str) -> _Terms:
    if order is None:
        return _make_terms(symbol, "", None, "")
    return _make_terms(symbol, order.asset_class, _number(order.reported.multiplier), order.side)


@lru_cache(maxsize=1024)  # an account trades a few things over and over
def _make_terms(symbol: str, asset_class: str, multiplier: Decimal | None, side: str) -> _Terms:
    symbol = normalize_symbol(symbol)
    if not asset_class and _OPTION.fullmatch(symbol):
        asset_class = "us_option"
    if multiplier is None or multiplier <= 0:
        multiplier = OPTION_MULTIPLIER if asset_class == "us_option" else ONE
    return _Terms(symbol, asset_class, multiplier, SIDES.get(side))


def _build(
    kind: Kind,
    order_id: str,
    ids: _Ids,
    time: int,
    terms: _Terms,
    amounts: tuple[Any, Any, Any],
    fee: Decimal,
    position: Decimal | None = None,
) -> Execution:
    qty, price, filled = map(_number, amounts)
    problem = ""
    if not order_id or not terms.symbol:
        problem = "it names no order or no symbol"
    elif kind is not Kind.BUST:
        # A bust needs no amounts: it undoes all of what it names.
        if terms.sign is None:
            problem = "its side is neither buy nor sell"
        elif qty is None or qty <= 0 or price is None:
            problem = "its quantity or its price is no number"
    qty = ZERO if qty is None else qty
    return Execution(
        kind,
        order_id,
        ids.execution,
        ids.previous,
        ids.event,
        time,
        terms.symbol,
        terms.asset_class,
        _minus(qty) if terms.sign == -1 else qty,
        ZERO if price is None else price,
        terms.multiplier,
        fee,
        "" if filled is None else str(_normalize(filled)),
        problem,
        position,
    )


def _read_fee(*values: Any) -> Decimal:
    if not any(values):
        return ZERO  # nearly always
    found = map(_number, values)
    return next((fee for fee in found if fee is not None), ZERO)


def _number(value: Any) -> Decimal | None:
    if isinstance(value, str):
        return parse_number(value) if len(value) <= MAX_WORD_LENGTH else None
    return _number(str(value)) if type(value) is int else None


def _word(value: Any) -> str:
    is_word = isinstance(value, str) and len(value) <= MAX_WORD_LENGTH
    return replace_surrogates(value) if is_word else ""


def _list(value: Any) -> list[Any]:
    """Return the objects in a list, up to MAX_LEGS of them; none of anything else."""
    found = value[:MAX_LEGS] if isinstance(value, list) else []
    return [each for each in found if isinstance(each, dict)]
