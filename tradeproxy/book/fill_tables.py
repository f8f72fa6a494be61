"""The records of the book per strategy in the tables of the book's database."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import TypeVar

from msgspec import MsgspecError
from msgspec.json import Decoder, encode

from tradeproxy.book.executions import Execution
from tradeproxy.book.fill_store import BookedFill, Opening, OrderRecord
from tradeproxy.book.lots import FillKey
from tradeproxy.journal.base import Tables

MAX_CACHED = 128
"""Orders whose record and fills are kept in memory: most events are about a few of them."""

_FILL_COLUMNS = """
    order_id, ref, strategy, symbol, asset_class, time, event_id, qty, price, multiplier, fee,
    filled, alias, amended, busted
"""
_SAVE_ORDER = "INSERT INTO strategy_orders VALUES (?, ?, ?, ?, ?, ?)"
_SAVE_FILL = "INSERT INTO strategy_fills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# The indexes have the end of an id only: see store.py for the `+`.
_IS_ORDER = "substr(id, -8) = substr(?, -8) AND +id = ?"
_IS_OF_ORDER = "substr(order_id, -8) = substr(?, -8) AND +order_id = ?"
_SAVE_OPENING = "INSERT OR REPLACE INTO strategy_openings VALUES (?, ?)"
_SAVE_META = "INSERT OR REPLACE INTO strategy_meta VALUES (?, ?)"
_UNBOOKED = "unbooked"
"""The key in strategy_meta of what could not be booked, with a number behind it."""

_OPENING, _EXECUTION, _EXECUTIONS = Decoder(Opening), Decoder(Execution), Decoder(list[Execution])

_T = TypeVar("_T")


class TableFillStore:
    """A FillStore in a database. What is put is in memory until `save`.

    Every method that reads may raise UnreadableError or sqlite3.Error.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._known: OrderedDict[str, OrderRecord | None] = OrderedDict()
        self._fills_of: OrderedDict[str, dict[str, BookedFill]] = OrderedDict()
        self._orders: dict[str, OrderRecord] = {}
        self._fills: dict[tuple[str, str], BookedFill] = {}
        # What was put in place of a record that the database may have.
        self._replaced_orders: set[str] = set()
        self._replaced_fills: set[tuple[str, str]] = set()
        self._openings = {each.symbol: each for each in self._run(_load_openings)}
        self._new_openings: dict[str, Opening] = {}
        # Few: the predecessors and parents that are older than the log.
        self._awaited = set(self._run(_load_awaited))
        self._names = self._run(_load_names)
        self._new_names: list[str] = []
        self._has_cleared_names = False
        self._meta: dict[str, str] = self._run(_load_meta)
        self._new_meta: dict[str, str | None] = {}  # None for what is removed
        self._unbooked: dict[Execution, int] = {}
        self._take_unbooked()
        # The hashes of all orders' ids, if there were none at first: until `forget_seen`.
        self._seen: set[int] | None = None if self._run(_has_orders) else set()

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
        """How many fills were put since `clear_changes`."""
        return len(self._fills)

    def save(self, connection: sqlite3.Connection) -> None:
        """Write what was put, in the caller's transaction. Raises sqlite3.Error."""
        connection.executemany(
            f"DELETE FROM strategy_orders WHERE {_IS_ORDER}",
            [(order_id, order_id) for order_id in self._replaced_orders],
        )
        connection.executemany(
            f"DELETE FROM strategy_fills WHERE {_IS_OF_ORDER} AND ref = ?",
            [(order_id, order_id, ref) for order_id, ref in self._replaced_fills],
        )
        connection.executemany(_SAVE_ORDER, [_encode_order(each) for each in self._orders.values()])
        connection.executemany(_SAVE_FILL, [_encode_fill(each) for each in self._fills.values()])
        connection.executemany(
            _SAVE_OPENING, [(each.symbol, encode(each)) for each in self._new_openings.values()]
        )
        if self._has_cleared_names:
            connection.execute("DELETE FROM strategy_names")
        connection.executemany(
            "INSERT INTO strategy_names (name) VALUES (?)", [(name,) for name in self._new_names]
        )
        removed = [(key,) for key, value in self._new_meta.items() if value is None]
        connection.executemany("DELETE FROM strategy_meta WHERE key = ?", removed)
        saved = [each for each in self._new_meta.items() if each[1] is not None]
        connection.executemany(_SAVE_META, saved)

    def clear_changes(self) -> None:
        """Forget what was put: the database has it."""
        self._orders.clear()
        self._fills.clear()
        self._replaced_orders.clear()
        self._replaced_fills.clear()
        self._new_openings.clear()
        self._new_names.clear()
        self._has_cleared_names = False
        self._new_meta.clear()

    def forget_seen(self) -> None:
        """Free what was kept of each order while the whole log was read."""
        self._seen = None

    # FillStore.

    def get_order(self, order_id: str) -> OrderRecord | None:
        """Return an order; None if it is unknown."""
        if (order := self._orders.get(order_id)) is not None:
            return order
        if self._seen is not None and hash(order_id) not in self._seen:
            return None
        if order_id not in self._known:
            self._remember(self._known, order_id, self._run(lambda sql: _load_order(sql, order_id)))
        return self._known[order_id]

    def put_order(self, order: OrderRecord) -> None:
        """Store an order."""
        if self.get_order(order.id) is None:
            self._awaited.discard(order.id)
            self._remember(self._fills_of, order.id, {})  # fills come after their order
        else:
            self._replaced_orders.add(order.id)
        if order.above and self.get_order(order.above) is None:
            self._awaited.add(order.above)
        if self._seen is not None:
            self._seen.add(hash(order.id))
        self._orders[order.id] = order
        self._remember(self._known, order.id, order)

    def list_linked(self, order_id: str) -> list[str]:
        """Return the ids of the orders whose `above` is this one."""
        stored = self._run(lambda sql: _load_linked(sql, order_id))
        found = dict.fromkeys(each for each in stored if each not in self._orders)
        found |= {key: None for key, each in self._orders.items() if each.above == order_id}
        return list(found)

    def is_awaited(self, order_id: str) -> bool:
        """Whether an order that is unknown is the `above` of others."""
        return order_id in self._awaited

    def get_fill(self, order_id: str, ref: str) -> BookedFill | None:
        """Return the fill of an order with this `ref` or `alias`; None if there is none."""
        fills = self._load_fills_of(order_id)
        if (found := fills.get(ref)) is not None:
            return found
        return next((fill for fill in fills.values() if ref and fill.alias == ref), None)

    def put_fill(self, fill: BookedFill) -> None:
        """Store a fill."""
        known = self._load_fills_of(fill.order_id)
        if fill.ref in known:
            self._replaced_fills.add((fill.order_id, fill.ref))
        known[fill.ref] = self._fills[fill.order_id, fill.ref] = fill

    def list_fills(self, order_id: str) -> list[BookedFill]:
        """Return the fills of an order, in any order."""
        return list(self._load_fills_of(order_id).values())

    def select_fills(
        self, place: tuple[str, str], after: FillKey | None, limit: int
    ) -> list[BookedFill]:
        """Return the next fills of a strategy and symbol in the order of keys, busted ones too."""
        # Those that were put since may replace as many of the stored ones.
        count = limit + len(self._fills)
        stored = self._run(lambda sql: _select_fills(sql, place, after, count))
        found = [fill for fill in stored if (fill.order_id, fill.ref) not in self._fills]
        found += [
            fill
            for fill in self._fills.values()
            if fill.place == place and (after is None or fill.key > after)
        ]
        return sorted(found, key=lambda fill: fill.key)[:limit]

    def list_places(self) -> list[tuple[str, str]]:
        """Return each strategy and symbol that has a fill or had one."""
        places = dict.fromkeys(self._run(_load_places))
        return list(places | dict.fromkeys(fill.place for fill in self._fills.values()))

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

    def _load_fills_of(self, order_id: str) -> dict[str, BookedFill]:
        fills = self._fills_of.get(order_id)
        if fills is None:
            fills = self._run(lambda sql: _load_fills(sql, order_id))
            fills |= {ref: each for (o, ref), each in self._fills.items() if o == order_id}
            self._remember(self._fills_of, order_id, fills)
        return fills

    def _remember(self, cache: OrderedDict[str, _T], key: str, value: _T) -> None:
        cache[key] = value
        cache.move_to_end(key)
        if len(cache) > MAX_CACHED:
            cache.popitem(last=False)

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        return self._tables.run(work)


