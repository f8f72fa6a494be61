"""The output of `tradeproxy orders`, `positions` and `order`: tables and CSV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tradeproxy.cli.table import format_table, printable
from tradeproxy.cli.times import format_local_time
from tradeproxy.tradelog.csv_text import format_line

MAX_ID = 48
"""Terminal cells of an order's `client_order_id` in the table: Alpaca allows 128 characters."""

ORDER_HEAD = ("submitted", "side", "qty", "filled", "symbol", "price", "status", "order")
POSITION_HEAD = ("symbol", "side", "qty", "avg price", "cost basis", "")
TIMELINE_HEAD = ("time", "event", "qty", "price", "filled", "status")

ORDER_COLUMNS = (
    *("id", "parent_id", "client_order_id", "submitted_at", "updated_at", "symbol", "asset_class"),
    *("order_class", "type", "side", "qty", "notional", "limit_price", "stop_price"),
    *("filled_qty", "filled_avg_price", "time_in_force", "status"),
)
"""Of CSV. They are the members of Alpaca's orders, besides `parent_id`: a leg's parent."""

POSITION_COLUMNS = (
    *("symbol", "asset_class", "side", "qty", "avg_entry_price", "cost_basis", "difference"),
)
TIMELINE_COLUMNS = ("seq", "time", "event", "qty", "price", "filled_qty", "status")

INCOMPLETE = "The proxy has not compared this with Alpaca's orders and positions yet."

INNER_ID = "- "
"""Before the side of a leg, which is below its parent."""


def format_orders(document: dict[str, Any], status: str = "all") -> Iterator[str]:
    """Yield the lines for a page of orders. Raises one of SHAPE_ERRORS for another shape.

    `status` is that of the request: open, closed or all.
    """
    rows = [
        [
            printable(format_local_time(str(order.get("submitted_at") or ""))),
            (INNER_ID if parent else "") + printable(order["side"]),
            _read_qty(order),
            printable(order["filled_qty"]),
            printable(order["symbol"] or order.get("order_class")),
            _read_price(order),
            printable(order["status"]),
            printable(order.get("client_order_id") or order["id"], MAX_ID),
        ]
        for order, parent in _list_orders(document["orders"])
    ]
    if rows:
        yield from format_table(ORDER_HEAD, rows, {"qty", "filled", "price"})
    else:
        yield "no orders" if status == "all" else f"no {status} orders"
    if document["more"]:
        yield "There are more: --limit sets how many."
    yield from _describe_completeness(document)


def format_positions(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines for the positions. Raises one of SHAPE_ERRORS for another shape."""
    names = ("symbol", "side", "qty", "avg_entry_price", "cost_basis")
    rows = [
        [*(printable(position[name]) for name in names), printable(position.get("difference"))]
        for position in document["positions"]
    ]
    if rows:
        yield from format_table(POSITION_HEAD, rows, POSITION_HEAD[2:5])
    else:
        yield "no positions"
    yield from _describe_completeness(document)


def format_order(order: dict[str, Any]) -> Iterator[str]:
    """Yield the lines for one order. Raises one of SHAPE_ERRORS for another shape."""
    yield from format_orders({"orders": [order], "more": False, "complete": True})
    yield f"id {printable(order['id'])}"
    rows = [
        [
            printable(format_local_time(str(entry["time"] or ""))),
            *(printable(entry[name]) for name in TIMELINE_COLUMNS[2:]),
        ]
        for entry in order["timeline"]
    ]
    if rows:
        yield ""
        yield from format_table(TIMELINE_HEAD, rows, {"qty", "price", "filled"})
    else:
        yield "The journal has no event of it."


def list_csv_orders(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of CSV for a page of orders and their legs."""
    orders = _list_orders(document["orders"])
    return _format_csv(ORDER_COLUMNS, (order | {"parent_id": parent} for order, parent in orders))


def list_csv_positions(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of CSV for the positions."""
    return _format_csv(POSITION_COLUMNS, document["positions"])


def list_csv_timeline(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of CSV for an order's timeline."""
    return _format_csv(TIMELINE_COLUMNS, document["timeline"])


def _list_orders(
    orders: list[dict[str, Any]], parent: str | None = None
) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Yield each order and its legs, with the id of the parent."""
    for order in orders:
        yield order, parent
        if parent is None:
            yield from _list_orders(order.get("legs") or [], str(order["id"]))


def _format_csv(columns: tuple[str, ...], documents: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield the header, and a line for each document. No field is a formula of a spreadsheet."""
    yield format_line(columns)
    for document in documents:
        yield format_line(printable(document.get(name)) for name in columns)


def _read_qty(order: dict[str, Any]) -> str:
    if order["qty"] is None and order.get("notional") is not None:
        return f"${printable(order['notional'])}"
    return printable(order["qty"])


def _read_price(order: dict[str, Any]) -> str:
    """Return the limits of an order, or its type."""
    limits = {"limit": order.get("limit_price"), "stop": order.get("stop_price")}
    found = [f"{name} {printable(price)}" for name, price in limits.items() if price]
    return ", ".join(found) or printable(order.get("type"))


def _describe_completeness(document: dict[str, Any]) -> Iterator[str]:
    if not document["complete"]:
        yield INCOMPLETE
