"""The frames that carry events: put together, added to, and taken apart, without touching Alpaca's bytes."""

from __future__ import annotations

import json
import re
from enum import Enum

_DECODER = json.JSONDecoder(
    parse_int=str, parse_float=str
)  # an int of thousands of digits is an error
_BLANK = re.compile(r"[ \t\r\n]*")


class Recovered(Enum):
    """Where an event that did not come by the stream was found; the value is its mark in the frame."""

    EVENTS = "events"
    """In the history of events, after newer ones had been delivered: it is late."""
    ORDERS = "orders"
    """Nowhere: it was made of an order that had moved, since the history is not to be had."""


def frame_event(data: bytes) -> bytes:
    """Frame an event's `data`, a JSON object, as the stream does."""
    return b'{"stream":"trade_updates","data":' + data + b"}"


def with_mark(payload: bytes, recovered: Recovered) -> bytes:
    """Add to an event's frame where it was found."""
    return _with(payload, "recovered", recovered.value)


def with_cursor(payload: bytes, cursor: str) -> bytes:
    """Add to an event's frame the position behind it."""
    return _with(payload, "cursor", cursor)


def _with(payload: bytes, name: str, text: str) -> bytes:
    """Add a member at the end of the top level; the text needs no escaping."""
    return payload.rstrip()[:-1] + f',"{name}":"{text}"}}'.encode()


def extract_data(payload: bytes) -> tuple[bytes, str | None]:
    """Return the bytes of a frame's `data` on one line, and the mark of a recovered frame.

    Line ends can only be white space between JSON's tokens; each becomes a blank.
    """
    text = payload.decode()
    data, recovered = "", None
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        value, end = _DECODER.raw_decode(text, start)
        if key == "data":
            data = text[start:end]
        elif key == "recovered":
            recovered = value
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return data.replace("\r", " ").replace("\n", " ").encode(), recovered


def _skip(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    assert blank is not None, "the pattern matches nothing too"
    return blank.end()
