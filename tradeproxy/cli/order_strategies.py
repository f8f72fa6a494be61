"""The strategy of an order, from the book in a journal's file, or from the rule alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from tradeproxy.book.fill_store import FillStore
from tradeproxy.book.moves import OrderMoves
from tradeproxy.tradelog.columns import LoggedEvent
from tradeproxy.wire.printable import replace_surrogates
from tradeproxy.wire.strategy_rule import StrategyRule, name_strategy

_T = TypeVar("_T")


def apply_rule(rule: StrategyRule, event: LoggedEvent) -> str:
    """Return the strategy of the event's order by its client_order_id, as without a book."""
    return name_strategy(rule, _get_text(event.data, "client_order_id"))


class BookStrategies:
    """Reads the book: it knows assignments by hand, legs and replacements.

    The rule counts for an order that the book does not have, such as one without a fill.
    """

    def __init__(self, connection: sqlite3.Connection, rule: StrategyRule) -> None:
        """Read what strategies the journal has, which is open for reading. Raises sqlite3.Error."""
        self._rule = rule
        self._store = FillStore(_ReadOnlyTables(connection))
        self._orders = OrderMoves(self._store, rule, lambda *_: None)

    def find(self, event: LoggedEvent) -> str:
        """Return the strategy of the event's order. Raises sqlite3.Error."""
        order_id = _get_text(event.data, "id")
        if not self._orders.is_known(order_id):
            return apply_rule(self._rule, event)
        # A fill counts for the strategy that it was booked under, which may be `(other)`.
        fills, _ = self._store.read_fills(order_id, 0, 1)
        return fills[0].strategy if fills else self._orders.find_strategy(order_id)


class _ReadOnlyTables:
    """Implements journal.base.Tables for reading."""

    is_busy = False

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, work: Callable[[sqlite3.Connection], _T], *, writes: bool = False) -> _T:
        """Return what `work` returns. Raises sqlite3.Error."""
        assert not writes, "the journal is the proxy's"
        return work(self._connection)


def _get_text(data: Any, name: str) -> str:
    order = data.get("order") if isinstance(data, dict) else None
    text = order.get(name) if isinstance(order, dict) else None
    # The book has no lone surrogates either.
    return replace_surrogates(text) if isinstance(text, str) else ""
