"""The trade-updates stream on Autobahn: from its callbacks to the account's slot, and no further.

The factory serves plain TCP and, behind autobahn.twisted.resource.WebSocketResource, a twisted.web site.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import txaio
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.interfaces import ITCPTransport
from twisted.logger import Logger

from tradeproxy.simulator.slot import Client, Slot, TurnedAway

if TYPE_CHECKING:
    from collections.abc import Callable

    from autobahn.websocket.types import ConnectionRequest
    from twisted.internet.interfaces import IReactorTime

LARGEST_MESSAGE = 1024 * 1024
"""What a client may send at once, in bytes; over it Autobahn closes with 1009."""

BANNER = "simulated-alpaca"

_log = Logger()
_P = ParamSpec("_P")
_S = TypeVar("_S", bound="StreamProtocol")


def _guarded(
    callback: Callable[Concatenate[_S, _P], None],
) -> Callable[Concatenate[_S, _P], None]:
    """Keep an error of ours from leaving one of Autobahn's callbacks: log it, and drop the connection."""

    @wraps(callback)
    def guard(protocol: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            callback(protocol, *args, **kwargs)
        except Exception:
            _log.failure("simulator-stream-failed")
            protocol.dropConnection(abort=True)

    return guard


class StreamProtocol(WebSocketServerProtocol):
    """One client's connection."""

    # Autobahn's lower levels would log what a client sent, keys among it.
    log = txaio.make_logger(level="error")  # type: ignore[attr-defined]  # made at run time

    factory: StreamFactory
    _client: Client | None = None
    _retry_after: int | None = None

    def onConnect(self, request: ConnectionRequest) -> None:
        """Answer the handshake with 101, or with 429."""
        match self.factory.slot.admit(self):
            case Client() as client:
                self._client = client
            case TurnedAway(retry_after):
                self._retry_after = retry_after
                raise ConnectionDeny(429, "Too Many Requests")

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Refuse the handshake, with the headers that ConnectionDeny has no place for."""
        headers = [("Content-Length", "0"), ("Connection", "close")]
        if self._retry_after is not None:
            headers.append(("Retry-After", str(self._retry_after)))
        super().failHandshake(reason, code, headers)

    def onOpen(self) -> None:
        """Say nothing, since the client speaks first; but say what is to come without delay."""
        # Autobahn's own attempt comes before it has its options, and swallows the error.
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)

    @_guarded
    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Pass a message on, text and binary alike."""
        if self._client is not None:
            self.factory.slot.receive(self._client, payload)

    @_guarded
    def onPing(self, payload: bytes) -> None:
        """Answer, unless silent."""
        if self._client is not None and not self._client.silent:
            super().onPing(payload)

    def onCloseFrame(self, code: Any, reasonRaw: Any) -> Any:
        """Answer, unless silent: then it is left to the client to give up waiting."""
        if self._client is not None:
            self._client.receive_close((code, reasonRaw.decode("utf-8", "replace") if reasonRaw else None))
            if self._client.silent and self.state == self.STATE_OPEN:
                return None
        return super().onCloseFrame(code, reasonRaw)

    @_guarded
    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Give the place back; one that was turned away never had it."""
        if self._client is not None:
            self.factory.slot.release(self._client)


class StreamFactory(WebSocketServerFactory):
    """Builds the connections that compete for one slot."""

    protocol: Any = StreamProtocol
    noisy = False

    def __init__(self, reactor: IReactorTime, slot: Slot) -> None:
        super().__init__(reactor=reactor, server=BANNER)
        self.slot = slot
        # In one call: each sets allowNullOrigin anew.
        self.setProtocolOptions(
            webStatus=False,
            allowedOrigins=["*"],
            allowNullOrigin=True,
            maxFramePayloadSize=LARGEST_MESSAGE,
            maxMessagePayloadSize=LARGEST_MESSAGE,
            openHandshakeTimeout=5,
            closeHandshakeTimeout=1,
            failByDrop=False,
        )
