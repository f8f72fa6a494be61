"""The SQL of the book: its tables in a journal's file or in a temporary database.

Every function may raise sqlite3.Error. The caller's transaction is around them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing

from msgspec import MsgspecError
from msgspec.msgpack import Decoder, Encoder

from tradeproxy.book.orders import OrderEntry
from tradeproxy.book.positions import Position
from tradeproxy.book.state import BookState
from tradeproxy.book.views import OrderKey, OrderQuery

CLEAR_STEP = 1000
"""Rows that one step removes."""

LOAD_BYTES = 1024 * 1024
"""Bytes of JSON after which `load_open` returns."""

_COLUMNS = (
    "num, id, parent, client_order_id, symbol, symbols, status, filled_qty, seq, last,"
    " submitted, updated, document"
)
# sqlite3 searches an adapter for each None and each bool, which takes as long as to insert a row.
_SAVE_ORDER = f"""
    INSERT INTO book_orders ({_COLUMNS}, open)
    VALUES (?, ?, nullif(?, ''), ?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, ''), ?)
    ON CONFLICT (num) DO UPDATE SET
        parent = excluded.parent, client_order_id = excluded.client_order_id,
        symbol = excluded.symbol, symbols = excluded.symbols, status = excluded.status,
        filled_qty = excluded.filled_qty, seq = excluded.seq, last = excluded.last,
        submitted = excluded.submitted, updated = excluded.updated,
        document = excluded.document, open = excluded.open
"""
_SAVE_EVENT = """
    INSERT OR REPLACE INTO book_events (seq, num, late, time, kind) VALUES (?, ?, ?, ?, ?)
