"""The fields of a trade update that an Event needs, parsed without the other fields.

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

from functools import lru_cache
from typing import Annotated, Literal

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder

from tradeproxy.wire.amount import normalize_amount
from tradeproxy.wire.event import (
    AMENDMENT_KINDS,
    EVENT_KINDS,
    EXECUTION_KINDS,
    MAX_WORD_LENGTH,
    OTHER_KIND,
    Event,
    OrderState,
    hash_execution,
    read_time,
)

MAX_OPENED = 200
"""Brackets and braces that are opened. An order with four legs has eleven."""

_BACKSLASH = ord("\\")

Word = Annotated[str, Meta(max_length=MAX_WORD_LENGTH)]
EventId = Annotated[str, Meta(min_length=1, max_length=MAX_WORD_LENGTH)]


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
