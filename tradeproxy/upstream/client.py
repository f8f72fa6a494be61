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

from tradeproxy.hub.account import OWN_ERROR
from tradeproxy.runtime.close_timeout import BoundedGoodbye
from tradeproxy.upstream.backoff import Cause, Ending, parse_retry_after
from tradeproxy.upstream.session import Drop, Effect, Leave, Publish, Send, State, Up, UpstreamSession
from tradeproxy.wire.messages import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
    from twisted.python.failure import Failure

    from tradeproxy.config.accounts import AccountSettings, BaseUrl
    from tradeproxy.hub.account import Account
    from tradeproxy.upstream.session import StreamWatcher

CONNECT_TIMEOUT = 15.0
"""Seconds for TCP, and again for TLS and the WebSocket handshake."""

LOGIN_TIMEOUT = 15.0
"""Seconds from the open WebSocket to the ack of `listen`."""

PING_INTERVAL = 10
"""Seconds, as Alpaca's SDKs do; with the next: a silently dead connection is found within 25 s."""

PONG_TIMEOUT = 15

GOODBYE_TIMEOUT = 2.0
"""Seconds that Alpaca has to answer a close frame and to end the connection."""

LARGEST_MESSAGE = 16 * 1024 * 1024
"""Bytes; a trade update has a few thousand."""


_REFUSAL = re.compile("[2-5][0-9][0-9]", re.ASCII)
_CAUSES = {"401": Cause.REFUSED, "403": Cause.REFUSED, "429": Cause.LIMITED}


class UpstreamProtocol(BoundedGoodbye, WebSocketClientProtocol):  # type: ignore[misc]  # Autobahn's bases disagree
    """Carries one UpstreamSession over one connection."""

    # Autobahn's own warnings tell again, at length, what the service says in one line.
    log = txaio.make_logger(level="error")  # type: ignore[attr-defined]  # made at run time
    _log = Logger()
    goodbye_timeout = GOODBYE_TIMEOUT

    def __init__(
        self, session: UpstreamSession, account: Account, watcher: StreamWatcher, clock: IReactorTime
    ) -> None:
        super().__init__()
        self.ended: Deferred[Ending] = Deferred()
        self._session = session
        self._account = account
        self._watcher = watcher
        self.clock = clock
        self._up_since: float | None = None
        self._login_timeout: Any = None
        self._trouble: str | None = None

    def leave(self) -> None:
        """End the connection: with a close frame where there is a WebSocket, at once where there is not."""
        if self.state == self.STATE_CONNECTING:
            self.abort()
        else:
            self.sendClose(self.CLOSE_STATUS_CODE_NORMAL)

    def dataReceived(self, data: bytes) -> None:
        """Read on, from a moment that is noted."""
        self._account.reading()
        super().dataReceived(data)

    def onOpen(self) -> None:
        """Begin the conversation; it has LOGIN_TIMEOUT seconds to come to the stream."""
        self._watcher.stream_opens()
        self._login_timeout = self.clock.callLater(LOGIN_TIMEOUT, self._advance, self._session.overdue)
        self._advance(self._session.opened)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Let the session take a frame, text or binary."""
        self._advance(self._session.received, payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Say how it ended; also called when the handshake was refused."""
        if self._login_timeout is not None and self._login_timeout.active():
            self._login_timeout.cancel()
        try:
            self._watcher.stream_is_lost()
            ending = self._ending(wasClean, code)
        except Exception:  # or nobody would ever connect again
            self._log.failure("{account}: the upstream's end is not understood", account=self._account.name)
            ending = Ending(Cause.LOST, OWN_ERROR)
        self.ended.callback(ending)

    def onAutoPingTimeout(self) -> None:
        """Note why, and let Autobahn drop the connection."""
        self._trouble = "no pong in time"
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
            self._trouble = "the server's certificate is for another name"
        elif reason.check(SSL.Error):
            self._trouble = f"TLS failed: {_tls_problem(reason.value)}"
        super().connectionLost(reason)

    def _advance(self, step: Callable[..., tuple[Effect, ...]], *arguments: bytes) -> None:
        """Let the session take a step, and do what it says. The one guard between it and Autobahn."""
        try:
            for effect in step(*arguments):
                self._carry_out(effect)
        except Exception:
            self._log.failure("{account}: the upstream's conversation failed", account=self._account.name)
            self.leave()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(message):
                self.sendMessage(encode(message))
            case Publish(event):
                self._account.publish(event)
            case Drop(problem):
                self._account.drop(problem)
            case Up():
                self._login_timeout.cancel()
                self._up_since = self.clock.seconds()
                self._account.upstream_is_up()
                self._watcher.stream_is_up()
                self._log.info("{account}: upstream is streaming", account=self._account.name)
            case Leave():
                self.leave()

    def _ending(self, was_clean: bool, code: int | None) -> Ending:
        if self._session.state is State.CONNECTING:
            return self._refused_handshake()
        streamed = 0.0 if self._up_since is None else self.clock.seconds() - self._up_since
        if self._session.ending is not None:
            return replace(self._session.ending, streamed=streamed)
        if self.failedByMe:
            reason = "Alpaca broke the WebSocket protocol"
        elif was_clean:
            reason = f"closed by Alpaca with code {code}"
        else:
            reason = self._trouble or "connection lost"
        return Ending(Cause.LOST, reason, streamed)

    def _refused_handshake(self) -> Ending:
        # What a server answered is not repeated, except for a plain status: it may hold anything.
        _, _, rest = getattr(self, "http_status_line", "").partition(" ")
        status = rest[:3]
        if not _REFUSAL.fullmatch(status) or self._trouble:
            timeout = "no answer to the handshake in time" if self.wasOpenHandshakeTimeout else None
            return Ending(Cause.LOST, self._trouble or timeout or "no WebSocket handshake")
        retry_after = parse_retry_after(self.http_headers.get("retry-after", ""), self.clock.seconds())
        cause = _CAUSES.get(status, Cause.LOST)
        hint = ": another connection holds this account's stream" if cause is Cause.LIMITED else ""
        return Ending(cause, f"HTTP {status} at the handshake{hint}", retry_after=retry_after)


