"""Missed events, made of the account's orders and fills where the history does not help."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Container, Iterable, Mapping
from typing import TypeAlias

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tradeproxy.hub.account import Account
from tradeproxy.journal.base import TrimmedError, UnreadableError
from tradeproxy.recovery.delivered import (
    DeliveredEvent,
    forget_unreported_status,
    read_delivered_event,
    read_time,
    summarize_delivered,
)
from tradeproxy.recovery.log import ROWS_A_TURN, find_start
from tradeproxy.recovery.open_orders import OpenOrders
from tradeproxy.recovery.reconcile import (
    Document,
    FillActivity,
    UnusableError,
    find_missed_events,
    last_change,
    read_order_state,
    read_synthetic,
)
from tradeproxy.recovery.snapshot import Snapshot, add_named, take_snapshot
from tradeproxy.runtime.dates import SECOND
from tradeproxy.upstream.rest import RestClient, RestUnavailableError
from tradeproxy.wire.event import Event, OrderState

_Missed: TypeAlias = tuple[int, str, Document]
"""A missed event: its time, the id of its order, and its `data` without the order."""

MARGIN = 60 * SECOND
"""Our log is read from this long before the request's start.

An event's time may be a little later than that of the fill that it reports.
"""

SETTLE = 2.0
"""Seconds in which the stream may deliver the events of changes that the snapshot shows."""

ORDERS_A_TURN = 200
"""Orders that are compared in one turn of the reactor, in about ten milliseconds.

