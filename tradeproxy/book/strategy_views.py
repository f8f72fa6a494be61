"""The book per strategy as JSON documents. Pure.

Amounts are text, as Alpaca writes them. docs/strategies.md has the fields.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from datetime import date
from decimal import Context, Decimal
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any

from tradeproxy.book.executions import Execution
from tradeproxy.book.lots import EXACT, OPENING, ZERO, Holding
from tradeproxy.book.strategy_book import StrategyBook
from tradeproxy.wire.event import format_time
from tradeproxy.wire.strategy_rule import NO_STRATEGY, OTHER_STRATEGIES

MAX_LOTS = 100
"""Lots of a holding that are listed."""

MAX_POINTS = 240
"""Points of a strategy's line of the day."""

STEP_MARKS = 1_000
"""Closing fills that one step of a strategy's line adds up: an account may have 100,000 a day."""

STEP_SYMBOLS = 1_000
"""Symbols that one step compares."""

_AVERAGE_DECIMALS = Decimal("1e-9")
_WIDE = Context(prec=200)

Document = dict[str, Any]


Holdings = Iterable[tuple[str, "Holding"]]
"""Holdings of one strategy with their symbols."""


def list_holdings(book: StrategyBook, name: str, after: str = "") -> Iterator[tuple[str, Holding]]:
    """Yield the holdings of a strategy behind a symbol, with their symbols, by symbol.

    It may be continued in a later turn of the reactor, and keeps none of them.
    """
    places = book.list_places()
    for index in range(bisect_right(places, (name, after)), len(places)):
        owner, symbol = places[index]
        if owner != name:
            break
        holding = book.holdings[name, symbol]
        if holding.fills or holding.qty:
            yield symbol, holding


def list_names(book: StrategyBook) -> list[str]:
    """Return the strategies that have a holding. NO_STRATEGY and OTHER_STRATEGIES are the last."""
    return sort_names(
        {name for (name, _), holding in book.holdings.items() if holding.fills or holding.qty}
    )


def sort_names(names: Collection[str]) -> list[str]:
    """Return names of strategies in their order: NO_STRATEGY and OTHER_STRATEGIES are the last."""
    special = [name for name in (NO_STRATEGY, OTHER_STRATEGIES) if name in names]
    return [*sorted(name for name in names if name not in special), *special]


def describe_sums(name: str, own: Holdings, day: date) -> Document:
    """Return a strategy without its positions and its line.

    Args:
        name: the strategy's.
        own: its holdings, from `list_holdings`.
        day: the current trade date.
    """
    return {"name": name, **_sums([holding for _, holding in own], day)}


def draw_line(own: Holdings, day: date) -> Generator[None, None, list[list[str]]]:
    """Return times of the day, each with what a strategy realised up to it: its `line`.

    Each None ends a step of a few milliseconds. The arguments are those of `describe_sums`.
    """
    marks = [holding.marks_on(day) for _, holding in own]
    left = sum(map(len, marks))
    # Every point is right: it has all gains before it. The last one is always there.
    step = max(-(-left // MAX_POINTS), 1)
    total, line = ZERO, list[list[str]]()
    for time, gain in merge(*marks):
        total, left = EXACT.add(total, gain), left - 1
        if left % step == 0:
            line.append([format_time(time), format_amount(total)])
        if left % STEP_MARKS == 0:
            yield
    return line


def is_listed(holding: Holding, day: date) -> bool:
    """Whether a position is listed: an open one, or one with a fill of the day."""
    return bool(holding.qty) or holding.has_fill_on(day)


def list_differences(
    book: StrategyBook, account: Mapping[str, Decimal], symbols: Iterable[str]
) -> Iterator[Document | None]:
    """Yield the symbols of which all strategies together do not hold what the account does.

    None ends a step of some milliseconds. Meanwhile little is in memory.

    Args:
        book: the strategies.
        account: what the account has of each symbol.
        symbols: those of its positions.
    """
    places = book.list_places_by_symbol()
    for count, (symbol, group) in enumerate(groupby(places, key=itemgetter(0)), 1):
        booked = ZERO
        for _, name in group:
            booked = EXACT.add(booked, book.holdings[name, symbol].qty)
        yield from _compare(symbol, account.get(symbol, ZERO), booked)
        if count % STEP_SYMBOLS == 0:
            yield None
    for count, symbol in enumerate(symbols, 1):
        index = bisect_left(places, (symbol, ""))
        if index == len(places) or places[index][0] != symbol:
            yield from _compare(symbol, account.get(symbol, ZERO), ZERO)
        if count % STEP_SYMBOLS == 0:
            yield None


def _compare(symbol: str, has: Decimal, booked: Decimal) -> Iterator[Document]:
    if has != booked:
        yield {
            "symbol": symbol,
            "account_qty": format_amount(has),
            "strategies_qty": format_amount(booked),
            "difference": format_amount(EXACT.subtract(has, booked)),
        }


def list_notes(book: StrategyBook) -> list[Document]:
    """Return what could not be booked, oldest first."""
    return [_describe_note(note) for note in book.notes]


def format_amount(number: Decimal) -> str:
    """Return a number without an exponent and without zeros at its end."""
    return f"{EXACT.normalize(number):f}" if number else "0"


def describe_position(
    symbol: str, holding: Holding, day: date, account: Mapping[str, Decimal], *, lots: bool
) -> Document:
    """Return a position of a strategy.

    Args:
        symbol: the position's.
        holding: what the strategy has of it.
        day: the current trade date.
        account: the account's positions: quantity by symbol, as `normalize_symbol` returns that.
        lots: whether it has its lots.
    """
    qty, average = holding.qty, holding.average_price(day)
    price = None if average is None else average.quantize(_AVERAGE_DECIMALS, context=_WIDE)
    cost = ZERO if price is None else EXACT.multiply(EXACT.multiply(qty, price), holding.multiplier)
    side = "flat" if not qty else "long" if qty > 0 else "short"
    listed = [
        {
            "time": None if lot.time == OPENING else format_time(lot.time),
            "qty": format_amount(lot.qty),
            "price": format_amount(lot.price),
        }
        for lot, _ in zip(holding.lots, range(MAX_LOTS), strict=False)
    ]
    return {
        "symbol": symbol,
        "asset_class": holding.asset_class,
        "qty": format_amount(qty),
        "side": side,
        "avg_entry_price": None if price is None else format_amount(price),
        "cost_basis": format_amount(cost),
        "multiplier": format_amount(holding.multiplier),
        **_sums([holding], day),
        "account_flat": bool(qty) and not account.get(symbol, ZERO),
        **({"lots": listed} if lots else {}),
        "lots_total": len(holding.lots),
    }


def _sums(holdings: list[Holding], day: date) -> Document:
    return {
        "realized_pl": format_amount(_sum(holding.realized for holding in holdings)),
        "realized_intraday_pl": format_amount(_sum(h.realized_on(day) for h in holdings)),
        "fees": format_amount(_sum(holding.fees for holding in holdings)),
        "fills": sum(holding.fills for holding in holdings),
    }


def _describe_note(note: Execution) -> Document:
    return {
        "time": format_time(note.time),
        "kind": note.kind.value,
        "order_id": note.order_id,
        "execution_id": note.previous or note.execution,
        "message": note.problem,
    }


def _sum(numbers: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for number in numbers:
        total = EXACT.add(total, number)
    return total
