"""The records of the book per strategy: what fill_sql.py writes, and what is not written yet."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from contextlib import suppress
from typing import TypeVar

from msgspec import MsgspecError
from msgspec.json import Decoder, encode
from msgspec.structs import replace

from tradeproxy.book import fill_sql
from tradeproxy.book.executions import Execution
from tradeproxy.book.fill_records import BookedFill, Opening, OrderRecord
from tradeproxy.book.fill_sql import HAS_ALIAS, HAS_REF, IS_FILLED
from tradeproxy.book.lots import FillKey
from tradeproxy.journal.base import Tables
from tradeproxy.journal.stored_keys import KeyFilter

MAX_CACHED = 128
"""Orders whose record and fills are kept in memory: most events are about a few of them."""

MAX_FILLS = 128
"""Fills of an order that are read together and kept in memory, its first ones. The others are
looked up one by one. The files have this number: see journal/sql/extra_fills.sql."""

_UNBOOKED = "unbooked"
"""The key in strategy_meta of what could not be booked, with a number behind it."""

_EXECUTION, _EXECUTIONS = Decoder(Execution), Decoder(list[Execution])

_T = TypeVar("_T")


class FillStore:
    """The orders and fills of one account. What is put is in memory until `save`.

    A record that is put replaces the one with its ids. Every method that reads may raise
    UnreadableError or sqlite3.Error.
    """

    def __init__(self, tables: Tables, expected: int = 0) -> None:
        """Read what is in memory at all times. `expected` is that of Orders."""
        self._run = tables.run
        self._known: OrderedDict[str, OrderRecord | None] = OrderedDict()
        # The first fills of an order by their `ref`.
        self._first_fills: OrderedDict[str, dict[str, BookedFill]] = OrderedDict()
        self._orders: dict[str, OrderRecord] = {}
        self._linked: dict[str, dict[str, None]] = {}  # of these orders, by `above`
        self._fills: dict[str, dict[str, BookedFill]] = {}  # by order and `ref`
        self._unsaved_fills = 0
        # Which of these are in the database in an earlier state.
        self._replaced_orders: set[str] = set()
        self._replaced_fills: set[tuple[str, str]] = set()
        self._openings = {each.symbol: each for each in self._run(fill_sql.load_openings)}
        self._new_openings: dict[str, Opening] = {}
        # Few: the predecessors and parents that are older than the log.
        self._awaited = self._run(fill_sql.load_awaited)
        self._names = self._run(fill_sql.load_names)
        self._new_names: list[str] = []
        self._has_cleared_names = False
        self._meta: dict[str, str] = self._run(fill_sql.load_meta)
        self._new_meta: dict[str, str | None] = {}  # None for what is removed
        self._unbooked: dict[Execution, int] = {}
        self._take_unbooked()
        self.is_new = not self._run(fill_sql.has_orders)
        """Whether there were no orders at first."""
        # The ids of all orders, if there were none at first: until `forget_seen`.
        self._seen = KeyFilter(expected) if self.is_new else None

    def _take_unbooked(self) -> None:
        """Move what could not be booked out of the texts, each with the number in its key."""
        keys = [key for key in self._meta if key.startswith(f"{_UNBOOKED} ")]
        for key in sorted(keys, key=_read_number):
            with suppress(MsgspecError):
                self._unbooked[_EXECUTION.decode(self._meta.pop(key))] = _read_number(key)
        if _UNBOOKED in self._meta:  # an earlier commit had all of them in one text
            with suppress(MsgspecError):
                for each in _EXECUTIONS.decode(self._meta.pop(_UNBOOKED)):
                    self.add_unbooked(each)
            self._new_meta[_UNBOOKED] = None

    # Writing.

    @property
    def has_changes(self) -> bool:
        """Whether anything was put since `clear_changes`."""
        changes = self._orders, self._fills, self._new_openings, self._new_names, self._new_meta
        return self._has_cleared_names or any(changes)

    @property
    def unsaved(self) -> int:
        """How many fills, or orders if they are more, were put since `clear_changes`."""
        return max(self._unsaved_fills, len(self._orders))

    def save(self, connection: sqlite3.Connection) -> None:
        """Write what was put, in the caller's transaction. Raises sqlite3.Error."""
        fill_sql.save_orders(connection, self._orders.values(), self._replaced_orders)
        fills = [each for found in self._fills.values() for each in found.values()]
        fill_sql.save_fills(connection, fills, self._replaced_fills)
        fill_sql.save_openings(connection, self._new_openings.values())
        fill_sql.save_names(connection, self._new_names, clears=self._has_cleared_names)
        fill_sql.save_meta(connection, self._new_meta)

    def clear_changes(self) -> None:
        """Forget what was put: the database has it."""
        self._orders.clear()
        self._linked.clear()
        self._fills.clear()
        self._unsaved_fills = 0
        self._replaced_orders.clear()
        self._replaced_fills.clear()
        self._new_openings.clear()
        self._new_names.clear()
        self._has_cleared_names = False
        self._new_meta.clear()

    def forget_seen(self) -> None:
        """Free what was kept of each order while the whole log was read."""
        self._seen = None

    # Orders.

    def get_order(self, order_id: str) -> OrderRecord | None:
        """Return an order; None if it is unknown."""
        if (order := self._orders.get(order_id)) is not None:
            return order
        if order_id not in self._known:
            if self._seen is not None and not self._seen.may_have(order_id):
                return None
            found = self._run(lambda sql: fill_sql.load_order(sql, order_id))
            self._remember(self._known, order_id, found)
        return self._known[order_id]

    def put_order(self, order: OrderRecord, before: OrderRecord | None) -> None:
        """Store an order in place of `before`; None if it is new."""
        if order.above and (before is None or order.above != before.above):
            if self.get_order(order.above) is None:  # this may raise: nothing is changed yet
                self._awaited.add(order.above)
            self._linked.setdefault(order.above, {})[order.id] = None
        if before is None:
            self._awaited.discard(order.id)
            self._remember(self._first_fills, order.id, {})  # fills come after their order
        elif order.id not in self._orders:
            self._replaced_orders.add(order.id)
        if self._seen is not None:
            self._seen.add(order.id)
        self._orders[order.id] = order
        self._remember(self._known, order.id, order)

    def read_orders(self, after: int, limit: int) -> tuple[list[OrderRecord], int]:
        """Return about `limit` orders behind a position, and where they end; none at the end.

        The first position is 0. An order that is put meanwhile may be among them or not.
        """
        rows = self._run(lambda sql: fill_sql.load_orders(sql, None, after, limit))
        found = [self._orders.get(order.id, order) for _, order in rows]
        if not after:
            found += [e for e in self._orders.values() if e.id not in self._replaced_orders]
        return found, rows[-1][0] if rows else max(after, 1)

    def read_linked(
        self, order_id: str, after: int, limit: int
    ) -> tuple[list[OrderRecord], int | None]:
        """Return orders whose `above` is this one as `read_orders` does; None at the end."""
        rows = self._run(lambda sql: fill_sql.load_orders(sql, order_id, after, limit))
        found = {order.id: self._orders.get(order.id, order) for _, order in rows}
        if not after:
            found |= {key: self._orders[key] for key in self._linked.get(order_id, ())}
        linked = [order for order in found.values() if order.above == order_id]
        return linked, rows[-1][0] if len(rows) == limit else None

    def is_awaited(self, order_id: str) -> bool:
        """Whether an order that is unknown is the `above` of others."""
        return order_id in self._awaited

    def list_moving(self) -> list[str]:
        """Return the ids of the orders that are moving. Call it before any order is put."""
        return self._run(fill_sql.load_moving)

    # Fills.

    def get_fill(self, order_id: str, ref: str) -> BookedFill | None:
        """Return the fill of an order with this `ref` or `alias`; None if there is none."""
        first = self._load_first_fills(order_id)
        found = _find_ref(first, ref)
        if found is not None or len(first) < MAX_FILLS:
            return found
        return (
            _find_ref(self._fills.get(order_id, {}), ref)
            or self._look_up(order_id, HAS_REF, ref, ref)
            or (self._look_up(order_id, HAS_ALIAS, ref, ref) if ref else None)
        )

    def find_filled(self, order_id: str, filled: str) -> BookedFill | None:
        """Return a fill that counts by how much of the order was filled with it; None without."""
        first = self._load_first_fills(order_id)
        found = _find_filled(first, filled)
        if found is not None or len(first) < MAX_FILLS:
            return found
        unsaved = self._fills.get(order_id, {})
        return _find_filled(unsaved, filled) or self._look_up(order_id, IS_FILLED, filled)

    def put_fill(self, fill: BookedFill, before: BookedFill | None) -> None:
        """Store a fill in place of `before`, which has the same ids; None if it is new."""
        first = self._load_first_fills(fill.order_id)  # this may raise: nothing is changed yet
        if before is None and len(first) >= MAX_FILLS:
            fill = replace(fill, is_extra=True)
        unsaved = self._fills.setdefault(fill.order_id, {})
        if fill.ref not in unsaved:
            self._unsaved_fills += 1
            if before is not None:
                self._replaced_fills.add((fill.order_id, fill.ref))
        unsaved[fill.ref] = fill
        if not fill.is_extra:
            first[fill.ref] = fill

    def read_fills(
        self, order_id: str, after: int, limit: int
    ) -> tuple[list[BookedFill], int | None]:
        """Return fills of an order as `read_orders` returns orders; None at the end."""
        rows = self._run(lambda sql: fill_sql.load_fills(sql, order_id, after, limit))
        unsaved = self._fills.get(order_id, {})
        found = [unsaved.get(fill.ref, fill) for _, fill in rows]
        if not after:
            stored = self._replaced_fills
            found += [fill for ref, fill in unsaved.items() if (order_id, ref) not in stored]
        return found, rows[-1][0] if len(rows) == limit else None

    def select_fills(
        self, place: tuple[str, str], after: FillKey | None, limit: int
    ) -> list[BookedFill]:
        """Return the next fills of a strategy and symbol in the order of keys, busted ones too."""
        # Those that were put since may replace as many of the stored ones.
        count = limit + len(self._replaced_fills)
        stored = self._run(lambda sql: fill_sql.select_fills(sql, place, after, count))
        found = [fill for fill in stored if (fill.order_id, fill.ref) not in self._replaced_fills]
        found += [
            fill
            for fills in self._fills.values()
            for fill in fills.values()
            if fill.place == place and (after is None or fill.key > after)
        ]
        return sorted(found, key=lambda fill: fill.key)[:limit]

    def list_places(self) -> list[tuple[str, str]]:
        """Return each strategy and symbol that has a fill or had one."""
        places = dict.fromkeys(self._run(fill_sql.load_places))
        unsaved = (fill.place for fills in self._fills.values() for fill in fills.values())
        return list(places | dict.fromkeys(unsaved))

    # What was held at the start, names, and what could not be booked.

    def get_opening(self, symbol: str) -> Opening | None:
        """Return what was held of a symbol at the start; None if nothing or unknown."""
        return self._openings.get(symbol)

    def put_opening(self, opening: Opening) -> None:
        """Store what was held of a symbol at the start."""
        self._openings[opening.symbol] = self._new_openings[opening.symbol] = opening

    def list_openings(self) -> list[Opening]:
        """Return what was held at the start."""
        return list(self._openings.values())

    def list_names(self) -> list[str]:
        """Return the strategies that have a name of their own, oldest first."""
        return list(self._names)

    def add_name(self, name: str) -> None:
        """Store a strategy that gets a name of its own."""
        self._names.append(name)
        self._new_names.append(name)

    def clear_names(self) -> None:
        """Forget all names."""
        self._names.clear()
        self._new_names.clear()
        self._has_cleared_names = True

    def list_unbooked(self) -> list[Execution]:
        """Return the executions that could not be booked, oldest first."""
        return list(self._unbooked)

    def add_unbooked(self, execution: Execution) -> None:
        """Store an execution that could not be booked, behind the others."""
        number = 1 + next(reversed(self._unbooked.values()), 0)
        self._unbooked[execution] = number
        self._new_meta[f"{_UNBOOKED} {number}"] = encode(execution).decode()

    def remove_unbooked(self, execution: Execution) -> None:
        """Forget an execution that could not be booked."""
        self._new_meta[f"{_UNBOOKED} {self._unbooked.pop(execution)}"] = None

    # Short texts.

    def get_meta(self, key: str) -> str:
        """Return a text by its key; "" if there is none."""
        return self._meta.get(key, "")

    def put_meta(self, key: str, value: str) -> None:
        """Store a text."""
        if self._meta.get(key) != value:
            self._meta[key] = self._new_meta[key] = value

    def _load_first_fills(self, order_id: str) -> dict[str, BookedFill]:
        """Return up to MAX_FILLS fills of an order; there are no others if they are fewer."""
        first = self._first_fills.get(order_id)
        if first is None:
            rows = self._run(lambda sql: fill_sql.load_fills(sql, order_id, 0, MAX_FILLS))
            first = {fill.ref: fill for _, fill in rows}
            unsaved = self._fills.get(order_id, {})
            first |= {ref: fill for ref, fill in unsaved.items() if not fill.is_extra}
            self._remember(self._first_fills, order_id, first)
        return first

    def _look_up(self, order_id: str, where: str, *values: str) -> BookedFill | None:
        """Return a fill of an order that fulfils a condition, and is not put since."""
        found = self._run(lambda sql: fill_sql.find_fills(sql, order_id, where, values, MAX_FILLS))
        unsaved = self._fills.get(order_id, {})
        # The caller has looked at those that are not saved.
        return next((fill for fill in found if fill.ref not in unsaved), None)

    def _remember(self, cache: OrderedDict[str, _T], key: str, value: _T) -> None:
        cache[key] = value
        cache.move_to_end(key)
        if len(cache) > MAX_CACHED:
            cache.popitem(last=False)


def _find_ref(fills: dict[str, BookedFill], ref: str) -> BookedFill | None:
    if (found := fills.get(ref)) is not None or not ref:
        return found
    for fill in fills.values():
        if fill.alias == ref:
            return fill
    return None


def _find_filled(fills: dict[str, BookedFill], filled: str) -> BookedFill | None:
    found = (fill for fill in fills.values() if fill.filled == filled and not fill.is_busted)
    return next(found, None)


def _read_number(key: str) -> int:
    return int(key.removeprefix(f"{_UNBOOKED} "))
