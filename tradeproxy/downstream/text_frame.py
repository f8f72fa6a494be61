"""The WebSocket frame of a text, as a server sends it (RFC 6455, 5.2)."""

from __future__ import annotations

from struct import Struct

_FIRST = 0x81
"""The first byte: the last frame of a message, without an extension, of a text."""

_pack_short, _pack_medium, _pack_long = (Struct(">" + form).pack for form in ("BB", "BBH", "BBQ"))


def encode_text(payload: bytes) -> bytes:
    """Return `payload`, which is UTF-8, as a whole message in one frame without a mask.

    Without compression the frame is the same for all clients, so it is encoded once.
    """
    size = len(payload)
    if size < 126:
        return _pack_short(_FIRST, size) + payload
    if size < 65_536:
        return _pack_medium(_FIRST, 126, size) + payload
    return _pack_long(_FIRST, 127, size) + payload
