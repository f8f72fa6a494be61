"""A trading event: Alpaca's bytes, and the fields that the proxy parses once, on receipt.

msgspec parses a frame in a tenth of the time that the parser of `messages` takes, because it builds
only what the types below name. It accepts less than JSON allows. Where both parsers might differ,
`parse_event` returns None, and the parser of `messages` decides, with `read_event`:

    the frame has                                       why
    --------------------------------------------------  -----------------------------------------
    no event_id that identifies it                      the digest needs every field
    a field below with another type, or a longer word   `read_event` has its rules
    a byte above 127                                    msgspec does not check text that it skips
    a backslash                                         an escape may be a character above 127
    more than MAX_OPENED brackets                       the parsers have other limits of the depth
    NaN, Infinity, or a number that fits no double      msgspec rejects them
    another `stream`, no object in `data`, or no JSON   another message, or none
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Any, Literal

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder
from msgspec.structs import replace

from tradeproxy.wire.amount import normalize_amount

CLOSED_STATUSES = frozenset({"filled", "canceled", "expired", "replaced", "rejected"})
"""The final states of an order (Alpaca, "Orders at Alpaca", order lifecycle)."""

EVENT_KINDS = frozenset(
    {
        # Alpaca, "WebSocket Streaming": common, less common, and kinds seen only in captures.
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
"""The kinds of event that Alpaca sends today. It may add others."""

OTHER_KIND = "other"
"""The kind of every event that is not in EVENT_KINDS; it bounds the number of metric labels."""

EXECUTION_KINDS = frozenset({"fill", "partial_fill"})
"""The kinds that report an execution."""

AMENDMENT_KINDS = frozenset({"trade_bust", "trade_correct"})
"""The kinds that cancel or change an execution. Alpaca gives both of one execution one id."""

AMOUNTS = ("qty", "price")
"""The fields in which a correction of an execution differs from it."""

MAX_WORD_LENGTH = 128
"""Characters; a ULID has 26, a UUID 36."""

MAX_OPENED = 200
"""Brackets and braces that are opened. An order with four legs has eleven."""

_BACKSLASH = ord("\\")

Word = Annotated[str, Meta(max_length=MAX_WORD_LENGTH)]
EventId = Annotated[str, Meta(min_length=1, max_length=MAX_WORD_LENGTH)]

_POINT, _ZONE = len("2026-07-24T14:42:50"), len("2026-07-24T14:42:50.123456")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FINER = re.compile(r"[.,][0-9]{6}[0-9]*[1-9]")
MICROSECOND = timedelta(microseconds=1)

MIN_TIME = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
MAX_TIME = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
"""The first and the last microsecond of the calendar, years 1 to 9999 in UTC.

`datetime.fromisoformat` accepts times beyond them: 9999-12-31T23:59:59-23:59 is in year 10000 in
UTC.
"""


class Number(Struct, frozen=True, gc=False):
    """A JSON number as written: 1 and 1.0 differ, and int() may reject its number of digits.

    A Struct takes a tenth of a dataclass's time: a hostile frame may have half a million numbers.
    """

    text: str


class OrderState(Struct, frozen=True, gc=False):
    """The state of an order in an event or in Alpaca's REST API.

    A comparison shows missed events.
    """

    id: str
    status: str
    filled_qty: str
    time: int
    """The time of the event or of the order's last change: microseconds since 1970, or 0."""

    @property
    def is_open(self) -> bool:
        """Whether the order can still change."""
        return self.status not in CLOSED_STATUSES


class Event(Struct, frozen=True, gc=False):
    """One trading event. A Struct, because it is built for every event: see docs/performance.md.

    Two events are the same if their keys are equal:

        event                                   key
        --------------------------------------  ----------------------------------------------
        a fill or partial fill of an execution  order, kind, execution, quantity and price
        trade_bust, trade_correct, by event_id  the same, and the event_id
        any other with an event_id              the event_id
        any other                               order, kind, execution or time, and all its data

    So a correction of a known event is a new event. A change of white space is not, and for an
    execution neither is a field that only one of Alpaca's copies has.
    """

    payload: bytes
    """The frame as received, byte for byte: UTF-8 JSON with an object in `data`."""
    identity: str
    """The `event_id`; without one, a text made of order, kind, and execution or time."""
    digest: bytes
    """A hash of the parsed data; empty with an `event_id`."""
    time: int | None
    """From `at`, else from `timestamp`: microseconds since 1970."""
    order: OrderState | None
    kind: str
    """One of EVENT_KINDS, or OTHER_KIND."""
    execution: bytes = b""
    """A hash of an execution and its amounts, which replaces `identity` and `digest` as the key.

    Empty for other events.
    """

    def with_time(self, time: int) -> Event:
        """Return the event with another time (microseconds since 1970); the payload stays."""
        order = None if self.order is None else replace(self.order, time=time)
        return replace(self, time=time, order=order)

    @property
    def key(self) -> tuple[str, bytes]:
        """What identifies the event: two events with one key are the same."""
        return ("", self.execution) if self.execution else (self.identity, self.digest)

    @property
    def key_hash(self) -> bytes:
        """A hash of `key` in 16 bytes, for places that keep many keys."""
        return blake2b(repr(self.key).encode(), digest_size=16).digest()


