"""The newest state of every order, and the orders as families: an order and its legs.

A family is in memory while one of its orders is open, with the JSON of each. Once all are closed,
the store has them, and their JSON is in the row of the log that brought it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy

from msgspec import Struct

from tradeproxy.book.fields import BookOrder
from tradeproxy.journal.stored_keys import KeyFilter
from tradeproxy.wire.amount import is_more
from tradeproxy.wire.event import CLOSED_STATUSES

MAX_OPEN = 10_000
"""Orders in memory, with their legs: about 25 MB. Alpaca has no limit of open orders."""

MAX_OPEN_BYTES = 32 * 1024 * 1024
"""Bytes of their JSON. An order of Alpaca's has one or two thousand."""


class OrderEntry(Struct, gc=False):
    """What is known of one order."""

    num: int
    """Its number in the store."""
    id: str
    parent_id: str | None
    client_order_id: str
    symbol: str
    symbols: str
    """The symbols of the order and its legs, separated by spaces."""
    status: str
    filled_qty: str
    seq: int
    """The row of its newest state; 0 if that is from an answer of Alpaca."""
    last: int
    """The last row that is about it, or that was applied before the answer."""
    submitted: int
    updated: int
    document: bytes | None
    """Its own JSON. None if it is in the store only, or in the row `seq` of the log."""

    @property
    def is_open(self) -> bool:
        """Whether the order itself can still change."""
        return self.status not in CLOSED_STATUSES


def is_newer(known: OrderEntry, order: BookOrder, updated: int) -> bool:
    """Whether a state is newer than the known one. At equal times it is.

    The rule is that of `newer_state` in journal/backlog.py: events may come out of order.
    """
    if not updated or updated >= known.updated:
        return True
    if order.is_open == known.is_open:
        return is_more(order.filled_qty, known.filled_qty)
    return known.is_open


