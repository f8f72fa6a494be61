"""Missed events, made of the account's orders and fills where the history does not help."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tradeproxy.hub.account import Account
from tradeproxy.journal.base import TrimmedError, UnreadableError
from tradeproxy.recovery.delivered import (
    DeliveredEvent,
    read_delivered_event,
    read_time,
    summarize_delivered,
)
from tradeproxy.recovery.log import find_start, read_rows
from tradeproxy.recovery.open_orders import OpenOrders
from tradeproxy.recovery.reconcile import (
    Document,
    find_missed_events,
    last_change,
    read_synthetic,
)
from tradeproxy.recovery.snapshot import Snapshot, add_named, take_snapshot
from tradeproxy.runtime.dates import SECOND
from tradeproxy.upstream.rest import RestClient, RestUnavailableError
from tradeproxy.wire.event import Event, OrderState

MARGIN = 60 * SECOND
"""Our log is read from this long before the request's start.

An event's time may be a little later than that of the fill that it reports.
"""

SETTLE = 2.0
"""Seconds in which the stream may deliver the events of changes that the snapshot shows."""

CLOCK_STEP = 1.0
"""Seconds: the resolution of Alpaca's Date header. After them, the second that it named is over."""


class OrderBackfill:
    """Compares Alpaca's orders and fills with the log. Create it before newer events arrive."""

    def __init__(
        self,
        account: Account,
        rest: RestClient,
        clock: IReactorTime,
        open_orders: OpenOrders,
        deliver: Callable[[Event], None],
        slack: int,
    ) -> None:
        """Create the backfill; `run` sends the requests.

        Args:
            account: its log is compared with the orders.
            rest: the account's REST client.
            clock: schedules the waits.
            open_orders: the orders that are open, and those that Alpaca does not have.
            deliver: gets each event, duplicates included.
            slack: microseconds before now that are left out; 0 includes everything up to now.
        """
        self._account = account
        self._rest = rest
        self._clock = clock
        self._open_orders = open_orders
        self._deliver = deliver
        self._slack = slack
        # Recorded now: once newer events are delivered, the journal has only the newer states.
        self._before = open_orders.read_states()

    async def run(self, begin: int, since: int, until: int) -> int:
        """Deliver synthetic events for missed changes, and return up to when they are complete.

        All times are microseconds since 1970. The log is complete up to `begin`; the search is from
        `since` to `until`. Raises RestRefusedError or RestUnavailableError.
        """
        if not self._slack:
            # `until` is then in the past: the snapshot shows all changes up to it. The stream
            # delivers the later ones.
            await deferLater(self._clock, CLOCK_STEP)
        open_orders = self._open_orders.read_states()
        unknown = self._open_orders.unknown
        snapshot = await take_snapshot(
            self._rest, since, open_orders, unknown, self._open_orders.unreadable
        )
        try:
            await deferLater(self._clock, SETTLE)
            through = self._deliver_missed(snapshot, begin, since, until)
            if undelivered := self._list_undelivered(snapshot, since):
                # Each is a request. The events above do not wait for them.
                others = Snapshot(fills=snapshot.fills)
                await add_named(self._rest, others, undelivered, unknown)
                await deferLater(self._clock, SETTLE)
                through = min(through, self._deliver_missed(others, begin, since, until))
        except (TrimmedError, UnreadableError):
            raise RestUnavailableError("the journal cannot be read") from None
        return through

    def _list_undelivered(self, snapshot: Snapshot, since: int) -> list[str]:
        """Return the orders that the snapshot lacks, and that have an undelivered fill.

        Raises TrimmedError or UnreadableError.
        """
        fills = snapshot.group_other_fills()
        if not fills:
            return []
        logged = self._read_logged(since)
        return [
            order_id
            for order_id, of_order in fills.items()
            if not {fill.span for fill in of_order} <= {event.fill for event in logged[order_id]}
        ]

    def _read_logged(self, since: int) -> defaultdict[str, list[DeliveredEvent]]:
        """Return the delivered events by order. Raises TrimmedError or UnreadableError."""
        self._account.flush()  # the pending batch of this reactor turn counts as delivered
        rows = read_rows(self._account.log, find_start(self._account.log, since - MARGIN))
        return _group_by_order(row.payload for row in rows if row.payload is not None)

    def _deliver_missed(self, snapshot: Snapshot, begin: int, since: int, until: int) -> int:
        """Deliver synthetic events by time, and return the time up to which they are complete.

        With slack, an order that changed after `until` is left to the stream. If one of its older
        events is missing, nothing after `begin` counts as complete, so the next check finds it.
        """
        logged = self._read_logged(since)
        buffered = _group_by_order(event.payload for event in self._account.buffered)
        dedup_horizon = self._account.log.dedup_horizon
        missed: list[Document] = []
        through = until
        for order_id, order in snapshot.orders.items():
            before = self._before.get(order_id)
            known = self._account.log.order(order_id) or before
            if self._is_unreadable(order, known, [*logged[order_id], *buffered[order_id]]):
                continue
            delivered = summarize_delivered(
                known,
                logged[order_id],
                buffered[order_id],
                begin,
                before if before is not None and before.time <= begin else None,
            )
            fills = snapshot.select_fills(order_id)
            events = find_missed_events(order, delivered, fills, since, dedup_horizon)
            if self._slack and last_change(order, fills) > until:
                if any(read_time(event["timestamp"]) <= until for event in events):
                    through = begin
            else:
                missed += events
        for data in sorted(missed, key=lambda event: read_time(event["timestamp"])):
            if (event := read_synthetic(data)) is not None:
                self._deliver(event)
        return through

    def _is_unreadable(
        self, order: Document, known: OrderState | None, events: list[DeliveredEvent]
    ) -> bool:
        """Whether nothing can be computed of an order or of what clients got of it; report that."""
        if self._open_orders.is_unreadable(order, known):
            return True
        name = next((event.unreadable for event in events if event.unreadable), None)
        if name is not None:
            self._open_orders.unreadable.report(order["id"], name)
        return name is not None


def _group_by_order(payloads: Iterable[bytes]) -> defaultdict[str, list[DeliveredEvent]]:
    events: defaultdict[str, list[DeliveredEvent]] = defaultdict(list)
    for payload in payloads:
        if (event := read_delivered_event(payload)) is not None:
            events[event.state.id].append(event)
    return events
