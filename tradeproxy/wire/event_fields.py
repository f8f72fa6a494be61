"""The fields of a trade update that an Event needs, parsed without the other fields.

msgspec parses a frame in a tenth of the time that the parser of `messages` takes, because it builds
only what the types below name. It accepts less than JSON allows. Where both parsers might differ,
this one returns None, and that of `messages` decides:

    the frame has                                       why
    --------------------------------------------------  -----------------------------------------
    no event_id that identifies it                      the digest needs every field
    a field below with another type                     `read_event` has its rules
    a byte above 127                                    msgspec does not check text that it skips
    a backslash                                         nor escapes
    more than MAX_OPENED brackets                       the parsers have other limits of the depth
    NaN, Infinity, or a number that fits no double      msgspec rejects them
    another `stream`, no object in `data`, or no JSON   another message, or none
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required, TypedDict

from msgspec import DecodeError, Meta
from msgspec.json import Decoder

from tradeproxy.wire.event import MAX_WORD_LENGTH

MAX_OPENED = 200
"""Brackets and braces that are opened. An order with four legs has eleven."""


class LegFields(TypedDict, total=False):
    """A leg of a multi-leg order."""

    execution_id: str | None


class OrderFields(TypedDict, total=False):
    """The order of a trade update."""

    id: str | None
    status: str | None
    filled_qty: str | None
    legs: list[LegFields] | None


class EventFields(TypedDict, total=False):
    """The `data` of a trade update."""

    event_id: Required[Annotated[str, Meta(min_length=1, max_length=MAX_WORD_LENGTH)]]
    event: str | None
    execution_id: str | None
    previous_execution_id: str | None
    at: str | None
    timestamp: str | None
    qty: str | None
    price: str | None
    order: OrderFields | None
    legs: list[LegFields] | None


class TradeUpdateFrame(TypedDict):
    """A frame of the stream trade_updates."""

    stream: Literal["trade_updates"]
    data: EventFields


_DECODER = Decoder(TradeUpdateFrame)


def parse_fields(payload: bytes) -> dict[str, Any] | None:
    """Return the fields of a trade update for `read_event`; None if another parser must decide."""
    if (
        not payload.isascii()
        or b"\\" in payload
        or payload.count(b"{") + payload.count(b"[") > MAX_OPENED
    ):
        return None
    try:
        fields: Any = _DECODER.decode(payload)["data"]
    except DecodeError:
        return None
    return fields  # type: ignore[no-any-return]  # a TypedDict is a dict at run time
