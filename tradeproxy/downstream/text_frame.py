"""The WebSocket frame of a text, as a server sends it (RFC 6455, 5.2)."""

from __future__ import annotations

_FIRST = b"\x81"
"""The last frame of a message, without an extension, of a text."""


def encode_text(payload: bytes) -> bytes:
    """Return `payload`, which is UTF-8, as a whole message in one frame without a mask.

    Without compression the frame is the same for all clients, so it is encoded once.
    """
    size = len(payload)
    if size < 126:
        length = size.to_bytes(1, "big")
    elif size < 65_536:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return _FIRST + length + payload
