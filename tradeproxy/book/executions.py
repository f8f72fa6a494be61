"""What the book per strategy needs of an event or of an activity of Alpaca's. Pure.

Nothing here raises for what Alpaca wrote. A field of another type counts as absent; an execution
that cannot be booked for that reason says why in `problem`. A lone surrogate is a question mark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from tradeproxy.book.fields import BookEvent, normalize_symbol
from tradeproxy.book.lots import EXACT, ONE, ZERO
from tradeproxy.wire.amount import parse_amount
from tradeproxy.wire.event import MAX_WORD_LENGTH, read_time
from tradeproxy.wire.frame import extract_data
from tradeproxy.wire.printable import replace_surrogates

MULTI_LEG = "mleg"
"""The order_class of an order whose fills are those of its legs."""

MAX_LEGS = 16
"""Legs that are read. Alpaca allows four."""

FEES = ("commission", "fee", "fees")
"""The fields in which an event or an activity can carry what it cost. Alpaca's fills have none."""

OPTION_MULTIPLIER = Decimal(100)

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


class _ReportedOrder(Struct, gc=False):
    id: Any = None
    client_order_id: Any = None
    symbol: Any = None
    asset_class: Any = None
    side: Any = None
    order_class: Any = None
    filled_qty: Any = None
    filled_avg_price: Any = None
    ratio_qty: Any = None
    multiplier: Any = None
    replaces: Any = None
    replaced_by: Any = None
    legs: Any = None


class _FilledData(Struct, gc=False):
    event: Any = None
    event_id: Any = None
    execution_id: Any = None
    previous_execution_id: Any = None
    at: Any = None
    timestamp: Any = None
    qty: Any = None
    price: Any = None
    cum_qty: Any = None
    position_qty: Any = None
    commission: Any = None
    fee: Any = None
    fees: Any = None
    order: _ReportedOrder | None = None
    legs: Any = None


class _FilledFrame(Struct, gc=False):
    data: _FilledData


_DECODER = Decoder(_FilledFrame, float_hook=str)
_DATA = Decoder(_FilledData, float_hook=str)


def concerns_strategies(event: BookEvent) -> bool:
    """Whether `read_strategy_event` can find anything in the frame of an event."""
    order = event.order
    return order is not None and (event.kind in _KINDS or bool(order.legs) or order.is_linked)


def read_strategy_event(payload: bytes, time: int) -> StrategyEvent:
    """Return what a frame of the stream changes.

    `time` is that of an event without a time of its own (microseconds since 1970).
    """
    data: _FilledData | None
    try:
        data = _DECODER.decode(payload).data
    except (DecodeError, RecursionError):
        data = _read_loosely(payload)
    return NOTHING if data is None or data.order is None else _read(data, data.order, time)


