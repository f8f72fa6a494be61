"""What the strategies of an account hold, all at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from tradeproxy.book.lots import Holding
from tradeproxy.book.strategy_book import StrategyBook
from tradeproxy.book.strategy_views import (
    describe_position,
    describe_sums,
    list_holdings,
    list_names,
)


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
    return {
        **describe_sums(name, own, day, lots=True),
        "positions": [
            describe_position(symbol, holding, day, account, lots=True) for symbol, holding in own
        ],
    }