"""
_SAVE_POSITION = "INSERT OR REPLACE INTO book_positions (symbol, entry) VALUES (?, ?)"
_POSITION, _POSITION_ENCODER = Decoder(Position), Encoder()
_SAVE_META = "INSERT OR REPLACE INTO book_meta (key, value) VALUES (?, ?)"


def load_meta(connection: sqlite3.Connection) -> dict[str, str]:
    """Return all short texts by key."""
    return dict(connection.execute("SELECT key, value FROM book_meta").fetchall())


def save(connection: sqlite3.Connection, state: BookState, cursor: str) -> None:
    """Write what changed, and the cursor of the last row. See Positions.list_dirty."""
    orders = state.orders
    connection.executemany(
        _SAVE_ORDER,
        [_encode_order(entry, orders.is_in_open_family(entry)) for entry in orders.dirty.values()],
    )
    connection.executemany(_SAVE_EVENT, state.events)
    for symbol in state.positions.list_dirty():
        position = state.positions.get(symbol)
        if position is None:
            connection.execute("DELETE FROM book_positions WHERE symbol = ?", (symbol,))
        else:
            connection.execute(_SAVE_POSITION, (symbol, _POSITION_ENCODER.encode(position)))
    fills = " ".join(map(str, state.list_fills()))
    meta = {
        "cursor": cursor,
        "fills": fills,
        "next_num": str(orders.next_num),
        "high": str(state.high),
    }
    save_meta(connection, meta)


def save_meta(connection: sqlite3.Connection, meta: Mapping[str, str]) -> None:
    """Write short texts by key."""
    connection.executemany(_SAVE_META, meta.items())


def _encode_order(entry: OrderEntry, is_open: bool) -> tuple[object, ...]:
    # The row of the log has the document of a closed order. Until its last row is trimmed, the
    # one that it comes from may be.
    keeps = is_open or entry.seq == 0 or entry.last > entry.seq
    return (
        entry.num,
        entry.id,
        entry.parent_id or "",
        entry.client_order_id,
        entry.symbol,
        entry.symbols,
        entry.status,
        entry.filled_qty,
        entry.seq,
        entry.last,
        entry.submitted,
        entry.updated,
        entry.document if keeps and entry.document is not None else "",
        int(is_open),
    )


def load_positions(connection: sqlite3.Connection) -> list[Position]:
    """Return all positions, without those that cannot be read."""
    positions = []
    for (entry,) in connection.execute("SELECT entry FROM book_positions"):
        try:
            positions.append(_POSITION.decode(entry))
        except MsgspecError:
            continue
    return positions


def load_open(connection: sqlite3.Connection, after: int, limit: int) -> list[OrderEntry]:
    """Return orders of open families, by number, after one: at least one if there are any."""
    where = "WHERE open = 1 AND num > ? ORDER BY num LIMIT ?"
    entries, size = [], 0
    with closing(
        connection.execute(f"SELECT {_COLUMNS} FROM book_orders {where}", (after, limit))
    ) as rows:
        for row in rows:
            entries.append(entry := OrderEntry(*row))
            size += len(entry.document or b"")
            if size >= LOAD_BYTES:
                break
    return entries


def load_family(connection: sqlite3.Connection, order_id: str) -> list[OrderEntry]:
    """Return an order with its parent and all legs; none if it is unknown."""
    found = _read_order(connection, order_id)
    if not found:
        return []
    root = found[0].parent_id or order_id
    family = found if root == order_id else _read_order(connection, root)
    family += _read_orders(connection, "WHERE parent = ? ORDER BY num", (root,))
    return family if any(entry.id == order_id for entry in family) else found


def list_orders(
    connection: sqlite3.Connection, query: OrderQuery, after: OrderKey | None, limit: int
) -> list[OrderEntry]:
    """Return orders that are no legs, newest submission first, behind `after`.

    Only the times of the query restrict them.
    """
    where, values = ["parent IS NULL"], []
    if after is not None:
        where.append("(submitted, id) < (?, ?)")
        values += [after.submitted, after.id]
    if query.after is not None:
        where.append("submitted > ?")
        values.append(query.after)
    if query.until is not None:
        where.append("submitted <= ?")
        values.append(query.until)
    text = f"WHERE {' AND '.join(where)} ORDER BY submitted DESC, id DESC LIMIT ?"
    return _read_orders(connection, text, (*values, limit))


def has_legs(connection: sqlite3.Connection, order_id: str) -> bool:
    """Whether an order is the parent of another one."""
    query = "SELECT 1 FROM book_orders WHERE parent = ? LIMIT 1"
    return connection.execute(query, (order_id,)).fetchone() is not None


def list_order_events(
    connection: sqlite3.Connection, nums: Sequence[int], after: int, limit: int
) -> list[int]:
    """Return the rows of some orders, after one, oldest first."""
    rows = connection.execute(
        f"SELECT seq FROM book_events WHERE num IN ({', '.join('?' * len(nums))}) AND seq > ?"
        " ORDER BY seq LIMIT ?",
        (*nums, after, limit),
    ).fetchall()
    return [seq for (seq,) in rows]


def list_events(
    connection: sqlite3.Connection, before: int, nums: Sequence[int] | None, limit: int
) -> list[tuple[int, str, int | None, str | None, str | None]]:
    """Return rows before one, newest first: number, kind, time, symbols, client_order_id.

    With `nums`, only those of these orders.
    """
    where = ""
    if nums is not None:
        where = f" AND e.num IN ({', '.join('?' * len(nums))})"
    return connection.execute(
        "SELECT e.seq, e.kind, e.time, o.symbols, o.client_order_id FROM book_events AS e"
        f" LEFT JOIN book_orders AS o ON o.num = e.num WHERE e.seq < ?{where}"
        " ORDER BY e.seq DESC LIMIT ?",
        (before, *(nums or ()), limit),
    ).fetchall()


def find_last_late(connection: sqlite3.Connection, until: int) -> int:
    """Return the last row at or before a time that is behind rows of later times; 0 if none."""
    [seq] = connection.execute(
        "SELECT max(seq) FROM book_events WHERE late = 1 AND time <= ?", (until,)
    ).fetchone()
    return seq or 0


def trim(connection: sqlite3.Connection, first: int, limit: int) -> bool:
    """Remove some of what the log has trimmed: events before `first`, and their closed orders.

    Returns whether there may be more.
    """
    rows = connection.execute(
        "SELECT seq, num FROM book_events WHERE seq < ? ORDER BY seq LIMIT ?", (first, limit)
    ).fetchall()
    if rows:
        nums = {num for _, num in rows if num is not None}
        connection.executemany(
            "DELETE FROM book_orders WHERE num = ? AND open = 0 AND last < ?",
            [(num, first) for num in nums],
        )
        connection.execute("DELETE FROM book_events WHERE seq <= ?", (rows[-1][0],))
    # Legs without events of their own, and orders that only Alpaca's answers had.
    connection.execute(
        "DELETE FROM book_orders WHERE num IN (SELECT num FROM book_orders"
        " WHERE open = 0 AND (seq = 0 OR parent IS NOT NULL) AND last < ? LIMIT ?)",
        (first, limit),
    )
    return len(rows) == limit


def clear(connection: sqlite3.Connection) -> bool:
    """Remove some of everything, and return whether there is more."""
    connection.execute("DELETE FROM book_meta")
    connection.execute("DELETE FROM book_positions")
    left = False
    for table, key in (("book_events", "seq"), ("book_orders", "num")):
        count = connection.execute(
            f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} LIMIT ?)",
            (CLEAR_STEP,),
        ).rowcount
        left = left or count == CLEAR_STEP
    return left


def _read_order(connection: sqlite3.Connection, order_id: str) -> list[OrderEntry]:
    # The index has the end of the id only. Without the `+`, SQLite puts the second value into the
    # first term, which then needs no column, and reads the whole table.
    where = "WHERE substr(id, -8) = substr(?, -8) AND +id = ?"
    return _read_orders(connection, where, (order_id, order_id))


def _read_orders(
    connection: sqlite3.Connection, where: str, values: Iterable[object]
) -> list[OrderEntry]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM book_orders {where}", tuple(values))
    return [OrderEntry(*row) for row in rows.fetchall()]
