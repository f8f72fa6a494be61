"""Answers about orders and events, from the state in memory, the store and the rows of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tradeproxy.book import store
from tradeproxy.book.fields import find_order, normalize_symbol, read_event, with_legs
from tradeproxy.book.views import (
    EventCount,
    EventsPage,
    OrderKey,
    OrderScope,
    OrdersPage,
    OrderView,
    TimelineEntry,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tradeproxy.book.fields import BookEvent
    from tradeproxy.book.orders import OrderEntry
    from tradeproxy.book.state import BookState
    from tradeproxy.book.views import EventQuery, OrderQuery
    from tradeproxy.journal.base import Journal, Row, Tables

MAX_EXAMINED = 500
"""Orders or events that one call looks at."""

MAX_FOUND = 100
"""Orders or events that one call returns: each is a row of the log to read."""


class BookReader:
    """One question to the book. The store must have all that changed.

    Every method may raise UnreadableError or sqlite3.Error.
    """

    def __init__(self, journal: Journal, state: BookState, tables: Tables) -> None:
        self._journal = journal
        self._orders = state.orders
        self._run = tables.run

    # Orders.

    def order(self, order_id: str) -> OrderView | None:
        """Return an order or a leg, by its id; None if it is unknown."""
        if not order_id.isascii():
            return None
        entry = self._orders.get(order_id)
        if entry is not None:
            return self.view(entry)
        family = self._run(lambda sql: store.load_family(sql, order_id))
        for entry in family:
            if entry.id == order_id:
                return self._view(entry, [leg for leg in family if leg.parent_id == order_id])
        return None

    def view(self, entry: OrderEntry) -> OrderView | None:
        """Return an order that is in memory, with its legs."""
        return self._view(entry, self._orders.legs(entry.id))

    def _view(self, entry: OrderEntry, legs: Sequence[OrderEntry]) -> OrderView | None:
        document = self.read_document(entry)
        if document is None:
            return None
        if legs:
            found = (self.read_document(leg) for leg in legs)
            document = with_legs(document, [leg for leg in found if leg is not None])
        return OrderView(
            entry.id,
            entry.parent_id,
            entry.client_order_id,
            entry.symbol,
            entry.status,
            entry.is_open or any(leg.is_open for leg in legs),
            entry.seq,
            entry.submitted,
            entry.updated,
            document,
        )

    def read_document(self, entry: OrderEntry) -> bytes | None:
        """Return the JSON of one order; None if its row is no longer stored."""
        if entry.document is not None:
            return entry.document
        row = self._journal.row(entry.seq) if entry.seq else None
        return None if row is None or row.payload is None else find_order(row.payload, entry.id)

    def orders(self, query: OrderQuery, after: OrderKey | None, limit: int) -> OrdersPage:
        """Return the next orders of a list, newest submission first."""
        limit = max(min(limit, MAX_FOUND), 1)
        if query.status is OrderScope.OPEN:
            return self._open_orders(query, after, limit)
        entries = self._run(lambda sql: store.list_orders(sql, query, after, MAX_EXAMINED))
        views: list[OrderView] = []
        for examined, entry in enumerate(entries, 1):
            if _matches(entry, query) and (view := self._listed(entry, query)) is not None:
                views.append(view)
                if len(views) == limit:
                    return OrdersPage(tuple(views), _key(entry), examined)
        ended = len(entries) < MAX_EXAMINED
        return OrdersPage(tuple(views), None if ended else _key(entries[-1]), len(entries))

    def _listed(self, entry: OrderEntry, query: OrderQuery) -> OrderView | None:
        if (known := self._orders.get(entry.id)) is not None:
            view = self.view(known)
        elif entry.last < self._journal.first:
            return None  # trimmed, and soon to be removed
        elif " " in entry.symbols or not entry.symbol or self._may_have_legs(entry):
            view = self.order(entry.id)
        else:
            view = self._view(entry, ())
        if view is None or (query.status is OrderScope.CLOSED and view.is_open):
            return None
        return view

    def _may_have_legs(self, entry: OrderEntry) -> bool:
        return self._run(lambda sql: store.has_legs(sql, entry.id))

    def _open_orders(self, query: OrderQuery, after: OrderKey | None, limit: int) -> OrdersPage:
        roots = sorted(self._orders.roots(), key=lambda entry: (entry.submitted, entry.id))
        views: list[OrderView] = []
        for entry in reversed(roots):
            if after is not None and (entry.submitted, entry.id) >= (after.submitted, after.id):
                continue
            in_time = (query.after is None or entry.submitted > query.after) and (
                query.until is None or entry.submitted <= query.until
            )
            if in_time and _matches(entry, query) and (view := self.view(entry)) is not None:
                views.append(view)
                if len(views) == limit:
                    return OrdersPage(tuple(views), _key(entry), len(roots))
        return OrdersPage(tuple(views), None, len(roots))

    # Events.

    def timeline(self, order_id: str, after: int, limit: int) -> tuple[TimelineEntry, ...]:
        """Return the events of an order behind row `after`, oldest first."""
        nums = self._find_nums(order_id)
        limit = max(min(limit, MAX_FOUND), 1)
        while True:
            seqs = self._list_order_events(nums, after, limit)
            found = (_read_entry(row, order_id) for row in self._rows(seqs))
            entries = tuple(entry for entry in found if entry is not None)
            # A leg may be in none of these rows of its parent.
            if entries or len(seqs) < limit:
                return entries
            after = seqs[-1]

    def _list_order_events(self, nums: Sequence[int], after: int, limit: int) -> list[int]:
        return self._run(lambda sql: store.list_order_events(sql, nums, after, limit))

    def events(self, query: EventQuery, before: int | None, limit: int) -> EventsPage:
        """Return the next rows of a search, newest first."""
        found, next_, examined = self._search(query, before, max(min(limit, MAX_FOUND), 1))
        return EventsPage(tuple(self._rows(found)), next_, examined)

    def count_events(self, query: EventQuery, before: int | None) -> EventCount:
        """Count the next rows of a search, without reading them."""
        found, next_, examined = self._search(query, before, MAX_EXAMINED)
        return EventCount(len(found), next_, examined)

    def _search(
        self, query: EventQuery, before: int | None, limit: int
    ) -> tuple[list[int], int | None, int]:
        """Return numbers of rows, what the next call takes as `before`, and the rows looked at."""
        nums = None if query.order_id is None else self._find_nums(query.order_id)
        before = self._find_begin(query) if before is None else before
        first = self._journal.first
        if query.since is not None:
            risen = self._journal.first_since(query.since)
            first = self._journal.last + 1 if risen is None else max(first, risen)
        found: list[int] = []
        events = self._run(lambda sql: store.list_events(sql, before, nums, MAX_EXAMINED))
        examined, next_ = 0, None if len(events) < MAX_EXAMINED else events[-1][0]
        for seq, kind, time, symbols, client_order_id in events:
            if seq < first:
                return found, None, examined
            examined += 1
            if _matches_event(query, kind, time, symbols, client_order_id):
                found.append(seq)
                if len(found) == limit:
                    return found, seq, examined
        return found, next_, examined

    def _find_begin(self, query: EventQuery) -> int:
        """Return the number before which every row that a search may find is."""
        if query.until is None:
            return self._journal.last + 1
        until = query.until
        later = self._journal.first_since(until + 1)
        late = self._run(lambda sql: store.find_last_late(sql, until))
        return max(self._journal.last + 1 if later is None else later, late + 1)

    def _find_nums(self, order_id: str) -> list[int]:
        """Return the numbers of an order and of its parent."""
        if not order_id.isascii():
            return []
        family = self._run(lambda sql: store.load_family(sql, order_id))
        parent_id = next((entry.parent_id for entry in family if entry.id == order_id), None)
        return [entry.num for entry in family if entry.id in (order_id, parent_id)]

    def _rows(self, seqs: Sequence[int]) -> list[Row]:
        rows = (self._journal.row(seq) for seq in seqs)
        return [row for row in rows if row is not None and row.payload is not None]


def _key(entry: OrderEntry) -> OrderKey:
    return OrderKey(entry.submitted, entry.id)


def _matches(entry: OrderEntry, query: OrderQuery) -> bool:
    return _has_symbol(query.symbols, entry.symbols) and entry.client_order_id.startswith(
        query.client_order_id_prefix
    )


def _matches_event(
    query: EventQuery, kind: str, time: int | None, symbols: str | None, client_order_id: str | None
) -> bool:
    if query.kinds and kind not in query.kinds:
        return False
    if query.since is not None and (time is None or time < query.since):
        return False
    if query.until is not None and (time is None or time > query.until):
        return False
    return _has_symbol(query.symbols, symbols or "") and (
        (client_order_id or "").startswith(query.client_order_id_prefix)
    )


def _has_symbol(wanted: frozenset[str], symbols: str) -> bool:
    return not wanted or any(normalize_symbol(symbol) in wanted for symbol in symbols.split())


def _read_entry(row: Row, order_id: str) -> TimelineEntry | None:
    event = None if row.payload is None else read_event(row.payload)
    if event is None or event.order is None:
        return None
    order = event.order
    if order.id == order_id:
        qty, price = event.qty, event.price
    else:
        leg = next((leg for leg in order.legs if leg.id == order_id), None)
        if leg is None:
            return None
        order, (qty, price) = leg, _find_leg_fill(event, order_id)
    return TimelineEntry(
        row.seq,
        row.time,
        event.kind,
        qty or None,
        price or None,
        order.filled_qty or None,
        order.status,
    )


def _find_leg_fill(event: BookEvent, order_id: str) -> tuple[str, str]:
    for fill in event.legs:
        if fill.order_id == order_id:
            return fill.qty, fill.price
    return "", ""
