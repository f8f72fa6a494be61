"""What happens at Alpaca while a client listens: orders as they are placed, filled, refused and canceled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.support import frames
from tradeproxy.simulator.simulator import Simulator

UNHEARD_OF = "liquidity_sweep"
"""A kind of event that no SDK can know."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One event as a driver should print it."""

    event: str
    order: str


class Life:
    """Lets orders live on a simulated account. Every order and every event has an id of its own."""

    def __init__(self, alpaca: Simulator) -> None:
        self._alpaca = alpaca

    def order(self) -> Happening:
        """Let an order be accepted."""
        return self._emit(frames.NEW, str(uuid4()))

    def orders(self, count: int) -> list[Happening]:
        """Let several be accepted, one after another."""
        return [self.order() for _ in range(count)]

    def scripted(self, *, multi_leg: bool = True) -> list[Happening]:
        """Let everything happen that happens to orders, and some that never did."""
        filled, canceled, rejected, legged, odd = (str(uuid4()) for _ in range(5))
        return [
            self._emit(frames.NEW, filled),
            self._emit(frames.PARTIAL_FILL, filled),
            self._emit(frames.FILL, filled),
            self._emit(frames.NEW, canceled),
            self._emit(frames.CANCELED, canceled),
            self._emit(frames.REJECTED, rejected),
            *([self._emit(frames.MULTI_LEG_FILL, legged)] if multi_leg else []),
            self._emit(frames.NEW, odd, of_tomorrow={"nested": [None, 1.5, "ä"]}, priority=7),
            self._emit(frames.NEW, odd, event=UNHEARD_OF),
            self._emit(frames.CANCELED, odd),
        ]

    def _emit(self, frame: bytes, order_id: str, **fields: Any) -> Happening:
        """Let an event happen that looks like a captured one, to this order and now."""
        captured = json.loads(frame)["data"]
        shape = {
            name: value
            for name, value in captured.items()
            if name not in ("at", "event_id", "timestamp")
        }
        unknown = {name: value for name, value in fields.items() if name != "event"}
        order = shape["order"] | {"id": order_id, "client_order_id": order_id} | unknown
        if "execution_id" in shape:
            shape["execution_id"] = str(uuid4())
        data = self._alpaca.exchange.stamped(shape | fields | {"order": order})
        self._alpaca.emit(data)
        return Happening(data["event"], order_id)
