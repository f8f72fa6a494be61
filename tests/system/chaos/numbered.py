"""Numbered events: what the simulator emits in a run, with the facts to check it later."""

from __future__ import annotations

from random import Random
from time import time

from tradeproxy.simulator.clock import EventClock
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.service import Simulator


class NumberedEvents:
    """Emits events at a simulator, each with its number as `n`."""

    size = 2000
    """Bytes of padding in each event."""

    def __init__(self, alpaca: Simulator, random: Random) -> None:
        self.alpaca = alpaca
        self.emitted: dict[int, float] = {}
        """The Unix time of each event, by its number."""
        self.retold: set[int] = set()
        self._clock = EventClock(time, random)

    def emit(self, count: int) -> None:
        """Emit `count` events."""
        for _ in range(count):
            number = len(self.emitted) + 1
            at, event_id = self._clock.stamp()
            order = {
                "id": f"order-{number}",
                "symbol": "SPY",
                "status": "filled",
                "filled_qty": "1",
            }
            self.emitted[number] = time()
            self.alpaca.emit(
                {
                    "at": at,
                    "event_id": event_id,
                    "event": "fill",
                    "n": number,
                    "order": order,
                    "x": "x" * self.size,
                }
            )

    def repeat(self, count: int) -> None:
        """Send the last `count` events again."""
        self.retold.update(range(len(self.emitted) - count + 1, len(self.emitted) + 1))
        self.alpaca.inject(Fault(FaultKind.REPEAT, count=count))
