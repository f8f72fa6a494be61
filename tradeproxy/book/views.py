"""What the book answers: orders, positions, fills and pages of them, as immutable values."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from itertools import chain

from msgspec import Struct

from tradeproxy.journal.base import Row

# Python's garbage collector does not track objects of msgspec that have no containers.


class OrderView(Struct, frozen=True, weakref=True):
    """An order in its newest known state."""

    id: str
    parent_id: str | None
    """The order under which it is a leg."""
    client_order_id: str
    symbol: str
    """Empty for a multi-leg order."""
    status: str
    is_open: bool
    """Whether the order, or one of its legs, can still change."""
    seq: int
    """The row of its last change; 0 if Alpaca's answer to a request was newer than every row."""
    submitted: int
    """Microseconds since 1970; 0 if that is not known."""
    updated: int
    """Microseconds since 1970: the order's own `updated_at`, or the time of the event."""
    document: bytes
    """Alpaca's order object as JSON, with the newest objects of its legs in `legs`."""


class TimelineEntry(Struct, frozen=True, gc=False):
    """One event of an order, or of the order's part in an event of its parent."""

    seq: int
    time: int | None
    """Microseconds since 1970."""
    kind: str
    """The event's name, as Alpaca wrote it."""
    qty: str | None
    price: str | None
    filled_qty: str | None
    status: str


class PositionView(Struct, frozen=True, weakref=True):
    """A position of the account."""

    symbol: str
    """As Alpaca's positions have it: BTCUSD for BTC/USD."""
    document: bytes
    """Alpaca's position object as JSON. What a fill makes invalid is null until the next answer.

    It has `difference`, what was wrong with it, if two comparisons in a row found that.
    """


class FillView(Struct, frozen=True, weakref=True):
    """A fill or partial fill."""

    seq: int
    time: int | None
    """Microseconds since 1970."""
    symbols: tuple[str, ...]
    client_order_id: str
    document: bytes
    """The event's `data` object as JSON."""


class StrategyView(Struct, frozen=True, weakref=True):
    """A strategy, or a part of one."""

    document: bytes
    """A JSON object: see strategy_views."""


class BookSnapshot(Struct, frozen=True, gc=False):
    """The state of the account after row `seq`."""

    seq: int
    cursor: str | None
    """The position after row `seq`; None if that row is not durable."""
    is_complete: bool
    groups: tuple[tuple[OrderView, ...], ...]
    """The open orders, the oldest submission first. Snapshots share each group that is equal."""
    positions: tuple[PositionView, ...]
    """By symbol."""
    fills: tuple[FillView, ...]
    """The newest ones, oldest first."""
    strategies: tuple[StrategyView, ...] = ()
    """Those with an open position or a fill of the day."""

    def list_orders(self) -> Iterator[OrderView]:
        """Yield the open orders, the oldest submission first."""
        return chain.from_iterable(self.groups)


class OrderScope(Enum):
    """Which orders a query finds."""

    OPEN = "open"
    CLOSED = "closed"
    ALL = "all"


class OrderQuery(Struct, frozen=True):
    """Which orders are listed. Empty values and None do not restrict."""

    status: OrderScope = OrderScope.OPEN
    symbols: frozenset[str] = frozenset()
    """An order is found by its own symbol or one of its legs'."""
    client_order_id_prefix: str = ""
    after: int | None = None
    """Submitted after this time (microseconds since 1970)."""
    until: int | None = None
    """Submitted at or before this time."""


class OrderKey(Struct, frozen=True):
    """A position in the list of orders, newest submission first."""

    submitted: int
    id: str


class OrdersPage(Struct, frozen=True):
    """Some orders, newest submission first."""

    orders: tuple[OrderView, ...]
    next: OrderKey | None
    """Where the next call continues; None at the end."""
    examined: int
    """How many orders were looked at."""


class TimelinePage(Struct, frozen=True):
    """Some events of an order or a leg, oldest first."""

    entries: tuple[TimelineEntry, ...]
    next: int | None
    """What the next call takes as `after`; None at the end."""


class EventQuery(Struct, frozen=True):
    """Which events are listed. Empty values and None do not restrict."""

    symbols: frozenset[str] = frozenset()
    """An event is found by its order's symbol or one of its legs'."""
    kinds: frozenset[str] = frozenset()
    client_order_id_prefix: str = ""
    order_id: str | None = None
    """The events of this order, or of the order that it is a leg of."""
    since: int | None = None
    """At or after this time (microseconds since 1970)."""
    until: int | None = None
    """At or before this time."""


class EventsPage(Struct, frozen=True):
    """Some rows of the log, the newest first."""

    rows: tuple[Row, ...]
    next: int | None
    """What the next call takes as `before`; None at the end."""
    examined: int
    """How many events were looked at."""


class EventCount(Struct, frozen=True):
    """How many rows of a part of the log a search finds."""

    matched: int
    next: int | None
    """What the next call takes as `before`; None at the end."""
    examined: int
    """How many events were looked at."""
