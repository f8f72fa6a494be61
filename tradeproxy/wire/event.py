"""A trading event as the hub knows it: Alpaca's bytes, and what was read of them once, at the edge."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

CLOSED_STATUSES = frozenset({"filled", "canceled", "expired", "replaced", "rejected"})
"""The states of an order to which nothing more happens (Alpaca, "Orders at Alpaca", order lifecycle)."""

EVENT_KINDS = frozenset(
    {
        # Alpaca, "WebSocket Streaming": common, less common, and those that only captures show.
        *(
            "new",
            "fill",
            "partial_fill",
            "canceled",
            "expired",
            "done_for_day",
            "replaced",
            "accepted",
        ),
        *("rejected", "pending_new", "stopped", "pending_cancel", "pending_replace", "calculated"),
        *("suspended", "order_replace_rejected", "order_cancel_rejected", "held", "trade_bust"),
        *("trade_correct", "restated", "pending_review"),
    }
)
"""The events that Alpaca has; it may come to have others."""

OTHER_KIND = "other"
"""Stands for those."""

MAX_WORD_LENGTH = 128
"""Characters; a ULID has 26, a UUID 36."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FINER = re.compile(r"[.,][0-9]{6}[0-9]*[1-9]")
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number as it is written: 1 and 1.0 differ, and it may have more digits than Python takes."""

    text: str


@dataclass(frozen=True, slots=True)
class OrderState:
    """What an event, or Alpaca when asked, says of an order: enough to see whether it has moved since."""

    id: str
    status: str
    filled_qty: str
    time: int
    """Of the event or of the order's last change: microseconds since 1970, 0 if it has none."""

    @property
    def is_open(self) -> bool:
        """Whether something can still happen to the order."""
        return self.status not in CLOSED_STATUSES


@dataclass(frozen=True, slots=True)
class Event:
    """One trading event.

    Two events are the same when `identity` and `digest` are. An `event_id` identifies by itself, and its
    digest is empty; other events have the hash of their parsed data, so that a correction under a known
    identity is another event, and other white space is not.
    """

    payload: bytes
    """The frame as it came, byte for byte; UTF-8 JSON with an object in `data`."""
    identity: str
    digest: bytes
    time: int | None
    """`at`, else `timestamp`: microseconds since 1970."""
    order: OrderState | None
    kind: str
    """One of KINDS, or OTHER."""


def read_event(payload: bytes, data: dict[str, Any]) -> Event:
    """Read the event in `payload`, of which `data` is the parsed object, each number a Number.

    Raises RecursionError or ValueError where the data cannot be written again.
    """
    order = data.get("order")
    order = order if isinstance(order, dict) else {}
    time = _time(data.get("at")) or _time(data.get("timestamp"))
    state, kind = None, _kind(data.get("event"))
    if order_id := _word(order.get("id")):
        filled = _number(order.get("filled_qty"))
        state = OrderState(order_id, _word(order.get("status")), filled, time or 0)
    if event_id := _word(data.get("event_id")):
        return Event(payload, event_id, b"", time, state, kind)
    return Event(payload, _fallback_identity(data, order), _digest(data), time, state, kind)


def parse_time(text: str) -> int:
    """Read an RFC 3339 time as microseconds since 1970; a part of one counts as a whole.

    So what is asked for from a nanosecond after an event, as Alpaca's Go SDK does, begins behind that event,
    and times that are in order stay so. Raises ValueError for anything else, a time without its offset from
    UTC included.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no offset from UTC")
    return (moment - _EPOCH) // _MICROSECOND + (_FINER.search(text) is not None)


def format_time(microseconds: int) -> str:
    """Write a time as Alpaca does: RFC 3339 in UTC, with six digits of a second."""
    return (_EPOCH + microseconds * _MICROSECOND).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _time(value: Any) -> int | None:
    try:
        return parse_time(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _kind(value: Any) -> str:
    return value if isinstance(value, str) and value in EVENT_KINDS else OTHER_KIND


def _word(value: Any) -> str:
    """Return an id or the name of a state; "" for what cannot be one, such as text that is not ASCII."""
    return (
        value
        if isinstance(value, str) and value.isascii() and len(value) <= MAX_WORD_LENGTH
        else ""
    )


def _number(value: Any) -> str:
    return value.text if isinstance(value, Number) else _word(value) or "0"


def _fallback_identity(data: dict[str, Any], order: dict[str, Any]) -> str:
    """Identify an event without an event_id: by its order, its kind, and the execution or the moment."""
    occasion = data.get("execution_id") or _leg_executions(order) or data.get("timestamp")
    return _text([order.get("id"), data.get("event"), occasion])


def _leg_executions(order: dict[str, Any]) -> list[str]:
    # Multi-leg fills carry their execution ids only there.
    legs = order.get("legs")
    legs = legs if isinstance(legs, list) else []
    executions = [leg.get("execution_id") for leg in legs if isinstance(leg, dict)]
    return sorted(execution for execution in executions if isinstance(execution, str))


def _digest(data: dict[str, Any]) -> bytes:
    return blake2b(_text(data).encode(), digest_size=16).digest()


def _text(value: Any) -> str:
    """Write a parsed value in the one way in which equal values are equal; it is ASCII."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), default=lambda number: [number.text]
    )
