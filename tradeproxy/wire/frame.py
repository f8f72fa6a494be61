"""Event frames: build them, add members and extract `data`. Alpaca's bytes stay unchanged."""

from __future__ import annotations

import json
import re
from enum import Enum

from msgspec import DecodeError, Raw
from msgspec.json import Decoder

# Numbers stay text: int() raises ValueError for more than 4300 digits.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_FAST_DECODER = Decoder(Raw)
_SPACE = re.compile(r"[ \t\r\n]*")


class Recovered(Enum):
    """The source of an event that the stream did not deliver; the value marks its frame."""

    EVENTS = "events"
    """Alpaca's event history. Newer events were delivered first, so it is late."""
    ORDERS = "orders"
    """An order that changed during the gap.

    The history was unavailable, so the event is synthetic.
    """


_MARKS = frozenset(each.value for each in Recovered)


def frame_event(data: bytes) -> bytes:
    """Wrap an event's `data`, a JSON object, in a frame as the stream does."""
    return b'{"stream":"trade_updates","data":' + data + b"}"


def is_frame(payload: object) -> bool:
    """Return whether a stored payload is a JSON object in UTF-8, as every frame of an event is.

    Anything else is damage. A client would close the connection for it, resume before it, and get
    it again.
    """
    if not isinstance(payload, bytes):
        return False
    try:
        text = payload.decode()
        try:
            _FAST_DECODER.decode(payload)
        except DecodeError:  # it accepts less than JSON allows
            _DECODER.decode(text)
    except ValueError:
        return False
    except RecursionError:
        pass  # it was parsed when it came, with more of the stack left
    return payload.lstrip().startswith(b"{")


def with_mark(payload: bytes, recovered: Recovered) -> bytes:
    """Add the member `recovered` to an event's frame."""
    return _with(payload, "recovered", recovered.value)


def build_mark(recovered: Recovered) -> bytes:
    """Return the member that `with_mark` adds: every frame with this mark contains it."""
    return f'"recovered":"{recovered.value}"'.encode()


def with_cursor(payload: bytes, cursor: str) -> bytes:
    """Add the member `cursor`, the position after the event, to its frame."""
    return _with(payload, "cursor", cursor)


def _with(payload: bytes, name: str, text: str) -> bytes:
    """Add a member at the end of the top level. `text` must need no escaping."""
    return payload.rstrip()[:-1] + f',"{name}":"{text}"}}'.encode()


def extract_data(payload: bytes) -> tuple[bytes, str | None]:
    """Return the bytes of a frame's `data` on one line, and the value of `recovered` or None.

    Only a value of Recovered counts as one.

    JSON allows line breaks only as white space between tokens, so each becomes a space. Of several
    members named `data`, the last one counts.
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
            # Alpaca may send a member of this name too, with any value.
            recovered = value if isinstance(value, str) and value in _MARKS else None
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return data.replace("\r", " ").replace("\n", " ").encode(), recovered


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    assert space is not None, "the pattern matches nothing too"
    return space.end()
