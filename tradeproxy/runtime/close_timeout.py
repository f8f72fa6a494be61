"""An end to every closing handshake, for Autobahn's protocols on both sides of us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import connectionDone

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure


class CloseTimeoutMixin:
    """A mix-in, to stand before an Autobahn protocol: a farewell takes `close_timeout` seconds at most.

    It begins with the first close frame of either side, or with the drop of the connection. Autobahn 26.10
    has no such bound when the peer closes first and then keeps TCP open, nor while it ends TLS or waits for a
    full pipe to drain. Its own two timeouts are to be 0 (off) here: it rounds them down to whole seconds of
    the clock, so that one second may be none.
    """

    close_timeout: float
    clock: IReactorTime
    transport: Any
    _close_timer: IDelayedCall | None = None

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Begin or answer the closing handshake."""
        self._start_close_timer()
        super().sendCloseFrame(code, reasonUtf8, isReply)  # type: ignore[misc]  # Autobahn's

    def dropConnection(self, abort: bool = False) -> None:
        """End the connection, once what was written is sent, or at once."""
        self._start_close_timer()
        super().dropConnection(abort)  # type: ignore[misc]  # Autobahn's

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note that it is over."""
        if self._close_timer is not None and self._close_timer.active():
            self._close_timer.cancel()
        super().connectionLost(reason)  # type: ignore[misc]  # Autobahn's

    def abort(self) -> None:
        """End the connection at once, in whatever state Autobahn believes it to be."""
        self.transport.abortConnection()

    def _start_close_timer(self) -> None:
        if self._close_timer is None:
            self._close_timer = self.clock.callLater(self.close_timeout, self.abort)
