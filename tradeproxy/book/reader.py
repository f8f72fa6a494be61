"""Answers about orders and events, from the state in memory, the store and the rows of the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tradeproxy.book import store
from tradeproxy.book.fields import BookEvent, find_order, normalize_symbol, read_event, with_legs
from tradeproxy.book.orders import OrderEntry
from tradeproxy.book.state import BookState
from tradeproxy.book.views import (
    EventCount,
    EventQuery,
    EventsPage,
    OrderKey,
    OrderQuery,
    OrderScope,
    OrdersPage,
    OrderView,
    TimelineEntry,
    TimelinePage,
)
from tradeproxy.journal.base import Log, Row, Tables

MAX_EXAMINED = 500
"""Orders or events that one call looks at."""

MAX_FOUND = 100
"""Orders or events that one call returns: each is a row of the log to read."""

MAX_BYTES = 256 * 1024
"""Bytes of orders and rows behind which a question reads no further one."""


class BookReader:
    """One question to the book. What the store does not have yet is in the state.

    Every method may raise UnreadableError or sqlite3.Error.
    """

    def __init__(self, journal: Log, state: BookState, tables: Tables) -> None:
        self._journal = journal
        self._state = state
        self._orders = state.orders
        self._run = tables.run
        self._bytes = 0  # that were read for this question

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
                return self.view_family(entry, [leg for leg in family if leg.parent_id == order_id])
        return None

    def view(self, entry: OrderEntry) -> OrderView | None:
        """Return an order that is in memory, with its legs."""
        return self.view_family(entry, self._orders.legs(entry.id))

    def view_family(self, entry: OrderEntry, legs: Sequence[OrderEntry]) -> OrderView | None:
        """Return an order with these legs; None if its JSON is no longer stored."""
        return make_view(entry, legs, *map(self.read_document, (entry, *legs)))

    def read_document(self, entry: OrderEntry) -> bytes | None:
        """Return the JSON of one order; None if its row is no longer stored."""
        if entry.document is not None:
            self._bytes += len(entry.document)
            return entry.document
        row = self._read_row(entry.seq) if entry.seq else None
        return None if row is None or row.payload is None else find_order(row.payload, entry.id)

    def orders(self, query: OrderQuery, after: OrderKey | None, limit: int) -> OrdersPage:
        """Return the next orders of a list, newest submission first."""
        limit = max(min(limit, MAX_FOUND), 1)
        if query.status is OrderScope.OPEN:
            return self._open_orders(query, after, limit)
        stored = self._run(lambda sql: store.list_orders(sql, query, after, MAX_EXAMINED))
        entries = self._add_unsaved_orders(stored, query, after)
        views: list[OrderView] = []
        for examined, entry in enumerate(entries, 1):
            if _matches(entry, query) and (view := self._listed(entry, query)) is not None:
                views.append(view)
            if len(views) == limit or self._bytes >= MAX_BYTES:
                return OrdersPage(tuple(views), _key(entry), examined)
        ended = len(entries) < MAX_EXAMINED and len(stored) < MAX_EXAMINED
        next_ = None if ended or not entries else _key(entries[-1])
        return OrdersPage(tuple(views), next_, len(entries))

    def _add_unsaved_orders(
        self, stored: list[OrderEntry], query: OrderQuery, after: OrderKey | None
    ) -> list[OrderEntry]:
        found = {entry.id: entry for entry in stored}
        # Behind the last stored one there may be others that were not read.
        end = _sort_key(stored[-1]) if len(stored) >= MAX_EXAMINED else (0, "")
        for entry in self._orders.dirty.values():
            found.pop(entry.id, None)
            is_listed = entry.parent_id is None and _sort_key(entry) >= end
            if is_listed and _is_in_range(entry, query, after):
                found[entry.id] = entry
        return sorted(found.values(), key=_sort_key, reverse=True)[:MAX_EXAMINED]

    def _listed(self, entry: OrderEntry, query: OrderQuery) -> OrderView | None:
        if (known := self._orders.get(entry.id)) is not None:
            view = self.view(known)
        elif entry.last < self._journal.first:
            return None  # trimmed, and soon to be removed
        elif " " in entry.symbols or not entry.symbol or self._may_have_legs(entry):
            view = self.order(entry.id)
        else:
            view = self.view_family(entry, ())
        if view is None or (query.status is OrderScope.CLOSED and view.is_open):
            return None
        return view

    def _may_have_legs(self, entry: OrderEntry) -> bool:
        return self._run(lambda sql: store.has_legs(sql, entry.id))

    def _open_orders(self, query: OrderQuery, after: OrderKey | None, limit: int) -> OrdersPage:
        roots = sorted(self._orders.iterate_roots(), key=_sort_key)
        views: list[OrderView] = []
        for entry in reversed(roots):
            if not _is_in_range(entry, query, after) or not _matches(entry, query):
                continue
            if (view := self.view(entry)) is not None:
                views.append(view)
            if len(views) == limit or self._bytes >= MAX_BYTES:
                return OrdersPage(tuple(views), _key(entry), len(roots))
        return OrdersPage(tuple(views), None, len(roots))

    # Events.

    def timeline(self, order_id: str, after: int, limit: int) -> TimelinePage:
        """Return the next events of an order, oldest first. A leg is not in all of its parent's."""
        limit = max(min(limit, MAX_FOUND), 1)
        seqs = self._list_order_events(self._find_nums(order_id), after, limit)
        rows, next_ = self._rows(seqs)
        found = (_read_entry(row, order_id) for row in rows)
        if next_ is None and len(seqs) == limit:
            next_ = seqs[-1]
        return TimelinePage(tuple(entry for entry in found if entry is not None), next_)

    def _list_order_events(self, nums: Sequence[int], after: int, limit: int) -> list[int]:
        stored = self._run(lambda sql: store.list_order_events(sql, nums, after, limit))
        unsaved = (seq for seq, num, *_ in self._state.events if num in nums and seq > after)
        return [*stored, *unsaved][:limit]

    def events(self, query: EventQuery, before: int | None, limit: int) -> EventsPage:
        """Return the next rows of a search, newest first."""
        found, next_, examined = self._search(query, before, max(min(limit, MAX_FOUND), 1))
        rows, last = self._rows(found)
        return EventsPage(tuple(rows), next_ if last is None else last, examined)

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
        stored = self._run(lambda sql: store.list_events(sql, before, nums, MAX_EXAMINED))
        events = [*self._list_unsaved_events(before, nums), *stored][:MAX_EXAMINED]
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

    def _list_unsaved_events(
        self, before: int, nums: Sequence[int] | None
    ) -> Iterator[tuple[int, str, int | None, str | None, str | None]]:
        orders = {entry.num: entry for entry in self._orders.dirty.values()}
        for seq, num, _, time, kind in reversed(self._state.events):
            if seq < before and (nums is None or num in nums):
                order = None if num is None else orders.get(num)
                symbols, client_order_id = (
                    (None, None) if order is None else (order.symbols, order.client_order_id)
                )
                yield seq, kind, time, symbols, client_order_id

    def _find_begin(self, query: EventQuery) -> int:
        """Return the number before which every row that a search may find is."""
        if query.until is None:
            return self._journal.last + 1
        until = query.until
        later = self._journal.first_since(until + 1)
        late = self._run(lambda sql: store.find_last_late(sql, until))
        for seq, _, is_late, time, _ in self._state.events:
            if is_late and time is not None and time <= until:
                late = seq
        return max(self._journal.last + 1 if later is None else later, late + 1)

    def _find_nums(self, order_id: str) -> list[int]:
        """Return the numbers of an order and of its parent."""
        if not order_id.isascii():
            return []
        if (entry := self._orders.get(order_id)) is not None:
            parent = self._orders.get(entry.parent_id or "")
            return [entry.num] if parent is None else [parent.num, entry.num]
        family = self._run(lambda sql: store.load_family(sql, order_id))
        parent_id = next((entry.parent_id for entry in family if entry.id == order_id), None)
        return [entry.num for entry in family if entry.id in (order_id, parent_id)]

    def _rows(self, seqs: Sequence[int]) -> tuple[list[Row], int | None]:
        """Return rows up to MAX_BYTES, and the number of the last one if others are left."""
        rows: list[Row] = []
        for seq in seqs:
            row = self._read_row(seq)
            if row is not None and row.payload is not None:
                rows.append(row)
            if self._bytes >= MAX_BYTES and seq != seqs[-1]:
                return rows, seq
        return rows, None

    def _read_row(self, seq: int) -> Row | None:
        row = self._journal.row(seq)
        self._bytes += 0 if row is None else len(row.payload or b"")
        return row


def _sort_key(entry: OrderEntry) -> tuple[int, str]:
    return entry.submitted, entry.id


def _is_in_range(entry: OrderEntry, query: OrderQuery, after: OrderKey | None) -> bool:
    """Whether an order is behind `after`, newest submission first, and in the query's times."""
    return (
        (after is None or _sort_key(entry) < (after.submitted, after.id))
        and (query.after is None or entry.submitted > query.after)
        and (query.until is None or entry.submitted <= query.until)
    )


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


def make_view(
    entry: OrderEntry, legs: Sequence[OrderEntry], document: bytes | None, *of_legs: bytes | None
) -> OrderView | None:
    """Return an order with these legs, from their JSON; None without that of the order."""
    if document is None:
        return None
    if legs:
        document = with_legs(document, [leg for leg in of_legs if leg is not None])
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