def clear_strategies(connection: sqlite3.Connection) -> None:
    """Remove all records: they are of another account. Raises sqlite3.Error."""
    for table in ("meta", "names", "orders", "fills", "openings"):
        connection.execute(f"DELETE FROM strategy_{table}")


def _load_meta(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT key, value FROM strategy_meta").fetchall())


def _has_orders(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM strategy_orders LIMIT 1").fetchone() is not None


def _read_number(key: str) -> int:
    return int(key.removeprefix(f"{_UNBOOKED} "))


def _load_names(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM strategy_names ORDER BY num")
    return [name for (name,) in rows]


def _load_places(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return connection.execute("SELECT DISTINCT strategy, symbol FROM strategy_fills").fetchall()


def _load_openings(connection: sqlite3.Connection) -> list[Opening]:
    rows = connection.execute("SELECT entry FROM strategy_openings").fetchall()
    return [_OPENING.decode(entry) for (entry,) in rows]


def _load_order(connection: sqlite3.Connection, order_id: str) -> OrderRecord | None:
    row = connection.execute(
        "SELECT id, client_order_id, parent, replaces, assigned FROM strategy_orders"
        f" WHERE {_IS_ORDER}",
        (order_id, order_id),
    ).fetchone()
    return None if row is None else OrderRecord(*row)


def _load_awaited(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT DISTINCT above FROM strategy_orders AS o WHERE above != ''"
        f" AND NOT EXISTS (SELECT 1 FROM strategy_orders WHERE {_IS_ORDER.replace('?', 'o.above')})"
    )
    return [above for (above,) in rows]


def _load_linked(connection: sqlite3.Connection, order_id: str) -> list[str]:
    rows = connection.execute(
        "SELECT id FROM strategy_orders WHERE above = ? AND above != ''", (order_id,)
    )
    return [each for (each,) in rows]


def _load_fills(connection: sqlite3.Connection, order_id: str) -> dict[str, BookedFill]:
    rows = connection.execute(
        f"SELECT {_FILL_COLUMNS} FROM strategy_fills WHERE {_IS_OF_ORDER}", (order_id, order_id)
    )
    return {row[1]: _decode_fill(row) for row in rows}


def _select_fills(
    connection: sqlite3.Connection, place: tuple[str, str], after: FillKey | None, limit: int
) -> list[BookedFill]:
    behind = "" if after is None else "AND (time, event_id, order_id, ref) > (?, ?, ?, ?)"
    rows = connection.execute(
        f"SELECT {_FILL_COLUMNS} FROM strategy_fills WHERE strategy = ? AND symbol = ? {behind}"
        " ORDER BY time, event_id, order_id, ref LIMIT ?",
        (*place, *(after or ()), limit),
    )
    return [_decode_fill(row) for row in rows]


def _encode_order(order: OrderRecord) -> tuple[str, ...]:
    return (
        order.id,
        order.client_order_id,
        order.parent_id,
        order.replaces,
        order.assigned,
        order.above,
    )


def _encode_fill(fill: BookedFill) -> tuple[object, ...]:
    return (
        fill.order_id,
        fill.ref,
        fill.strategy,
        fill.symbol,
        fill.asset_class,
        fill.time,
        fill.event_id,
        *(str(number) for number in (fill.qty, fill.price, fill.multiplier, fill.fee)),
        fill.filled,
        fill.alias,
        fill.is_amended,
        fill.is_busted,
    )


def _decode_fill(row: tuple[str, ...]) -> BookedFill:
    qty, price, multiplier, fee = (Decimal(text) for text in row[7:11])
    return BookedFill(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        int(row[5]),
        row[6],
        qty,
        price,
        multiplier,
        fee,
        row[11],
        row[12],
        bool(row[13]),
        bool(row[14]),
    )
