"""The request of the opening handshake (RFC 6455, 4.2.1), as twisted.web parsed it."""

from __future__ import annotations

import base64
import binascii
import hashlib

from twisted.web.server import Request

from tradeproxy.downstream.admission import Rejection

VERSION = b"13"
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""The GUID that RFC 6455, 1.3 defines for every server."""


SUBPROTOCOL = b"tradeproxy"
"""The subprotocol that is chosen if a client offers it. A browser that offers some needs one."""


def read_key(request: Request) -> bytes | Rejection:
    """Return the client's Sec-WebSocket-Key, or why the handshake fails.

    The caller has already checked that the request asks for an upgrade to WebSocket.
    """
    headers = request.requestHeaders
    if request.method != b"GET" or request.clientproto != b"HTTP/1.1":
        return Rejection(400, "a WebSocket begins with GET and HTTP/1.1")
    if any(b"msgpack" in each.lower() for each in headers.getRawHeaders(b"content-type", ())):
        return Rejection(415, "the messages are JSON; there is no application/msgpack here")
    connection = b",".join(headers.getRawHeaders(b"connection", ()))
    if b"upgrade" not in (token.strip() for token in connection.lower().split(b",")):
        return Rejection(400, "a WebSocket begins with the header Connection: Upgrade")
    if headers.getRawHeaders(b"sec-websocket-version") != [VERSION]:
        return Rejection(426, "this speaks version 13 of WebSocket")
    match headers.getRawHeaders(b"sec-websocket-key"):
        case [key] if _is_key(key):
            return key
    return Rejection(400, "Sec-WebSocket-Key is to be 16 bytes in base64")


def choose_subprotocol(request: Request) -> bytes | None:
    """Return SUBPROTOCOL if the client offers it. What else it offers may be a secret."""
    offers = b",".join(request.requestHeaders.getRawHeaders(b"sec-websocket-protocol", ()))
    offered = SUBPROTOCOL in (offer.strip() for offer in offers.split(b","))
    return SUBPROTOCOL if offered else None


def compute_accept(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept value for `key` (RFC 6455, 4.2.2)."""
    # The RFC prescribes SHA-1. It proves that the server read the key; it protects nothing.
    return base64.b64encode(hashlib.sha1(key + MAGIC).digest())  # noqa: S324  # see above


def _is_key(text: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(text, strict_mode=True)) == 16
    except binascii.Error:
        return False
