"""The synthetic events in the log: which events of the history are already made of an order.

While the history fails, events are made of orders. Once it works again, it has the same changes,
as other events with other ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tradeproxy.journal.base import Log, UnreadableError
from tradeproxy.recovery.delivered import (
    ZERO,
    QuantityRange,
    read_delivered_event,
    subtract_all,
)
from tradeproxy.recovery.log import ROWS_A_TURN, find_start
from tradeproxy.runtime.dates import SECOND
from tradeproxy.wire.event import CLOSED_STATUSES, EXECUTION_KINDS, Event
from tradeproxy.wire.frame import Recovered, build_mark

LATER = 60 * SECOND
"""The times of a change may differ by this much in an order and in an event."""

_MARK = build_mark(Recovered.ORDERS)


@dataclass(slots=True)
class _MadeOfOrder:
    """What the synthetic events of one order report."""

    fills: list[tuple[QuantityRange, int]] = field(default_factory=list)
    """The parts of its quantity, each with the time of the change (microseconds since 1970)."""
    changes: list[tuple[str, int]] = field(default_factory=list)
    """The kind and the time of each other event."""


class SyntheticEvents:
    """The synthetic events of the log from some time on, by order."""

    def __init__(self, journal: Log, clock: IReactorTime) -> None:
        self._journal = journal
        self._clock = clock
        self._orders: dict[str, _MadeOfOrder] = {}
        # The same of events that are no rows yet: they may be dropped before.
        self._unread: dict[str, _MadeOfOrder] = {}
        # The epoch, and the number of the last row that was read.
        self._read_to: tuple[str, int] | None = None

    def clear(self) -> None:
        """Forget all events: the history is not asked for their time any more."""
        self._orders.clear()
        self._unread.clear()
        self._read_to = None

    async def update(self, since: int) -> None:
        """Read the rows that are new, at first from a time on (microseconds since 1970).

        Other work has its turn between two parts. Raises TrimmedError or UnreadableError; call it
        again then.
        """
        journal, epoch = self._journal, self._journal.epoch
        if self._read_to is None or not self._is_in_log(*self._read_to):
            self._orders.clear()
            self._read_to = epoch, find_start(journal, since)
        _, after = self._read_to
        while (batch := journal.read(max(after, journal.first - 1), ROWS_A_TURN)) is not None:
            _add_all(self._orders, (row.payload for row in batch.rows))
            after = batch.last
            self._read_to = epoch, after
            if after < journal.last:
                await deferLater(self._clock, 0)
            if journal.epoch != epoch:
                raise UnreadableError  # the numbers are another log's
        # In the turn of the last rows: an event becomes a row when it is read.
        self._unread.clear()
        _add_all(self._unread, (event.payload for event in journal.unread))

    def _is_in_log(self, epoch: str, last: int) -> bool:
        """Whether the rows up to a number of an epoch are in the log, or were before it began.

        Clients got those before it too. Otherwise the log has lost them, or is another one.
        """
        first_kept, end = self._journal.first, self._journal.last
        return last < first_kept or (epoch == self._journal.epoch and last <= end)

    def covers(self, event: Event) -> bool:
        """Whether this event of the history reports what was already made of its order."""
        sources = [orders for orders in (self._orders, self._unread) if orders]
        if not sources or (read := read_delivered_event(event.payload)) is None:
            return False
        found = [orders[read.state.id] for orders in sources if read.state.id in orders]
        fills = [fill for made in found for fill in made.fills]
        changes = [change for made in found for change in made.changes]
        if read.fill is not None:
            # A busted quantity may be filled again, later.
            start, end = read.fill
            parts = [part for part, time in fills if read.time <= time + LATER]
            near = [part for part in parts if part.start < end and start < part.end]
            return bool(parts) and not subtract_all(read.fill, near)
        return any(
            kind == read.kind and (kind in CLOSED_STATUSES or abs(read.time - time) <= LATER)
            for kind, time in changes
        )


def _add_all(orders: dict[str, _MadeOfOrder], payloads: Iterable[bytes | None]) -> None:
    for payload in payloads:
        # Searching for the mark saves parsing most of them.
        if payload is not None and _MARK in payload:
            event = read_delivered_event(payload)
            if event is None or not event.is_synthetic:
                continue
            made = orders.setdefault(event.state.id, _MadeOfOrder())
            if event.kind not in EXECUTION_KINDS:
                made.changes.append((event.kind, event.time))
            elif event.fill is not None:
                part = QuantityRange(ZERO, event.filled) if event.covers_all else event.fill
                made.fills.append((part, event.time))
