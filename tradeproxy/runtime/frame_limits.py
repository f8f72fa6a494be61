"""Limits on frames that have no bytes to count, for Autobahn's client and server protocols."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

BYTES_PER_FRAGMENT = 256
"""A message of the maximum size may have fragments of this size on average."""

MIN_FRAGMENTS = 16
"""Fragments that a message of any maximum size may have."""


class FragmentLimitMixin:
    """Limits the fragments of a message. List it before the Autobahn protocol.

    Autobahn limits their bytes only, and an empty one costs an entry in a list and some work. A
    message with too many fragments is closed with 1009, as one with too many bytes, and nothing
    more is read: the timeout of the close follows.
    """

    transport: Any
    data: bytes
    """The bytes that Autobahn has not parsed."""
    failedByMe: bool
    maxMessagePayloadSize: int
    message_data: list[bytes]
    """The fragments of the message so far; Autobahn's."""

    def onMessageFrameBegin(self, length: int) -> None:
        """Count a fragment. `length` is the number of its bytes."""
        most = max(self.maxMessagePayloadSize // BYTES_PER_FRAGMENT, MIN_FRAGMENTS)
        if len(self.message_data) >= most and not self.failedByMe:
            self._max_message_size_exceeded(most + 1, most, f"more than {most} fragments")
            self.data = b""
            self.transport.pauseProducing()
        super().onMessageFrameBegin(length)  # type: ignore[misc]  # Autobahn's

    def _max_message_size_exceeded(self, size: int, most: int, reason: str) -> None:
        """Close with 1009. Autobahn calls this for a message with too many bytes."""
        self.on_message_too_large()
        super()._max_message_size_exceeded(size, most, reason)  # type: ignore[misc]  # Autobahn's

    def on_message_too_large(self) -> None:
        """Handle a message over a limit; the connection is closed afterwards."""


class FrameBudgetMixin:
    """Limits the frames that Autobahn handles at once. List it before the Autobahn protocol."""

    frames_per_turn: int

    def consumeData(self) -> None:
        """Parse what has arrived, at most `frames_per_turn` frames; see `on_frames_left`."""
        autobahn: Any = self
        if autobahn.state not in (autobahn.STATE_OPEN, autobahn.STATE_CLOSING):
            super().consumeData()  # type: ignore[misc]  # Autobahn's
            return
        for _ in range(2 * self.frames_per_turn):  # a frame has two parts: its header and payload
            if not autobahn.processData() or autobahn.state == autobahn.STATE_CLOSED:
                return
        self.on_frames_left()

    def on_frames_left(self) -> None:
        """Handle that more frames may wait: parse them in a later turn of the reactor."""


@implementer(IPushProducer)
class PongLimitMixin:
    """Keeps one pong at most for a peer that does not read. List it before the Autobahn protocol.

    Autobahn queues a pong for every ping. After several pings, a pong for the last one is enough
    (RFC 6455, 5.5.3).
    """

    transport: Any
    _is_writable = True
    _unanswered: bytes | None = None

    def connectionMade(self) -> None:
        """Let the transport report whether the peer reads."""
        super().connectionMade()  # type: ignore[misc]  # Autobahn's
        self.transport.registerProducer(self, True)

    def onPing(self, payload: bytes) -> None:
        """Send a pong, or save the ping while the peer does not read."""
        if self._is_writable:
            self.sendPong(payload)  # type: ignore[attr-defined]  # Autobahn's
        else:
            self._unanswered = payload

    def pauseProducing(self) -> None:
        """Stop sending pongs: the transport's buffer is full."""
        self._is_writable = False

    def resumeProducing(self) -> None:
        """Answer the last ping: the peer has read everything."""
        self._is_writable = True
        ping, self._unanswered = self._unanswered, None
        if ping is not None:
            self.onPing(ping)

    def stopProducing(self) -> None:
        """Do nothing: the connection is lost."""
