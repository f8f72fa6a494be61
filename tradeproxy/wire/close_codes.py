"""The WebSocket close codes that the proxy sends, and whether a client may reconnect after each."""

from __future__ import annotations

from enum import Enum

MAX_REASON_BYTES = 123
"""Bytes in UTF-8. A control frame carries 125 bytes, and the code takes two (RFC 6455, 5.5)."""


class CloseCode(Enum):
    """One reason to close a client's connection. The close frame may add a detail to its text.

    Codes 4000-4999 are for private use (RFC 6455, 7.4.2). Autobahn itself adds three codes: 1002
    for a broken frame, 1007 for text that is not UTF-8, and 1009 for a message over the size
    limit.
    """

    def __init__(self, code: int, reason: str, may_reconnect: bool) -> None:
        self.code = code
        self.reason = reason
        self.may_reconnect = may_reconnect

    RESTARTING = (1012, "the proxy is restarting: reconnect", True)
    TOKEN_NEEDED = (1012, "a token is needed now: reconnect with one", True)
    UNREADABLE = (1013, "the journal cannot be read at the moment: reconnect", True)
    NOT_READY = (1013, "the state of the account is not ready: reconnect", True)
    FULL = (1013, "no connection is free: reconnect in a few seconds", True)
    MALFORMED = (4000, "that message is not JSON", False)
    TOKEN_REFUSED = (4001, "neither key nor secret is one of this proxy's PROXY_TOKENS", False)
    TOKEN_REMOVED = (4001, "this token is no longer one of this proxy's PROXY_TOKENS", False)
    NO_AUTH = (4002, "no auth message came in time: reconnect and send one", True)
    TOO_SLOW = (
        4008,
        "read too slowly: reconnect with your cursor, or your last event_id, as since_id",
        True,
    )
    POSITION_LOST = (4010, "position unknown", False)

    def with_detail(self, detail: str) -> str:
        """Return the reason and `detail`; the reason alone if both do not fit a close frame."""
        text = f"{self.reason}: {detail}"
        return text if len(text.encode()) <= MAX_REASON_BYTES else self.reason