def read_activity(document: Any) -> Execution | None:
    """Return the fill in an element of GET /v2/account/activities/FILL; None if it is none."""
    if not isinstance(document, dict):
        return None
    time, order_id = read_time(document.get("transaction_time")), _word(document.get("order_id"))
    if time is None or not order_id or document.get("type") not in ("fill", "partial_fill"):
        return None
    terms = _Terms(document.get("symbol"), document.get("asset_class"), document)
    return _build(
        Kind.FILL,
        order_id,
        _Ids("", "", _word(document.get("id"))),
        time,
        terms,
        document.get("side"),
        (document.get("qty"), document.get("price"), document.get("cum_qty")),
        _read_fee(document.get(name) for name in FEES),
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


def _read_loosely(payload: bytes) -> _FilledData | None:
    """Read a frame that only Python's parser accepts, such as one with NaN in it."""
    try:
        data = json.loads(
            extract_data(payload)[0], parse_int=str, parse_float=str, parse_constant=str
        )
        return _DATA.decode(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError, DecodeError):
        return None


def _read(data: _FilledData, order: _ReportedOrder, time: int) -> StrategyEvent:
    kind = _KINDS.get(data.event) if isinstance(data.event, str) else None
    if not (order_id := _word(order.id)):
        return NOTHING
    legs = _list(order.legs)
    orders: tuple[OrderLinks, ...] = ()
    if kind is not None or legs or order.replaces or order.replaced_by:
        links = (
            OrderLinks(leg_id, _word(leg.get("client_order_id")), order_id)
            for leg in legs
            if (leg_id := _word(leg.get("id")))
        )
        own = OrderLinks(order_id, _word(order.client_order_id), replaces=_word(order.replaces))
        orders = (own, *links)
    if kind is None:
        return StrategyEvent(orders, ())
    # The time of the execution, as in Alpaca's activities. `at` is some milliseconds later.
    moment = read_time(data.timestamp) or read_time(data.at) or time
    ids = _Ids(_word(data.execution_id), _word(data.previous_execution_id), _word(data.event_id))
    if reports := _list(data.legs):
        found = list(_read_legs(kind, data, legs, reports, moment))
    elif legs and order.order_class == MULTI_LEG:
        found = list(_derive_legs(kind, data, legs, moment))
    else:  # the legs of a bracket have events of their own
        found = [_read_whole(kind, data, order, order_id, ids, moment)]
    return StrategyEvent(orders, tuple(found))


def _read_whole(
    kind: Kind,
    data: _FilledData,
    order: _ReportedOrder,
    order_id: str,
    ids: _Ids,
    time: int,
) -> Execution:
    price = order.filled_avg_price if data.price is None else data.price
    filled = order.filled_qty if data.cum_qty is None else data.cum_qty
    terms = _Terms(order.symbol, order.asset_class, {"multiplier": order.multiplier})
    fee = _read_fee((data.commission, data.fee, data.fees))
    amounts = data.qty, price, filled
    position = _number(data.position_qty)
    return _build(kind, order_id, ids, time, terms, order.side, amounts, fee, position)


def _read_legs(
    kind: Kind, data: _FilledData, legs: list[Any], reports: list[Any], time: int
) -> Iterator[Execution]:
    """Yield the parts of a multi-leg execution. Only the legs of the order have a side."""
    by_id = {_word(leg.get("id")): leg for leg in legs}
    fee = _read_fee((data.commission, data.fee, data.fees))
    for report in reports:
        leg_id = _word(report.get("order_id"))
        leg = by_id.get(leg_id, {})
        ids = _Ids(
            _word(report.get("execution_id")),
            _word(report.get("previous_execution_id")),
            _word(data.event_id),
        )
        symbol = report.get("symbol") or leg.get("symbol")
        terms = _Terms(symbol, leg.get("asset_class"), leg)
        amounts = (report.get("qty"), report.get("price"), leg.get("filled_qty"))
        yield _build(kind, leg_id, ids, time, terms, leg.get("side"), amounts, fee)
        fee = ZERO  # it is of the whole


def _derive_legs(kind: Kind, data: _FilledData, legs: list[Any], time: int) -> Iterator[Execution]:
    """Yield the legs of a multi-leg fill that does not report them: one made of the order alone."""
    qty, filled = (_number(each) for each in (data.qty, data.cum_qty))
    for leg in legs:
        ratio = _number(leg.get("ratio_qty")) or ONE
        amounts = (
            None if qty is None else str(EXACT.multiply(qty, ratio)),
            leg.get("filled_avg_price"),
            None if filled is None else str(EXACT.multiply(filled, ratio)),
        )
        terms = _Terms(leg.get("symbol"), leg.get("asset_class"), leg)
        ids = _Ids("", "", _word(data.event_id))
        yield _build(kind, _word(leg.get("id")), ids, time, terms, leg.get("side"), amounts, ZERO)


class _Ids(NamedTuple):
    execution: str
    previous: str
    event: str


class _Terms:
    """What is traded."""

    def __init__(self, symbol: Any, asset_class: Any, source: dict[str, Any]) -> None:
        self.symbol = normalize_symbol(_word(symbol))
        self.asset_class = _word(asset_class) or (
            "us_option" if _OPTION.fullmatch(self.symbol) else ""
        )
        given = _number(source.get("multiplier"))
        if given is not None and given > 0:
            self.multiplier = given
        else:
            self.multiplier = OPTION_MULTIPLIER if self.asset_class == "us_option" else ONE


def _build(
    kind: Kind,
    order_id: str,
    ids: _Ids,
    time: int,
    terms: _Terms,
    side: Any,
    amounts: tuple[Any, Any, Any],
    fee: Decimal,
    position: Decimal | None = None,
) -> Execution:
    qty, price, filled = (_number(amount) for amount in amounts)
    sign = SIDES.get(side) if isinstance(side, str) else None
    problem = ""
    if not order_id or not terms.symbol:
        problem = "it names no order or no symbol"
    elif kind is not Kind.BUST:
        # A bust needs no amounts: it undoes all of what it names.
        if sign is None:
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
        EXACT.minus(qty) if sign == -1 else qty,
        ZERO if price is None else price,
        terms.multiplier,
        fee,
        "" if filled is None else str(EXACT.normalize(filled)),
        problem,
        position,
    )


def _read_fee(values: Any) -> Decimal:
    found = (_number(value) for value in values)
    return next((fee for fee in found if fee is not None), ZERO)


def _number(value: Any) -> Decimal | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return parse_amount(value) if isinstance(value, str) and len(value) <= MAX_WORD_LENGTH else None


def _word(value: Any) -> str:
    is_word = isinstance(value, str) and len(value) <= MAX_WORD_LENGTH
    return replace_surrogates(value) if is_word else ""


def _list(value: Any) -> list[Any]:
    """Return the objects in a list, up to MAX_LEGS of them; none of anything else."""
    found = value[:MAX_LEGS] if isinstance(value, list) else []
    return [each for each in found if isinstance(each, dict)]
