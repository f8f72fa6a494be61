"""The SQL of the book per strategy: its orders, fills and short texts.

Every function may raise sqlite3.Error. The caller's transaction is around them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterable
from decimal import Decimal
from typing import Any

from msgspec.json import Decoder, encode
from msgspec.structs import astuple

from tradeproxy.book.fill_records import BookedFill, Opening, OrderRecord
from tradeproxy.book.lots import FillKey

# The indexes have the end of an id only: see store.py for the `+`.
HAS_REF = "extra = 1 AND substr(ref, -8) = substr(?, -8) AND +ref = ?"
HAS_ALIAS = "alias != '' AND substr(alias, -8) = substr(?, -8) AND +alias = ?"
IS_FILLED = "extra = 1 AND filled = ? AND busted = 0"
"""Conditions for `find_fills`, and for fills that are `is_extra`."""

_IS_ORDER = "substr(id, -8) = substr(?, -8) AND +id = ?"
_IS_OF_ORDER = "substr(order_id, -8) = substr(?, -8) AND +order_id = ?"
_FILL_COLUMNS = """
    order_id, ref, strategy, symbol, asset_class, time, event_id, qty, price, multiplier, fee,
    filled, alias, amended, busted, extra
"""
_ORDER_COLUMNS = "client_order_id, parent, replaces, assigned, above, strategy, moving, id"
_ADD_ORDER = f"INSERT INTO strategy_orders ({_ORDER_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
# A row that stays where it is lets `load_orders` and `load_fills` go on behind it.
_SAVE_ORDER = f"""
    UPDATE strategy_orders SET client_order_id = ?, parent = ?, replaces = ?, assigned = ?,
        above = ?, strategy = ?, moving = ? WHERE {_IS_ORDER}
