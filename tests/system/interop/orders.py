"""The orders at the simulated Alpaca: accepted, filled, rejected and canceled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.support import frames
from tradeproxy.simulator.simulator import Simulator

UNKNOWN_EVENT = "liquidity_sweep"
"""A kind of event that no SDK knows."""


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """One event of an order, as a driver prints it."""

    event: str
    order: str


class OrderScript:
    """Emits events of orders. Every order and every event has its own id."""

    def __init__(self, alpaca: Simulator) -> None:
        self._alpaca = alpaca

    def order(self) -> OrderEvent:
        """Emit `new` for a new order."""
        return self._emit(frames.NEW, str(uuid4()))

    def orders(self, count: int) -> list[OrderEvent]:
        """Emit `new` for several new orders."""
        return [self.order() for _ in range(count)]

    def all_kinds(self, *, multi_leg: bool = True) -> list[OrderEvent]:
        """Emit every kind of event, and some with unknown fields and kinds."""
        filled, canceled, rejected, multi, unusual = (str(uuid4()) for _ in range(5))
        return [
            self._emit(frames.NEW, filled),
            self._emit(frames.PARTIAL_FILL, filled),
            self._emit(frames.FILL, filled),
            self._emit(frames.NEW, canceled),
            self._emit(frames.CANCELED, canceled),
            self._emit(frames.REJECTED, rejected),
            *([self._emit(frames.MULTI_LEG_FILL, multi)] if multi_leg else []),
            self._emit(frames.NEW, unusual, new_field={"nested": [None, 1.5, "ä"]}, priority=7),
            self._emit(frames.NEW, unusual, event=UNKNOWN_EVENT),
            self._emit(frames.CANCELED, unusual),
        ]

    def _emit(self, frame: bytes, order_id: str, **fields: Any) -> OrderEvent:
        """Emit an event like a captured one, for this order and with the current time."""
        captured = json.loads(frame)["data"]
        template = {
            name: value
            for name, value in captured.items()
            if name not in ("at", "event_id", "timestamp")
        }
        unknown = {name: value for name, value in fields.items() if name != "event"}
        order = template["order"] | {"id": order_id, "client_order_id": order_id} | unknown
        if "execution_id" in template:
            template["execution_id"] = str(uuid4())
        data = self._alpaca.exchange.stamped(template | fields | {"order": order})
        self._alpaca.emit(data)
        return OrderEvent(data["event"], order_id)
