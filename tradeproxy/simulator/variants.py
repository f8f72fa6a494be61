"""Unusual events: other copies of an event, and events that follow from earlier fills. Pure.

A fault of EVENT_FAULTS changes an event before it is emitted. The stream and the history may then
have different copies of it. A fault of FILL_FAULTS emits events that are made from the last fills.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from tradeproxy.simulator.clock import format_time, move_ulid, nanoseconds
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.orders import Document, number_text
from tradeproxy.wire.amount import parse_amount

MICROSECOND, MILLISECOND, SECOND = 1_000, 1_000_000, 1_000_000_000
"""In nanoseconds, the unit of every time in this module."""

EVENT_FAULTS = (
    FaultKind.SAME_TIME,
    FaultKind.OLDER_TIME,
    FaultKind.TIME_SHIFT,
    FaultKind.STREAM_WITHOUT_IDS,
    FaultKind.WITHOUT_IDS,
)
"""The faults that change an event, in the order in which they apply."""

FILL_FAULTS = (FaultKind.REISSUE, FaultKind.CORRECT, FaultKind.BUST_CORRECT)
"""The faults that emit events which follow from earlier fills."""

PRICE_STEP = Decimal("0.01")
"""The difference between a price and its correction, in USD."""


@dataclass(frozen=True, slots=True)
class EventCopies:
    """The `data` of one event, as the stream sends it and as the history has it."""

    stream: Document
    history: Document


def make_copies(
    data: Document, faults: Iterable[Fault], previous: int | None, account_id: str
) -> EventCopies:
    """Return the copies of an event.

    The faults that apply are each of a kind in EVENT_FAULTS, in that order. `previous` is the time
    of the event before it, in nanoseconds since 1970; None if there is none. The history adds the
    id of the account to an event without ids.
    """
    copies = EventCopies(data, data)
    for fault in faults:
        copies = _apply(fault, copies, previous, account_id)
    return copies


def follow_fills(
    fault: Fault, fills: Sequence[Document], stamp: Callable[[], tuple[str, str]]
) -> list[Document]:
    """Return the `data` of the events that a fault of FILL_FAULTS makes of the last fills.

    `fills` are the `data` of these, oldest first. `stamp` returns a new `at` and `event_id`.
    """
    match fault.kind:
        case FaultKind.REISSUE:
            return [_stamped(fill, *stamp()) for fill in fills[-fault.count :]]
        case FaultKind.CORRECT:
            return [correct_price(fill) for fill in fills[-1:]]
        case _:
            return [event for fill in fills[-1:] for event in bust_and_correct(fill, *stamp())]


def correct_price(fill: Document) -> Document:
    """Return the same execution under the same event id, with another price."""
    price = parse_amount(str(fill.get("price"))) or Decimal(0)
    return fill | {"price": number_text(price + PRICE_STEP)}


def bust_and_correct(fill: Document, at: str, event_id: str) -> list[Document]:
    """Return a trade_bust and a trade_correct of a fill. Both have this time and this event id."""
    return [
        _stamped(fill, at, event_id) | {"event": "trade_bust"},
        _stamped(correct_price(fill), at, event_id) | {"event": "trade_correct"},
    ]


def _apply(fault: Fault, copies: EventCopies, previous: int | None, account_id: str) -> EventCopies:
    match fault.kind:
        case FaultKind.STREAM_WITHOUT_IDS:
            return EventCopies(_without_ids(copies.stream), copies.history)
        case FaultKind.WITHOUT_IDS:
            bare = _without_ids(copies.stream)
            return EventCopies(bare, bare | {"account_id": account_id})
        case FaultKind.TIME_SHIFT:
            data = _shift_times(copies.stream, round(fault.offset * SECOND))
        case _ if previous is None:
            return copies
        case FaultKind.SAME_TIME:
            data = _at_time(copies.stream, previous)
        case _:
            data = _at_time(copies.stream, previous - MILLISECOND)
    return EventCopies(data, data)


def _stamped(data: Document, at: str, event_id: str) -> Document:
    return data | {"at": at, "event_id": event_id}


def _without_ids(data: Document) -> Document:
    return {name: value for name, value in data.items() if name not in ("event_id", "at")}


def _shift_times(data: Document, offset: int) -> Document:
    timestamp = nanoseconds(data.get("timestamp"))
    if timestamp is not None:
        data = data | {"timestamp": format_time(timestamp + offset)}
    at = nanoseconds(data.get("at"))
    return data if at is None else _at_time(data, at + offset)


def _at_time(data: Document, time: int) -> Document:
    """Set `at`, and the time in the event id, which equals `at` to the millisecond."""
    moved = {"at": format_time(time // MICROSECOND * MICROSECOND)}
    if isinstance(event_id := data.get("event_id"), str):
        moved["event_id"] = move_ulid(event_id, time // MILLISECOND)
    return data | moved
