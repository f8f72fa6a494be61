"""The WebSocket client of one connection to Alpaca: Autobahn's protocol, factory and endpoint."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import txaio
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.types import ConnectionResponse
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from tradeproxy.config.accounts import BaseUrl
from tradeproxy.config.connect_proxy import ConnectProxy
from tradeproxy.hub.account import INTERNAL_ERROR, Account
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.runtime.reactor import Reactor
from tradeproxy.runtime.socket_limit import unwrap
from tradeproxy.runtime.websocket_limits import (
    AutoPingMixin,
    CloseTimeoutMixin,
    FragmentLimitMixin,
    FrameBudgetMixin,
    PongLimitMixin,
)
from tradeproxy.upstream.backoff import Disconnect, DisconnectCause, parse_retry_after
from tradeproxy.upstream.http import MAX_HEAD_SIZE
from tradeproxy.upstream.http_date import parse_date
from tradeproxy.upstream.keys import AccountKeys
from tradeproxy.upstream.session import (
    LIMIT,
    CloseConnection,
    DropFrame,
    PublishEvent,
    SendRequest,
    StreamListener,
    StreamUp,
    UpstreamEffect,
    UpstreamSession,
    UpstreamState,
    is_limit,
)
from tradeproxy.upstream.tls import TlsEndpoint, TlsTransport, describe_tls_failure
from tradeproxy.upstream.tunnel import build_endpoint
from tradeproxy.upstream.whole_frames import read_whole_frames
from tradeproxy.wire.event import parse_event
from tradeproxy.wire.messages import encode

CONNECT_TIMEOUT = 15.0
"""Seconds for the TCP connect, again for the answer of an HTTP proxy, and again for TLS and the
WebSocket handshake together."""

LOGIN_TIMEOUT = 15.0
"""Seconds from the open WebSocket to the acknowledgement of `listen`."""

PING_INTERVAL = 10
"""Seconds between pings, as in Alpaca's SDKs."""

PONG_TIMEOUT = 15
"""Seconds for the pong. With PING_INTERVAL, a silently dead connection is detected within 25 s."""

CLOSE_TIMEOUT = 2.0
"""Seconds for Alpaca to answer a close frame and to close the TCP connection."""

MAX_MESSAGE_SIZE = 1024 * 1024
"""Bytes; a trade update has a few thousand. The history has the same limit."""

MAX_EARLY_READ = 2048
"""Bytes that one read of the socket returns before the stream is up. Twisted's 64 KiB can hold
16,000 frames, which would block the reactor for a second."""

MAX_READ = 65_536
"""Bytes that one read returns afterwards: Twisted's own."""

FRAMES_PER_TURN = 256
"""Frames that are handled at once; the others wait for the next turn of the reactor. A read of
MAX_READ bytes may hold 32,000 empty frames, but hardly more than 100 trade updates."""

_ERROR_STATUS = re.compile("[2-5][0-9][0-9]", re.ASCII)
_CAUSES = {
    "401": DisconnectCause.REFUSED,
    "403": DisconnectCause.REFUSED,
    "429": DisconnectCause.LIMITED,
}


