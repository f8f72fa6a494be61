"""What clients have been told of each order: how far it was filled, by which fills, and how it stands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NamedTuple

from tradeproxy.wire.frame import Recovered, extract_data
from tradeproxy.wire.messages import TradeUpdate, parse_server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tradeproxy.wire.event import OrderState

ZERO = Decimal(0)

FILLS = ("fill", "partial_fill")
"""The events that fill an order."""


class QuantityRange(NamedTuple):
    """A part of an order's quantity: from what was filled before it to what was filled after it."""

    start: Decimal
    end: Decimal


@dataclass(frozen=True, slots=True)
class DeliveredEvent:
    """An event as far as it tells of an order."""

    state: OrderState
    filled: Decimal
    fill: QuantityRange | None
    """The part of the order that this very event fills."""
    is_synthetic: bool
    """Whether we made it of an order, which it then shows as it was later."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was told of one order."""

    state: OrderState | None
    """The newest; None if nothing was told at all."""
    floor: Decimal | None
    """All that was filled up to here was told; None if that is not known."""
    spans: tuple[QuantityRange, ...] = ()
    """The fills beyond that."""


NOTHING_DELIVERED = Delivered(None, None)


def read_delivered_event(payload: bytes) -> DeliveredEvent | None:
    """Read an event's frame; None if it tells of no order."""
    message = parse_server(payload)
    if not isinstance(message, TradeUpdate) or (state := message.event.order) is None:
        return None
    text, mark = extract_data(payload)
    data = json.loads(text)
    filled = parse_decimal(state.filled_qty) or ZERO
    qty = parse_decimal(data.get("qty")) if data.get("event") in FILLS else None
    fill = None if qty is None or qty <= 0 else QuantityRange(max(filled - qty, ZERO), filled)
    return DeliveredEvent(state, filled, fill, mark == Recovered.ORDERS.value)


def summarize_delivered(
    known: OrderState | None,
    logged: Iterable[DeliveredEvent],
    held: Iterable[DeliveredEvent],
    begin: int,
    before: OrderState | None = None,
) -> Delivered:
    """Sum up what was told of one order.

    `known` is its newest state in the log; `logged` are its events there from some time before the gap's
    `begin`, up to which the log is complete; `held` are those that follow. `before` is its state at the
    gap's begin, where that was noted.
    """
    floors = [] if before is None else [parse_decimal(before.filled_qty) or ZERO]
    later: list[DeliveredEvent] = []
    for notice in logged:
        if notice.state.time <= begin or notice.is_synthetic:
            floors.append(notice.filled)
        else:
            later.append(notice)
    if not floors and not later and known is not None:
        floors.append(parse_decimal(known.filled_qty) or ZERO)
    waiting = tuple(held)
    spans = tuple(notice.fill for notice in (*later, *waiting) if notice.fill is not None)
    state = waiting[-1].state if waiting else known
    return Delivered(state, max(floors, default=None), spans)


def parse_decimal(value: Any) -> Decimal | None:
    """Read a number as Alpaca writes it, text or not; None for anything else."""
    try:
        number = Decimal(value if isinstance(value, str) else str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
