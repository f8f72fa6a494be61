"""Alpaca's end of the wire: the Autobahn client of one connection, and where it leads."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import txaio
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.logger import Logger

from tradeproxy.hub.account import INTERNAL_ERROR
from tradeproxy.runtime.close_timeout import CloseTimeoutMixin
from tradeproxy.upstream.backoff import Disconnect, DisconnectCause, parse_retry_after
from tradeproxy.upstream.session import (
    CloseConnection,
    DropFrame,
    PublishEvent,
    SendRequest,
    StreamUp,
    UpstreamEffect,
    UpstreamSession,
    UpstreamState,
)
from tradeproxy.wire.messages import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
    from twisted.python.failure import Failure

    from tradeproxy.config.accounts import AccountSettings, BaseUrl
    from tradeproxy.hub.account import Account
    from tradeproxy.upstream.session import StreamListener

CONNECT_TIMEOUT = 15.0
"""Seconds for TCP, and again for TLS and the WebSocket handshake."""

LOGIN_TIMEOUT = 15.0
"""Seconds from the open WebSocket to the ack of `listen`."""

PING_INTERVAL = 10
"""Seconds, as Alpaca's SDKs do; with the next: a silently dead connection is found within 25 s."""

PONG_TIMEOUT = 15

CLOSE_TIMEOUT = 2.0
"""Seconds that Alpaca has to answer a close frame and to end the connection."""

MAX_MESSAGE_SIZE = 16 * 1024 * 1024
"""Bytes; a trade update has a few thousand."""


_ERROR_STATUS = re.compile("[2-5][0-9][0-9]", re.ASCII)
_CAUSES = {
    "401": DisconnectCause.REFUSED,
    "403": DisconnectCause.REFUSED,
    "429": DisconnectCause.LIMITED,
}


