"""The trade-updates stream on Autobahn.

The factory serves plain TCP and, behind autobahn.twisted.resource.WebSocketResource, a twisted.web site.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import txaio
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny

from tradeproxy.simulator.session import SessionState, StreamSession
from tradeproxy.wire.messages import encode, parse_client

if TYPE_CHECKING:
    from collections.abc import Iterable

    from autobahn.websocket.types import ConnectionRequest

    from tradeproxy.simulator.simulator import CloseFrame, Frame, Simulator

LARGEST_MESSAGE = 1024 * 1024
"""What a client may send at once, in bytes; over it Autobahn closes with 1009."""

BANNER = "simulated-alpaca"


class StreamProtocol(WebSocketServerProtocol):
    """One client's connection. `close_frame` is the one that the client sent, once it has."""

    # Autobahn's lower levels would log what a client sent, keys among it.
    log = txaio.make_logger(level="error")  # type: ignore[attr-defined]  # made at run time
    tcpNoDelay = True  # here, since Autobahn reads it before it has its options

    factory: StreamFactory
    close_frame: CloseFrame | None = None
    _session: StreamSession
    _retry_after: int | None = None
    _silent_until = -inf

    def onConnect(self, request: ConnectionRequest) -> None:
        """Answer the handshake with 101, or with 429."""
        self._session = StreamSession(self.factory.simulator.authorize)
        if throttle := self.factory.simulator.admit(self):
            self._retry_after = throttle.retry_after
            raise ConnectionDeny(429, "Too Many Requests")

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Refuse the handshake, with the headers that ConnectionDeny has no place for."""
        headers = [("Content-Length", "0"), ("Connection", "close")]
        if self._retry_after is not None:
            headers.append(("Retry-After", str(self._retry_after)))
        super().failHandshake(reason, code, headers)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Answer, text and binary alike."""
        if self.silent:
            return
        reply = self._session.receive(parse_client(payload))
        if reply.message is not None:
            self.send_frames([(encode(reply.message), self.factory.simulator.binary)])
        if reply.close:
            self.close(1000)
        self.factory.simulator.notify_waiters()

    def onPing(self, payload: bytes) -> None:
        """Answer, unless silent."""
        if not self.silent:
            super().onPing(payload)

    def onCloseFrame(self, code: Any, reasonRaw: Any) -> Any:
        """Answer, unless silent: then it is left to the client to give up waiting."""
        self.close_frame = (code, reasonRaw.decode("utf-8", "replace") if reasonRaw else None)
        self._session.close()
        if self.silent and self.state == self.STATE_OPEN:
            return None
        return super().onCloseFrame(code, reasonRaw)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Give the account's connection back."""
        self.factory.simulator.release(self)

    @property
    def listening(self) -> bool:
        """Whether events go to this client."""
        return self._session.state is SessionState.LISTENING

    @property
    def silent(self) -> bool:
        """Whether nothing at all is said to this client."""
        return bool(self.factory.reactor.seconds() < self._silent_until)

    def send_frames(self, frames: Iterable[Frame]) -> None:
        """Send frames, all in one write."""
        prepare = self.factory.prepareMessage
        self.sendData(b"".join(prepare(payload, binary).payloadHybi for payload, binary in frames))

    def silence(self, seconds: float | None) -> None:
        """Say nothing for some seconds; for good, without any."""
        self._silent_until = inf if seconds is None else self.factory.reactor.seconds() + seconds

    def close(self, code: int) -> None:
        """Begin the closing handshake; Autobahn drops the connection if the client does not answer."""
        self._session.close()
        self.sendCloseFrame(code)

    def drop(self, abort: bool) -> None:
        """End TCP without a close frame: at once (RST), or once what was written is sent (FIN)."""
        self._session.close()
        self.dropConnection(abort)


class StreamFactory(WebSocketServerFactory):
    """Builds the connections that compete for a simulator's one."""

    protocol: Any = StreamProtocol
    noisy = False

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(reactor=simulator.reactor, server=BANNER)
        self.simulator = simulator
        self.setProtocolOptions(
            webStatus=False,
            allowNullOrigin=True,  # this call would turn it off
            maxFramePayloadSize=LARGEST_MESSAGE,
            maxMessagePayloadSize=LARGEST_MESSAGE,
            failByDrop=False,
        )
