"""Numbers with more digits than a computer has memory: `1e-999999999` in 12 bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product

from twisted.internet import reactor as chosen
from twisted.internet.task import deferLater
from twisted.web.server import Request

from tests.system.attacks.rest import HISTORY, ORDERS, reconnect, refuse
from tests.system.attacks.target import Attack, Target

NUMBERS = ("1e-999999999", "1e50000000")


async def emit(target: Target) -> None:
    """Emit fills and corrections with these quantities, on the stream."""
    await target.paper.when_listening()
    for event, number in product(("fill", "partial_fill", "trade_correct"), NUMBERS):
        order = {"id": event, "filled_qty": number, "qty": number, "symbol": "SPY"}
        fill = {"event": event, "qty": number, "price": number, "execution_id": event}
        target.paper.emit_stamped(fill | {"order": order})
    await deferLater(chosen, 1)


def send_orders(request: Request) -> bytes:
    """List orders with these filled quantities."""
    now = (datetime.now(UTC) - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    times = dict.fromkeys(("created_at", "submitted_at", "updated_at", "filled_at"), now)
    order = times | {
        "client_order_id": "x",
        "symbol": "SPY",
        "status": "partially_filled",
        "side": "buy",
        "type": "limit",
        "qty": "10",
    }
    request.setHeader(b"Content-Type", b"application/json")
    return json.dumps(
        [
            order | {"id": f"id-{number}", "filled_qty": number, "filled_avg_price": number}
            for number in NUMBERS
        ]
    ).encode()


ORDERS_TAKE = 4.0
"""Seconds in which the proxy compares the orders with the log, twice."""

ATTACKS = (
    Attack("numbers: exponents in events", emit),
    Attack(
        "numbers: exponents in orders",
        partial(reconnect, seconds=ORDERS_TAKE),
        {HISTORY: refuse, ORDERS: send_orders},
    ),
)
