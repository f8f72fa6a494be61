"""Removes work and memory that Autobahn spends on every connection and the proxy does not need.

The adjustments apply to Autobahn 26.10 only. With any other version Autobahn runs unchanged, and
each connection costs more memory and time. Autobahn parses the frames in both cases.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, TypeVar

from autobahn._version import __version__
from autobahn.twisted import websocket as twisted
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket import protocol as base
from autobahn.websocket.protocol import TrafficStats
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.http_headers import Headers
from twisted.web.server import NOT_DONE_YET, Request

T = TypeVar("T", bound="WebSocketServerProtocol")

VERSION = b"13"
"""That of WebSocket (RFC 6455)."""

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""The GUID that RFC 6455, 1.3 defines for every server."""

IS_SUPPORTED = __version__.startswith("26.10.")
"""Whether the adjustments of this module apply to the installed version."""

IDLE_ATTRIBUTES: dict[str, Any] = {
    # Autobahn sets these on every connection. As class attributes they exist once, and an instance
    # gets its own only when Autobahn changes the value.
    "_transport_details": None,
    "autoPingPending": None,
    "autoPingPendingCall": None,
    "autoPingPendingSent": None,
    "autoPingPendingSeq": 0,
    "autoPingTimeoutCall": None,
    "closeHandshakeTimeoutCall": None,
    "closedByMe": False,
    "current_frame": None,
    "data": b"",
    "droppedByMe": False,
    "failedByMe": False,
    "inside_message": False,
    "localCloseCode": None,
    "localCloseReason": None,
    "openHandshakeTimeoutCall": None,
    "remoteCloseCode": None,
    "remoteCloseReason": None,
    "send_state": base.WebSocketProtocol.SEND_STATE_GROUND,
    "trackedTimings": None,
    "trafficStats": TrafficStats(),  # one total for all connections; it is never read
    "triggered": False,
    "wasClean": False,
    "wasCloseHandshakeTimeout": False,
    "wasMaxFramePayloadSizeExceeded": False,
    "wasMaxMessagePayloadSizeExceeded": False,
    "wasNotCleanReason": None,
    "wasOpenHandshakeTimeout": False,
    "wasServerConnectionDropTimeout": False,
    "wasServingFlashSocketPolicyFile": False,
    "websocket_extensions": (),
    "websocket_extensions_in_use": (),
    "websocket_protocol_in_use": None,
    "websocket_protocols": (),
    "websocket_version": 13,
    "_perMessageCompress": None,
    "_results": None,
    "_valid_events": None,
}

LEFTOVERS = ("current_frame_masker", "utf8validateLast", "utf8validator")
"""Attributes that Autobahn needs only inside a message, and sets again for the next one."""


if IS_SUPPORTED:
    # Autobahn formats and colours values for debug lines at every handshake and frame, before it
    # checks the log level. With these replacements a logged line has the plain values.
    for module in (base, twisted):
        vars(module).update(hltype=lambda value: value, hlval=lambda value, *_, **__: value)
    vars(base).update(pformat=lambda value: value)


class _Queue(list[Any]):
    """Replaces the send queue, a deque. An empty deque allocates a block for 64 items.

    The queue stays empty: Autobahn uses it only for frames that are sent in several pieces.
    """

    __slots__ = ()

    def popleft(self) -> Any:
        return self.pop(0)


class _Validator:
    """A descriptor that creates a connection's UTF-8 validator on first access."""

    def __get__(self, connection: WebSocketServerProtocol, owner: Any) -> Utf8Validator:
        validator = connection.utf8validator = Utf8Validator()
        return validator


def configure_class(protocol: type[T], factory: WebSocketServerFactory) -> type[T]:
    """Return a subclass of `protocol` whose class attributes are the factory's options.

    Autobahn copies the options onto each connection, and formats them for a debug line.
    With an unsupported version, return `protocol`.
    """
    if not IS_SUPPORTED:
        return protocol
    # Autobahn's _connectionMade reads the same attributes.
    options = {name: getattr(factory, name) for name in protocol.CONFIG_ATTRS}
    # One option is a function. Without staticmethod, Python would bind it as a method.
    shared = {
        name: staticmethod(value) if callable(value) else value for name, value in options.items()
    }
    own = {"connectionMade": _begin, "onMessageEnd": _end_message, "utf8validator": _Validator()}
    return type(protocol.__name__, (protocol,), {**IDLE_ATTRIBUTES, **shared, **own})


