"""What the strategies of an account hold, all at once."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, TypeVar

from tradeproxy.book.lots import Holding
from tradeproxy.book.strategy_book import StrategyBook
from tradeproxy.book.strategy_views import (
    describe_position,
    describe_sums,
    draw_line,
    list_holdings,
    list_names,
)

_T = TypeVar("_T")


def finish(work: Generator[None, None, _T]) -> _T:
    """Return what a generator returns."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: _T = end.value
            return result


def group_holdings(book: StrategyBook) -> dict[str, list[tuple[str, Holding]]]:
    """Return the holdings of each strategy that has any, by name."""
    return {name: list(list_holdings(book, name)) for name in list_names(book)}


def describe_strategy(
    name: str,
    own: Iterable[tuple[str, Holding]],
    day: date,
    account: Mapping[str, Decimal],
) -> dict[str, Any]:
    """Return a strategy with all of its positions, flat ones too."""
    holdings = list(own)
    return {
        **describe_sums(name, holdings, day),
        "line": finish(draw_line(holdings, day)),
        "positions": [
            describe_position(symbol, holding, day, account, lots=True)
            for symbol, holding in holdings
        ],
    }
