"""What clients already got about each order: its last state, and the fills of its quantity."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, NamedTuple

from tradeproxy.wire import event as events
from tradeproxy.wire.amount import parse_amount
from tradeproxy.wire.event import EXECUTION_KINDS, Number, OrderState, read_event
from tradeproxy.wire.frame import Recovered

ZERO = Decimal(0)

# The numbers stay texts, as `read_event` expects: a float would lose digits of a quantity.
_DECODER = json.JSONDecoder(parse_int=Number, parse_float=Number)


class QuantityRange(NamedTuple):
    """A part of an order's quantity: the filled quantity before it and after it."""

    start: Decimal
    end: Decimal


@dataclass(frozen=True, slots=True)
class DeliveredEvent:
    """What one event states about its order."""

    kind: str
    time: int
    """When it happened (microseconds since 1970): its `timestamp`, else the event's time."""
    state: OrderState
    filled: Decimal
    """The order's filled quantity after the event."""
    fill: QuantityRange | None
    """The part that this event fills; None if it is not a fill."""
    is_synthetic: bool
    """Whether the proxy made it of an order."""
    covers_all: bool
    """Whether every fill of the order up to `filled` is delivered with it.

    Earlier versions wrote such synthetic events. They have no `cum_qty`.
    """
    unreadable: str | None = None
    """The field with an amount that is no number. Then `filled` and `fill` say nothing."""

    @property
    def reports_status(self) -> bool:
        """Whether it reports the order's status.

        A fill that was made of an order has the order as it was then, maybe canceled: another event
        reports that.
        """
        return not (self.is_synthetic and self.kind in EXECUTION_KINDS)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What clients got about one order."""

    state: OrderState | None
    """Its newest state; None if no event was delivered."""
    floor: Decimal | None
    """The filled quantity up to which every fill was delivered; None if it is unknown."""
    spans: tuple[QuantityRange, ...] = ()
    """The delivered fills beyond the floor."""


def read_delivered_event(payload: bytes) -> DeliveredEvent | None:
    """Read an event's frame; None if it is not an event of an order.

    The frame is parsed once: a backfill from orders reads every logged event since the gap began.
    """
    try:
        frame = _DECODER.decode(payload.decode())
        match frame:
            case {"stream": "trade_updates", "data": {} as data}:
                state = read_event(payload, data).order
            case _:
                return None
    except (ValueError, RecursionError):  # not JSON, or nested too deeply
        return None
    if state is None:
        return None
    filled = parse_decimal(state.filled_qty) or ZERO
    kind = str(data.get("event"))
    is_execution = kind in EXECUTION_KINDS
    is_synthetic = frame.get("recovered") == Recovered.ORDERS.value
    # A synthetic event has the order as it was when the event was made, maybe after more fills.
    made_to = parse_decimal(data.get("cum_qty")) if is_synthetic and is_execution else None
    filled = filled if made_to is None else made_to
    qty = parse_decimal(data.get("qty")) if is_execution else None
    fill = None if qty is None or qty <= 0 else QuantityRange(max(filled - qty, ZERO), filled)
    covers_all = is_synthetic and is_execution and made_to is None
    time = read_time(data.get("timestamp")) or state.time
    unreadable = find_unreadable({"filled_qty": state.filled_qty}, "filled_qty")
    if unreadable is None and is_execution:
        unreadable = find_unreadable(data, "qty", "cum_qty")
    fill = None if unreadable else fill
    return DeliveredEvent(kind, time, state, filled, fill, is_synthetic, covers_all, unreadable)


def summarize_delivered(
    known: OrderState | None,
    logged: Iterable[DeliveredEvent],
    buffered: Iterable[DeliveredEvent],
    begin: int,
    before: OrderState | None = None,
) -> Delivered:
    """Summarize what clients got, or will get from the buffer, about one order.

    Args:
        known: its newest state in the log; None if the log has none.
        logged: its events in the log, from some time before `begin` on.
        buffered: its events that are buffered during the backfill; they follow the logged ones.
        begin: the start of the gap (microseconds since 1970). The log is complete up to it.
        before: its state at `begin`, if it was recorded.
    """
    floors = [] if before is None else [parse_decimal(before.filled_qty) or ZERO]
    later: list[DeliveredEvent] = []
    for event in logged:
        if event.state.time <= begin or event.covers_all:  # the log is complete up to `begin`
            floors.append(event.filled)
        else:
            later.append(event)
    if not floors and not later and known is not None:
        floors.append(parse_decimal(known.filled_qty) or ZERO)
    waiting = tuple(buffered)
    spans = tuple(event.fill for event in (*later, *waiting) if event.fill is not None)
    state = waiting[-1].state if waiting else known
    return Delivered(state, max(floors, default=None), spans)


def forget_unreported_status(delivered: Delivered, events: Sequence[DeliveredEvent]) -> Delivered:
    """Return `delivered` without the status of its state if no event of it reports that.

    Args:
        delivered: what clients got about one order.
        events: its events, from before its last change on.
    """
    state, statuses = delivered.state, {event.state.status for event in events}
    reported = {event.state.status for event in events if event.reports_status}
    if state is None or state.status not in statuses - reported:
        return delivered
    return replace(delivered, state=OrderState(state.id, "", state.filled_qty, state.time))


def parse_decimal(value: Any) -> Decimal | None:
    """Parse a number, or a text that holds one: Alpaca sends both. None for anything else."""
    return parse_amount(value.text if isinstance(value, Number) else str(value))


def find_unreadable(document: Mapping[str, Any], *names: str) -> str | None:
    """Return the first of these fields that has another value than a number; None if none has."""
    for name in names:
        value = document.get(name)
        if value not in (None, "") and parse_decimal(value) is None:
            return name
    return None


def read_time(text: Any) -> int:
    """Parse a time as microseconds since 1970; 0 for anything else."""
    return events.read_time(text) or 0


def subtract_all(whole: QuantityRange, removed: Iterable[QuantityRange]) -> list[QuantityRange]:
    """Return the parts of a range that are in none of the others, in order.

    They are sorted and passed once: a hostile server may send thousands of fills of one order.
    """
    parts, start = [], whole.start
    for each in sorted(removed):
        parts.append(QuantityRange(start, min(each.start, whole.end)))
        start = max(start, each.end)
    parts.append(QuantityRange(start, whole.end))
    return [part for part in parts if part.start < part.end]