class UpstreamProtocol(  # type: ignore[misc]  # Autobahn's bases disagree
    AutoPingMixin,
    CloseTimeoutMixin,
    FrameBudgetMixin,
    FragmentLimitMixin,
    PongLimitMixin,
    WebSocketClientProtocol,
):
    """Connects one UpstreamSession to one WebSocket connection.

    `disconnected` fires once, with the Disconnect, when the connection or the attempt is over. It
    never fails.
    """

    # Autobahn's warnings repeat, in many lines, what UpstreamService logs in one.
    log = txaio.make_logger(level="error")  # type: ignore[attr-defined]  # made at run time
    close_timeout = CLOSE_TIMEOUT
    frames_per_turn = FRAMES_PER_TURN

    def __init__(
        self,
        session: UpstreamSession,
        account: Account,
        listener: StreamListener,
        clock: IReactorTime,
    ) -> None:
        """Create the protocol.

        The session is a new one; it decides what is sent. The account gets the events, the dropped
        frames and the upstream status, and the listener each change of the connection's state.
        """
        super().__init__()
        self.disconnected: Deferred[Disconnect] = Deferred()
        self._session = session
        self._account = account
        self._log = AccountLogger(self, account.name)
        self._listener = listener
        self.clock = clock
        self._up_since: float | None = None
        self._login_timeout: Any = None
        self._failure_reason: str | None = None
        self._reopening: Disconnect | None = None
        self._next_turn: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Bound the reads before the login."""
        super().connectionMade()
        unwrap(self.transport).bufferSize = MAX_EARLY_READ

    def reopen(self, reason: str) -> None:
        """Close, so that UpstreamService connects again at once."""
        self._reopening = Disconnect(DisconnectCause.LOST, reason, is_reopening=True)
        self.close()

    def close(self) -> None:
        """Send a close frame; abort if the WebSocket handshake is not complete."""
        if self.state == self.STATE_CONNECTING:
            self.abort()
        else:
            self._session.close()
            self.sendClose(self.CLOSE_STATUS_CODE_NORMAL)

    def dataReceived(self, data: bytes) -> None:
        """Read what the socket or one TLS record has brought.

        Whole frames are read here. The rest is left to Autobahn, or to the next turn. Abort if the
        handshake's answer is too long: Autobahn collects it without a limit.
        """
        self._account.begin_read()
        try:
            count = 0
            if self._next_turn is None:
                data, count = read_whole_frames(self, data, FRAMES_PER_TURN)
            if data and (self._next_turn is not None or count == FRAMES_PER_TURN):
                self.data += data
                self.on_frames_left()
            elif data:
                super().dataReceived(data)
                if self.state == self.STATE_CONNECTING and len(self.data) > MAX_HEAD_SIZE:
                    self._failure_reason = "the answer to the handshake is too long"
                    self.abort()
        finally:
            transport = self.transport
            if not (isinstance(transport, TlsTransport) and transport.is_reading):
                self.read_ended()

    def on_frames_left(self) -> None:
        """Read nothing more until the next turn. A lost connection drops what is left."""
        if self._next_turn is None:
            self.transport.pauseProducing()
            self._next_turn = self.clock.callLater(0, self._continue)

    def _continue(self) -> None:
        self._next_turn = None
        if not self.failedByMe:  # else nothing more is read
            self.transport.resumeProducing()
        data, self.data = self.data, b""
        self.dataReceived(data)

    def read_ended(self) -> None:
        """Commit and deliver the events of the read, in this turn of the reactor."""
        try:
            self._account.end_read()
        except Exception:  # Twisted would close the connection
            self._log.failure("the events of a read could not be delivered")

    def onConnect(self, response: ConnectionResponse) -> None:
        """Take the Date header of the answer, if it has one."""
        if (date := parse_date(response.headers.get("date", ""))) is not None:
            self._account.dates.observe(date)

    def onOpen(self) -> None:
        """Start the session. It must reach STREAMING within LOGIN_TIMEOUT seconds.

        Afterwards the timer has no effect: see UpstreamSession.
        """
        self._listener.connection_opened()
        self._login_timeout = self.clock.callLater(
            LOGIN_TIMEOUT, self._run_step, self._session.login_timed_out
        )
        self._run_step(self._session.opened)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Take one message, text or binary.

        A trade update is published in every state of the session, so it takes the short way.
        """
        if (event := parse_event(payload)) is None:
            self._run_step(self._session.received, payload)
            return
        try:
            self._account.publish(event)
        except Exception:
            self._fail()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Fire `disconnected`. Autobahn also calls this after a failed handshake."""
        if self._login_timeout is not None and self._login_timeout.active():
            self._login_timeout.cancel()
        try:
            self._listener.connection_closed()
            disconnect = self._build_disconnect(wasClean, code)
        except Exception:  # without a Disconnect, UpstreamService would never reconnect
            self._log.failure("the upstream disconnect could not be handled")
            disconnect = Disconnect(DisconnectCause.LOST, INTERNAL_ERROR)
        self.disconnected.callback(disconnect)

    def onAutoPingTimeout(self) -> None:
        """Set the reason before Autobahn drops the connection."""
        self._failure_reason = "no pong in time"
        super().onAutoPingTimeout()

    def on_message_too_large(self) -> None:
        """Set the reason before Autobahn closes the connection."""
        self._failure_reason = "a message over the limit of its bytes or fragments"

    def processHandshake(self) -> None:
        """Drop a server whose answer is not text. Autobahn raises ValueError for it."""
        try:
            super().processHandshake()
        except ValueError:
            self.dropConnection(abort=True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Set the reason of a TLS failure. Autobahn does not pass it to onClose.

        It gets another error instead: it logs the text of a TLS error, and raises if there is none.
        """
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        if (problem := describe_tls_failure(reason)) is not None:
            self._failure_reason = problem
            reason = Failure(ConnectionLost())
        super().connectionLost(reason)

    def _run_step(self, step: Callable[..., tuple[UpstreamEffect, ...]], *arguments: bytes) -> None:
        """Run one step of the session and apply its effects.

        An error that reached Autobahn would drop the connection without a close frame.
        """
        try:
            for effect in step(*arguments):
                self._apply(effect)
        except Exception:
            self._fail()

    def _fail(self) -> None:
        self._log.failure("the upstream session failed")
        self.close()

    def _apply(self, effect: UpstreamEffect) -> None:
        match effect:
            case SendRequest(message):
                self.sendMessage(encode(message))
            case PublishEvent(event):
                self._account.publish(event)
            case DropFrame(problem):
                self._account.drop_frame(problem)
            case StreamUp():
                self._up_since = self.clock.seconds()
                unwrap(self.transport).bufferSize = MAX_READ
                self._account.mark_upstream_up()  # first: it ends the gap that the listener reads
                self._listener.stream_up()
                self._log.info("upstream is streaming")
            case CloseConnection():
                self.close()

    def _build_disconnect(self, was_clean: bool, code: int | None) -> Disconnect:
        if self._session.state is UpstreamState.CONNECTING:
            return self._build_handshake_rejection()
        streamed = 0.0 if self._up_since is None else self.clock.seconds() - self._up_since
        if (known := self._session.disconnect or self._reopening) is not None:
            return replace(known, streamed=streamed)
        if is_limit(self.remoteCloseReason or ""):  # the text of the close frame
            return Disconnect(DisconnectCause.LIMITED, LIMIT, streamed)
        if self.failedByMe and self._failure_reason is None:
            reason = "Alpaca broke the WebSocket protocol"
        elif was_clean and self._failure_reason is None:
            reason = f"closed by Alpaca with code {code}"
        else:
            reason = self._failure_reason or "connection lost"
        return Disconnect(DisconnectCause.LOST, reason, streamed)

    def _build_handshake_rejection(self) -> Disconnect:
        # Only a plain status is quoted: the rest of the answer may hold anything, even secrets.
        _, _, rest = getattr(self, "http_status_line", "").partition(" ")
        status = rest[:3]
        if not _ERROR_STATUS.fullmatch(status) or self._failure_reason:
            timeout = "no answer to the handshake in time" if self.wasOpenHandshakeTimeout else None
            return Disconnect(
                DisconnectCause.LOST, self._failure_reason or timeout or "no WebSocket handshake"
            )
        retry_after = parse_retry_after(
            self.http_headers.get("retry-after", ""), self._account.dates.now()
        )
        cause = _CAUSES.get(status, DisconnectCause.LOST)
        hint = (
            ": another connection holds this account's stream"
            if cause is DisconnectCause.LIMITED
            else ""
        )
        return Disconnect(cause, f"HTTP {status} at the handshake{hint}", retry_after=retry_after)


