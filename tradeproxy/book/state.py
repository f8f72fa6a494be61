"""The state of an account, as a function of the rows of its log and of Alpaca's answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from tradeproxy.book.fields import (
    BookEvent,
    BookOrder,
    normalize_symbol,
    read_data,
    read_event,
    read_order,
)
from tradeproxy.book.orders import OrderEntry, Orders
from tradeproxy.book.positions import Positions, list_moves
from tradeproxy.book.views import FillView
from tradeproxy.journal.base import Row
from tradeproxy.wire.event import AMENDMENT_KINDS, EXECUTION_KINDS

MAX_FILLS = 50
"""The newest fills that a snapshot has."""

MAX_FILL_BYTES = 2 * 1024 * 1024
"""Bytes of their events, unless the newest one alone has more. A fill has about 2 KB."""


MAX_KIND = 64
"""Characters of an event's name that are kept for a search."""


class BookState:
    """Orders, positions and fills after row `seq`. It reads and writes nothing itself."""

    def __init__(
        self,
        load: Callable[[str], list[OrderEntry]],
        seq: int = 0,
        next_num: int | None = None,
        expected: int = 0,
    ) -> None:
        """Begin after row `seq` without orders, positions and fills. See Orders for the rest."""
        self.seq = seq
        self.orders = Orders(load, next_num, expected)
        self.positions = Positions()
        self._fills: deque[tuple[Row, tuple[str, ...], str]] = deque()
        self._fill_bytes = 0
        self.high = 0
        """The highest time of all rows (microseconds since 1970)."""
        self.events: list[tuple[int, int | None, int, int | None, str]] = []
        """The rows since `clear_changes`: number, order's number, 1 if late, time, kind."""
        self.has_hole = False
        """Whether a row had no event: what it changed is not known."""
        self.has_changes = False
        """Whether anything changed since `clear_changes`."""
        self.revision = 0
        """It grows with every change."""

    def apply(self, row: Row, event: BookEvent | None) -> None:
        """Take the next row of the log and its event, if it has one.

        If `load` raises, the row can be applied again.
        """
        self.mark_changed()
        if event is not None:
            self._apply(row, event)
        elif row.payload is None:
            self.has_hole = True
        self.seq = row.seq

    def _apply(self, row: Row, event: BookEvent) -> None:
        num, time = None, row.time or 0
        if event.order is not None:
            num = self.orders.apply(event.order, row.seq, time).num
            if event.kind in EXECUTION_KINDS or event.kind in AMENDMENT_KINDS:
                for move in list_moves(event, event.order):
                    self.positions.apply(move, row.seq, time, is_recovered=event.is_recovered)
            if event.kind in EXECUTION_KINDS:
                self.add_fill(row, event.order)
        is_late = time < self.high
        if not is_late:
            self.high = time
        self.events.append((row.seq, num, int(is_late), row.time, event.kind[:MAX_KIND]))

    def add_fill(self, row: Row, order: BookOrder) -> None:
        """Add a fill behind the others, and drop the oldest ones if they are too many or large."""
        fills = self._fills
        fills.append((row, order.symbols, order.client_order_id))
        self._fill_bytes += len(row.payload or b"")
        while len(fills) > MAX_FILLS or (self._fill_bytes > MAX_FILL_BYTES and len(fills) > 1):
            self._fill_bytes -= len(fills.popleft()[0].payload or b"")

    def load_fill(self, row: Row) -> None:
        """Add a fill behind the others, from its row alone."""
        event = None if row.payload is None else read_event(row.payload)
        if event is not None and event.order is not None:
            self.add_fill(row, event.order)

    def fills(self, first: int) -> tuple[FillView, ...]:
        """Return the newest fills from row `first` on, oldest first."""
        return tuple(
            FillView(row.seq, row.time, symbols, client_order_id, read_data(row.payload or b""))
            for row, symbols, client_order_id in self._fills
            if row.seq >= first
        )

    def list_fills(self) -> list[int]:
        """Return the rows of the newest fills."""
        return [row.seq for row, _, _ in self._fills]

    def seed_orders(self, documents: Iterable[bytes], asked: int) -> None:
        """Take order objects of an answer that was asked for when row `asked` was the last."""
        for document in documents:
            if (order := read_order(document)) is not None:
                self.orders.seed(order, asked)
        self.mark_changed()

    def take_positions(
        self, documents: Iterable[tuple[str, bytes]], asked: int, time: int, *, compare: bool
    ) -> int:
        """Take Alpaca's positions as Positions.seed or Positions.compare does.

        Returns how many were wrong.
        """
        by_symbol: Mapping[str, bytes] = {
            normalize_symbol(symbol): document for symbol, document in documents
        }
        self.mark_changed()
        if compare:
            return self.positions.compare(by_symbol, asked, time)
        self.positions.seed(by_symbol, asked, time)
        return 0

    def mark_changed(self) -> None:
        """Record that something changed."""
        self.has_changes = True
        self.revision += 1

    def clear_changes(self) -> None:
        """Mark everything as written."""
        self.orders.clear_dirty()
        self.events.clear()
        self.has_changes = self.positions.clear_dirty()
