"""Direct writes: the bytes go to the socket at once, past the queue of Twisted's transport.

Twisted queues every write, and sends it when epoll reports the socket as writable. That takes four
system calls, and three of them only confirm what is almost always true. Over TLS it also joins the
writes of a turn first. A direct write calls the socket's `send` at once. docs/performance.md has
the measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Server
from twisted.protocols.tls import BufferingTLSTransport

from tradeproxy.downstream.tls_sender import find_tls_sender, is_drained


def find_sender(connection: Any) -> Callable[[bytes], int] | None:
    """Return the function that writes directly to an Autobahn connection.

    It returns how many bytes it took: the socket has them, or as the end of a TLS record the
    transport. It raises OSError if it took none. The caller writes the rest to the transport, and
    calls the function again only if the connection is still drained.

    Returns:
        None if the transport is neither TCP nor TLS over TCP, or if the connection is not drained:
        it has buffered data, is in a handshake, or is closing.
    """
    transport = connection.transport
    if connection.send_queue:
        return None
    # Not isinstance: a UNIX socket must be excluded, and so must subclasses and wrappers that
    # change how data is written.
    if type(transport) is Server:
        return transport.socket.send if is_drained(transport) else None
    if type(transport) is BufferingTLSTransport and type(transport.transport) is Server:
        return find_tls_sender(transport)
    return None


def write_direct(connection: Any, data: bytes, fallback: Callable[[bytes], None]) -> bool:
    """Write to an Autobahn connection, and return whether all of `data` was taken at once.

    If there is no direct way, call `fallback` and return False. After a short write the rest is
    buffered in the transport. An error of the socket is not hidden: the transport gets it again
    when it writes the rest, and closes the connection.

    Args:
        connection: the Autobahn protocol.
        data: whole frames.
        fallback: Autobahn's own `sendData`.
    """
    send = find_sender(connection)
    if send is None:
        fallback(data)
        return False
    try:
        sent = send(data)
    except OSError:  # full or broken: the transport finds out which
        sent = 0
    if sent < len(data):
        connection.transport.write(data[sent:])
        return False
    return True