def init_connection(connection: WebSocketServerProtocol) -> None:
    """Initialize `connection` instead of Autobahn's `__init__`."""
    if IS_SUPPORTED:
        connection.is_closed = Deferred()
    else:
        WebSocketServerProtocol.__init__(connection)


def compute_accept(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept value for `key` (RFC 6455, 4.2.2)."""
    # The RFC prescribes SHA-1. It proves that the server read the key; it protects nothing.
    return base64.b64encode(hashlib.sha1(key + MAGIC).digest())  # noqa: S324  # see above


def take_over(
    request: Request, connection: WebSocketServerProtocol, key: bytes, subprotocol: bytes | None
) -> bytes | int:
    """Turn a valid WebSocket request into `connection`, and return a result for Resource.render.

    The request is admitted and checked; its transport moves to the connection, whose `factory` is
    set. The key is the value of Sec-WebSocket-Key. The answer names the subprotocol, if any.
    """
    channel: Any = request.channel
    # It gets what the client has sent behind its request, without waiting for the answer.
    channel.rawDataReceived = connection.dataReceived
    if not IS_SUPPORTED:
        # Autobahn parses the request again, by different rules. So it gets only the headers that it
        # needs. They contain no credentials.
        request.requestHeaders, request.uri = Headers(_minimal_headers(key, subprotocol)), b"/"
        answer: bytes | int = WebSocketResource(_SingleProtocolFactory(connection)).render(request)
        return answer
    transport, channel.transport = channel.transport, None
    channel.requests.clear()  # breaks a reference cycle that only the garbage collector would free
    if isinstance(transport, ProtocolWrapper):  # TLS, or the PROXY protocol
        transport.wrappedProtocol = connection
    else:
        transport.protocol = connection
    connection.makeConnection(transport)
    transport.resumeProducing()
    _open(connection, key, subprotocol)
    return NOT_DONE_YET


def _begin(connection: WebSocketServerProtocol) -> None:
    """Replace `connectionMade`, which sets on each instance what the class already has."""
    connection.state = connection.STATE_CONNECTING
    connection.send_queue = _Queue()  # type: ignore[assignment]  # it has the methods that are used
    connection.factory.countConnections += 1


def _open(connection: WebSocketServerProtocol, key: bytes, subprotocol: bytes | None) -> None:
    """Replace `processHandshake`, which parses the request again, and `succeedHandshake`."""
    factory = connection.factory
    chosen = b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol if subprotocol else b""
    connection.sendData(
        b"HTTP/1.1 101 Switching Protocols\r\nServer: %b\r\n"
        b"Upgrade: WebSocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n"
        % (factory.server.encode(), compute_accept(key), chosen)
    )
    connection.state = connection.STATE_OPEN
    ping = connection._sendAutoPing  # noqa: SLF001
    timer = factory._batched_timer  # noqa: SLF001
    connection.autoPingPendingCall = timer.call_later(factory.autoPingInterval, ping)
    connection.onOpen()


def _end_message(connection: WebSocketServerProtocol) -> None:
    """Replace `onMessageEnd`, which also calls observers."""
    if not connection.failedByMe:
        connection.onMessage(b"".join(connection.message_data), connection.message_is_binary)
    connection.message_data = None  # type: ignore[assignment]  # as Autobahn does


def release_leftovers(connection: WebSocketServerProtocol) -> None:
    """Delete attributes that a connection does not need between messages.

    Call it after the first message: most clients send no more than a few.
    """
    if not IS_SUPPORTED:
        return
    own = vars(connection)
    for name in LEFTOVERS:
        own.pop(name, None)


def _minimal_headers(key: bytes, subprotocol: bytes | None) -> dict[bytes, list[bytes]]:
    offers = {} if subprotocol is None else {b"sec-websocket-protocol": [subprotocol]}
    return offers | {
        b"host": [b"localhost"],
        b"upgrade": [b"websocket"],
        b"connection": [b"Upgrade"],
        b"sec-websocket-key": [key],
        b"sec-websocket-version": [VERSION],
    }


class _SingleProtocolFactory:
    """A factory that returns an existing connection.

    WebSocketResource calls `buildProtocol` with an address only, without the request.
    """

    def __init__(self, connection: WebSocketServerProtocol) -> None:
        self._connection = connection

    def buildProtocol(self, addr: IAddress) -> WebSocketServerProtocol:
        return self._connection
