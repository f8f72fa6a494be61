"""Numbers with more digits than a computer has memory: `1e-999999999` in 12 bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial

from twisted.internet import reactor as chosen
from twisted.internet.task import deferLater
from twisted.web.server import Request

from tests.system.attacks.rest import HISTORY, ORDERS, reconnect
from tests.system.attacks.target import Attack, Hook, Target

NUMBERS = ("1e-999999999", "1e50000000")


async def emit(target: Target, number: str) -> None:
    """Emit fills and corrections with this quantity, on the stream."""
    await target.paper.when_listening()
    for event in ("fill", "partial_fill", "trade_correct"):
        order = {"id": event, "filled_qty": number, "qty": number, "symbol": "SPY"}
        fill = {"event": event, "qty": number, "price": number, "execution_id": event}
        target.paper.emit_stamped(fill | {"order": order})
    await deferLater(chosen, 1)


def send_order(number: str) -> Hook:
    """Return a hook that lists one order with this filled quantity."""

    def answer(request: Request) -> bytes:
        now = (datetime.now(UTC) - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
        times = dict.fromkeys(("created_at", "submitted_at", "updated_at", "filled_at"), now)
        order = {
            "id": "904837e3-3b76-47ec-b432-046db621571b",
            "client_order_id": "x",
            "symbol": "SPY",
            "status": "partially_filled",
            "side": "buy",
            "type": "limit",
            "qty": "10",
            "filled_qty": number,
            "filled_avg_price": number,
        }
        request.setHeader(b"Content-Type", b"application/json")
        return json.dumps([order | times]).encode()

    return answer


def refuse(request: Request) -> bytes:
    """Refuse the history, so that the proxy reads the orders."""
    request.setResponseCode(403)
    return b'{"code":40310000,"message":"forbidden."}'


ATTACKS = tuple(
    attack
    for number in NUMBERS
    for attack in (
        Attack(f"numbers: {number} in an event", partial(emit, number=number)),
        Attack(
            f"numbers: {number} in an order",
            reconnect,
            {HISTORY: refuse, ORDERS: send_order(number)},
        ),
    )
)