class LegFields(Struct, gc=False):
    """A leg of a multi-leg order."""

    execution_id: str | None = None


class OrderFields(Struct, gc=False):
    """The order of a trade update."""

    id: Word | None = None
    status: Word | None = None
    filled_qty: Word | None = None
    legs: list[LegFields] | None = None


class EventFields(Struct, gc=False):
    """The `data` of a trade update."""

    event_id: EventId
    event: str | None = None
    execution_id: Word | None = None
    previous_execution_id: Word | None = None
    at: str | None = None
    timestamp: str | None = None
    qty: Word | None = None
    price: Word | None = None
    order: OrderFields | None = None
    legs: list[LegFields] | None = None


class TradeUpdateFrame(Struct, gc=False):
    """A frame of the stream trade_updates."""

    stream: Literal["trade_updates"]
    data: EventFields


_DECODER = Decoder(TradeUpdateFrame)
_NO_ORDER = OrderFields()
_normalize = lru_cache(maxsize=256)(normalize_amount)
"""Most quantities come again. A Word is short, so this stays small."""


def parse_event(payload: bytes) -> Event | None:
    """Return the event of a trade update as `read_event` does; None if that must decide."""
    if (
        not payload.isascii()
        or _BACKSLASH in payload
        or payload.count(b"{") + payload.count(b"[") > MAX_OPENED
    ):
        return None
    try:
        fields = _DECODER.decode(payload).data
    except (DecodeError, RecursionError):  # the latter if little of the stack is left
        return None
    order = fields.order or _NO_ORDER
    time = read_time(fields.at) or read_time(fields.timestamp)
    kind = fields.event if fields.event in EVENT_KINDS else OTHER_KIND
    state, order_id, execution = None, order.id or "", b""
    if order_id:
        state = OrderState(order_id, order.status or "", order.filled_qty or "0", time or 0)
    if kind in EXECUTION_KINDS or kind in AMENDMENT_KINDS:
        legs = [*(fields.legs or ()), *(order.legs or ())]
        runs = [leg.execution_id for leg in legs if leg.execution_id is not None] if legs else []
        execution = hash_execution(
            order_id,
            kind,
            fields.execution_id or "",
            runs,
            [_normalize(fields.qty or ""), _normalize(fields.price or "")],
            fields.event_id,
            fields.previous_execution_id or "",
        )
    return Event(payload, fields.event_id, b"", time, state, kind, execution)


def read_event(payload: bytes, data: dict[str, Any]) -> Event:
    """Return the event in `payload`. `data` is its parsed object, with each number as a Number.

    Raises RecursionError or ValueError if the data cannot be serialized for the digest.
    """
    order = data.get("order")
    order = order if isinstance(order, dict) else {}
    time = read_time(data.get("at")) or read_time(data.get("timestamp"))
    state, kind, order_id = None, _kind(data.get("event")), _read_word(order.get("id"))
    if order_id:
        filled = _read_number(order.get("filled_qty"))
        state = OrderState(order_id, _read_word(order.get("status")), filled, time or 0)
    event_id = _read_word(data.get("event_id"))
    execution = b""
    if kind in EXECUTION_KINDS or kind in AMENDMENT_KINDS:
        execution = hash_execution(
            order_id,
            kind,
            _read_word(data.get("execution_id")),
            [*_leg_executions(data), *_leg_executions(order)],
            [_read_amount(data.get(name)) for name in AMOUNTS],
            event_id,
            _read_word(data.get("previous_execution_id")),
        )
    identity = event_id or _fallback_identity(data, order)
    digest = b"" if event_id else _digest(data)
    return Event(payload, identity, digest, time, state, kind, execution)


