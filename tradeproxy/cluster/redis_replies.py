"""The protocol of a connection to Redis, with limits on the replies.

hiredis parses them. It limits how deep arrays may be, but neither their length nor that of a reply.
"""

from __future__ import annotations

import re
from typing import Any

from txredisapi import RedisProtocol

MAX_REPLY_SIZE = 16 * 1024 * 1024
"""Bytes of a reply, which takes three times as much memory. A read of 500 events usually has one or
two million."""

MAX_REPLY_LINES = 100_000
"""Lines of a reply: each of its values has one or two. A read of 500 events has 20,000."""

TOO_LARGE = "its reply is too large"
INVALID = "its reply is not valid"
UNEXPECTED = "it sends replies to no command"

_HUGE_ARRAY = re.compile(rb"[*%~>][0-9]{6,}\r")
"""The header of an array for which hiredis would reserve memory at once.

No event contains it: in JSON, a carriage return cannot follow an asterisk and a number.
"""

_HEADER_LENGTH = 24
"""Bytes of the longest header."""


class BoundedRedisProtocol(RedisProtocol):
    """A connection that is aborted when a reply is over a limit, invalid, or to no command."""

    refusal = ""
    """Why the connection was aborted; empty if it was not."""

    _size = _lines = 0
    _last_bytes = b""

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Parse the data, within the limits."""
        self._size += len(data)
        self._lines += data.count(b"\n")
        is_huge = _HUGE_ARRAY.search(self._last_bytes + data) is not None
        self._last_bytes = data[-_HEADER_LENGTH:]
        if is_huge or self._size > MAX_REPLY_SIZE or self._lines > MAX_REPLY_LINES:
            self._refuse(TOO_LARGE)
            return
        try:
            super().dataReceived(data, unpause)
        except Exception:  # of several kinds: hiredis and txredisapi raise their own
            self._refuse(INVALID)

    def replyReceived(self, reply: Any) -> None:
        """Pass a complete reply to its command."""
        self._size = self._lines = 0
        if self.replyQueue.waiting:
            super().replyReceived(reply)
        else:  # txredisapi would keep it
            self._refuse(UNEXPECTED)

    def _refuse(self, reason: str) -> None:
        self.refusal = self.refusal or reason
        transport: Any = self.transport
        transport.abortConnection()
