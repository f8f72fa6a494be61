"""What Autobahn does for every connection, and ours need not: adjusted for Autobahn 26.10, and for no other.

With another version all of this leaves Autobahn as it is: connections then cost more, and nothing else. It is
Autobahn that reads the frames, with every version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from autobahn._version import __version__
from autobahn.twisted import websocket as twisted
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.util import peer2str
from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket import protocol as base
from autobahn.websocket.protocol import TrafficStats
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.defer import Deferred
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.http_headers import Headers
from twisted.web.server import NOT_DONE_YET

from tradeproxy.downstream.handshake import VERSION, accept

if TYPE_CHECKING:
    from autobahn.twisted.websocket import WebSocketServerFactory
    from twisted.internet.interfaces import IAddress
    from twisted.web.server import Request

T = TypeVar("T", bound="WebSocketServerProtocol")

IS_SUPPORTED = __version__.startswith("26.10.")
"""Whether this is a version that the rest of this module was written for."""

IDLE_ATTRIBUTES: dict[str, Any] = {
    # What a connection says of itself while nothing has happened: on the class it is there once for all.
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
    "trafficStats": TrafficStats(),  # counted for all together, and looked at by nobody
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
"""What is of no use after a message, and made anew for the next one."""


if IS_SUPPORTED:
    # They colour and set values for log lines, at every handshake and frame, before it is known that
    # nobody reads these. A line that is read after all has the values as they are.
    for module in (base, twisted):
        vars(module).update(hltype=lambda value: value, hlval=lambda value, *_, **__: value)
    vars(base).update(pformat=lambda value: value)


class _Queue(list[Any]):
    """Takes the place of an empty deque, which keeps room for 64 items: no frame of ours is ever chopped."""

    __slots__ = ()

    def popleft(self) -> Any:
        return self.pop(0)


class _Validator:
    """Makes a connection's validator of UTF-8 once it is looked for."""

    def __get__(self, connection: WebSocketServerProtocol, owner: Any) -> Utf8Validator:
        validator = connection.utf8validator = Utf8Validator()
        return validator


def configure_class(protocol: type[T], factory: WebSocketServerFactory) -> type[T]:
    """Return a subclass that has the factory's options once for all connections.

    Autobahn copies them onto each one, and formats them for a log line that nobody reads.
    """
    if not IS_SUPPORTED:
        return protocol
    options = {
        name: getattr(factory, name) for name in protocol.CONFIG_ATTRS
    }  # as _connectionMade does
    # One of them is a function; on a class it would be taken for a method.
    shared = {
        name: staticmethod(value) if callable(value) else value for name, value in options.items()
    }
    own = {"connectionMade": _begin, "onMessageEnd": _end_message, "utf8validator": _Validator()}
    return type(protocol.__name__, (protocol,), {**IDLE_ATTRIBUTES, **shared, **own})


def init_connection(connection: WebSocketServerProtocol) -> None:
    """Take the place of Autobahn's `__init__`."""
    if IS_SUPPORTED:
        connection.is_closed = Deferred()
    else:
        WebSocketServerProtocol.__init__(connection)


def take_over(request: Request, connection: WebSocketServerProtocol, key: bytes) -> bytes | int:
    """Make `connection` of a request for a WebSocket that is in order; for Resource.render."""
    if not IS_SUPPORTED:
        # Autobahn parses what is here again, and differently: it gets what it needs, and no credentials.
        request.requestHeaders, request.uri = Headers(_needed(key)), b"/"
        answer: bytes | int = WebSocketResource(_ReadyMade(connection)).render(request)
        return answer
    channel: Any = request.channel
    transport, channel.transport = channel.transport, None
    channel.requests.clear()  # it and the channel would hold each other until the collector comes
    if isinstance(transport, ProtocolWrapper):  # over TLS
        transport.wrappedProtocol = connection
    else:
        transport.protocol = connection
    connection.makeConnection(transport)
    transport.resumeProducing()
    _open(connection, key)
    return NOT_DONE_YET


def _begin(connection: WebSocketServerProtocol) -> None:
    """Take the place of `connectionMade`, which sets all that the class has already."""
    connection.peer = peer2str(connection.transport)  # type: ignore[arg-type]  # it is connected
    connection.state = connection.STATE_CONNECTING
    connection.send_queue = _Queue()  # type: ignore[assignment]  # as much of a deque as it takes
    connection.factory.countConnections += 1


def _open(connection: WebSocketServerProtocol, key: bytes) -> None:
    """Take the place of `processHandshake`, which reads the request once more, and of `succeedHandshake`."""
    factory = connection.factory
    connection.sendData(
        b"HTTP/1.1 101 Switching Protocols\r\nServer: %b\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % (factory.server.encode(), accept(key))
    )
    connection.state = connection.STATE_OPEN
    ping = connection._sendAutoPing
    timer = factory._batched_timer
    connection.autoPingPendingCall = timer.call_later(factory.autoPingInterval, ping)
    connection.onOpen()


def _end_message(connection: WebSocketServerProtocol) -> None:
    """Take the place of `onMessageEnd`, which tells observers as well."""
    if not connection.failedByMe:
        connection.onMessage(b"".join(connection.message_data), connection.message_is_binary)
    connection.message_data = None  # type: ignore[assignment]  # as Autobahn does


def release_leftovers(connection: WebSocketServerProtocol) -> None:
    """Let go of what a connection no longer needs, once its first message has been read."""
    if not IS_SUPPORTED:
        return
    own = vars(connection)
    for name in LEFTOVERS:
        own.pop(name, None)


def _needed(key: bytes) -> dict[bytes, list[bytes]]:
    return {
        b"host": [b"localhost"],
        b"upgrade": [b"websocket"],
        b"connection": [b"Upgrade"],
        b"sec-websocket-key": [key],
        b"sec-websocket-version": [VERSION],
    }


class _ReadyMade:
    """Stands for a factory, to which WebSocketResource would pass an address and nothing of the request."""

    def __init__(self, connection: WebSocketServerProtocol) -> None:
        self._connection = connection

    def buildProtocol(self, addr: IAddress) -> WebSocketServerProtocol:
        return self._connection