"""
_ADD_FILL = f"""
    INSERT INTO strategy_fills ({_FILL_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SAVE_FILL = """
    UPDATE strategy_fills SET strategy = ?, qty = ?, price = ?, alias = ?, amended = ?, busted = ?
"""
# The first fills of an order have its first rows.
_SAVE_FIRST = f"""{_SAVE_FILL} WHERE rowid = (
    SELECT rowid FROM strategy_fills WHERE {_IS_OF_ORDER} AND ref = ? ORDER BY rowid LIMIT 1
)"""
_SAVE_EXTRA = f"{_SAVE_FILL} WHERE {_IS_OF_ORDER} AND {HAS_REF}"
_SAVE_OPENING = "INSERT OR REPLACE INTO strategy_openings VALUES (?, ?)"
_SAVE_META = "INSERT OR REPLACE INTO strategy_meta VALUES (?, ?)"
_OPENING = Decoder(Opening)


def clear_strategies(connection: sqlite3.Connection) -> None:
    """Remove all records: they are of another account."""
    for table in ("meta", "names", "orders", "fills", "openings"):
        connection.execute(f"DELETE FROM strategy_{table}")


# Orders.


def has_orders(connection: sqlite3.Connection) -> bool:
    """Whether there is any order."""
    return connection.execute("SELECT 1 FROM strategy_orders LIMIT 1").fetchone() is not None


def load_order(connection: sqlite3.Connection, order_id: str) -> OrderRecord | None:
    """Return an order; None if it is unknown."""
    row = connection.execute(
        f"SELECT {_ORDER_COLUMNS} FROM strategy_orders WHERE {_IS_ORDER}", (order_id, order_id)
    ).fetchone()
    return None if row is None else _decode_order(row)


def load_orders(
    connection: sqlite3.Connection, above: str | None, after: int, limit: int
) -> list[tuple[int, OrderRecord]]:
    """Return orders behind a row, with their rows: those below one, or all without `above`."""
    where, values = ("", ()) if above is None else ("above = ? AND above != '' AND", (above,))
    rows = connection.execute(
        f"SELECT {_ORDER_COLUMNS}, rowid FROM strategy_orders WHERE {where} rowid > ?"
        " ORDER BY rowid LIMIT ?",
        (*values, after, limit),
    )
    return [(row[-1], _decode_order(row)) for row in rows]


def load_moving(connection: sqlite3.Connection) -> list[str]:
    """Return the ids of the orders that are moving."""
    rows = connection.execute("SELECT id FROM strategy_orders WHERE moving = 1")
    return [order_id for (order_id,) in rows]


def load_awaited(connection: sqlite3.Connection) -> set[str]:
    """Return the ids of unknown orders that are the `above` of others."""
    rows = connection.execute(
        "SELECT DISTINCT above FROM strategy_orders AS o WHERE above != ''"
        f" AND NOT EXISTS (SELECT 1 FROM strategy_orders WHERE {_IS_ORDER.replace('?', 'o.above')})"
    )
    return {above for (above,) in rows}


def save_orders(
    connection: sqlite3.Connection, orders: Iterable[OrderRecord], stored: Container[str]
) -> None:
    """Write orders; `stored` has the ids of those that have a row."""
    new = [_encode_order(each) for each in orders if each.id not in stored]
    connection.executemany(_ADD_ORDER, new)
    changed = [(*_encode_order(each), each.id) for each in orders if each.id in stored]
    connection.executemany(_SAVE_ORDER, changed)


def _encode_order(order: OrderRecord) -> tuple[str | int, ...]:
    return (
        order.client_order_id,
        order.parent_id,
        order.replaces,
        order.assigned,
        order.above,
        order.strategy,
        int(order.is_moving),
        order.id,
    )


def _decode_order(row: tuple[str, ...]) -> OrderRecord:
    name, parent_id, replaces, assigned, _, strategy, is_moving, order_id = row[:8]
    return OrderRecord(
        order_id, name, parent_id, replaces, assigned, strategy, is_moving=bool(is_moving)
    )


# Fills.


def load_fills(
    connection: sqlite3.Connection, order_id: str, after: int, limit: int
) -> list[tuple[int, BookedFill]]:
    """Return fills of an order behind a row, with their rows."""
    rows = connection.execute(
        f"SELECT {_FILL_COLUMNS}, rowid FROM strategy_fills WHERE {_IS_OF_ORDER} AND rowid > ?"
        " ORDER BY rowid LIMIT ?",
        (order_id, order_id, after, limit),
    )
    return [(row[-1], _decode_fill(row)) for row in rows]


def find_fills(
    connection: sqlite3.Connection, order_id: str, where: str, values: tuple[str, ...], limit: int
) -> list[BookedFill]:
    """Return fills of an order that fulfil a condition."""
    rows = connection.execute(
        f"SELECT {_FILL_COLUMNS} FROM strategy_fills WHERE {_IS_OF_ORDER} AND {where} LIMIT ?",
        (order_id, order_id, *values, limit),
    )
    return [_decode_fill(row) for row in rows]


def select_fills(
    connection: sqlite3.Connection, place: tuple[str, str], after: FillKey | None, limit: int
) -> list[BookedFill]:
    """Return the next fills of a strategy and symbol in the order of keys."""
    behind = "" if after is None else "AND (time, event_id, order_id, ref) > (?, ?, ?, ?)"
    rows = connection.execute(
        f"SELECT {_FILL_COLUMNS} FROM strategy_fills WHERE strategy = ? AND symbol = ? {behind}"
        " ORDER BY time, event_id, order_id, ref LIMIT ?",
        (*place, *(after or ()), limit),
    )
    return [_decode_fill(row) for row in rows]


def load_places(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return each strategy and symbol of the fills."""
    return connection.execute("SELECT DISTINCT strategy, symbol FROM strategy_fills").fetchall()


def save_fills(
    connection: sqlite3.Connection, fills: Iterable[BookedFill], stored: Container[tuple[str, str]]
) -> None:
    """Write fills; `stored` has the order and `ref` of those that have a row."""
    new = [_encode_fill(each) for each in fills if (each.order_id, each.ref) not in stored]
    connection.executemany(_ADD_FILL, new)
    changed = [each for each in fills if (each.order_id, each.ref) in stored]
    first = [(*_encode_change(each), each.ref) for each in changed if not each.is_extra]
    connection.executemany(_SAVE_FIRST, first)
    extra = [(*_encode_change(each), each.ref, each.ref) for each in changed if each.is_extra]
    connection.executemany(_SAVE_EXTRA, extra)


def _encode_fill(fill: BookedFill) -> tuple[object, ...]:
    values = astuple(fill)  # in the order of the columns
    return *values[:7], *map(str, values[7:11]), *values[11:13], *map(int, values[13:])


def _encode_change(fill: BookedFill) -> tuple[object, ...]:
    return (
        fill.strategy,
        str(fill.qty),
        str(fill.price),
        fill.alias,
        int(fill.is_amended),
        int(fill.is_busted),
        *(fill.order_id, fill.order_id),
    )


def _decode_fill(row: tuple[Any, ...]) -> BookedFill:
    return BookedFill(*row[:7], *map(Decimal, row[7:11]), *row[11:13], *map(bool, row[13:16]))


# Openings, names and short texts.


def load_openings(connection: sqlite3.Connection) -> list[Opening]:
    """Return what was held at the start."""
    rows = connection.execute("SELECT entry FROM strategy_openings")
    return [_OPENING.decode(entry) for (entry,) in rows]


def save_openings(connection: sqlite3.Connection, openings: Iterable[Opening]) -> None:
    """Write what was held at the start."""
    connection.executemany(_SAVE_OPENING, [(each.symbol, encode(each)) for each in openings])


def load_names(connection: sqlite3.Connection) -> list[str]:
    """Return the strategies that have a name of their own, oldest first."""
    rows = connection.execute("SELECT name FROM strategy_names ORDER BY num")
    return [name for (name,) in rows]


def save_names(connection: sqlite3.Connection, new: Iterable[str], *, clears: bool) -> None:
    """Add names; with `clears`, remove all others."""
    if clears:
        connection.execute("DELETE FROM strategy_names")
    connection.executemany("INSERT INTO strategy_names (name) VALUES (?)", [(e,) for e in new])


def load_meta(connection: sqlite3.Connection) -> dict[str, str]:
    """Return all short texts by key."""
    return dict(connection.execute("SELECT key, value FROM strategy_meta").fetchall())


def save_meta(connection: sqlite3.Connection, changed: dict[str, str | None]) -> None:
    """Write short texts; None removes one."""
    removed = [(key,) for key, value in changed.items() if value is None]
    connection.executemany("DELETE FROM strategy_meta WHERE key = ?", removed)
    saved = [each for each in changed.items() if each[1] is not None]
    connection.executemany(_SAVE_META, saved)
