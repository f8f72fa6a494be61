"""A time limit for closing handshakes, for Autobahn's client and server protocols."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure


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
