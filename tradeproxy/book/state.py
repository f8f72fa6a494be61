"""The state of an account, as a function of the rows of its log and of Alpaca's answers."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tradeproxy.book.fields import normalize_symbol, read_data, read_event, read_order
from tradeproxy.book.orders import Orders
from tradeproxy.book.positions import Positions, list_moves
from tradeproxy.book.views import FillView
from tradeproxy.wire.event import EXECUTION_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tradeproxy.book.orders import Entry
    from tradeproxy.journal.base import Row

MAX_FILLS = 50
"""The newest fills that a snapshot has."""


MAX_KIND = 64
"""Characters of an event's name that are kept for a search."""


class BookState:
    """Orders, positions and fills after row `seq`. It reads and writes nothing itself."""

    def __init__(self, load: Callable[[str], list[Entry]], seq: int = 0, next_num: int = 1) -> None:
        """Begin after row `seq` without orders, positions and fills. See Orders for the rest."""
        self.seq = seq
        self.orders = Orders(load, next_num)
        self.positions = Positions()
        self.fills: deque[FillView] = deque(maxlen=MAX_FILLS)
        self.high = 0
        """The highest time of all rows (microseconds since 1970)."""
        self.events: list[tuple[int, int | None, bool, int | None, str]] = []
        """The rows since `clear_changes`: number, order's number, whether late, time, kind."""
        self.has_hole = False
        """Whether a row had no event: what it changed is not known."""
        self.has_changes = False
        """Whether anything changed since `clear_changes`."""

    def apply(self, row: Row) -> None:
        """Take the next row of the log."""
        self.seq = row.seq
        self.has_changes = True
        if row.payload is None:
            self.has_hole = True
            return
        event = read_event(row.payload)
        if event is None:
            return
        num = None
        time = row.time if row.time is not None else event.time or 0
        if event.order is not None:
            num = self.orders.apply(event.order, row.seq, time).num
            for move in list_moves(event):
                self.positions.apply(move, row.seq, time)
            if event.kind in EXECUTION_KINDS:
                self.add_fill(row)
        self.high = max(time, self.high)
        self.events.append((row.seq, num, time < self.high, row.time, event.kind[:MAX_KIND]))

    def add_fill(self, row: Row) -> None:
        """Add a fill behind the others. It must have a payload with an order."""
        event = None if row.payload is None else read_event(row.payload)
        if row.payload is None or event is None or event.order is None:
            return
        data = read_data(row.payload)
        client_order_id = event.order.client_order_id
        self.fills.append(FillView(row.seq, row.time, event.symbols, client_order_id, data))

    def seed_orders(self, documents: Iterable[bytes], asked: int) -> None:
        """Take order objects of an answer that was asked for when row `asked` was the last."""
        for document in documents:
            if (order := read_order(document)) is not None:
                self.orders.seed(order, asked)
        self.has_changes = True

    def take_positions(
        self, documents: Iterable[tuple[str, bytes]], asked: int, time: int, *, compare: bool
    ) -> int:
        """Take Alpaca's positions as Positions.seed or Positions.compare does.

        Returns how many were wrong.
        """
        by_symbol: Mapping[str, bytes] = {
            normalize_symbol(symbol): document for symbol, document in documents
        }
        self.has_changes = True
        if compare:
            return self.positions.compare(by_symbol, asked, time)
        self.positions.seed(by_symbol, asked, time)
        return 0

    def clear_changes(self) -> None:
        """Forget what changed: the store has it."""
        self.orders.clear_dirty()
        self.positions.dirty.clear()
        self.events.clear()
        self.has_changes = False