class Orders:
    """The orders of one account. Open families are here; `load` finds those of the store."""

    def __init__(
        self,
        load: Callable[[str], list[OrderEntry]],
        next_num: int | None = None,
        expected: int = 0,
    ) -> None:
        """Begin without orders.

        Args:
            load: returns all orders of the family that an order id is in, each with its document;
                none if it is unknown.
            next_num: the number of the next new order; None if the store has no orders.
            expected: about how many orders come until `forget_seen`.
        """
        self._load = load
        # The ids of all orders, until `forget_seen`: most look-ups are for a new one.
        self._seen = KeyFilter(expected) if next_num is None else None
        self.next_num = next_num or 1
        self._entries: dict[str, OrderEntry] = {}
        self._legs: dict[str, list[str]] = {}
        self._closed: set[str] = set()
        self.has_overflowed = False
        """Whether open orders were left to the store, because they are too many for the memory."""
        self._bytes = 0  # of the JSON in memory, or more: it counts what was replaced too
        self.dirty: dict[str, OrderEntry] = {}
        """The orders that changed since `clear_dirty`."""
        self.dirty_bytes = 0
        """Bytes of JSON that came since then."""

    def adopt(self, entries: Iterable[OrderEntry]) -> None:
        """Keep these orders of the store in memory."""
        for entry in entries:
            self._keep(entry)
            self._bytes += _count_bytes(entry)

    def get(self, order_id: str) -> OrderEntry | None:
        """Return an order that is in memory: its family is open, or has changed."""
        return self._entries.get(order_id)

    def _find(self, order_id: str) -> OrderEntry | None:
        """Return an order that is not in memory; None if it is unknown, and will be created."""
        if self._seen is not None and not self._seen.add(order_id):
            return None
        self.adopt(self._load(order_id))
        return self._entries.get(order_id)

    def forget_seen(self) -> None:
        """Free what was kept of each order while the whole log was read."""
        self._seen = None

    def legs(self, parent_id: str) -> list[OrderEntry]:
        """Return the legs in memory of an order, in the order of their first event."""
        return [self._entries[leg_id] for leg_id in self._legs.get(parent_id, ())]

    def iterate_roots(self) -> Iterator[OrderEntry]:
        """Yield every order that is open, or has an open leg, without those that are legs."""
        for entry in self._entries.values():
            is_root = entry.parent_id is None or entry.parent_id not in self._entries
            if is_root and self.is_family_open(entry):
                yield entry

    def copy(self) -> Orders:
        """Return what is in memory as it is now, to be read: 10,000 orders take 3 ms."""
        orders = Orders(self._load, self.next_num)
        orders._entries = {key: copy(entry) for key, entry in self._entries.items()}
        orders._legs = {key: legs.copy() for key, legs in self._legs.items()}
        return orders

    def list_all(self) -> list[OrderEntry]:
        """Return every order in memory."""
        return list(self._entries.values())

    def is_family_open(self, root: OrderEntry) -> bool:
        """Whether an order or one of its legs can still change."""
        if root.is_open:
            return True
        return root.id in self._legs and any(leg.is_open for leg in self.legs(root.id))

    def is_in_open_family(self, entry: OrderEntry) -> bool:
        """Whether an order in memory, its parent or one of the parent's legs can still change."""
        root = None if entry.parent_id is None else self._entries.get(entry.parent_id)
        return self.is_family_open(root or entry)

    def apply(self, order: BookOrder, seq: int, time: int) -> OrderEntry:
        """Take an order of a row, with its legs, and return what is known of it now."""
        entry = self._update(order, seq, seq, time, None)
        for leg in order.legs:
            self._update(leg, seq, seq, time, order.id)
        self._settle(entry)
        return entry

    def seed(self, order: BookOrder, last: int) -> None:
        """Take an order of Alpaca's answer, which was sent after row `last` had been applied."""
        entry = self._update(order, 0, last, 0, None)
        for leg in order.legs:
            self._update(leg, 0, last, 0, order.id)
        self._settle(entry)

    def _update(
        self, order: BookOrder, seq: int, last: int, time: int, parent_id: str | None
    ) -> OrderEntry:
        updated = order.updated or time
        known = self._entries.get(order.id) or self._find(order.id)
        if known is None:
            known = self._create(order, seq, last, updated, parent_id)
        elif seq == 0 and updated <= known.updated:
            pass  # the answer says nothing new
        elif is_newer(known, order, updated):
            known.client_order_id = order.client_order_id or known.client_order_id
            known.symbol = order.symbol or known.symbol
            if order.legs:
                known.symbols = " ".join(order.symbols)
            known.status, known.filled_qty = order.status, order.filled_qty
            known.seq, known.document = seq, order.document
            known.submitted = order.submitted or known.submitted
            if updated > known.updated:
                known.updated = updated
        if last > known.last:
            known.last = last
        if parent_id is not None and known.parent_id != parent_id:
            known.parent_id = parent_id
            self._keep(known)
        self.dirty[known.id] = known
        size = len(order.document)
        self._bytes += size
        self.dirty_bytes += size
        return known

    def _create(
        self, order: BookOrder, seq: int, last: int, updated: int, parent_id: str | None
    ) -> OrderEntry:
        num, self.next_num = self.next_num, self.next_num + 1
        entry = OrderEntry(
            num,
            order.id,
            parent_id,
            order.client_order_id,
            order.symbol,
            " ".join(order.symbols),
            order.status,
            order.filled_qty,
            seq,
            last,
            order.submitted or updated,
            updated,
            order.document,
        )
        self._keep(entry)
        return entry

    def _keep(self, entry: OrderEntry) -> None:
        self._entries[entry.id] = entry
        if entry.parent_id is not None:
            legs = self._legs.setdefault(entry.parent_id, [])
            if entry.id not in legs:
                legs.append(entry.id)

    def _settle(self, entry: OrderEntry) -> None:
        """Let the store have a whole family again if one of its orders changed."""
        root = entry
        if entry.parent_id is not None:
            root = self._entries.get(entry.parent_id) or entry
        if root.id in self._legs:
            for each in (root, *self.legs(root.id)):
                self.dirty[each.id] = each
        if not self.is_family_open(root):
            self._closed.add(root.id)

    def clear_dirty(self) -> None:
        """Forget what changed, and the families that are closed: the store has both."""
        self.dirty.clear()
        self.dirty_bytes = 0
        for root_id in self._closed:
            root = self._entries.get(root_id)
            if root is not None and not self.is_family_open(root):
                self._drop(root)
        self._closed.clear()
        if self._bytes > MAX_OPEN_BYTES:
            self._bytes = sum(map(_count_bytes, self._entries.values()))
        while len(self._entries) > MAX_OPEN or self._bytes > MAX_OPEN_BYTES:
            self.has_overflowed = True
            entry = next(iter(self._entries.values()))
            # A leg leaves with its family: its event may have come before the parent's.
            self._drop(self._entries.get(entry.parent_id or "") or entry)

    def _drop(self, entry: OrderEntry) -> None:
        """Leave an order and its legs to the store."""
        if entry.parent_id is not None:  # its parent is not in memory
            self._legs.pop(entry.parent_id, None)
        for leg_id in self._legs.pop(entry.id, ()):
            self._remove(leg_id)
        self._remove(entry.id)

    def _remove(self, order_id: str) -> None:
        if (entry := self._entries.pop(order_id, None)) is not None:
            self._bytes -= _count_bytes(entry)


def _count_bytes(entry: OrderEntry) -> int:
    return len(entry.document or b"")