class UpstreamFactory(WebSocketClientFactory):
    """Builds a protocol with a new session for each connection of one account."""

    noisy = False

    def __init__(
        self, keys: AccountKeys, account: Account, listener: StreamListener, reactor: IReactorTime
    ) -> None:
        """Create the factory; the arguments are those of its protocols, besides `keys`."""
        super().__init__(keys.settings.base_url.stream, useragent="tradeproxy", reactor=reactor)
        self.setProtocolOptions(
            maxMessagePayloadSize=MAX_MESSAGE_SIZE,
            failByDrop=False,  # a protocol error gets a close frame too, to free the slot
            openHandshakeTimeout=CONNECT_TIMEOUT,
            closeHandshakeTimeout=0,  # CloseTimeoutMixin limits the whole close
            serverConnectionDropTimeout=0,
            autoPingInterval=PING_INTERVAL,
            autoPingTimeout=PONG_TIMEOUT,
            tcpNoDelay=True,
        )
        self.keys = keys
        self._account = account
        self._listener = listener

    def buildProtocol(self, addr: IAddress | None) -> UpstreamProtocol:
        """Build the protocol of one connection, with a new session."""
        settings = self.keys.settings
        session = UpstreamSession(settings.credentials, settings.dialect, settings.key_variable)
        protocol = UpstreamProtocol(session, self._account, self._listener, self.reactor)
        protocol.factory = self
        return protocol


def upstream_endpoint(
    base_url: BaseUrl, reactor: Reactor, proxy: ConnectProxy | None = None
) -> IStreamClientEndpoint:
    """Return the endpoint of an account's stream. TLS verifies the certificate and the name.

    TLS is end to end: an HTTP proxy forwards it. The trust store is the platform's, or that of
    OpenSSL's SSL_CERT_FILE and SSL_CERT_DIR.
    """
    endpoint = build_endpoint(base_url.host, base_url.port, proxy, reactor, CONNECT_TIMEOUT)
    return TlsEndpoint(base_url.host, endpoint, reactor) if base_url.secure else endpoint
