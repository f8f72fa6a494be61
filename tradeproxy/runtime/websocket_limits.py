"""What Autobahn's client and server protocols lack: limits on frames and closes, and its pings."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

BYTES_PER_FRAGMENT = 256
"""A message of the maximum size may have fragments of this size on average."""

MIN_FRAGMENTS = 16
"""Fragments that a message of any maximum size may have."""

PING_SIZE = 12
"""Bytes of a ping: Autobahn reads so many from the pong."""


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


class CloseTimeoutMixin:
    """Limits a close to `close_timeout` seconds. List it before the Autobahn protocol.

    The time starts with the first close frame of either side, or when we drop the connection.
    Autobahn 26.10 has no limit if the peer closes first and then keeps TCP open. It also has
    none while it ends TLS or waits for a full send buffer to drain.
    Set Autobahn's own two timeouts to 0 (off). It rounds them down to whole seconds of the
    clock, so one second may become zero.
    """

    close_timeout: float
    clock: IReactorTime
    transport: Any
    _close_timer: IDelayedCall | None = None

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Start or answer the closing handshake, and start the time limit."""
        self._start_close_timer()
        super().sendCloseFrame(code, reasonUtf8, isReply)  # type: ignore[misc]  # Autobahn's

    def dropConnection(self, abort: bool = False) -> None:
        """Drop the connection after the buffered data is sent, or at once if `abort`."""
        self._start_close_timer()
        super().dropConnection(abort)  # type: ignore[misc]  # Autobahn's

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Cancel the time limit."""
        if self._close_timer is not None and self._close_timer.active():
            self._close_timer.cancel()
        super().connectionLost(reason)  # type: ignore[misc]  # Autobahn's
        self._close_timer = None  # once it has run, it refers to this connection

    def abort(self) -> None:
        """Abort the connection at once, in any state of Autobahn's protocol."""
        self.transport.abortConnection()

    def _start_close_timer(self) -> None:
        if self._close_timer is None:
            self._close_timer = self.clock.callLater(self.close_timeout, self.abort)


class AutoPingMixin:
    """Sends pings with random bytes. List it before the Autobahn protocol.

    Autobahn puts the date into each ping, as a number that cannot be negative. Before 1970 an
    error ended the pings of a connection, and a dead peer was never found.
    """

    def _sendAutoPing(self) -> None:
        autobahn: Any = self
        autobahn.autoPingPendingCall = None
        autobahn.autoPingPending = os.urandom(PING_SIZE)
        autobahn.sendPing(autobahn.autoPingPending)
        if autobahn.autoPingTimeout:
            timer = autobahn.factory._batched_timer  # noqa: SLF001  # Autobahn's
            autobahn.autoPingTimeoutCall = timer.call_later(
                autobahn.autoPingTimeout, autobahn.onAutoPingTimeout
            )
