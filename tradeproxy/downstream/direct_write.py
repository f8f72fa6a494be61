"""Direct writes: the bytes go to the socket at once, past the queue of Twisted's transport.

Twisted queues every write, and sends it when epoll reports the socket as writable. That takes four
system calls, and three of them only confirm what is almost always true. Over TLS it also joins the
writes of a turn first. A direct write calls the socket's `send` at once. docs/performance.md has
the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from twisted.internet.tcp import Server
from twisted.protocols.tls import BufferingTLSTransport

from tradeproxy.downstream import tls_sender
from tradeproxy.downstream.tls_sender import is_drained

SendAll = Callable[[Iterable[Any], bytes], dict[Any, int]]
"""Sends the same bytes to all targets.

It returns how many bytes are taken, for each target that did not take all: the socket has them, or
as the end of a TLS record the transport. The caller writes the rest to the transport, and does not
call again before that connection is drained.
"""


class DirectWriter(NamedTuple):
    """How to write directly to a connection: it is a target of `send_all`."""

    send_all: SendAll
    target: Any


def find_writer(connection: Any) -> DirectWriter | None:
    """Return how to write directly to an Autobahn connection.

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
        return DirectWriter(send_each, transport.socket.send) if is_drained(transport) else None
    if type(transport) is BufferingTLSTransport and type(transport.transport) is Server:
        target = tls_sender.find_target(transport)
        return DirectWriter(tls_sender.send_all, target) if target else None
    return None


def send_each(targets: Iterable[Callable[[bytes], int]], data: bytes) -> dict[Any, int]:
    """Call the `send` of each socket. This runs for every client and event."""
    size, short = len(data), {}
    for send in targets:
        try:
            sent = send(data)
        except OSError:
            # The socket is full or broken. The transport finds out which when it writes the rest,
            # and handles a lost connection as usual.
            sent = 0
        if sent != size:
            short[send] = sent
    return short


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
    writer = find_writer(connection)
    if writer is None:
        fallback(data)
        return False
    for sent in writer.send_all((writer.target,), data).values():
        connection.transport.write(data[sent:])
        return False
    return True
