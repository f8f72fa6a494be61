"""Bytes offered to a client's socket at once, without the way through the transport's queue.

Twisted queues every write, and sends it when epoll says that the socket can take it: four system calls, of
which three only find out what is nearly always so. See docs/performance.md for what that costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.tcp import Server

if TYPE_CHECKING:
    from collections.abc import Callable


def is_plain(transport: Any) -> bool:
    """Whether this is a TCP connection of Twisted's own, accepted, with nothing in between."""
    return type(transport) is Server


def is_clear(connection: Any) -> bool:
    """Whether nothing waits on an Autobahn connection with a plain transport, and it is not ending."""
    transport = connection.transport
    return not (
        connection.send_queue
        or transport.dataBuffer
        or transport._tempDataBuffer  # noqa: SLF001  # what write() has not joined to the other yet
        or transport.disconnecting
        or not transport.connected
    )


def write(connection: Any, data: bytes, ordinary: Callable[[bytes], None]) -> bool:
    """Write to an Autobahn connection, and return whether its socket has taken all of it.

    Only where the transport is plain and the way is clear; else it goes by `ordinary`, Autobahn's own way.
    The rest of a short write waits in the transport. No error is hidden: the transport meets it itself.
    """
    transport = connection.transport
    if not is_plain(transport) or not is_clear(connection):
        ordinary(data)
        return False
    try:
        sent: int = transport.socket.send(data)
    except OSError:  # it can take nothing now, or never again: the transport finds out which
        sent = 0
    if sent < len(data):
        transport.write(data[sent:])
        return False
    return True
