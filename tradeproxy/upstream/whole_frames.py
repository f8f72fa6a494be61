"""Reads whole data frames of Alpaca's without Autobahn, which makes fifty calls for each.

Alpaca sends a trade update as one frame: unfragmented, unmasked, without an extension, and below
64 KiB. A read usually has only whole frames of this kind. Everything else is Autobahn's:

    the connection, or the next bytes                        who reads them
    -------------------------------------------------------  --------------------
    a whole text or binary frame with a length below 65,536  this module
    a control frame, a fragment, a mask, reserved bits       Autobahn
    a length of 65,536 or above, or not in its shortest form  Autobahn
    a message above the limit, text that is not UTF-8        Autobahn
    part of a frame, or less than four bytes                 Autobahn
    within a frame or a message that Autobahn has begun      Autobahn
    not open, or a ping of ours is unanswered                Autobahn
    frames beyond the limit of calls                         client.py, in a later turn

Autobahn gets the unread bytes unchanged, as if they had come in a read of their own. After a read
that ends within a frame it reads the whole next one, so a long burst is mostly its own. With a
version of Autobahn other than 26.10, it reads all frames.
"""

from __future__ import annotations

from struct import Struct

from autobahn._version import __version__
from autobahn.twisted.websocket import WebSocketClientProtocol

IS_SUPPORTED = __version__.startswith("26.10.")
"""Whether this module knows the state of a connection in the installed version."""

_TEXT, _BINARY = _FIRST = 0x81, 0x82
"""The first byte: the last frame of a message, no reserved bits, and the opcode."""

_TWO_BYTES = 126
"""The second byte of a frame whose length is in the next two. Below it, it is the length."""

_HEAD = Struct(">BBH")
"""These four bytes. Of a short frame, the last two are not of its head."""


def read_whole_frames(
    connection: WebSocketClientProtocol, data: bytes, most: int
) -> tuple[bytes, int]:
    """Call `onMessage` for each whole data frame at the beginning of `data`, at most `most` times.

    Return the bytes that are left, and the number of calls. `onMessage` may close the connection,
    but not raise.
    """
    at, end, count = 0, len(data), 0
    if (
        not IS_SUPPORTED
        or connection.state != connection.STATE_OPEN
        or connection.data
        or connection.current_frame
        or connection.inside_message
        or connection.autoPingTimeoutCall  # Autobahn takes any message for a pong
    ):
        return data, 0
    limit: int = connection.maxMessagePayloadSize  # type: ignore[attr-defined]  # of the factory
    while end - at >= _HEAD.size and count < most:
        first, size, length = _HEAD.unpack_from(data, at)
        start = at + 2
        if size == _TWO_BYTES and length >= _TWO_BYTES:
            start, size = at + 4, length
        elif size >= _TWO_BYTES:  # a mask, a length in eight bytes, or not in its shortest form
            break
        stop = start + size
        if stop > end or size > limit or first not in _FIRST:
            break
        payload = data[start:stop]
        if first == _TEXT and not payload.isascii() and not _is_utf8(payload):
            break
        at, count = stop, count + 1
        connection.onMessage(payload, first == _BINARY)
        if connection.state != connection.STATE_OPEN:
            break
    return data[at:], count


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
