"""The WebSocket close codes that clients are sent, and whether to come back after each."""

from __future__ import annotations

from enum import Enum


class CloseCode(Enum):
    """One reason to end a client's connection.

    Codes 4000-4999 are for private use (RFC 6455, 7.4.2). Autobahn itself adds 1002, 1007 and 1009 for a
    broken frame, text that is not UTF-8, and a message over the size limit.
    """

    def __init__(self, code: int, reason: str, may_reconnect: bool) -> None:
        self.code = code
        self.reason = reason
        self.may_reconnect = may_reconnect

    RESTARTING = (1012, "the proxy is restarting: reconnect", True)
    MALFORMED = (4000, "that message is not JSON", False)
    TOKEN_REFUSED = (4001, "neither key nor secret is one of this proxy's PROXY_TOKENS", False)
    NO_AUTH = (4002, "no auth message came in time: reconnect and send one", True)
    TOO_SLOW = (4008, "too much is owed to this connection: read faster and reconnect", True)