class UpstreamProtocol(CloseTimeoutMixin, WebSocketClientProtocol):  # type: ignore[misc]  # Autobahn's bases disagree
    """Carries one UpstreamSession over one connection."""

    # Autobahn's own warnings tell again, at length, what the service says in one line.
    log = txaio.make_logger(level="error")  # type: ignore[attr-defined]  # made at run time
    _log = Logger()
    close_timeout = CLOSE_TIMEOUT

    def __init__(
        self,
        session: UpstreamSession,
        account: Account,
        watcher: StreamListener,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self.disconnected: Deferred[Disconnect] = Deferred()
        self._session = session
        self._account = account
        self._listener = watcher
        self.clock = clock
        self._up_since: float | None = None
        self._login_timeout: Any = None
        self._failure_reason: str | None = None

    def close(self) -> None:
        """End the connection: with a close frame where there is a WebSocket, at once where there is not."""
        if self.state == self.STATE_CONNECTING:
            self.abort()
        else:
            self.sendClose(self.CLOSE_STATUS_CODE_NORMAL)

    def dataReceived(self, data: bytes) -> None:
        """Read on, from a moment that is noted."""
        self._account.mark_received()
        super().dataReceived(data)

    def onOpen(self) -> None:
        """Begin the conversation; it has LOGIN_TIMEOUT seconds to come to the stream."""
        self._listener.connection_opened()
        self._login_timeout = self.clock.callLater(
            LOGIN_TIMEOUT, self._run_step, self._session.login_timed_out
        )
        self._run_step(self._session.opened)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Let the session take a frame, text or binary."""
        self._run_step(self._session.received, payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Say how it ended; also called when the handshake was refused."""
        if self._login_timeout is not None and self._login_timeout.active():
            self._login_timeout.cancel()
        try:
            self._listener.connection_closed()
            ending = self._build_disconnect(wasClean, code)
        except Exception:  # or nobody would ever connect again
            self._log.failure(
                "{account}: the upstream's end is not understood", account=self._account.name
            )
            ending = Disconnect(DisconnectCause.LOST, INTERNAL_ERROR)
        self.disconnected.callback(ending)

    def onAutoPingTimeout(self) -> None:
        """Note why, and let Autobahn drop the connection."""
        self._failure_reason = "no pong in time"
        super().onAutoPingTimeout()

    def processHandshake(self) -> None:
        """Drop a server whose answer is not even text: Autobahn would raise."""
        try:
            super().processHandshake()
        except ValueError:
            self.dropConnection(abort=True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note what is wrong with the server's certificate, of which Autobahn does not tell."""
        if reason.check(VerificationError, CertificateError):
            self._failure_reason = "the server's certificate is for another name"
        elif reason.check(SSL.Error):
            self._failure_reason = f"TLS failed: {_tls_problem(reason.value)}"
        super().connectionLost(reason)

    def _run_step(self, step: Callable[..., tuple[UpstreamEffect, ...]], *arguments: bytes) -> None:
        """Let the session take a step, and do what it says. The one guard between it and Autobahn."""
        try:
            for effect in step(*arguments):
                self._apply(effect)
        except Exception:
            self._log.failure(
                "{account}: the upstream's conversation failed", account=self._account.name
            )
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
                self._login_timeout.cancel()
                self._up_since = self.clock.seconds()
                self._account.mark_upstream_up()
                self._listener.stream_up()
                self._log.info("{account}: upstream is streaming", account=self._account.name)
            case CloseConnection():
                self.close()

    def _build_disconnect(self, was_clean: bool, code: int | None) -> Disconnect:
        if self._session.state is UpstreamState.CONNECTING:
            return self._build_handshake_rejection()
        streamed = 0.0 if self._up_since is None else self.clock.seconds() - self._up_since
        if self._session.disconnect is not None:
            return replace(self._session.disconnect, streamed=streamed)
        if self.failedByMe:
            reason = "Alpaca broke the WebSocket protocol"
        elif was_clean:
            reason = f"closed by Alpaca with code {code}"
        else:
            reason = self._failure_reason or "connection lost"
        return Disconnect(DisconnectCause.LOST, reason, streamed)

    def _build_handshake_rejection(self) -> Disconnect:
        # What a server answered is not repeated, except for a plain status: it may hold anything.
        _, _, rest = getattr(self, "http_status_line", "").partition(" ")
        status = rest[:3]
        if not _ERROR_STATUS.fullmatch(status) or self._failure_reason:
            timeout = "no answer to the handshake in time" if self.wasOpenHandshakeTimeout else None
            return Disconnect(
                DisconnectCause.LOST, self._failure_reason or timeout or "no WebSocket handshake"
            )
        retry_after = parse_retry_after(
            self.http_headers.get("retry-after", ""), self.clock.seconds()
        )
        cause = _CAUSES.get(status, DisconnectCause.LOST)
        hint = (
            ": another connection holds this account's stream"
            if cause is DisconnectCause.LIMITED
            else ""
        )
        return Disconnect(cause, f"HTTP {status} at the handshake{hint}", retry_after=retry_after)


class UpstreamFactory(WebSocketClientFactory):
    """Builds a protocol with a new session for every connection of one account."""

    noisy = False

    def __init__(
        self, settings: AccountSettings, account: Account, watcher: StreamListener, reactor: Any
    ) -> None:
        super().__init__(settings.base_url.stream, useragent="tradeproxy", reactor=reactor)
        self.setProtocolOptions(
            maxMessagePayloadSize=MAX_MESSAGE_SIZE,
            failByDrop=False,
            openHandshakeTimeout=CONNECT_TIMEOUT,
            closeHandshakeTimeout=0,  # BoundedGoodbye has the time limit
            serverConnectionDropTimeout=0,
            autoPingInterval=PING_INTERVAL,
            autoPingTimeout=PONG_TIMEOUT,
            tcpNoDelay=True,
        )
        self._settings = settings
        self._account = account
        self._listener = watcher

    def buildProtocol(self, addr: IAddress | None) -> UpstreamProtocol:
        """Build the protocol of one connection."""
        settings = self._settings
        session = UpstreamSession(settings.credentials, settings.dialect, settings.key_variable)
        protocol = UpstreamProtocol(session, self._account, self._listener, self.reactor)
        protocol.factory = self
        return protocol


def upstream_endpoint(base_url: BaseUrl, reactor: Any) -> IStreamClientEndpoint:
    """Return where an account's stream is, with TLS that verifies certificate and name.

    Trust comes from the platform, or from SSL_CERT_FILE and SSL_CERT_DIR (OpenSSL's variables).
    """
    endpoint = HostnameEndpoint(reactor, base_url.host, base_url.port, timeout=CONNECT_TIMEOUT)
    return (
        wrapClientTLS(optionsForClientTLS(base_url.host), endpoint) if base_url.secure else endpoint
    )


def _tls_problem(error: BaseException | None) -> str:
    """Return OpenSSL's own words, such as "certificate verify failed"."""
    match getattr(error, "args", ()):
        case ([(_, _, str(words)), *_],):
            return words
    return "the connection was cut"
