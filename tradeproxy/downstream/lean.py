"""What Autobahn does for every connection, and ours need not: adjusted for Autobahn 26.10, and for no other.

With another version all of this leaves Autobahn as it is: connections then cost more, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from autobahn._version import __version__
from autobahn.twisted import websocket as twisted
from autobahn.twisted.util import peer2str
from autobahn.websocket import protocol as base
from autobahn.websocket.protocol import TrafficStats
from autobahn.websocket.utf8validator import Utf8Validator

from tradeproxy.downstream.handshake import VERSION

if TYPE_CHECKING:
    from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol

T = TypeVar("T", bound="WebSocketServerProtocol")

IS_KNOWN = __version__.startswith("26.10.")
"""Whether this is a version that the rest of this module was written for."""

RESTING: dict[str, Any] = {
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
}

LEFTOVERS = ("_transport_details", "_wskey", "http_response_data", "is_open", "websocket_extensions_in_use")
"""What only the opening handshake needed, and what the class has as well."""


if IS_KNOWN:
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


def configured(protocol: type[T], factory: WebSocketServerFactory) -> type[T]:
    """Return a subclass that has the factory's options once for all connections.

    Autobahn copies them onto each one, and formats them for a log line that nobody reads.
    """
    if not IS_KNOWN:
        return protocol
    options = {name: getattr(factory, name) for name in protocol.CONFIG_ATTRS}  # as _connectionMade does
    # One of them is a function; on a class it would be taken for a method.
    shared = {name: staticmethod(value) if callable(value) else value for name, value in options.items()}
    own = {"connectionMade": _begin, "processHandshake": _open}
    return type(protocol.__name__, (protocol,), {**RESTING, **shared, **own})


def request_headers(connection: WebSocketServerProtocol, key: bytes) -> dict[bytes, list[bytes]]:
    """Return what Autobahn is to read of a request that twisted.web has read, and that is in order."""
    if IS_KNOWN:
        vars(connection)["_wskey"] = key.decode("ascii")
        return {}
    return {
        b"host": [b"localhost"],
        b"upgrade": [b"websocket"],
        b"connection": [b"Upgrade"],
        b"sec-websocket-key": [key],
        b"sec-websocket-version": [VERSION],
    }


def _begin(connection: WebSocketServerProtocol) -> None:
    """Take the place of `connectionMade`, which sets all that the class has already."""
    connection.peer = peer2str(connection.transport)  # type: ignore[arg-type]  # it is connected
    connection.state = connection.STATE_CONNECTING
    connection.send_queue = _Queue()  # type: ignore[assignment]  # as much of a deque as it takes
    connection.utf8validator = Utf8Validator()
    connection.factory.countConnections += 1


def _open(connection: WebSocketServerProtocol) -> None:
    """Take the place of `processHandshake`, which reads the request once more."""
    connection.data = b""
    connection.succeedHandshake(None)


def settle(connection: WebSocketServerProtocol) -> None:
    """Let go of what a connection no longer needs, once it is open and Autobahn has said so."""
    if not IS_KNOWN:
        return
    # Made anew, it has room for what is left, and for nothing more.
    connection.__dict__ = {
        name: value for name, value in connection.__dict__.items() if name not in LEFTOVERS
    }
