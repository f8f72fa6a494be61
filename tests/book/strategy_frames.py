"""Frames of the stream for the book per strategy."""

from __future__ import annotations

import json
from typing import Any

from tradeproxy.book.executions import NOTHING, StrategyEvent, read_strategy_event
from tradeproxy.book.fields import read_event
from tradeproxy.wire.event import format_time, parse_time

START = parse_time("2026-11-30T15:00:00Z")
"""A Monday, 10:00 in New York."""

MINUTE = 60_000_000

UUID = "61e69015-8549-4bfd-b9c3-01e75843f47d"


def order(order_id: str, name: str = "alpha-1", **fields: Any) -> dict[str, Any]:
    """Return an order object: a market order to buy AAPL."""
    return {
        "id": order_id,
        "client_order_id": name,
        "symbol": "AAPL",
        "asset_class": "us_equity",
        "side": "buy",
        "order_class": "",
        "status": "filled",
        "filled_qty": None,
        "replaces": None,
        "replaced_by": None,
        "legs": None,
    } | fields


def frame(event: str, about: dict[str, Any], **fields: Any) -> bytes:
    """Return a frame of the stream."""
    data = {"event": event, "order": about} | fields
    return json.dumps({"stream": "trade_updates", "data": data}).encode()


def report_fill(
    about: dict[str, Any], execution: str, qty: str, price: str, **fields: Any
) -> bytes:
    """Return the frame of a fill; `minute` after START, 0 unless given."""
    minute = fields.pop("minute", 0)
    values = {
        "execution_id": execution,
        "event_id": f"event of {execution}",
        "timestamp": format_time(START + minute * MINUTE),
        "qty": qty,
        "price": price,
    }
    return frame(fields.pop("event", "fill"), about, **(values | fields))


def read(payload: bytes) -> StrategyEvent:
    """Return what the book per strategy reads of a frame."""
    event = read_event(payload)
    return NOTHING if event is None else read_strategy_event(event, START)
