"""Bytes offered to a client's socket at once, without the way through the transport's queue.

Twisted queues every write, and sends it when epoll says that the socket can take it: four system calls, of
which three only find out what is nearly always so. See docs/performance.md for what that costs.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Server


def is_plain(transport: Any) -> bool:
    """Whether this is a TCP connection of Twisted's own, accepted, with nothing in between."""
    return type(transport) is Server


def write(transport: Any, data: bytes) -> None:
    """Write to a plain transport: what the socket takes goes at once, the rest waits in the transport.

    Nothing overtakes what waits there already, nothing is written once its end has begun, and no error is
    hidden: the transport meets it itself.
    """
    if transport.disconnecting or not transport.connected:
        return
    if transport.dataBuffer or transport._tempDataBuffer:  # noqa: SLF001  # both are its queue
        transport.write(data)
        return
    try:
        sent = transport.socket.send(data)
    except OSError:  # it can take nothing now, or never again: the transport finds out which
        sent = 0
    if sent < len(data):
        transport.write(data[sent:])
