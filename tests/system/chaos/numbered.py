"""Numbered events: what the simulator emits in a run, with the facts to check it later."""

from __future__ import annotations

import json
from collections.abc import Iterable
from random import Random
from time import time
from typing import Any

from tradeproxy.simulator.clock import EventClock
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.history import EventRecord
from tradeproxy.simulator.service import Simulator
from tradeproxy.simulator.variants import bust_and_correct, correct_price

NO_TIME = 1e-9
"""Seconds of a fault that replaces one of its kind, and is over at once."""

FILLS_TRIED = 20
"""Fills among which one is from the past."""


class NumberedEvents:
    """Emits events at a simulator, each with its number as `n`.

    Each event is one that every client must get once. A repeat keeps the number of its event.
    """

    size = 2000
    """Bytes of padding in each event."""

    def __init__(self, alpaca: Simulator, random: Random) -> None:
        self.alpaca = alpaca
        self.emitted: dict[int, float] = {}
        """The Unix time of each event, by its number."""
        self.retold: set[int] = set()
        """The numbers of the events that were sent again."""
        self.unfindable: set[int] = set()
        """The numbers of missed events whose time excludes them from requests for the history."""
        self.lost_from_log: set[int] = set()
        """The numbers of the events that were in a journal which was damaged or removed."""
        self._random = random
        self._clock = EventClock(time, random)

    def emit(self, count: int) -> None:
        """Emit `count` fills of different orders."""
        for _ in range(count):
            self._emit(self._make_fill(len(self.emitted) + 1))

    def emit_shifted(self, offset: float) -> int:
        """Emit a fill whose times are wrong by `offset` seconds, and return its number."""
        self.end_faults(FaultKind.SAME_TIME, FaultKind.OLDER_TIME)  # they would spread its time
        self.alpaca.inject(Fault(FaultKind.TIME_SHIFT, offset=offset, count=1))
        self.emit(1)
        return len(self.emitted)

    def end_faults(self, *kinds: FaultKind) -> None:
        """End lasting faults."""
        for kind in kinds:
            self.alpaca.inject(Fault(kind, seconds=NO_TIME))

    def repeat(self, count: int) -> None:
        """Send the last `count` events again."""
        self._record_retold(self.alpaca.history.last(count))
        self.alpaca.inject(Fault(FaultKind.REPEAT, count=count))

    def reissue(self, count: int) -> None:
        """Send the last `count` fills again under other event ids."""
        self._record_retold(self.alpaca.history.last_fills(count))
        self.alpaca.inject(Fault(FaultKind.REISSUE, count=count))

    def correct(self) -> None:
        """Correct the price of the last fill: another event with the same ids."""
        for fill in self._read_last_fill():
            self._emit(correct_price(fill))

    def bust(self) -> None:
        """Emit a trade_bust and a trade_correct of the last fill: two events with one id."""
        for fill in self._read_last_fill():
            for data in bust_and_correct(fill, *self._clock.stamp()):
                self._emit(data)

    def _make_fill(self, number: int) -> dict[str, Any]:
        at, event_id = self._clock.stamp()
        return {
            "at": at,
            "event_id": event_id,
            "event": "fill",
            "timestamp": at,
            "execution_id": f"execution-{number}",
            "price": f"{self._random.randint(100, 50_000) / 100:.2f}",
            "qty": "1",
            "order": {
                "id": f"order-{number}",
                "symbol": "SPY",
                "status": "filled",
                "filled_qty": "1",
            },
            "x": "x" * self.size,
        }

    def assign_number(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return an event with the next number. From now on every client must get it."""
        number = len(self.emitted) + 1
        self.emitted[number] = time()
        return data | {"n": number}

    def _emit(self, data: dict[str, Any]) -> None:
        self.alpaca.emit(self.assign_number(data))

    def _read_last_fill(self) -> list[dict[str, Any]]:
        # A copy of a fill from the future would be unfindable too.
        fills = [
            record
            for record in self.alpaca.history.last_fills(FILLS_TRIED)
            if record.time <= time() * 1e9
        ]
        return [json.loads(record.data) for record in fills[-1:]]

    def _record_retold(self, records: Iterable[EventRecord]) -> None:
        self.retold.update(json.loads(record.data)["n"] for record in records)
