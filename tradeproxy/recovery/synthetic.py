"""The synthetic events in the log: which events of the history are already made of an order.

While the history fails, events are made of orders. Once it works again, it has the same changes,
as other events with other ids.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tradeproxy.journal.base import TrimmedError
from tradeproxy.recovery.delivered import FILLS, ZERO, read_delivered_event
from tradeproxy.runtime.dates import SECOND
from tradeproxy.wire.frame import Recovered, build_mark

if TYPE_CHECKING:
    from decimal import Decimal

    from tradeproxy.journal.base import Journal
    from tradeproxy.recovery.delivered import DeliveredEvent
    from tradeproxy.wire.event import Event

ROWS_A_READ = 1000
"""Rows of the log per read."""

LATER = 60 * SECOND
"""An event's time may be this much later than the change of the order that it reports."""

_MARK = build_mark(Recovered.ORDERS)


@dataclass(slots=True)
class _MadeOfOrder:
    """What the synthetic events of one order report."""

    filled: Decimal = ZERO
    """The filled quantity up to which every fill has been delivered."""
    changes: dict[str, int] = field(default_factory=dict)
    """The time of the newest event of each other kind (microseconds since 1970)."""


class SyntheticEvents:
    """The synthetic events of the log from some time on, by order."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._orders: dict[str, _MadeOfOrder] = {}
        # The epoch, and the number of the last row that was read.
        self._read_to: tuple[str, int] | None = None

    def clear(self) -> None:
        """Forget all events: the history is not asked for their time any more."""
        self._orders.clear()
        self._read_to = None

    def update(self, since: int) -> None:
        """Read the rows that are new, at first from a time on (microseconds since 1970).

        Raises UnreadableError.
        """
        journal = self._journal
        if self._read_to is None or self._read_to[0] != journal.epoch:
            self._orders.clear()
            first = journal.first_since(since)
            self._read_to = journal.epoch, journal.last if first is None else first - 1
        epoch, after = self._read_to
        while True:
            try:
                batch = journal.read(after, ROWS_A_READ)
            except TrimmedError:
                after = journal.first - 1
                continue
            if batch is None:
                break
            for row in batch.rows:
                # Searching for the mark saves parsing most of the rows.
                if row.payload is not None and _MARK in row.payload:
                    self._add(read_delivered_event(row.payload))
            after = batch.last
        self._read_to = epoch, after

    def covers(self, event: Event) -> bool:
        """Whether this event of the history reports what was already made of its order.

        A synthetic event shows its order's state at that time: every fill up to the order's filled
        quantity has been delivered, and its last status.
        """
        if not self._orders or (read := read_delivered_event(event.payload)) is None:
            return False
        if (made := self._orders.get(read.state.id)) is None:
            return False
        if event.kind in FILLS:
            return read.filled <= made.filled
        time = made.changes.get(event.kind)
        return time is not None and read.state.time <= time + LATER

    def _add(self, event: DeliveredEvent | None) -> None:
        if event is None or not event.is_synthetic:
            return
        made = self._orders.setdefault(event.state.id, _MadeOfOrder())
        made.filled = max(made.filled, event.filled)
        if event.kind not in FILLS:
            made.changes[event.kind] = max(made.changes.get(event.kind, 0), event.state.time)
