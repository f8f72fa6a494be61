"""Numbered events: what happens at Alpaca in a run, and all that is to be known of it afterwards."""

from __future__ import annotations

from random import Random
from time import time

from tradeproxy.simulator.clock import EventClock
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.service import Simulator


class Numbered:
    """Lets them happen at a simulator, each with its number as `n`."""

    size = 2000
    """About how many bytes each has."""

    def __init__(self, alpaca: Simulator, random: Random) -> None:
        self.alpaca = alpaca
        self.emitted: dict[int, float] = {}
        """When each of them happened."""
        self.retold: set[int] = set()
        self._clock = EventClock(time, random)

    def emit(self, count: int) -> None:
        """Let as many events happen."""
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

    def tell_again(self, count: int) -> None:
        """Let the stream bring the last events once more."""
        self.retold.update(range(len(self.emitted) - count + 1, len(self.emitted) + 1))
        self.alpaca.inject(Fault(FaultKind.REPEAT, count=count))
