"""The client for Twisted, over Autobahn."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any, Unpack
from urllib.parse import urlsplit

import txaio
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.web.client import URI, Agent, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from tradeproxy.client.base import (
    CLOSE_TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_MESSAGE_SIZE,
    MESSAGE_TOO_BIG,
    PING_INTERVAL,
    STATE_TIMEOUT,
    USER_AGENT,
    BaseClient,
    ClientOptions,
    ConnectionClosedError,
    StateError,
    read_http_rejection,
)
from tradeproxy.client.snapshot import MAX_STATE_SIZE
from tradeproxy.runtime.connect_errors import describe_connect_error
from tradeproxy.runtime.http_body import BodyError, read_body
from tradeproxy.runtime.reactor import get_reactor
from tradeproxy.runtime.server_identity import ServerIdentity
from tradeproxy.runtime.websocket_limits import (
    AutoPingMixin,
    CloseTimeoutMixin,
    FragmentLimitMixin,
    PongLimitMixin,
)

MAX_UNREAD = 256
"""The maximum of unread messages.

At this number the client pauses the socket until half are read.
"""


class TwistedClient(BaseClient):
    """Follows one account from Twisted; see BaseClient.

    To stop, call `close` or cancel the Deferred.
    """

    def __init__(
        self,
        url: str,
        *,
        reactor: IReactorTime | None = None,
        endpoint: IStreamClientEndpoint | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        """Build a client that is not yet connected.

        Args:
            url: The account's stream, as for BaseClient.
            reactor: The reactor to use; by default the global one.
            endpoint: Replaces the URL's host and port, such as for a UNIX socket.
            options: See ClientOptions.
        """
        super().__init__(url, **options)
        self._reactor: IReactorTime = get_reactor() if reactor is None else reactor
        self._endpoint = _build_endpoint(url, self._reactor) if endpoint is None else endpoint

    async def _open(self, url: str) -> ClientProtocol:
        factory = WebSocketClientFactory(url, useragent=USER_AGENT, reactor=self._reactor)
        factory.protocol = partial(  # type: ignore[assignment]  # Autobahn only calls it
            ClientProtocol, self._reactor
        )
        factory.noisy = False
        factory.setProtocolOptions(
            maxMessagePayloadSize=MAX_MESSAGE_SIZE,
            failByDrop=False,
            openHandshakeTimeout=CONNECT_TIMEOUT,
            closeHandshakeTimeout=0,  # CloseTimeoutMixin limits the whole close
            serverConnectionDropTimeout=0,
            autoPingInterval=PING_INTERVAL,
            autoPingTimeout=PING_INTERVAL,
            tcpNoDelay=True,
        )
        try:
            protocol = await self._endpoint.connect(factory)
        except (CancelledError, ConnectingCancelledError):  # Twisted's endpoints raise the latter
            raise CancelledError from None
        except Exception as error:
            reason = describe_connect_error(error)
            raise ConnectionClosedError(f"cannot connect: {reason}") from None
        assert isinstance(protocol, ClientProtocol)
        try:
            await protocol.opened
        except CancelledError:
            protocol.dropConnection(abort=True)
            raise
        return protocol

    async def _get(self, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        agent = Agent.usingEndpointFactory(self._reactor, _FixedEndpoint(self._endpoint))
        given = Headers({name: [text] for name, text in headers.items()})
        asked = Deferred.fromCoroutine(_fetch(agent, url, given))
        try:
            return await asked.addTimeout(STATE_TIMEOUT, self._reactor)
        except CancelledError:
            raise
        except BodyError as error:
            raise StateError(str(error)) from None
        except ResponseFailed:
            raise StateError("the connection was lost before the answer") from None
        except Exception as error:
            raise StateError(f"cannot connect: {describe_connect_error(error)}") from None

    async def _sleep(self, seconds: float) -> None:
        await deferLater(self._reactor, seconds)

    def _clock_seconds(self) -> float:
        return float(self._reactor.seconds())


class ClientProtocol(  # type: ignore[misc]  # Autobahn's bases disagree
    AutoPingMixin, CloseTimeoutMixin, FragmentLimitMixin, PongLimitMixin, WebSocketClientProtocol
):
    """One connection. The client reads its messages one by one."""

    log = txaio.make_logger(level="error")  # type: ignore[attr-defined]  # made at run time
    close_timeout = CLOSE_TIMEOUT
    transport: Any

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()
        self.clock = clock
        self.opened: Deferred[None] = Deferred()
        self._unread: deque[bytes] = deque()
        self._is_paused = False
        self._is_message_too_large = False
        self._closed_error: ConnectionClosedError | None = None
        self._message_waiter: Deferred[None] | None = None
        self._closed: Deferred[None] = Deferred()

    # Called by the client.

    async def send(self, message: bytes) -> None:
        """Send a text frame. Raises ConnectionClosedError."""
        if self._closed_error is not None:
            raise self._closed_error
        # In another state the proxy is closing, and receive() raises its reason.
        if self.state == self.STATE_OPEN:
            self.sendMessage(message)

    async def receive(self) -> bytes:
        """Return the next message. Raises ConnectionClosedError."""
        while not self._unread:
            if self._closed_error is not None:
                raise self._closed_error
            self._message_waiter = Deferred()
            await self._message_waiter
        message = self._unread.popleft()
        if self._is_paused and len(self._unread) <= MAX_UNREAD // 2:
            self._is_paused = False
            self.transport.resumeProducing()
        return message

    async def close(self) -> None:
        """Send a close frame and wait for the reply.

        A paused connection resumes reading, because the reply follows unread messages.
        """
        if self._closed_error is None:
            if self._is_paused:
                self.transport.resumeProducing()
            self.sendClose(self.CLOSE_STATUS_CODE_NORMAL)
            await self._closed

    # Called by Autobahn.

    def onOpen(self) -> None:
        """Report that the handshake is complete."""
        self.opened.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Buffer a message; pause the socket if too many are unread."""
        self._unread.append(payload)
        is_full = len(self._unread) >= MAX_UNREAD
        if is_full and not self._is_paused and self.state == self.STATE_OPEN:
            self._is_paused = True
            self.transport.pauseProducing()
        self._wake()

    def on_message_too_large(self) -> None:
        """Record why the connection closes. The proxy answers 1009 with its own code."""
        self._is_message_too_large = True

    def onAutoPingTimeout(self) -> None:
        """Drop a dead connection, unless reading is paused: then the pong may be unread."""
        if not self._is_paused:
            super().onAutoPingTimeout()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Record why the connection closed. Autobahn also calls this if the handshake fails."""
        self._closed_error = self._build_closed_error(code, reason)
        if not self.opened.called:
            self.opened.errback(self._closed_error)
        self._wake()
        self._closed.callback(None)

    def _build_closed_error(self, code: int | None, reason: str | None) -> ConnectionClosedError:
        status = getattr(self, "http_status_line", "").split(" ")[1:2]
        if not self.opened.called and status and status[0].isdecimal() and status[0] != "101":
            return read_http_rejection(int(status[0]), self.data.partition(b"\r\n\r\n")[2])
        if self._is_message_too_large:
            return ConnectionClosedError("a message over the limit", MESSAGE_TOO_BIG)
        if self.remoteCloseCode is not None:
            reason = self.remoteCloseReason or f"closed with code {code}"
            return ConnectionClosedError(reason, self.remoteCloseCode)
        if self.opened.called:
            return ConnectionClosedError("connection lost")
        return ConnectionClosedError(reason or "no WebSocket handshake")

    def _wake(self) -> None:
        waiter, self._message_waiter = self._message_waiter, None
        if waiter is not None and not waiter.called:
            waiter.callback(None)


@implementer(IAgentEndpointFactory)
class _FixedEndpoint:
    """Connects every request to one endpoint, whatever its URL says."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self._endpoint


async def _fetch(agent: Agent, url: str, headers: Headers) -> tuple[int, bytes]:
    response = await agent.request(b"GET", url.encode(), headers)
    return response.code, await read_body(response, MAX_STATE_SIZE)


def _build_endpoint(url: str, reactor: IReactorTime) -> IStreamClientEndpoint:
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "wss"
    port = parts.port or (443 if secure else 80)
    endpoint = HostnameEndpoint(reactor, host, port, timeout=CONNECT_TIMEOUT)
    return wrapClientTLS(ServerIdentity(host), endpoint) if secure else endpoint
