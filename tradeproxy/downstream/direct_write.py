"""Direct writes: the bytes go to the socket at once, past the queue of Twisted's transport.

Twisted queues every write, and sends it when epoll reports the socket as writable. That takes four
system calls, and three of them only confirm what is almost always true. Over TLS it also joins the
writes of a turn first. A direct write calls the socket's `send` at once. docs/performance.md has
the measurements.

Over TLS, OpenSSL encrypts, and writes the record to the socket. Twisted has it write to a buffer,
and sends that. The buffer of each client is in no cache, and it never shrinks. So until Twisted
needs TLS again, OpenSSL has the socket instead of its buffers, as pyOpenSSL can give it:

    OpenSSL has  event                                                     then it has
    -----------  --------------------------------------------------------  -----------
    buffers      a direct write, and nothing waits in TLS or in TCP        the socket
    the socket   a direct write                                            the socket
    the socket   the socket takes not all: the rest of the record waits    buffers
    the socket   Twisted reads, writes, or closes                          buffers

This uses names that pyOpenSSL does not document. Without them, clients are served through Twisted's
queue.
"""

# The attributes of Twisted's transports and of pyOpenSSL that are used here have no public names.
# ruff: noqa: SLF001

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from OpenSSL import SSL
from twisted.internet.tcp import Server
from twisted.protocols.tls import BufferingTLSTransport

MAX_PLAINTEXT = 2**14
"""Bytes in one TLS record (RFC 8446, 5.1)."""

_ffi: Any = getattr(SSL, "_ffi", None)
_library: Any = getattr(SSL, "_lib", None)
_FUNCTIONS = ("SSL_write", "SSL_set_fd", "SSL_set_bio", "BIO_new", "BIO_s_mem", "BIO_get_mem_data")
_ATTRIBUTES = ("_ssl", "_into_ssl", "_from_ssl")
IS_SUPPORTED = hasattr(_ffi, "NULL") and all(
    hasattr(_library, name) for name in (*_FUNCTIONS, "ERR_clear_error")
)
"""Whether the installed pyOpenSSL has the functions that this module uses."""

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
        target = find_target(transport)
        return DirectWriter(send_all_tls, target) if target else None
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
    """Write whole frames to an Autobahn connection; return whether all was taken at once.

    If there is no direct way, call `fallback`, Autobahn's own `sendData`, and return False. After a
    short write the rest is buffered in the transport. An error of the socket is not hidden: the
    transport gets it again when it writes the rest, and closes the connection.
    """
    writer = find_writer(connection)
    if writer is None:
        fallback(data)
        return False
    for sent in writer.send_all((writer.target,), data).values():
        connection.transport.write(data[sent:])
        return False
    return True


class DirectTls:
    """A client over TLS. While OpenSSL has its socket, this stands in for pyOpenSSL's connection.

    So whatever Twisted does with TLS gives OpenSSL its buffers back first.
    """

    __slots__ = ("_connection", "_tls", "ssl")

    def __init__(self, tls: Any) -> None:
        """Begin with buffers. `tls` is Twisted's TLS transport, over TCP."""
        self._tls = tls
        self._connection: Any = None
        self.ssl: Any = None
        """OpenSSL's state of the connection while OpenSSL has the socket, else None."""

    def begin(self) -> Any:
        """Give OpenSSL the socket, and return its state of the connection.

        Returns:
            None during the handshake, during the shutdown, and while data waits in TLS or in TCP.
            Always None if pyOpenSSL has other names.
        """
        tls = self._tls
        if not tls._handshakeDone or tls.disconnecting or tls._lostTLSConnection:
            return None
        # Small writes of this turn, and writes that OpenSSL has not accepted yet.
        if tls._aggregator._buffer or tls._appSendBuffer or not is_drained(tls.transport):
            return None
        connection = tls._tlsConnection
        if type(connection) is DirectTls and connection is not self:
            connection = connection.end()
        if connection is not self and _has_empty_buffers(connection):
            # This frees the buffers. OpenSSL does not close the socket.
            _library.SSL_set_fd(connection._ssl, tls.transport.socket.fileno())
            connection._into_ssl = connection._from_ssl = None
            self._connection, self.ssl = connection, connection._ssl
            tls._tlsConnection = self
        return self.ssl

    def end(self) -> Any:
        """Give OpenSSL new buffers, as pyOpenSSL does, and return pyOpenSSL's connection."""
        connection, ssl = self._connection, self.ssl
        if ssl is not None:
            connection._into_ssl = _library.BIO_new(_library.BIO_s_mem())
            connection._from_ssl = _library.BIO_new(_library.BIO_s_mem())
            _library.SSL_set_bio(ssl, connection._into_ssl, connection._from_ssl)
            self._tls._tlsConnection = connection
            self.ssl = None
        return connection

    def queue(self, part: bytes) -> int:
        """Queue the record of which the socket did not take all.

        OpenSSL does not encrypt it again: a repeated call moves the rest of the record, now to the
        buffer. The transport sends it. There is no record if TLS is shut down or broken.

        Returns:
            How many bytes of `part` are on their way.
        """
        ssl = self.ssl
        self.end()
        written: int = _library.SSL_write(ssl, part, len(part))
        _library.ERR_clear_error()
        self._tls._flushSendBIO()
        return max(written, 0)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of pyOpenSSL's connection, which has its buffers again."""
        return getattr(self.end(), name)


def find_target(tls: Any) -> DirectTls | None:
    """Return a client over TLS as `send_all_tls` needs it; None if nothing can be sent at once."""
    connection = tls._tlsConnection
    target = connection if type(connection) is DirectTls else DirectTls(tls)
    return None if target.begin() is None else target


def send_all_tls(targets: Iterable[DirectTls], data: bytes) -> dict[DirectTls, int]:
    """Encrypt and send `data` to each client; at most one record of a client waits then.

    No byte is encrypted twice, and each client gets the bytes in their order. OpenSSL writes its
    answer to a key update before the data. This runs for every client and event.

    Returns:
        How many bytes are on their way, for each client that does not get all of `data` now.
    """
    parts = [data[at : at + MAX_PLAINTEXT] for at in range(0, len(data), MAX_PLAINTEXT)]
    ssl_write, short = _library.SSL_write, {}
    for target in targets:
        ssl, taken = target.ssl, 0
        if ssl is None:
            ssl = target.begin()
        for part in () if ssl is None else parts:
            written = ssl_write(ssl, part, len(part))
            if written < len(part):  # the socket is full, or the client has asked for small records
                if written <= 0:
                    _library.ERR_clear_error()
                    written = target.queue(part)
                taken += written
                break
            taken += written
        if taken < len(data):
            short[target] = taken
    return short


def is_drained(tcp: Any) -> bool:
    """Return whether an accepted TCP connection has no buffered data and is not closing."""
    return not (
        tcp.dataBuffer
        or tcp._tempDataBuffer  # written, but not moved to `dataBuffer` yet
        or tcp.disconnecting
        or not tcp.connected
    )


def _has_empty_buffers(connection: Any) -> bool:
    """Return whether Twisted has read all that has come, and OpenSSL has written nothing.

    False if pyOpenSSL has other names.
    """
    if not (IS_SUPPORTED and all(hasattr(connection, name) for name in _ATTRIBUTES)):
        return False
    buffers = connection._into_ssl, connection._from_ssl
    return not any(_library.BIO_get_mem_data(each, _ffi.NULL) for each in buffers)