class UpstreamFactory(WebSocketClientFactory):
    """Builds a protocol with a new session for every connection of one account."""

    noisy = False

    def __init__(
        self, settings: AccountSettings, account: Account, watcher: StreamWatcher, reactor: Any
    ) -> None:
        super().__init__(settings.base_url.stream, useragent="tradeproxy", reactor=reactor)
        self.setProtocolOptions(
            maxMessagePayloadSize=LARGEST_MESSAGE,
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
        self._watcher = watcher

    def buildProtocol(self, addr: IAddress | None) -> UpstreamProtocol:
        """Build the protocol of one connection."""
        settings = self._settings
        session = UpstreamSession(settings.credentials, settings.dialect, settings.key_variable)
        protocol = UpstreamProtocol(session, self._account, self._watcher, self.reactor)
        protocol.factory = self
        return protocol


def upstream_endpoint(base_url: BaseUrl, reactor: Any) -> IStreamClientEndpoint:
    """Return where an account's stream is, with TLS that verifies certificate and name.

    Trust comes from the platform, or from SSL_CERT_FILE and SSL_CERT_DIR (OpenSSL's variables).
    """
    endpoint = HostnameEndpoint(reactor, base_url.host, base_url.port, timeout=CONNECT_TIMEOUT)
    return wrapClientTLS(optionsForClientTLS(base_url.host), endpoint) if base_url.secure else endpoint


def _tls_problem(error: BaseException | None) -> str:
    """Return OpenSSL's own words, such as "certificate verify failed"."""
    match getattr(error, "args", ()):
        case ([(_, _, str(words)), *_],):
            return words
    return "the connection was cut"