def hash_execution(
    order_id: str,
    kind: str,
    execution_id: str,
    leg_executions: list[str],
    amounts: list[str],
    event_id: str,
    previous_id: str,
) -> bytes:
    """Return the hash that identifies an execution; empty if the event does not identify one.

    Alpaca's history has fields that the stream's copy lacks, `event_id` and `at` among them. It
    has been seen to report one execution under two ids, and a bust and its correction under one.

    Args:
        order_id: the id of the order; "" without one.
        kind: one of EXECUTION_KINDS or AMENDMENT_KINDS.
        execution_id: the event's `execution_id`; "" without one.
        leg_executions: those of the legs, which count if the event has none.
        amounts: the quantity and the price, each as `normalize_amount` returns it.
        event_id: the `event_id`; "" without one.
        previous_id: the `previous_execution_id` of an amendment; "" without one.
    """
    execution = execution_id or sorted(set(leg_executions))
    parts = [order_id, kind, execution, *amounts]
    if kind in AMENDMENT_KINDS:
        if not event_id:
            return b""
        parts += [event_id, previous_id]
    elif not order_id or not execution:
        return b""
    return blake2b(repr(parts).encode(), digest_size=16).digest()


def parse_time(text: str) -> int:
    """Parse an RFC 3339 time as microseconds since 1970, rounded up.

    Rounding keeps the order of times. Raises ValueError for other text, and for a time without an
    offset from UTC.
    """
    time, is_exact = parse_time_down(text)
    if not is_exact and not is_time(time + 1):
        raise ValueError("outside the calendar in UTC")
    return time if is_exact else time + 1


def parse_time_down(text: str) -> tuple[int, bool]:
    """Parse an RFC 3339 time as microseconds since 1970, rounded down, and whether it is exact.

    Raises ValueError as `parse_time` does.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no offset from UTC")
    time = (moment - EPOCH) // MICROSECOND
    if not is_time(time):
        raise ValueError("outside the calendar in UTC")
    return time, _FINER.search(text) is None


def read_time(value: Any) -> int | None:
    """Return a field of an event as microseconds since 1970; None if it is no time."""
    if not isinstance(value, str):
        return None
    try:
        if value[_ZONE:] == "Z" and value[_POINT] == ".":
            # Exact, and in UTC, so within the calendar: `parse_time` without its calls.
            return (datetime.fromisoformat(value) - EPOCH) // MICROSECOND
        return parse_time(value)
    except ValueError:
        return None


def is_time(microseconds: object) -> bool:
    """Whether a value is a whole number of microseconds since 1970 that can be formatted."""
    return type(microseconds) is int and MIN_TIME <= microseconds <= MAX_TIME


def format_time(microseconds: int) -> str:
    """Format a time as Alpaca does: RFC 3339 in UTC, with six decimals of a second.

    A number outside the calendar, such as the sum of a time and a duration, becomes its first or
    last moment.
    """
    moment = EPOCH + min(max(microseconds, MIN_TIME), MAX_TIME) * MICROSECOND
    # Not strftime: its %Y does not pad the year on Linux, so that the result could not be parsed.
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _kind(value: Any) -> str:
    return value if isinstance(value, str) and value in EVENT_KINDS else OTHER_KIND


def _read_word(value: Any) -> str:
    """Return an id or the name of a state; "" for other values, such as text that is not ASCII."""
    return (
        value
        if isinstance(value, str) and value.isascii() and len(value) <= MAX_WORD_LENGTH
        else ""
    )


def _read_number(value: Any) -> str:
    # A number that is cut off here has too many digits either way.
    return value.text[:MAX_WORD_LENGTH] if isinstance(value, Number) else _read_word(value) or "0"


def _fallback_identity(data: dict[str, Any], order: dict[str, Any]) -> str:
    """Identify an event without an event_id by order, kind, and execution or timestamp."""
    discriminator = data.get("execution_id") or _leg_executions(order) or data.get("timestamp")
    return _canonical_text([order.get("id"), data.get("event"), discriminator])


def _read_amount(value: Any) -> str:
    text = value.text if isinstance(value, Number) else _read_word(value)
    return normalize_amount(text[:MAX_WORD_LENGTH])


def _leg_executions(parent: dict[str, Any]) -> list[str]:
    # Multi-leg fills carry their execution ids only in the `legs` of the data or of the order.
    legs = parent.get("legs")
    legs = legs if isinstance(legs, list) else []
    executions = [leg.get("execution_id") for leg in legs if isinstance(leg, dict)]
    return sorted(execution for execution in executions if isinstance(execution, str))


def _digest(data: dict[str, Any]) -> bytes:
    return blake2b(_canonical_text(data).encode(), digest_size=16).digest()


def _canonical_text(value: Any) -> str:
    """Serialize a parsed value canonically, in ASCII: equal values give equal text."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), default=lambda number: [number.text]
    )
