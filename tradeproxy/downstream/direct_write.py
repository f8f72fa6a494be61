"""Direct writes: the bytes go to the socket at once, past the queue of Twisted's transport.

Twisted queues every write, and sends it when epoll reports the socket as writable. That takes four
system calls, and three of them only confirm what is almost always true. A direct write calls the
socket's `send` at once. docs/performance.md has the measurements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.tcp import Server

if TYPE_CHECKING:
    from collections.abc import Callable


def is_plain_tcp(transport: Any) -> bool:
    """Return whether this is an accepted TCP connection of Twisted's, without TLS or a wrapper."""
    # Not isinstance: TLS and a UNIX socket must be excluded, and so must subclasses that change
    # how data is written.
    return type(transport) is Server


def is_drained(connection: Any) -> bool:
    """Return whether an Autobahn connection has no buffered data and is not closing.

    Its transport must be plain TCP.
    """
    transport = connection.transport
    return not (
        connection.send_queue
        or transport.dataBuffer
        or transport._tempDataBuffer  # noqa: SLF001  # written, but not moved to `dataBuffer` yet
        or transport.disconnecting
        or not transport.connected
    )


def write_direct(connection: Any, data: bytes, fallback: Callable[[bytes], None]) -> bool:
    """Write to an Autobahn connection, and return whether its socket took all of `data`.

    If the transport is not plain TCP or not drained, call `fallback` and return False. After a
    short write the rest is buffered in the transport. An error of the socket is not hidden: the
    transport gets it again when it writes the rest, and closes the connection.

    Args:
        connection: the Autobahn protocol.
        data: whole frames.
        fallback: Autobahn's own `sendData`.
    """
    transport = connection.transport
    if not is_plain_tcp(transport) or not is_drained(connection):
        fallback(data)
        return False
    try:
        sent: int = transport.socket.send(data)
    except OSError:  # full or broken: the transport finds out which
        sent = 0
    if sent < len(data):
        transport.write(data[sent:])
        return False
    return True
