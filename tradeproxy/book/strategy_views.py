"""The book per strategy as JSON documents. Pure.

Amounts are text, as Alpaca writes them. docs/strategies.md has the fields.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date
from decimal import Context, Decimal
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

STEP_SYMBOLS = 1_000
"""Symbols that one step compares."""

_AVERAGE_DECIMALS = Decimal("1e-9")
_WIDE = Context(prec=200)

Document = dict[str, Any]


Holdings = list[tuple[str, "Holding"]]
"""Holdings of one strategy with their symbols, by symbol."""


def group_holdings(book: StrategyBook) -> dict[str, Holdings]:
    """Return the holdings of each strategy that has any, by name.

    NO_STRATEGY and OTHER_STRATEGIES are the last ones.
    """
    groups: dict[str, Holdings] = {}
    for place in book.list_places():
        holding = book.holdings[place]
        if holding.fills or holding.qty:
            name, symbol = place
            groups.setdefault(name, []).append((symbol, holding))
    return {name: groups[name] for name in sort_names(groups)}


def sort_names(names: Collection[str]) -> list[str]:
    """Return names of strategies in their order: NO_STRATEGY and OTHER_STRATEGIES are the last."""
    special = [name for name in (NO_STRATEGY, OTHER_STRATEGIES) if name in names]
    return [*sorted(name for name in names if name not in special), *special]


def describe_strategy(
    name: str,
    own: Holdings,
    day: date,
    account: Mapping[str, Decimal],
    *,
    symbols: frozenset[str] = frozenset(),
    lots: bool = True,
    all_positions: bool = False,
) -> Document:
    """Return a strategy with its positions.

    Args:
        name: the strategy's.
        own: its holdings, from `group_holdings`.
        day: the current trade date.
        account: the account's positions: quantity by symbol, as `normalize_symbol` returns that.
        symbols: only these are listed; all if empty. The sums are of all.
        lots: whether positions have their lots, and the strategy its line of the day.
        all_positions: whether to list positions that are flat and have no fill of the day.
    """
    listed = select_positions(own, day, symbols, all_positions=all_positions)
    return {
        **describe_sums(name, own, day, lots=lots),
        "positions": [
            describe_position(symbol, holding, day, account, lots=lots)
            for symbol, holding in listed
        ],
    }


def describe_sums(name: str, own: Holdings, day: date, *, lots: bool) -> Document:
    """Return a strategy without its positions. See `describe_strategy`."""
    holdings = [holding for _, holding in own]
    line = {"line": _draw_line(holdings, day)} if lots else {}
    return {"name": name, **_sums(holdings, day), **line}


def select_positions(
    own: Holdings, day: date, symbols: frozenset[str], *, all_positions: bool
) -> Holdings:
    """Return the holdings that are listed. See `describe_strategy`."""
    return [
        (symbol, holding)
        for symbol, holding in own
        if (not symbols or symbol in symbols)
        and (all_positions or holding.qty or holding.has_fill_on(day))
    ]


def is_active(own: Holdings, day: date) -> bool:
    """Whether a strategy has an open position or a fill of the day."""
    return any(holding.qty or holding.has_fill_on(day) for _, holding in own)


def list_differences(
    book: StrategyBook, account: Mapping[str, Decimal]
) -> Iterator[Document | None]:
    """Yield the symbols of which all strategies together do not hold what the account does.

    None ends a step of some milliseconds.
    """
    sums: dict[str, Decimal] = {}
    for count, place in enumerate(book.list_places(), 1):
        _, symbol = place
        sums[symbol] = EXACT.add(sums.get(symbol, ZERO), book.holdings[place].qty)
        if count % STEP_SYMBOLS == 0:
            yield None
    for count, symbol in enumerate(sorted({*sums, *account}), 1):
        has, booked = account.get(symbol, ZERO), sums.get(symbol, ZERO)
        if has != booked:
            yield {
                "symbol": symbol,
                "account_qty": format_amount(has),
                "strategies_qty": format_amount(booked),
                "difference": format_amount(EXACT.subtract(has, booked)),
            }
        if count % STEP_SYMBOLS == 0:
            yield None


def list_notes(book: StrategyBook) -> list[Document]:
    """Return what could not be booked, oldest first."""
    return [_describe_note(note) for note in book.notes]


def format_amount(number: Decimal) -> str:
    """Return a number without an exponent and without zeros at its end."""
    return f"{EXACT.normalize(number):f}" if number else "0"


def describe_position(
    symbol: str, holding: Holding, day: date, account: Mapping[str, Decimal], *, lots: bool
) -> Document:
    """Return a position of a strategy. See `describe_strategy`."""
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


def _draw_line(holdings: list[Holding], day: date) -> list[list[str]]:
    """Return times of the day, each with what was realised up to it."""
    total, points = ZERO, []
    for time, gain in sorted(mark for holding in holdings for mark in holding.marks_on(day)):
        total = EXACT.add(total, gain)
        points.append((time, total))
    # Every point is right: it has all gains before it. The last one is always there.
    step = -(-len(points) // MAX_POINTS)
    chosen = points[::-1][:: max(step, 1)][::-1]
    return [[format_time(time), format_amount(gain)] for time, gain in chosen]


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
