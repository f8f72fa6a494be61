"""The trade-updates stream over Autobahn.

The factory serves plain TCP, and a twisted.web site through
autobahn.twisted.resource.WebSocketResource.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any

import txaio
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest

from tradeproxy.simulator.connection import CloseFrame, Frame
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.simulator.session import SessionState, StreamSession, encode_reply
from tradeproxy.simulator.simulator import Simulator
from tradeproxy.wire.messages import parse_client

LARGEST_MESSAGE = 1024 * 1024
"""The maximum of a client's message, in bytes. Autobahn closes with 1009 above it."""

BANNER = "simulated-alpaca"


class StreamProtocol(WebSocketServerProtocol):
    """One client's connection. `close_frame` is the client's close frame; None before it."""

    # At lower levels Autobahn logs messages of clients, which contain keys.
    log = txaio.make_logger(level="error")  # type: ignore[attr-defined]  # made at run time
    tcpNoDelay = True  # a class attribute: Autobahn reads it before it sets its options

    factory: StreamFactory
    close_frame: CloseFrame | None = None
    _session: StreamSession
    _retry_after: int | None = None

    def onConnect(self, request: ConnectionRequest) -> None:
        """Accept the handshake, or reject it: with 502 in an outage, else with 429."""
        self._session = StreamSession(self.factory.simulator.authorize)
        self._quiet_until: dict[FaultKind, float] = {}
        if fault := self.factory.simulator.admit(self):
            self._retry_after = fault.retry_after
            if fault.kind is FaultKind.OUTAGE:
                raise ConnectionDeny(502, "Bad Gateway")
            raise ConnectionDeny(429, "Too Many Requests")

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Reject the handshake, with headers that ConnectionDeny does not support."""
        headers = [("Content-Length", "0"), ("Connection", "close")]
        if self._retry_after is not None:
            headers.append(("Retry-After", str(self._retry_after)))
        super().failHandshake(reason, code, headers)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Reply to a message from a text or a binary frame."""
        if self.is_quiet(FaultKind.SILENCE):
            return
        reply = self._session.receive(parse_client(payload))
        if reply.message is not None:
            self.send_frames([(encode_reply(reply.message), self.factory.simulator.binary)])
        if reply.close:
            self.close(1000)
        self.factory.simulator.notify_waiters()

    def onPing(self, payload: bytes) -> None:
        """Reply with a pong, unless silent."""
        if not self.is_quiet(FaultKind.SILENCE):
            super().onPing(payload)

    def onCloseFrame(self, code: Any, reasonRaw: Any) -> Any:
        """Reply with a close frame, unless silent: then the client's own timeout applies."""
        self.close_frame = (code, reasonRaw.decode("utf-8", "replace") if reasonRaw else None)
        self._session.close()
        if self.is_quiet(FaultKind.SILENCE) and self.state == self.STATE_OPEN:
            return None
        return super().onCloseFrame(code, reasonRaw)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Free the account's connection."""
        self.factory.simulator.release(self)

    @property
    def listening(self) -> bool:
        """Whether the client receives events."""
        return self._session.state is SessionState.LISTENING

    def is_quiet(self, kind: FaultKind) -> bool:
        """Whether a fault suppresses everything (SILENCE) or the events (MUTE)."""
        return bool(self.factory.reactor.seconds() < self._quiet_until.get(kind, -inf))

    def send_frames(self, frames: Iterable[Frame]) -> None:
        """Send frames in one write."""
        prepare = self.factory.prepareMessage
        self.sendData(b"".join(prepare(payload, binary).payloadHybi for payload, binary in frames))

    def quiet(self, kind: FaultKind, seconds: float | None) -> None:
        """Begin SILENCE or MUTE for `seconds`; forever if None."""
        now = self.factory.reactor.seconds()
        self._quiet_until[kind] = inf if seconds is None else now + seconds

    def close(self, code: int) -> None:
        """Start the closing handshake.

        Autobahn drops the connection if the client does not reply.
        """
        self._session.close()
        self.sendCloseFrame(code)

    def drop(self, abort: bool) -> None:
        """Close TCP without a close frame: immediately (RST), or after pending writes (FIN)."""
        self._session.close()
        self.dropConnection(abort)


class StreamFactory(WebSocketServerFactory):
    """Builds the connections; the simulator accepts one at a time."""

    protocol: Any = StreamProtocol
    noisy = False

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(reactor=simulator.reactor, server=BANNER)
        self.simulator = simulator
        self.setProtocolOptions(
            webStatus=False,
            allowNullOrigin=True,  # setProtocolOptions resets it to False by default
            maxFramePayloadSize=LARGEST_MESSAGE,
            maxMessagePayloadSize=LARGEST_MESSAGE,
            failByDrop=False,
        )
