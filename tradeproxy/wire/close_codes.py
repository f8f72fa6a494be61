"""The WebSocket close codes that clients are sent, and whether to come back after each."""

from __future__ import annotations

from enum import Enum

MAX_REASON_BYTES = 123
"""Bytes in UTF-8: a control frame carries 125, of which the code takes two (RFC 6455, 5.5)."""


class CloseCode(Enum):
    """One reason to end a client's connection; where more is known, the frame has another text.

    Codes 4000-4999 are for private use (RFC 6455, 7.4.2). Autobahn itself adds 1002, 1007 and 1009 for a
    broken frame, text that is not UTF-8, and a message over the size limit.
    """

    def __init__(self, code: int, reason: str, may_reconnect: bool) -> None:
        self.code = code
        self.reason = reason
        self.may_reconnect = may_reconnect

    RESTARTING = (1012, "the proxy is restarting: reconnect", True)
    UNREADABLE = (1013, "the journal cannot be read at the moment: reconnect", True)
    MALFORMED = (4000, "that message is not JSON", False)
    TOKEN_REFUSED = (4001, "neither key nor secret is one of this proxy's PROXY_TOKENS", False)
    NO_AUTH = (4002, "no auth message came in time: reconnect and send one", True)
    TOO_SLOW = (
        4008,
        "read too slowly: reconnect with your cursor, or your last event_id, as since_id",
        True,
    )
    POSITION_LOST = (4010, "position unknown", False)

    def with_detail(self, detail: str) -> str:
        """Return the reason with what is known of this case, without it where both don't fit a frame."""
        text = f"{self.reason}: {detail}"
        return text if len(text.encode()) <= MAX_REASON_BYTES else self.reason