They have BYTES_A_TURN as well.
"""

EVENTS_A_TURN = 200
"""Events that are delivered in one turn, and read again in the log: about 50 milliseconds."""

BYTES_A_TURN = 1024 * 1024
"""Bytes of these events. The last one may exceed it."""

MAX_MADE_SIZE = 128 * 1024 * 1024
"""Bytes of all events of a backfill. Each has its whole order: a few large orders with many fills
would fill the disk. The fills of a list that Alpaca's answers may have need 90 MiB, with usual
orders."""

UNUSABLE = "an event of more than 1 MiB, or nested too deeply, made of an order"
TOO_MANY = "events of more than 128 MiB made of orders"

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
        # The orders that are left out: no event can be made of them. "" is one without an id.
        self._left_out: set[str] = set()
        self.unusable: set[str] = set()
        """Those that have closed or are too large: see OpenOrders.unusable."""
        self._made = 0  # the bytes of all events
        # Recorded now: once newer events are delivered, the journal has only the newer states.
        self._before = open_orders.read_states()

    @property
    def has_left_out(self) -> bool:
        """Whether an event was left out: it is unusable, or all of them would be too large.

        An order for which a gap was declared lost does not count again.
        """
        if self._left_out - self._open_orders.unusable:
            return True
        # Without a gap, the next check finds what was too much.
        return not self._slack and self._made > MAX_MADE_SIZE

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
        unreadable = self._open_orders.unreadable
        snapshot = await take_snapshot(self._rest, since, open_orders, unknown, unreadable)
        try:
            await deferLater(self._clock, SETTLE)
            through = await self._deliver_missed(snapshot, begin, since, until)
            if undelivered := await self._list_undelivered(snapshot, since):
                # Each is a request. The events above do not wait for them.
                snapshot.forget_orders()
                await add_named(self._rest, snapshot, undelivered, unknown)
                await deferLater(self._clock, SETTLE)
                through = min(through, await self._deliver_missed(snapshot, begin, since, until))
            self._left_out |= snapshot.left_out
            self.unusable |= snapshot.left_out - {""}
        except (TrimmedError, UnreadableError):
            raise RestUnavailableError("the journal cannot be read") from None
        return through

    async def _list_undelivered(self, snapshot: Snapshot, since: int) -> list[str]:
        """Return the orders that the snapshot lacks, and that have an undelivered fill.

        Raises TrimmedError or UnreadableError.
        """
        fills = snapshot.group_other_fills()
        if not fills:
            return []
        delivered = _DeliveredEvents(self._account, self._clock, since, fills.keys())
        await delivered.update()
        return [
            order_id
            for order_id, of_order in fills.items()
            if not {fill.span for fill in of_order}
            <= {event.fill for event in delivered.list_logged(order_id)}
        ]

    async def _deliver_missed(self, snapshot: Snapshot, begin: int, since: int, until: int) -> int:
        """Deliver synthetic events by time, and return the time up to which they are complete.

        With slack, an order that changed after `until` is left to the stream. If one of its older
        events is missing, nothing after `begin` counts as complete, so the next check finds it.

        Other work has its turn between two parts. An order of which clients get an event meanwhile
        is compared again.
        """
        if not snapshot.orders:
            return until
        delivered = _DeliveredEvents(self._account, self._clock, since, snapshot.orders.keys())
        await delivered.update()
        fills = snapshot.group_fills()

        late: set[str] = set()

        def find(order_id: str) -> list[_Missed]:
            order, of_order = snapshot.read(order_id), fills.get(order_id, [])
            if self._slack and last_change(order, of_order) > until:
                late.add(order_id)
            events = self._find_missed(order, of_order, delivered, begin, since)
            return [
                (read_time(event["timestamp"]), order_id, event | {"order": None})
                for event in events
            ]

        found: dict[str, list[_Missed]] = {}
        waiting = deque(snapshot.orders)
        while waiting:
            count = size = 0
            while waiting and count < ORDERS_A_TURN and size < BYTES_A_TURN:
                count += 1
                order_id = waiting.popleft()
                size += len(snapshot.orders[order_id])
                found[order_id] = find(order_id)
            if waiting:
                await deferLater(self._clock, 0)
            waiting.extend(await delivered.update() & found.keys())
        is_behind = any(time <= until for order_id in late for time, _, _ in found[order_id])
        missed = _sort(
            event for key, events in found.items() if key not in late for event in events
        )
        found.clear()
        while missed:
            self._deliver_part(snapshot, missed)
            if missed:
                await deferLater(self._clock, 0)
                if changed := await delivered.update() & {order_id for _, order_id, _ in missed}:
                    kept = [event for event in missed if event[1] not in changed]
                    again = (event for order_id in sorted(changed) for event in find(order_id))
                    missed = _sort([*kept, *again])
        if self._slack and self._made > MAX_MADE_SIZE:
            return begin  # no gap declares what is left out: the next check finds it
        return begin if is_behind else until

    def _deliver_part(self, snapshot: Snapshot, missed: deque[_Missed]) -> None:
        """Take events from the left, EVENTS_A_TURN or about BYTES_A_TURN, and deliver them."""
        count = size = 0
        while missed and count < EVENTS_A_TURN and size < BYTES_A_TURN:
            count += 1
            _, order_id, data = missed.popleft()
            if order_id in self._left_out:
                continue  # the order is in each of its events
            try:
                event = read_synthetic(data | {"order": snapshot.read(order_id)})
            except UnusableError as error:
                self._left_out.add(order_id)
                if not read_order_state(snapshot.read(order_id)).is_open:
                    self.unusable.add(order_id)
                self._account.drop_frame(UNUSABLE)
                size += error.size
            else:
                size += self._deliver_made(event)
            if self._made > MAX_MADE_SIZE:
                missed.clear()

    def _deliver_made(self, event: Event) -> int:
        """Deliver an event unless all would be too large; return its size in bytes."""
        size = len(event.payload)
        self._made += size
        if self._made <= MAX_MADE_SIZE:
            self._deliver(event)
        else:
            self._account.drop_frame(TOO_MANY)
        return size

    def _find_missed(
        self,
        order: Document,
        fills: list[FillActivity],
        delivered: _DeliveredEvents,
        begin: int,
        since: int,
    ) -> list[Document]:
        """Return the `data` of the events of an order that clients did not get."""
        order_id: str = order["id"]
        logged = delivered.list_logged(order_id)
        buffered = delivered.buffered.get(order_id, [])
        before = self._before.get(order_id)
        known = self._account.log.order(order_id) or before
        if self._is_unreadable(order, known, [*logged, *buffered]):
            return []
        is_older = before is not None and before.time <= begin
        summary = summarize_delivered(known, logged, buffered, begin, before if is_older else None)
        # A connection or a process can end between the parts of a delivery.
        if read_time(order.get("updated_at")) >= since - MARGIN:
            summary = forget_unreported_status(summary, [*logged, *buffered])
        return find_missed_events(order, summary, fills, since, self._account.log.dedup_horizon)

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


def _sort(events: Iterable[_Missed]) -> deque[_Missed]:
    return deque(sorted(events, key=lambda event: event[0]))


class _DeliveredEvents:
    """The events of some orders that clients got, or will get; empty until `update`."""

    def __init__(
        self, account: Account, clock: IReactorTime, since: int, orders: Container[str]
    ) -> None:
        self._account = account
        self._clock = clock
        account.flush()  # the pending batch of this reactor turn counts as delivered
        self._epoch = account.log.epoch
        self._read_to = find_start(account.log, since - MARGIN)
        self._orders = orders
        # What was read of each event that waits, by its payload.
        self._read: dict[bytes, DeliveredEvent | None] = {}
        self._rows: defaultdict[str, list[DeliveredEvent]] = defaultdict(list)
        self._unread: Mapping[str, list[DeliveredEvent]] = {}
        self.buffered: Mapping[str, list[DeliveredEvent]] = {}

    def list_logged(self, order_id: str) -> list[DeliveredEvent]:
        """Return the events of an order that were appended to the log."""
        return [*self._rows.get(order_id, []), *self._unread.get(order_id, [])]

    async def update(self) -> set[str]:
        """Take what is new, and return the orders that Alpaca's events among it are about.

        The others were made of orders, by this delivery. Other work has its turn between two parts.
        Nothing is left out in the turn in which this returns: to deliver nothing twice, compare and
        deliver in that turn. Raises TrimmedError or UnreadableError.
        """
        changed: set[str] = set()
        while not (self._take_rows(changed) and self._take_waiting(changed)):
            await deferLater(self._clock, 0)
        return changed

    def _take_rows(self, changed: set[str]) -> bool:
        """Take ROWS_A_TURN rows at most, and return whether these are all."""
        self._account.flush()
        log = self._account.log
        if log.epoch != self._epoch:
            raise UnreadableError  # the numbers are another log's
        if (batch := log.read(self._read_to, ROWS_A_TURN)) is None:
            return True
        for row in batch.rows:
            if row.payload is not None and (event := self._read_event(row.payload)) is not None:
                self._rows[event.state.id].append(event)
                if not event.is_synthetic:
                    changed.add(event.state.id)
        self._read_to = batch.last
        return batch.last >= log.last

    def _take_waiting(self, changed: set[str]) -> bool:
        """Take the events that are no rows yet, and return whether these are all.

        They are ROWS_A_TURN new ones at most. When the buffer is released, its events are appended.
        With Redis, they can be read some time later: until then they are in neither.
        """
        unread = [event.payload for event in self._account.log.unread]
        buffered = [event.payload for event in self._account.buffered]
        payloads = [*unread, *buffered]
        new = [payload for payload in payloads if payload not in self._read]
        for payload in new[:ROWS_A_TURN]:
            self._read[payload] = event = self._read_event(payload)
            if event is not None and not event.is_synthetic:
                changed.add(event.state.id)
        if len(new) > ROWS_A_TURN:
            return False
        self._read = {payload: self._read[payload] for payload in payloads}
        self._unread = self._group(unread)
        before, self.buffered = self.buffered, self._group(buffered)
        orders = before.keys() | self.buffered.keys()
        changed |= {key for key in orders if before.get(key) != self.buffered.get(key)}
        return True

    def _group(self, payloads: Iterable[bytes]) -> Mapping[str, list[DeliveredEvent]]:
        events: defaultdict[str, list[DeliveredEvent]] = defaultdict(list)
        for event in map(self._read.__getitem__, payloads):
            if event is not None:
                events[event.state.id].append(event)
        return events

    def _read_event(self, payload: bytes) -> DeliveredEvent | None:
        event = read_delivered_event(payload)
        return event if event is not None and event.state.id in self._orders else None
