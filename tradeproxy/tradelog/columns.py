"""The columns of an event, which the trade log and `tradeproxy export` share."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tradeproxy.wire.frame import extract_data

_PATHS = {
    "time": ("at",),
    "event": ("event",),
    "event_id": ("event_id",),
    "execution_id": ("execution_id",),
    "order_id": ("order", "id"),
    "client_order_id": ("order", "client_order_id"),
    "symbol": ("order", "symbol"),
    "side": ("order", "side"),
    "qty": ("qty",),
    "price": ("price",),
    "position_qty": ("position_qty",),
    "type": ("order", "type"),
    "order_qty": ("order", "qty"),
    "limit_price": ("order", "limit_price"),
    "filled_qty": ("order", "filled_qty"),
    "filled_avg_price": ("order", "filled_avg_price"),
    "status": ("order", "status"),
}

COLUMNS = (*_PATHS, "recovered", "reason")
"""The names, in their order. New ones come last: programs may read a column by its number."""

UNREADABLE = "(nested too deeply)"
"""The text of a field that cannot be written."""


class LoggedEvent(NamedTuple):
    """An event of the journal."""

    raw: bytes
    """The bytes of `data` as Alpaca sent them, on one line."""
    data: Any
    """The parsed `data`. Numbers, NaN and Infinity are strings, as Alpaca wrote them."""
    recovered: str | None
    """The source of an event that the stream missed: `events` or `orders`."""


def read_logged_event(payload: bytes) -> LoggedEvent:
    """Return the event in a frame. Raises RecursionError for data that is nested too deeply."""
    raw, recovered = extract_data(payload)
    data = json.loads(raw, parse_int=str, parse_float=str, parse_constant=str)
    return LoggedEvent(raw, data, recovered)


def list_cells(event: LoggedEvent) -> list[str]:
    """Return the texts of an event, one for each of COLUMNS; "" for a missing field."""
    cells = [_get_text(event.data, path) for path in _PATHS.values()]
    # As in wire/event.py: the time is `at`, else `timestamp`.
    cells[0] = cells[0] or _get_text(event.data, ("timestamp",))
    return [*cells, event.recovered or "", _get_text(event.data, ("reason",))]


def _get_text(data: Any, path: tuple[str, ...]) -> str:
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    if isinstance(data, dict | list):
        try:
            return json.dumps(data, separators=(",", ":"))
        except RecursionError:  # json reads a deeper nesting than it writes
            return UNREADABLE
    return "" if data is None else str(data)
